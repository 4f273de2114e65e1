"""There is always an answer: what happens when a search would be too late or waits too long, or the store fails."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lsif_sdk import Recommender, errors
from lsif_sdk.integrations import SQLiteStore, Users
from lsif_sdk.pace import Pace
from recommender_cases import IDS, NUM_ITEMS, build, same
from test_batching import run_together, slow_recommender

HISTORY = [IDS[3], IDS[0], IDS[8]]


def fail(*args: Any, **options: Any) -> None:
    raise errors.StoreError("the disk is gone")


def with_slow_searches(recommender: Recommender) -> Recommender:
    recommender._pace.took(1, 10.0)
    return recommender


def test_a_budget_that_is_kept_changes_nothing() -> None:
    recommender = build()
    assert same(recommender.recommend(HISTORY, budget_ms=60_000), recommender.recommend(HISTORY))
    assert recommender.recommend(HISTORY, budget_ms=60_000).degraded == ""


@pytest.mark.parametrize("by_state", [False, True])
def test_popular_items_answer_under_the_same_filters(by_state: bool) -> None:
    recommender = with_slow_searches(build())
    user: dict[str, Any] = {"state": recommender.new_state(HISTORY)} if by_state else {"history": HISTORY}

    def ask(**options: Any) -> Any:
        return recommender.recommend(**user, budget_ms=5, **options)

    out = ask(k=4)
    assert (out.degraded, out[0].degraded, out.fallback.tolist()) == ("popularity", "popularity", [True])
    assert list(out.items[0]) == [IDS[1], IDS[2], IDS[4], IDS[5]]  # counts fall with the row; seen ones are left out
    assert list(ask(k=2, exclude_seen=False).items[0]) == [IDS[0], IDS[1]]
    assert list(ask(k=2, exclude=[IDS[1]], diversity=0.5).items[0]) == [IDS[2], IDS[4]]
    few = ask(k=5, allow=[IDS[0], IDS[9], IDS[7]])
    assert list(few[0].items) == [IDS[7], IDS[9]] and few[0].reason
    assert recommender.stats().degraded == 4
    with pytest.raises(errors.ArgumentError, match="k: expected"):
        ask(k=0)


def test_each_user_of_a_batch_keeps_what_it_excludes() -> None:
    recommender = build()
    recommender._pace.took(2, 10.0)
    out = recommender.recommend([[IDS[0]], [IDS[1]]], 2, budget_ms=1)
    assert out.items.tolist() == [[IDS[1], IDS[2]], [IDS[0], IDS[2]]]


def test_times_are_learned_and_forgotten() -> None:
    pace = Pace()
    assert pace.expected(1) == 0 and not pace.is_too_slow(1, 1e-9)
    assert pace.is_too_slow(1, 0.0)
    pace.took(1, 1.0)
    assert pace.expected(1) == 1.0 and pace.expected(2) == 0.0
    assert [pace.is_too_slow(1, 0.5) for _ in range(32)].count(False) == 2  # tried again now and then
    for _ in range(20):
        pace.took(1, 0.1)
    assert not pace.is_too_slow(1, 0.5)
    pace.took(3, 2.0)
    assert pace.expected(2) == 2.0  # batches of 2 and 3 share an estimate


def test_a_recommender_recovers_from_slow_searches() -> None:
    recommender = build()
    recommender.recommend(HISTORY)
    recommender._pace.took(1, 0.5)
    answers = [recommender.recommend(HISTORY, budget_ms=20).degraded for _ in range(1000)]
    assert answers[0] == "popularity" and answers[-1] == ""


def test_who_would_wait_too_long_or_finds_no_place_is_answered() -> None:
    recommender = slow_recommender(max_batch=1, max_queue=1)
    answers: list[str] = []

    def ask(number: int) -> None:
        out = recommender.recommend([number], 10, budget_ms=0.4 if number % 2 else 10_000)
        assert out.counts[0] == 10
        answers.append(out.degraded)

    with recommender:
        run_together(24, ask)
    assert len(answers) == 24 and "popularity" in answers


def test_asyncio_counts_the_budget_from_the_call() -> None:
    recommender = with_slow_searches(build())

    async def ask() -> list[Any]:
        return await asyncio.gather(*(recommender.recommend_async(HISTORY, 2, budget_ms=3) for _ in range(2000)))

    outs = asyncio.run(ask())
    assert len(outs) == 2000
    assert {out.degraded for out in outs} <= {"popularity", ""}
    refused = 2000 - (64 + 1024)  # all requests are made before the first of them can finish
    assert [out.degraded for out in outs].count("popularity") >= refused
    with pytest.raises(errors.ArgumentError, match="budget_ms: expected milliseconds >= 0"):
        asyncio.run(recommender.recommend_async(HISTORY, budget_ms=-1))


@pytest.mark.parametrize(
    ("budget", "error"), [(-1, errors.ArgumentError), ("5", errors.ArgumentTypeError), (np.nan, errors.ArgumentError)]
)
def test_what_is_no_budget_is_refused(budget: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="budget_ms: expected milliseconds"):
        build().recommend(HISTORY, budget_ms=budget)


def test_the_state_in_memory_answers_when_the_store_fails(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = build()
    store = SQLiteStore(tmp_path / "users.db")
    users = Users(recommender, store)
    users.record("known", HISTORY)
    expected = users.recommend("known", 5)

    for name in ("read", "get_state"):
        monkeypatch.setattr(store, name, fail)
    with pytest.raises(errors.StoreError):
        users.recommend("known", 5)
    out = users.recommend("known", 5, budget_ms=1000)
    assert out.degraded == "cached state" and np.array_equal(out.items, expected.items)
    other = users.recommend("somebody", 5, budget_ms=1000)
    assert other.degraded == "popularity" and list(other.items[0]) == IDS[:5]
    assert users.recommend("known", 5, budget_ms=0).degraded == "popularity"


def test_the_time_of_the_store_counts(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SQLiteStore(tmp_path / "users.db") as store:
        users = Users(build(), store)
        read = store.read
        monkeypatch.setattr(store, "read", lambda *args, **options: (time.sleep(0.02), read(*args, **options))[1])
        assert users.recommend("u", NUM_ITEMS, budget_ms=10).degraded == "popularity"
        for budget in (10_000, float("inf"), 10**400):
            assert users.recommend("u", NUM_ITEMS, budget_ms=budget).degraded == ""


@contextlib.contextmanager
def stuck(store: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Makes the store's `read` block until the event is set."""
    read, answers = store.read, threading.Event()
    monkeypatch.setattr(store, "read", lambda *args, **options: (answers.wait(60), read(*args, **options))[1])
    try:
        yield answers
    finally:
        answers.set()


def test_a_store_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = build()
    with SQLiteStore(tmp_path / "users.db") as store:
        users = Users(recommender, store)
        users.record("known", HISTORY)
        expected = users.recommend("known", 5)
        with stuck(store, monkeypatch) as answers:
            for _ in range(3):  # the first waits for the store, the others for the user's lock
                out = users.recommend("known", 5, budget_ms=400)
                assert out.degraded == "cached state" and np.array_equal(out.items, expected.items)
            assert users.recommend("somebody", 5, budget_ms=200).degraded == "popularity"
            answers.set()
        store.append("known", [IDS[30]])
        for _ in range(2):
            users.state("known")  # waits for whoever has the lock
        assert users.recommend("known", 5, budget_ms=60_000).degraded == ""
        assert users.state("known").num_events == len(HISTORY) + 1


def test_what_a_late_store_answers_serves_later_requests(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SQLiteStore(tmp_path / "users.db") as store:
        store.append("u", HISTORY)
        users = Users(build(), store)
        with stuck(store, monkeypatch) as answers:
            assert users.recommend("u", 5, budget_ms=20).degraded == "popularity"
            answers.set()
            with users._lock("u"):  # waits until it has finished
                assert users.stats()["rebuilt"] == users.stats()["users"] == 1
        monkeypatch.setattr(store, "read", fail)
        assert users.recommend("u", 5, budget_ms=400).degraded == "cached state"


def test_so_many_calls_of_a_stuck_store_and_no_more(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SQLiteStore(tmp_path / "users.db") as store:
        users = Users(build(), store)
        before = threading.active_count()
        with stuck(store, monkeypatch) as answers:
            for user in range(40):
                assert users.recommend(user, 5, budget_ms=4).degraded == "popularity"
            assert threading.active_count() <= before + 16
            answers.set()
        for user in range(40):
            assert users.recommend(user, 5, budget_ms=60_000).degraded == ""


def test_what_the_store_call_raises_is_raised(tmp_path) -> None:
    store = SQLiteStore(tmp_path / "users.db")
    users = Users(build(), store)
    store.close()
    for _ in range(3):  # and the lock is free again
        with pytest.raises(errors.ClosedError):
            users.recommend("u", 5, budget_ms=60_000)
