"""One recommender for many threads and processes: equal bits, GIL released, usable after fork and spawn."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import native
from concurrency import run_in_forked_child
from lsif_sdk.artifact import Artifact
from lsif_sdk.catalog import Catalog
from lsif_sdk.errors import PickleError
from lsif_sdk.events import Events
from lsif_sdk.integrations import SQLiteStore, Users, UserStates
from lsif_sdk.live import LiveRecommender
from lsif_sdk.ops import ops
from lsif_sdk.recommender import Recommender

TIMEOUT = 120
"""Seconds after which a thread or process counts as hung."""

NUM_ITEMS = 30_000  # enough for top-K to use several threads
THREADS = (1, 2, 3, None)


def make_artifact() -> Artifact:
    config = native.make_config(num_items=NUM_ITEMS, dim=32, num_heads=2, request_time=True, scoring="multi_interest")
    return native.make_artifact(config)


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return make_artifact()


@pytest.fixture(scope="module")
def recommender(artifact) -> Recommender:
    return Recommender(artifact, threads=3)


def histories(seed: int) -> list[Events]:
    rng = np.random.default_rng(seed)
    return [
        Events(rng.integers(NUM_ITEMS, size=n), native.NOW - rng.integers(0, 10**6, n)) for n in rng.integers(0, 120, 6)
    ]


def arrays_of(result: Any) -> list[np.ndarray]:
    """Encoded and TopK are tuples of arrays, Recommendations is a dataclass."""
    parts = result if isinstance(result, tuple) else vars(result).values()
    return [np.array(part) for part in parts]


def equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) > 0 and all(map(np.array_equal, a, b))


def make_jobs(recommender: Recommender, path: Any) -> list[Callable[[int | None], Any]]:
    """Calls that take the number of threads, and pass it on if the method has that argument."""
    jobs: list[Callable[[int | None], Any]] = []
    for seed in range(4):
        users = histories(seed)
        batch = native.random_batch(recommender.config, [5, 0, 90, 33], seed, "mixed", "mixed")
        queries = np.random.default_rng(seed).standard_normal((3 + seed, 32))
        jobs += [
            lambda _, users=users, k=3 + seed: recommender.recommend(users, k, now=native.NOW),
            lambda _, users=users: recommender.encode(users, now=native.NOW),
            lambda threads, batch=batch: batch.encode(path, threads or 0),
            lambda threads, queries=queries: recommender.catalog.top_k(queries, 11, threads=threads),
        ]
    return jobs


# ---- Threads


def test_eight_threads_at_once_get_exactly_what_one_gets(artifact, recommender):
    path = native.request_path(artifact)
    alone = [arrays_of(job(1)) for job in make_jobs(Recommender(artifact, threads=1), path)]
    jobs = make_jobs(recommender, path)
    start = threading.Barrier(8)
    wrong: list[Any] = []
    finished: list[int] = []

    def work(number: int) -> None:
        order = np.random.default_rng(number).permutation(np.repeat(np.arange(len(jobs)), 3))
        start.wait(TIMEOUT)
        try:
            for step, job in enumerate(order):
                threads = THREADS[(step + number) % len(THREADS)]
                if not equal(arrays_of(jobs[job](threads)), alone[job]):
                    wrong.append((number, int(job), threads))
        except Exception as error:
            wrong.append((number, repr(error)))
        finished.append(number)

    workers = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(TIMEOUT)
    assert sorted(finished) == list(range(8))
    assert wrong == []


def test_a_search_answers_for_the_queries_of_one_moment():
    """Queries are checked, then read again without the GIL; values another thread writes meanwhile are not used."""
    catalog = Catalog.from_vectors(np.eye(1, 64, dtype=np.float32))
    queries = np.zeros((20_000, 64), np.float32)
    is_done = threading.Event()

    def write() -> None:
        for version in range(2**24):  # exact in float32
            queries[0, 0] = version
            queries[-1, 0] = version
            if is_done.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(50):
            first, *_, last = catalog.top_k(queries, 1, threads=1).scores[:, 0]
            assert first - last in (0, 1)
    finally:
        is_done.set()
        writer.join(TIMEOUT)


@contextmanager
def only_voluntary_switches() -> Iterator[None]:
    """Python does not take the GIL from a running thread: others run only when that thread releases it."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def progress_during(call: Callable[[], Any], num_calls: int) -> int:
    """Steps of another Python thread while `call` runs: up to `num_calls` times, as it may not be scheduled at once."""
    steps = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal steps
        while not stop.is_set():
            steps += 1
            time.sleep(0)  # releases the GIL, which the other thread would otherwise never get

    counter = threading.Thread(target=count, daemon=True)
    made = 0
    with only_voluntary_switches():
        counter.start()
        for _ in range(num_calls):
            before = steps
            call()
            made += steps - before
            if made > 0:
                break
        stop.set()
        counter.join(TIMEOUT)
    return made


def test_a_call_that_holds_the_gil_lets_no_other_thread_run():
    assert progress_during(lambda: sum(range(10**5)), 50) == 0


@pytest.mark.parametrize("method", ["encode", "recommend", "RequestPath", "score_topk", "code_catalog"])
def test_native_calls_let_other_python_threads_run(artifact, recommender, method):
    # Arguments in native form, so that no other call releases the GIL.
    batch = native.random_batch(artifact.config, [300] * 60)
    events = (batch.items, batch.times, batch.actions, batch.offsets, batch.now)
    path = native.request_path(artifact)
    weights = [weight.numpy() for weight in artifact.encoder_weights]
    c = recommender.catalog
    arrays = [tensor.numpy() for tensor in (c.vectors, c.bias, c.codes)]
    queries = c.vectors[:64, None].contiguous()
    config = artifact.config.to_dict()
    calls: dict[str, Callable[[], Any]] = {
        "encode": lambda: path.encode(*events, 1),
        "recommend": lambda: path.recommend(*events, 10, True, None, None, threads=1),
        "RequestPath": lambda: native._core.RequestPath(config, weights, *arrays, True, 1.0),
        "score_topk": lambda: ops.score_topk(queries, None, 1.0, c.vectors, c.bias, c.codes, 50, None, None, 1),
        "code_catalog": lambda: ops.code_catalog(c.vectors, c.bias, 1),
    }
    assert progress_during(calls[method], 500) > 0


# ---- Processes


def answer(recommender: Recommender) -> list[np.ndarray]:
    encoded = recommender.encode(histories(7), now=native.NOW)
    top = recommender.catalog.top_k(encoded.fused, 9, threads=2)
    return arrays_of(recommender.recommend(histories(7), 5, now=native.NOW)) + arrays_of(encoded) + arrays_of(top)


def answer_in_child(recommender: Recommender, connection: Any) -> None:
    connection.send(answer(recommender))


def load_in_child(path: str, connection: Any) -> None:
    answer_in_child(Recommender.load(path, threads=2), connection)


def ask_child(method: str, target: Callable[..., None], *args: Any) -> list[np.ndarray]:
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=target, args=(*args, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        assert ours.poll(TIMEOUT), f"the {method}ed child has hung"
        arrays: list[np.ndarray] = ours.recv()
        child.join(TIMEOUT)
        assert child.exitcode == 0
        return arrays
    finally:
        child.kill()


# Python warns that forking with threads is risky; these tests check that it works.
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
needs_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")


@needs_fork
@forks
def test_a_forked_child_answers_although_its_parent_had_worker_threads(recommender):
    expected = answer(recommender)  # starts worker threads, which the child will not have
    for _ in range(3):
        assert equal(ask_child("fork", answer_in_child, recommender), expected)
    assert equal(answer(recommender), expected)


@needs_fork
@forks
def test_a_child_forked_while_other_threads_are_at_work_answers(artifact, recommender):
    expected = answer(recommender)
    path = native.request_path(artifact)
    batch = native.random_batch(artifact.config, [300] * 8)
    stop, running = threading.Event(), threading.Barrier(3)

    def keep_busy() -> None:
        batch.encode(path, 3)
        running.wait(TIMEOUT)
        while not stop.is_set():
            batch.encode(path, 3)

    workers = [threading.Thread(target=keep_busy, daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    running.wait(TIMEOUT)
    try:
        for _ in range(5):
            assert equal(ask_child("fork", answer_in_child, recommender), expected)
    finally:
        stop.set()
        for worker in workers:
            worker.join(TIMEOUT)
    assert equal(answer(recommender), expected)


@pytest.mark.parametrize("twin_of", [pickle.dumps, copy.deepcopy])
def test_nothing_that_answers_is_pickled(recommender, twin_of, tmp_path):
    store, live = SQLiteStore(tmp_path / "users.db"), LiveRecommender(recommender)
    stores = store, Users(live, store), UserStates(100)
    for shared in (recommender, live, recommender.catalog, recommender.attributes, *stores):
        with pytest.raises(PickleError, match=f"^{type(shared).__name__}: neither pickled nor copied deeply: "):
            twin_of(shared)
    with pytest.raises(PickleError, match=r"^LiveRecommender: neither"):
        copy.copy(live)
    catalog = copy.copy(recommender.catalog)
    assert catalog is not recommender.catalog and catalog.vectors is recommender.catalog.vectors


def test_a_spawned_child_answers_from_the_artifact(recommender, tmp_path):
    recommender.save(tmp_path / "model")
    assert equal(ask_child("spawn", load_in_child, str(tmp_path / "model")), answer(recommender))


@pytest.fixture
def two_torch_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@needs_fork
@forks
@pytest.mark.usefixtures("two_torch_threads")
@pytest.mark.parametrize(
    "call",
    [
        "load", "load with batching", "recommend", "score", "explain", "upsert", "similar_items", "from_vectors",
        "fit_item", "float64",
    ],
)  # fmt: skip
def test_a_forked_child_does_what_its_parent_did_by_torch_threads(recommender, tmp_path, call):
    recommender.save(tmp_path / "model")
    history = [1, 2, 3]
    doubles = torch.from_numpy(np.random.default_rng(0).standard_normal((40_000, 8)))
    many = np.random.default_rng(0).standard_normal((40_000, 8)).astype(np.float32)  # torch uses threads above 32,768

    def load(**options: Any) -> list[np.ndarray]:
        return arrays_of(Recommender.load(tmp_path / "model", threads=2, **options).recommend(history, 5))

    calls: dict[str, Callable[[], Any]] = {
        "load": load,
        "load with batching": lambda: load(batching=True),
        "recommend": lambda: arrays_of(recommender.recommend(history, 5)),
        "score": lambda: [recommender.score(history, [7, 8])],
        "explain": lambda: [recommender.explain(history * 100, 7).score],
        "similar_items": lambda: arrays_of(Recommender.load(tmp_path / "model").similar_items([7])),
        "from_vectors": lambda: arrays_of(Catalog.from_vectors(many).top_k(many[:3], 5)),
        "fit_item": lambda: [Catalog.from_vectors(many).fit_item(many[:5], many[:50]).vector],
        "float64": lambda: arrays_of(Catalog.from_vectors(doubles).top_k(many[:3], 5)),
        "upsert": lambda: [LiveRecommender(recommender).upsert([7], recommender.catalog.vectors[:1] * 2)],
    }
    expected = calls[call]()
    torch.ones(1 << 20).exp_()  # starts torch's threads, which the child will not have

    def work() -> None:
        assert equal(calls[call](), expected)

    run_in_forked_child(work, seconds=30)
