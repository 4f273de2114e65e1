"""One recommender and one catalogue, many threads and processes: always the single-threaded results."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from lsif_sdk import Artifact, Catalog, ItemTable, ModelConfig, Recommender
from lsif_sdk.model import InterestFusionModel

NUM_ITEMS = 2000


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    torch.manual_seed(0)
    model = InterestFusionModel(ModelConfig(num_items=NUM_ITEMS, dim=16, ffn_dim=32, scoring="multi_interest"))
    return Recommender(Artifact(model.config, model.export_weights(), ItemTable(np.arange(NUM_ITEMS))), threads=2)


def histories(seed: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(NUM_ITEMS, size=size).tolist() for size in rng.integers(0, 120, size=1 + seed % 5)]


def answers(recommender: Recommender, seed: int) -> list[np.ndarray]:
    users = histories(seed)
    out = recommender.recommend(users, k=7)
    return [out.items, out.scores, out.counts, out.long_share, *recommender.encode(users)]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_threads_get_what_one_thread_gets(recommender):
    expected = [answers(recommender, seed) for seed in range(24)]
    vectors = np.random.default_rng(0).standard_normal((40_000, 24), dtype=np.float32)
    catalog = Catalog.from_vectors(vectors)
    best = catalog.top_k(vectors[:8], 5, threads=1)

    def work(seed: int) -> bool:
        fine = same(answers(recommender, seed % 24), expected[seed % 24])
        return fine and same(list(catalog.top_k(vectors[:8], 5, threads=1 + seed % 3)), list(best))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(96)))


def test_native_calls_release_the_gil():
    vectors = np.random.default_rng(0).standard_normal((200_000, 32), dtype=np.float32)
    catalog = Catalog.from_vectors(vectors)
    counts = [0]
    stop = threading.Event()

    def count() -> None:
        while not stop.is_set():
            counts[0] += 1

    counter = threading.Thread(target=count)
    counter.start()
    try:
        before = counts[0]
        catalog.search(torch.from_numpy(vectors[:512, None].copy()), None, 1.0, 10, None, 1)
        during = counts[0] - before
    finally:
        stop.set()
        counter.join()
    # Under the GIL the counter could take a handful of turns at the call's edges; a free one takes very many.
    assert during > 1000


def child(recommender: Recommender | None, seed: int, results: Any) -> None:
    if recommender is None:
        vectors = np.random.default_rng(seed).standard_normal((20_000, 8), dtype=np.float32)
        results.put([np.asarray(part) for part in Catalog.from_vectors(vectors).top_k(vectors[:4], 3)])
    else:
        results.put(answers(recommender, seed))


def in_child(method: str, recommender: Recommender | None, seed: int) -> list[np.ndarray]:
    context: Any = multiprocessing.get_context(method)
    results = context.Queue()
    process = context.Process(target=child, args=(recommender, seed, results))
    process.start()
    try:
        return results.get(timeout=120)
    finally:
        process.join(10)
        process.kill()


def test_a_forked_child_goes_on_working(recommender):
    expected = answers(recommender, 3)  # the parent's pool of threads is running now
    assert same(in_child("fork", recommender, 3), expected)


def test_a_spawned_child_works():
    vectors = np.random.default_rng(5).standard_normal((20_000, 8), dtype=np.float32)
    expected = list(Catalog.from_vectors(vectors).top_k(vectors[:4], 3))
    assert same(in_child("spawn", None, 5), expected)
