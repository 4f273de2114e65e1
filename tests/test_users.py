"""Users: whatever is recorded, by whomever, and whatever becomes of states: answers are those for all events."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
import subprocess
import sys
import threading
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from concurrency import run_in_forked_child, run_together
from lsif_sdk import Events, Recommender, UserState, errors
from lsif_sdk.events import UNKNOWN_TIME
from lsif_sdk.integrations import HistoryStore, SQLiteStore, Users, UserStates
from lsif_sdk.integrations.history_store import StoredEvents
from lsif_sdk.integrations.served_state import ServedState
from recommender_cases import IDS, NUM_ITEMS, build, same
from test_user_state import check_same_answer, part, random_events

NOW = 1_900_000_000


def check_user(users: Users, recommender: Recommender, store: HistoryStore, user: Any) -> UserState:
    """Both ways to ask give what the recommender gives for the store's events, and the state is theirs."""
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
        with pytest.raises(
            errors.ArgumentError, match="times: expected Unix seconds before the year 5138, got 17000000010"
        ):
            users.record("u", Events([IDS[2], IDS[3]], [1_700_000_000, 1_700_000_001_000]))
        assert store.read("u").events.items == [IDS[1]]


record = st.tuples(
    st.sampled_from(["record", "record", "other process", "forget", "restart", "break"]),
    st.lists(st.tuples(st.integers(0, NUM_ITEMS + 2), st.integers(0, 50), st.integers(0, 2)), min_size=1, max_size=4),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(record, max_size=12), use_times=st.booleans(), save_every=st.integers(1, 4))
def test_any_mix_of_calls(stores, calls, use_times, save_every):
    """Out of order and unknown items, appends and deletions by another process, restarts, damaged states."""
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
            (lambda: users.recommend("u", history=["i1"]), "history"),
            (lambda: Users("rec", store), "recommender: expected a Recommender or LiveRecommender, got str"),
            (lambda: Users(recommender, store, save_every=0), "save_every: expected an integer in"),
            (lambda: Users(recommender, store, max_bytes=-1), "max_bytes: expected an integer in"),
            (lambda: Users(recommender, store, remember=0), "remember: expected 1 to"),
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
    """How many events there are up to a sequence number."""
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
        with Users(new, store, remember=5) as users:
            assert users.state("u") == new.new_state(store.read("u").events, remember=5)
            assert users.stats()["refused"] == 1
            users.record("u", random_events(new, 1, seed=1))
            assert users.state("u") == new.new_state(store.read("u").events, remember=5)


def test_threads_hammer_one_user(stores):
    """Recorders, askers and one who flushes: nothing is lost, and every state is one of some first events."""
    recommender = build()
    with stores.open() as store, Users(recommender, store, save_every=3, max_bytes=40_000) as users:

        def work(thread: int) -> None:
            last = 0
            for n in range(30):
                if thread < 4:
                    users.record("u", Events([IDS[thread], IDS[n]], times=[100, 100]))
                elif thread < 7:
                    state = users.state("u")
                    assert state.num_events >= last and state.num_events % 2 == 0
                    last = state.num_events
                    seen.append(state)
                else:
                    users.flush()
                    users.recommend(f"other {n}")
                    users.record(f"other {n}", ["i1"])

        seen: list[UserState] = []
        run_together(8, work)
        events = store.read("u").events
        assert len(events) == 2 * 4 * 30
        for thread in range(4):
            own = [n for t, n in zip(events.items[::2], events.items[1::2], strict=True) if t == IDS[thread]]
            assert own == IDS[:30]
        check_user(users, recommender, store, "u")
        for state in seen[::10]:
            count = state.num_events
            assert state == recommender.new_state(Events(events.items[:count], events.times[:count]))
        assert users.stats()["evictions"] > 0 and users.stats()["bytes"] <= 40_000


RECORDER = """
import sys
sys.path.insert(0, sys.argv[1])
from lsif_sdk import Events
from lsif_sdk.integrations import SQLiteStore, Users
from recommender_cases import build
with SQLiteStore(sys.argv[2]) as store, Users(build(), store, save_every=3) as users:
    for n in range(30):
        users.record("u", Events([f"i{n}"], times=[n]))
        assert f"i{n}" in set(store.read("u").events.items) and users.state("u").num_events >= n + 1
"""


def test_processes_record_the_same_user(tmp_path):
    path = str(tmp_path / "users.db")
    tests = str(pathlib.Path(__file__).parent)
    command = [sys.executable, "-c", RECORDER, tests, path]
    recorders = [subprocess.Popen(command) for _ in range(3)]
    assert [recorder.wait() for recorder in recorders] == [0, 0, 0]
    recommender = build()
    with SQLiteStore(path) as store, Users(recommender, store) as users:
        assert check_user(users, recommender, store, "u").num_events == 90


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


class Failing:
    """A store of which some methods fail."""

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
        users.record("u", ["i3"])  # recorded: to say otherwise would have it recorded twice
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


# UserStates


def test_the_least_recently_used_state_goes():
    state = build().new_state(["i1"])
    size = state.nbytes + 576
    states: UserStates[UserState] = UserStates(3 * size)
    for user in (1, "1", "b"):
        states.put(user, state)
    assert states.get(1) is state and states.peek("1") is state and states.get("nobody") is None
    states.put("d", state)
    assert states.users() == ["b", 1, "d"] and len(states) == 3
    assert states.stats() == {"hits": 1, "misses": 1, "evictions": 1, "users": 3, "bytes": 3 * size}
    states.put("b", state)
    states.remove(1)
    states.remove(1)
    assert states.users() == ["d", "b"] and states.stats()["bytes"] == 2 * size
    states.put("large", build().new_state([], remember=100_000))
    assert states.users() == [] and states.stats()["bytes"] == 0, "what is larger than all is not kept"
    with pytest.raises(errors.ArgumentTypeError, match="user: expected"):
        states.get(None)  # type: ignore[arg-type]
    with pytest.raises(errors.ArgumentError, match="max_bytes: expected an integer in"):
        UserStates(-1)


def test_the_budget_covers_what_python_takes():
    """Small states of long ids, as `Users` keeps them: all memory allocated for them is within the budget."""
    recommender = build(num_long=0, num_short=0, window=1)
    state = recommender.new_state(["i1"], remember=1)
    recommender.append(state, ["i2"])
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        states: UserStates[ServedState] = UserStates(1_104_000)  # for 1,366 of them: the dictionary has just grown
        for number in range(2000):
            grown = recommender.append(state, ["i2"])
            states.put(f"{number:036}", ServedState(grown, 10**12 + number, 10**9 + number, 1000 + number))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert states.stats()["evictions"] == 634
    assert 0.85 * 1_104_000 < taken <= 1_104_000


def test_threads_share_states():
    states: UserStates[UserState] = UserStates(20_000)
    state = build().new_state()

    def work(thread: int) -> None:
        for n in range(300):
            states.put((thread * n) % 17, state)
            states.get(n % 17)
            states.remove(n % 5)

    run_together(6, work)
    stats = states.stats()
    assert stats["hits"] + stats["misses"] == 1800
    assert stats["bytes"] == len(states) * (state.nbytes + 576) <= 20_000


def test_what_has_no_size_is_refused_and_not_kept() -> None:
    state = build().new_state(["i1"])
    states: UserStates[Any] = UserStates(10 * (state.nbytes + 576))
    states.put("a", state)
    for bad in (None, "text", 5):
        with pytest.raises(errors.ArgumentTypeError, match="state: expected a UserState"):
            states.put("a", bad)
    assert states.users() == ["a"] and states.get("a") == state
    assert states.stats()["bytes"] == state.nbytes + 576


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


def test_a_forked_child_asks_although_the_parent_was_asking() -> None:
    """Threads of the parent have the locks of the user and of the states when it forks."""
    recommender = build()
    asked, answers = threading.Event(), threading.Event()

    class Store:
        def append(self, *args: Any) -> int:
            return 2

        def read(self, user: Any, *, last: int | None = None, since: int = 0) -> StoredEvents:
            asked.set()
            answers.wait(60)
            return StoredEvents(Events([] if since else ["i1", "i2"]), since, 2)

        def get_state(self, user: Any) -> None:
            return None

        def put_state(self, *args: Any) -> bool:
            return False

    store: Any = Store()
    users = Users(recommender, store)
    threads = [
        threading.Thread(target=users.recommend, args=("u",), kwargs=options) for options in ({}, {"budget_ms": 60_000})
    ]

    def ask() -> None:
        answers.set()
        expected = recommender.recommend(state=recommender.new_state(["i1", "i2"]), k=5)
        for options in ({}, {"budget_ms": 60_000}):
            assert same(users.recommend("u", 5, **options), expected)

    for thread in threads:
        thread.start()
        asked.wait(60)
    with users._states._lock:
        run_in_forked_child(ask, seconds=30)
    answers.set()
    for thread in threads:
        thread.join()
