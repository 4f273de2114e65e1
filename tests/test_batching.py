"""Batching: concurrent callers get the same answers as alone; limits, deadlines, closing, asyncio, fork."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from concurrency import run_in_forked_child, run_together
from lsif_sdk import Artifact, Batching, ItemTable, ModelConfig, Recommendations, Recommender, errors
from lsif_sdk.request import Options, Request
from lsif_sdk.waiting_room import WaitingRoom
from native import random_weights
from recommender_cases import IDS, NUM_ITEMS, build, same

_MANY = 60_000


def batched(rec: Recommender, **limits: Any) -> Recommender:
    return Recommender(rec.artifact, threads=1, batching=Batching(**limits))


def slow_recommender(**limits: Any) -> Recommender:
    """A recommender whose search takes milliseconds: all rows are equal, so none can be skipped."""
    config = ModelConfig(num_items=_MANY, dim=8, num_layers=1, window=3)
    weights = random_weights(config, seed=1)
    for name in ("item_embedding", "catalog.bias"):
        weights[name][:] = weights[name][0]
    return Recommender(Artifact(config, weights, ItemTable(np.arange(_MANY))), threads=1, batching=Batching(**limits))


@pytest.mark.parametrize("fields", [{}, {"scoring": "multi_interest"}, {"repeats": True}])
@pytest.mark.parametrize("limits", [{}, {"max_batch": 3, "max_wait_us": 300}, {"max_searches": 2}])
def test_concurrent_callers_get_what_they_would_get_alone(fields, limits):
    alone = build(**fields)
    together = batched(alone, **limits)
    rng = np.random.default_rng(0)
    asked: list[dict[str, Any]] = [
        {
            "history": [IDS[row] for row in rng.integers(NUM_ITEMS, size=rng.integers(0, 8))],
            "k": int(rng.integers(1, NUM_ITEMS)),
            "exclude_seen": bool(rng.integers(2)),
            "exclude": [IDS[row] for row in rng.integers(NUM_ITEMS, size=3)],
            "interest": [None, "long", 0.3][rng.integers(3)],
            "allow": [None, [IDS[row] for row in rng.integers(NUM_ITEMS, size=20)]][rng.integers(2)],
        }
        for _ in range(8)
    ]
    expected = [alone.recommend(**question) for question in asked]

    def work(caller: int) -> None:
        for turn in range(40):
            which = (caller + turn) % len(asked)
            assert same(together.recommend(**asked[which]), expected[which])
            if turn % 8 == 0:
                states = together.new_state(asked[which]["history"])
                assert len(together.recommend(state=states, k=3)) == 1

    run_together(6, work)
    stats = together.stats().batching
    assert stats["requests"] == 6 * 45 and 1 <= stats["batches"] <= stats["requests"] and stats["queued"] == 0


def test_requests_that_come_meanwhile_share_a_search():
    recommender = slow_recommender()
    rounds = 0
    while (
        recommender.stats().batching["largest_batch"] < 2 and rounds < 100
    ):  # when threads meet depends on the machine
        run_together(8, lambda caller: [recommender.recommend([caller], k=3) for _ in range(5)])
        rounds += 1
    stats = recommender.stats()
    shared, sizes = stats.batching, stats.batch_sizes
    assert shared["requests"] == 40 * rounds and shared["largest_batch"] > 1 and shared["batches"] < shared["requests"]
    assert sizes is not None and sizes.total == shared["requests"] and sizes.count == shared["batches"]
    assert sizes.quantile(1) / 2 < shared["largest_batch"] <= sizes.quantile(1)


def test_a_full_queue_and_a_passed_deadline_are_told():
    recommender = slow_recommender(max_queue=1, max_batch=1)
    counts = {"answered": 0, "overloaded": 0, "expired": 0}
    lock = threading.Lock()

    def work(caller: int) -> None:
        for _ in range(25):
            try:
                recommender.recommend([caller], k=3, timeout=0.0005 if caller % 2 else None)
                outcome = "answered"
            except errors.OverloadedError as error:
                assert "max_queue" in str(error)
                outcome = "overloaded"
            except errors.DeadlineError as error:
                assert isinstance(error, TimeoutError) and "timeout" in str(error)
                outcome = "expired"
            with lock:
                counts[outcome] += 1

    rounds = 0
    while not (counts["overloaded"] and counts["expired"]) and rounds < 50:
        run_together(8, work)
        rounds += 1
    stats = recommender.stats().batching
    assert stats["overloaded"] == counts["overloaded"] > 0
    assert stats["expired"] == counts["expired"] > 0
    assert stats["requests"] == counts["answered"] > 0


def test_asyncio_requests_share_searches():
    recommender = slow_recommender()
    plain = Recommender(recommender.artifact, threads=1)

    async def ask() -> list[Recommendations]:
        return await asyncio.gather(*(recommender.recommend_async([row], k=3) for row in range(40)))

    answers = asyncio.run(ask())
    rounds = 0
    while recommender.stats().batching["largest_batch"] < 2 and rounds < 50:
        asyncio.run(ask())
        rounds += 1
    assert all(same(answer, plain.recommend([row], k=3)) for row, answer in enumerate(answers))
    assert recommender.stats().batching["largest_batch"] > 1

    async def refused() -> None:
        await recommender.recommend_async([1], k=0)

    with pytest.raises(errors.ArgumentError, match="k: expected"):
        asyncio.run(refused())
    for wrong in ({"budget_ms": True}, {"timeout": True}, {"timeout": -1}, {"budget_ms": -1}, {"timeout": math.nan}):
        with pytest.raises((errors.ArgumentError, errors.ArgumentTypeError)) as at_once:
            recommender.recommend([1], **wrong)
        with pytest.raises(type(at_once.value)) as later:
            asyncio.run(recommender.recommend_async([1], **wrong))
        assert str(later.value) == str(at_once.value)


def test_asyncio_has_bounds_and_deadlines():
    recommender = slow_recommender(max_queue=2, max_batch=2)

    async def ask() -> list[Any]:
        asked = (recommender.recommend_async([row], k=3, timeout=0.001) for row in range(40))
        return await asyncio.gather(*asked, return_exceptions=True)

    kinds: set[type] = set()
    rounds = 0
    while not {errors.OverloadedError, errors.DeadlineError} <= kinds and rounds < 50:
        kinds |= set(map(type, asyncio.run(ask())))
        rounds += 1
    assert kinds >= {errors.OverloadedError, errors.DeadlineError}
    assert kinds <= {errors.OverloadedError, errors.DeadlineError, Recommendations}


def test_asyncio_works_in_a_forked_child():
    recommender = build()
    asyncio.run(recommender.recommend_async(["i1"], k=2))

    def ask() -> None:
        answer = asyncio.run(asyncio.wait_for(recommender.recommend_async(["i1"], k=2), 20))
        assert len(answer[0]) == 2

    run_in_forked_child(ask)


@contextlib.contextmanager
def busy_thread(recommender: Recommender) -> Iterator[threading.Event]:
    """Keeps the only thread for asynchronous requests busy until the event is set."""
    done = threading.Event()
    recommender._waiting_room._executor.submit(done.wait)
    try:
        yield done
    finally:
        done.set()


async def started(recommender: Recommender, count: int, **options: Any) -> list[asyncio.Task[Recommendations]]:
    """Tasks of asynchronous requests, each already in flight or refused."""
    tasks = [asyncio.create_task(recommender.recommend_async(["i1"], 2, **options)) for _ in range(count)]
    while sum(task.done() for task in tasks) + recommender.stats().async_in_flight < count:
        await asyncio.sleep(0)
    return tasks


def test_asyncio_refusals_are_counted_once_each():
    recommender = Recommender(build().artifact, batching=Batching(max_batch=1, max_queue=1))

    async def ask() -> list[Any]:
        with busy_thread(recommender) as done:
            tasks = await started(recommender, 5, timeout=1e-9)
            assert recommender.stats().async_in_flight == 2
            degraded = await recommender.recommend_async(["i1"], 2, budget_ms=1000)
            assert degraded.degraded == "popularity"
            done.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(errors.ArgumentError):
            await recommender.recommend_async(["i1"], 0)
        return results

    kinds = [type(result) for result in asyncio.run(ask())]
    assert kinds == [errors.DeadlineError] * 2 + [errors.OverloadedError] * 3
    stats = recommender.stats()
    assert stats.errors == {"DeadlineError": 2, "OverloadedError": 3, "ArgumentError": 1}
    assert (stats.requests, stats.degraded, stats.async_in_flight) == (1, 1, 0)


@pytest.mark.parametrize("batching", [Batching(max_batch=1, max_queue=5), None])
def test_close_refuses_asyncio_requests_that_wait_and_that_come(batching):
    recommender = Recommender(build().artifact, batching=batching)

    async def ask() -> list[Any]:
        if batching is None:
            tasks = []
        else:
            with busy_thread(recommender):
                tasks = await started(recommender, 4)
                recommender.close()
        recommender.close()
        late = await started(recommender, 4)
        return await asyncio.gather(*tasks, *late, return_exceptions=True)

    results = asyncio.run(ask())
    assert set(map(type, results)) == {errors.ClosedError}
    assert recommender.stats().errors == {"ClosedError": len(results)} and recommender.stats().async_in_flight == 0


def test_cancelled_asyncio_requests_leave():
    recommender = Recommender(build().artifact, batching=Batching(max_batch=1, max_queue=5))

    async def ask() -> None:
        with busy_thread(recommender):
            tasks = await started(recommender, 4)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert recommender.stats().async_in_flight == 0

    asyncio.run(ask())


def test_after_close_requests_are_refused():
    with batched(build()) as recommender:
        assert len(recommender.recommend(["i1"], k=2)[0]) == 2
    with pytest.raises(errors.ClosedError, match="closed"):
        recommender.recommend(["i1"])
    recommender.close()
    assert len(recommender.user_vectors(["i1"])) == 1


def test_a_forked_child_is_told_to_load_again():
    recommender = batched(build())
    recommender.recommend(["i1"])

    def ask() -> None:
        with pytest.raises(errors.ClosedError, match="fork"):
            recommender.recommend(["i1"])
        sizes = recommender.stats().batch_sizes
        assert sizes is not None and sizes.count == 0

    run_in_forked_child(ask)


def test_without_batching_there_is_nothing_to_count_or_close():
    recommender = build()
    assert recommender.stats().batching == {} and recommender.stats().batch_sizes is None
    recommender.close()
    assert len(recommender.recommend(["i1"], k=2, timeout=0.1)[0]) == 2


def test_a_search_waits_for_no_longer_than_timeout_and_budget_both():
    for timeout, budget, left, expected in (
        (0.5, 100, 0.1, 0.1),
        (0.05, 100, 0.1, 0.05),
        (None, 100, -1, 0),
        (2, None, None, 2),
    ):
        options = Options(3, None, None, None, None, None, None, 0.0, timeout, budget, 1.0)
        rec = build()
        request = Request.checked(options, rec.items, rec.attributes, 1, True)
        assert request.native(left)[-1] == expected


def test_limits_and_timeouts_are_checked():
    for name in ("max_batch", "max_queue", "max_searches"):
        with pytest.raises(errors.ArgumentError, match=f"{name}: expected an integer in"):
            Batching(**{name: 0})
    with pytest.raises(errors.ArgumentError, match="max_wait_us"):
        Batching(max_wait_us=-1)
    with pytest.raises(errors.ArgumentTypeError, match="batching: expected a Batching"):
        Recommender(build().artifact, batching=64)
    recommender = Recommender(build().artifact, batching=True)
    for timeout in (-1, float("nan")):
        with pytest.raises(errors.ArgumentError, match="timeout: expected seconds >= 0"):
            recommender.recommend(["i1"], timeout=timeout)
    with pytest.raises(errors.ArgumentTypeError, match="timeout: expected seconds"):
        recommender.recommend(["i1"], timeout="1s")


@pytest.mark.parametrize("number", [float, np.float32, np.int64])
def test_times_of_any_kind_of_number_count_from_the_call(number):
    room, leave = WaitingRoom(1, 10), threading.Event()
    left: list[Any] = []

    async def ask() -> None:
        first = asyncio.create_task(room.run(lambda **_: leave.wait(60), {}))
        late = asyncio.create_task(room.run(lambda **_: None, {"timeout": number(0.05)}))
        hurried = asyncio.create_task(
            room.answer(lambda budget_ms: left.append(budget_ms), {"budget_ms": number(60_000)}, lambda _: None)
        )
        await asyncio.sleep(0.2)
        leave.set()
        await asyncio.gather(first, hurried)
        with pytest.raises(errors.DeadlineError):
            await late

    asyncio.run(ask())
    room.close()
    assert left[0] < 60_000 - 100


@pytest.mark.parametrize("budget", [-5, "x", float("nan")])
def test_a_full_room_does_not_answer_an_invalid_budget(budget):
    room, leave = WaitingRoom(1, 1), threading.Event()
    failures: list[Exception] = []

    async def ask() -> None:
        first = asyncio.create_task(room.run(lambda **_: leave.wait(60), {}))
        await asyncio.sleep(0)
        with pytest.raises(errors.OverloadedError):
            await room.answer(lambda **_: None, {"budget_ms": budget}, failures.append)
        leave.set()
        await first

    asyncio.run(ask())
    room.close()
    assert len(failures) == 1
