"""Users: whoever records events, and whatever happens to states, answers are those for all events."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsif_sdk import Batching, Events, Recommender, UserState, errors
from lsif_sdk.integrations import HistoryStore, SQLiteStore, Users
from lsif_sdk.times import UNKNOWN_TIME
from recommender_cases import IDS, NUM_ITEMS, build, same
from test_user_state import check_same_answer, part, random_events

NOW = 1_900_000_000


def check_user(users: Users, recommender: Recommender, store: HistoryStore, user: Any) -> UserState:
    """`recommend` and the user's state give what the recommender gives for the events in the store."""
    events = store.read(user).events
    state = users.state(user)
    check_same_answer(recommender, state, events, NOW)
    assert state == recommender.new_state(events)
    for options in ({}, {"now": NOW, "exclude_seen": False, "exclude": ["i1", "i2"], "interest": "short"}):
        assert same(users.recommend(user, 7, **options), recommender.recommend(state=state, k=7, **options))
    return state


@pytest.mark.parametrize(
    "fields", [{"num_layers": 2, "request_time": True, "num_actions": 3}, {"use_times": False}, {"repeats": True}]
)
def test_answers_are_those_for_all_events(stores, fields):
    recommender = build(**fields)
    events = random_events(recommender, 60)
    with stores.open() as store, Users(recommender, store, save_every=7) as users:
        assert users.recommend("u").fallback.tolist() == [True]
        users.record("u", [])
        begin = 0
        for end in (1, 2, 5, 6, 30, 31, 60):
            users.record("u", part(events, begin, end))
            users.record("v", part(events, begin, end))
            begin = end
            check_user(users, recommender, store, "u")
        assert users.state("u") == users.state("v") and users.state("u").num_events == 60
        stats = users.stats()
        assert stats["rebuilt"] == 2, "each at its first event, and never again"
        assert stats["users"] == 2 and stats["misses"] == 3 and stats["saved"] >= 2 and stats["refused"] == 0


def test_milliseconds_are_not_recorded(stores):
    with stores.open() as store, Users(build(), store) as users:
        users.record("u", Events([IDS[1]], [1_700_000_000]))
        message = "times: expected Unix seconds, got what looks like milliseconds: 1700000001000"
        with pytest.raises(errors.ArgumentError, match=message):
            users.record("u", Events([IDS[2], IDS[3]], [1_700_000_000, 1_700_000_001_000]))
        with pytest.raises(errors.ArgumentError, match=message):
            users.record("u", Events(["of an item that comes later", IDS[3]], [1_700_000_001_000, 1_700_000_000]))
        assert store.read("u").events.items == [IDS[1]]


record = st.tuples(
    st.sampled_from(["record", "record", "other process", "forget", "restart", "break"]),
    st.lists(st.tuples(st.integers(0, NUM_ITEMS + 2), st.integers(0, 50), st.integers(0, 2)), min_size=1, max_size=4),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(record, max_size=12), use_times=st.booleans(), save_every=st.integers(1, 4))
def test_any_mix_of_calls(stores, calls, use_times, save_every):
    """Calls with events out of order, unknown items, changes by another process, restarts and damaged states."""
    recommender = build(use_times=use_times, num_actions=2)
    with stores.open() as store, stores.open() as other:
        store.delete("u")
        users = Users(recommender, store, save_every=save_every)
        others = Users(recommender, other, save_every=save_every)
        for name, rows in calls:
            items, times, actions = zip(*rows, strict=True)
            events = Events([f"i{item}" for item in items], times, actions)
            if name == "record":
                users.record("u", events)
            elif name == "other process":
                others.record("u", events)
            elif name == "forget":
                others.forget("u")
            elif name == "restart":
                users = Users(recommender, store, save_every=save_every)
            elif (stored := store.get_state("u")) is not None:
                broken = bytearray(stored.data)
                broken[times[0] * len(broken) // 51] ^= 1 + actions[0]
                store.put_state("u", bytes(broken), stored.sequence)
                users = Users(recommender, store, save_every=save_every)
            check_user(users, recommender, store, "u")


def test_times_that_are_not_all_known(stores):
    recommender = build(request_time=True)
    with stores.open() as store, Users(recommender, store) as users:
        users.record("u", ["i1", "i2"])
        check_user(users, recommender, store, "u")
        users.record("u", Events(["i3"], times=[100]))
        users.record("u", Events(["i4", "i5"], times=[UNKNOWN_TIME, 90]))
        whole = Events(["i1", "i2", "i3", "i4", "i5"], [UNKNOWN_TIME, UNKNOWN_TIME, 100, UNKNOWN_TIME, 90])
        for options in ({}, {"now": 500, "exclude_seen": False}):
            assert same(users.recommend("u", 7, **options), recommender.recommend(whole, 7, **options))
        with pytest.raises(errors.ArgumentError, match="times: expected all of a history known or all unknown"):
            users.state("u")
    without = build(use_times=False)
    with stores.open() as store, Users(without, store) as users:
        check_user(users, without, store, "u")
        users.record("u", Events(["i6"], times=[95]))
        check_user(users, without, store, "u")


def test_what_the_model_refuses_is_not_recorded(stores):
    recommender = build(num_actions=2)
    with stores.open() as store, Users(recommender, store) as users:
        cases: list[tuple[Any, str]] = [
            (lambda: users.record("u", [5]), "history: expected strings"),
            (lambda: users.record("u", Events(["i1"], [1], [3])), r"actions: expected values in \[0, 2\], got 3"),
            (lambda: users.record("u", [["i1"], ["i2"]]), "history: expected events of one user, got 2"),
            (lambda: users.record(1.0, ["i1"]), "user: expected a string or an integer, got float"),
            (lambda: users.recommend("u", 0), "k: expected"),
            (
                lambda: users.recommend("u", history=["i1"]),
                "history: expected no such argument: what is recorded",
            ),
            (lambda: users.recommend("u", state=None), "state: expected no such argument: what is recorded"),
            (lambda: users.record("u", ["i1", None]), r"history\[1\]: expected a string or an integer, got NoneType"),
            (lambda: Users("rec", store), "recommender: expected a Recommender or LiveRecommender, got str"),
            (lambda: Users(build(), Keeping()), "store: expected a HistoryStore, .* which has delete, got Keeping"),
            (lambda: Users(recommender, store, save_every=0), "save_every: expected an integer in"),
            (lambda: Users(recommender, store, max_bytes=-1), "max_bytes: expected an integer in"),
            (lambda: Users(recommender, store, remember=0), r"remember: expected an integer in \[1, 1048576\], got 0"),
        ]
        for call, message in cases:
            with pytest.raises((errors.LsifError, TypeError), match=message):
                call()
        assert len(store.read("u").events) == 0


def test_states_are_written_every_so_many_events_and_at_the_end(stores):
    recommender = build()
    events = random_events(recommender, 25)
    with stores.open() as store:
        with Users(recommender, store, save_every=10) as users:
            for n in range(25):
                users.record("u", part(events, n, n + 1))
                stored = store.get_state("u")
                assert (0 if stored is None else newest_of(store, stored.sequence)) == (n + 1) // 10 * 10
        assert newest_of(store, store.get_state("u").sequence) == 25
        again = Users(recommender, store)
        check_user(again, recommender, store, "u")
        assert again.stats()["rebuilt"] == 0 and again.stats()["saved"] == 0
        again.flush()
        assert again.stats()["saved"] == 0, "nothing new to write"


def newest_of(store: HistoryStore, sequence: int) -> int:
    """The number of events up to a sequence number."""
    return len(store.read("u").events) - len(store.read("u", since=sequence).events)


def test_damaged_states_are_noticed_and_replaced(stores):
    recommender = build()
    events = random_events(recommender, 30)
    with stores.open() as store:
        with Users(recommender, store, save_every=30) as users:
            users.record("u", events)
        good = store.get_state("u")
        early = store.read("u", last=1).after
        damaged = [(good.data[:-1], good.sequence), (b"", good.sequence), (good.data, early), (good.data * 2, early)]
        for place in (0, 50, len(good.data) // 2, len(good.data) - 30, len(good.data) - 20, len(good.data) - 1):
            changed = bytearray(good.data)
            changed[place] ^= 1
            damaged.append((bytes(changed), good.sequence))
        for data, sequence in damaged:
            assert store.put_state("u", data, sequence)
            users = Users(recommender, store, save_every=30)
            check_user(users, recommender, store, "u")
            assert users.stats()["refused"] == users.stats()["rebuilt"] == users.stats()["saved"] == 1
            assert store.get_state("u") == good


def test_states_of_another_model_are_replaced(stores):
    old, new = build(), build(num_layers=2)
    with stores.open() as store:
        with Users(old, store) as users:
            users.record("u", random_events(old, 30))
        with Users(new, store, save_every=30) as users:
            check_user(users, new, store, "u")
            assert users.stats()["refused"] == users.stats()["rebuilt"] == 1
        with Users(new, store, remember=2000) as users:
            assert users.state("u") == new.new_state(store.read("u").events, remember=2000)
            assert users.stats()["refused"] == 1
            users.record("u", random_events(new, 1, seed=1))
            assert users.state("u") == new.new_state(store.read("u").events, remember=2000)


@pytest.mark.parametrize("repeats", [False, True])
def test_nothing_that_was_seen_is_forgotten(stores, repeats):
    recommender = build(repeats=repeats)
    events = random_events(recommender, 100)
    with stores.open() as store:
        for size, remember in ((5, 5), (1, 10), (4, 10), (1, 20), (30, 80)):
            with Users(recommender, store, remember=5, save_every=3) as users:
                begin = len(store.read("u").events)
                users.record("u", Events(events.items[begin : begin + size], events.times[begin : begin + size]))
                whole = store.read("u").events
                assert users.state("u") == recommender.new_state(whole, remember=remember)
                assert len(whole) == begin + size <= remember
                found = users.recommend("u", k=NUM_ITEMS, exclude_seen=not repeats)[0]
                expected = recommender.recommend(whole, k=NUM_ITEMS, exclude_seen=not repeats)[0]
                assert sorted(found.items.tolist()) == sorted(expected.items.tolist())
                assert np.sort(found.scores) == pytest.approx(np.sort(expected.scores), abs=1e-4)
        with Users(recommender, store, remember=5) as users:  # room is made only when it runs out, not at every request
            users.recommend("u")
            users.record("u", random_events(recommender, 20, seed=7))
            users.recommend("u")
            assert users.stats()["rebuilt"] <= 1


def test_who_is_forgotten_is_forgotten_everywhere(stores):
    recommender = build()
    with stores.open() as store, stores.open() as other:
        with Users(recommender, store, save_every=2) as users, Users(recommender, other, save_every=2) as others:
            users.record("u", ["i1", "i2", "i3"])
            assert others.state("u").num_events == 3
            users.forget("u")
            assert others.recommend("u").fallback.tolist() == [True] and others.state("u").num_events == 0
            others.record("u", ["i4"])
            assert users.state("u") == others.state("u") == recommender.new_state(["i4"])
            users.record("u", ["i5", "i6"])
            store.delete("u")
        assert store.get_state("u") is None, "flushing brings nobody back"


class Keeping:
    """Not a store: it has no method to delete."""

    append = read = get_state = put_state = print


class Failing:
    def __init__(self, store: HistoryStore, *methods: str) -> None:
        self._store, self.methods = store, methods

    def __getattr__(self, name: str) -> Any:
        if name in self.methods:
            raise errors.StoreError(f"{name} failed")
        return getattr(self._store, name)


def test_a_store_that_fails(stores):
    recommender = build()
    with stores.open() as store:
        failing = Failing(store)
        users = Users(recommender, failing, save_every=2)
        users.record("u", ["i1"])
        failing.methods = ("append",)
        with pytest.raises(errors.StoreError, match="append failed"):
            users.record("u", ["i2"])
        check_user(users, recommender, store, "u")
        failing.methods = ("read",)
        users.record("u", ["i3"])  # no error, as it is recorded: after an error, callers would record it twice
        with pytest.raises(errors.StoreError, match="read failed"):
            users.recommend("u")
        failing.methods = ("put_state",)
        users.record("u", ["i4"])
        check_user(users, recommender, store, "u")
        assert users.stats()["save_failures"] > 0 and store.get_state("u") is None
        with pytest.raises(errors.StoreError, match="put_state failed"):
            users.flush()
        failing.methods = ()
        users.record("u", ["i5"])
        assert store.get_state("u").sequence == store.read("u").newest
        assert store.read("u").events.items == ["i1", "i3", "i4", "i5"]


@pytest.mark.parametrize(("column", "value"), [("data", "text"), ("data", 5), ("data", b""), ("sequence", "text")])
def test_a_stored_state_of_another_type_is_made_again(tmp_path, column, value) -> None:
    recommender = build()
    with SQLiteStore(tmp_path / "users.db") as store:
        with Users(recommender, store, save_every=1) as users:
            users.record("u", ["i1", "i2"])
        with contextlib.closing(sqlite3.connect(tmp_path / "users.db")) as connection:
            connection.execute(f"UPDATE states SET {column} = ?", (value,))
            connection.commit()
        users = Users(recommender, store)
        check_user(users, recommender, store, "u")
        assert users.stats()["refused"] == 1


def test_what_the_store_takes_counts_for_the_budget(stores, monkeypatch):
    recommender, given = build(), []
    answer = Recommender.recommend

    def recommend(self: Recommender, *arguments: Any, **options: Any) -> Any:
        given.append(options["budget_ms"])
        return answer(self, *arguments, **options)

    monkeypatch.setattr(Recommender, "recommend", recommend)
    with stores.open() as store, Users(recommender, store) as users:
        read = store.read

        def slowly(*arguments: Any, **options: Any) -> Any:
            time.sleep(0.05)
            return read(*arguments, **options)

        monkeypatch.setattr(store, "read", slowly)
        users.recommend("anna", 3, budget_ms=60_000)
    assert 0 < given[0] <= 60_000 - 50


def test_asyncio_asks_for_users_within_the_recommenders_bounds(stores):
    recommender = Recommender(build().artifact, threads=1, batching=Batching(max_batch=1, max_queue=3))
    with stores.open() as store, Users(recommender, store) as users:
        for user in range(4):
            users.record(user, [IDS[user], IDS[user + 1]])
        expected = [users.recommend(user, 5, exclude=[IDS[9]]) for user in range(4)]
        busy = threading.Event()

        async def ask(count: int, **options: Any) -> list[Any]:
            asked = (users.recommend_async(row % 4, 5, exclude=[IDS[9]], **options) for row in range(count))
            tasks = [asyncio.create_task(answer) for answer in asked]
            while sum(task.done() for task in tasks) + recommender.stats().async_in_flight < count:
                await asyncio.sleep(0)
            busy.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

        for options, late in (({}, errors.OverloadedError), ({"budget_ms": 5000}, "popularity")):
            busy.clear()
            recommender._waiting_room._executor.submit(busy.wait, 20)  # the only thread
            answers = asyncio.run(ask(9, **options))
            assert all(map(same, answers[:4], expected)), "one has the thread's turn, three wait"
            for answer in answers[4:]:
                assert (type(answer) if late is errors.OverloadedError else answer.degraded) == late
        with pytest.raises(errors.ArgumentError, match="history: expected no such argument"):
            asyncio.run(users.recommend_async(1, history=[]))  # type: ignore[call-arg]
        recommender.close()
        with pytest.raises(errors.ClosedError):
            asyncio.run(users.recommend_async(1))
