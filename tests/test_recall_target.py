"""Searches that may miss part of the exact answer, and how much they may miss for a recall target."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from lsif_sdk import Batching, Catalog, ItemTable, ModelConfig, Recommender, errors
from lsif_sdk.artifact import Artifact
from lsif_sdk.calibration import Calibration
from native import random_weights
from recommender_cases import same
from test_ordered_codes import make_rows

NUM_ROWS, DIM = 20_000, 24


def problem(kind: str, **options: Any) -> tuple[Catalog, np.ndarray]:
    """A catalogue, and 200 queries distributed like its rows."""
    rng = np.random.default_rng(1)
    rows = make_rows("isotropic" if kind == "lengths" else kind, NUM_ROWS + 200, DIM, rng)
    if kind == "lengths":
        rows *= np.exp(0.4 * rng.standard_normal((len(rows), 1))).astype(np.float32)
    return Catalog.from_vectors(rows[:NUM_ROWS], **options), rows[NUM_ROWS:]


def recommender_of(scoring: str = "fused", **options: Any) -> Recommender:
    """A recommender with a clustered catalogue, so that its codes are ordered."""
    config = ModelConfig(num_items=6000, dim=16, num_layers=1, window=5, scoring=scoring, temperature=0.3)
    weights = random_weights(config, 3)
    rows = make_rows("clustered", 6000, 16, np.random.default_rng(4))
    weights["item_embedding"] = torch.from_numpy(rows)
    artifact = Artifact(config, weights, ItemTable(np.arange(6000), None, np.ones(6000, np.int64)))
    recommender = Recommender(artifact, **options)
    assert recommender.catalog.is_ordered
    return recommender


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.mean([np.isin(b, a).mean() for a, b in zip(found, exact, strict=True)]))


@pytest.mark.parametrize("kind", ["clustered", "isotropic", "lengths"])
@pytest.mark.parametrize("k", [1, 3, 10, 40])
def test_users_the_sample_has_not_seen_get_what_the_target_says(kind: str, k: int) -> None:
    catalog, queries = problem(kind, ordered=True)
    exact = catalog.top_k(queries, k)
    found = {}
    for target in (0.99, 0.8, 0.3):
        answers = [catalog.top_k(query, k, recall_target=target) for query in queries]
        indices = np.concatenate([answer.indices for answer in answers])
        assert all(answer.counts[0] == k for answer in answers)
        found[target] = recall(indices, exact.indices)
        assert found[target] >= target
        scores = np.concatenate([answer.scores for answer in answers])
        assert np.all(np.diff(scores) <= 0)
        best = np.argmax(exact.indices[:, :, None] == indices[:, None, :], axis=2)
        hit = np.take_along_axis(indices, best, 1) == exact.indices
        assert np.array_equal(np.take_along_axis(scores, best, 1)[hit], exact.scores[hit])
    assert found[0.3] < 1


@pytest.mark.parametrize(("size", "largest"), [(1e-30, 1e-30), (1e20, 1e20), (1, 1e36)])
def test_a_trial_keeps_within_float32(size: float, largest: float) -> None:
    rows = make_rows("clustered", NUM_ROWS + 200, DIM, np.random.default_rng(1))
    sizes = np.full((NUM_ROWS, 1), size, np.float32)
    sizes[::5000] = largest
    catalog = Catalog.from_vectors(rows[:NUM_ROWS] * sizes, ordered=True)
    queries = rows[NUM_ROWS:]
    exact = catalog.top_k(queries, 10)
    found = np.concatenate([catalog.top_k(query, 10, recall_target=0.99).indices for query in queries])
    assert recall(found, exact.indices) >= 0.99


def test_all_of_it_is_the_exact_answer_and_tries_nothing() -> None:
    catalog, queries = problem("clustered")
    for a, b in zip(catalog.top_k(queries, 10, recall_target=1), catalog.top_k(queries, 10), strict=True):
        assert np.array_equal(a, b)
    assert "_calibration" not in vars(catalog)


def test_without_an_order_the_answer_is_exact() -> None:
    catalog, queries = problem("isotropic", ordered=False)
    assert not catalog.is_ordered
    for a, b in zip(catalog.top_k(queries, 10, recall_target=0.01), catalog.top_k(queries, 10), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, errors.ArgumentError),
        (1.01, errors.ArgumentError),
        (float("nan"), errors.ArgumentError),
        ("0.9", errors.ArgumentTypeError),
        (None, errors.ArgumentTypeError),
        (True, errors.ArgumentTypeError),
    ],
)
def test_what_is_no_target_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"recall_target: expected a number in \(0, 1\]"):
        problem("clustered")[0].top_k(np.ones(DIM, np.float32), 3, recall_target=value)
    with pytest.raises(error, match=r"recall_target: expected a number in \(0, 1\]"):
        recommender_of().recommend([1], recall_target=value)


def test_the_smallest_share_is_taken_that_misses_half_of_what_may_be_missed() -> None:
    asked = []

    def search(query: int, k: int, share: float) -> np.ndarray:
        asked.append(share)
        found = np.arange(k)
        found[round(min(1.0, share * 1.25) * k) :] = -1  # recall 1.25 share
        return found

    calibration = Calibration()
    assert calibration.error_share(1.0, 5, search) == 1 and not asked
    assert calibration.error_share(0.5, 180, search) == 10 / 16  # .75 of the rows take .6
    assert calibration.error_share(0.5, 100, search) == 10 / 16
    tried = len(asked)
    assert calibration.error_share(0.5, 199, search) == 10 / 16 and len(asked) == tried
    assert calibration.error_share(0.5, 99, search) == 10 / 16 and len(asked) > tried
    assert calibration.error_share(0.99, 100, search) == 13 / 16
    assert calibration.known(0.99, 300) is None and calibration.known_at_most(0.99, 300) == 13 / 16
    assert calibration.known_at_most(0.99, 99) == 1  # with a smaller k, more would be missed
    tried = len(asked)
    assert calibration.error_share(0.5, 5000, search) == calibration.error_share(0.5, 1000, search) == 10 / 16
    assert len(asked) > tried


@pytest.mark.parametrize("scoring", ["fused", "multi_interest"])
def test_a_recommender_keeps_the_target(scoring: str) -> None:
    recommender = recommender_of(scoring)
    rng = np.random.default_rng(5)
    histories = [rng.integers(6000, size=6).tolist() for _ in range(100)]
    exact = recommender.recommend(histories, 10)
    found = [recommender.recommend(history, 10, recall_target=0.9) for history in histories]
    assert {out.degraded for out in found} == {""}
    assert recall(np.concatenate([out.items for out in found]), exact.items) >= 0.9
    state = recommender.new_state(histories[0])
    by_state = recommender.recommend(state=state, recall_target=0.9)
    assert np.array_equal(by_state.items, found[0].items)


def test_exact_and_approximate_callers_do_not_share_a_search() -> None:
    with recommender_of(batching=True, threads=1) as recommender:
        expected = [recommender.recommend([item], 10) for item in range(40)]
        with ThreadPoolExecutor(8) as pool:
            targets = [1.0 if turn % 2 else 0.05 for turn in range(400)]
            outs = pool.map(
                lambda turn: recommender.recommend([turn % 40], 10, recall_target=targets[turn]), range(400)
            )
        for turn, out in enumerate(outs):
            assert targets[turn] < 1 or same(out, expected[turn % 40])


def test_a_search_in_a_hurry_comes_before_popular_items() -> None:
    recommender = recommender_of()
    recommender._pace.took(1, 10.0)
    out = recommender.recommend([5], 10, budget_ms=50, diversity=0.3)
    assert out.degraded == "approximate" and not out.fallback[0] and out.counts[0] == 10
    assert recommender.stats().degraded == 1
    recommender._hurried_pace.took(1, 10.0)
    assert recommender.recommend([5], 10, budget_ms=50).degraded == "popularity"


def test_batches_find_as_many_rows_as_there_are() -> None:
    rows = make_rows("isotropic", 300, 8, np.random.default_rng(6))
    catalog = Catalog.from_vectors(rows, ordered=True)
    queries = make_rows("isotropic", 64, 8, np.random.default_rng(7))
    assert catalog.top_k(queries, 300, recall_target=0.9).counts.tolist() == [300] * 64


def test_a_budget_leaves_no_time_to_try() -> None:
    recommender = recommender_of(batching=Batching(max_batch=1, max_queue=1))
    exact = recommender.recommend([5], 10)
    assert same(recommender.recommend([5], 10, recall_target=0.05, budget_ms=60_000), exact)
    assert recommender._calibration.known(0.05, 10) is None
    recommender.calibrate(0.05)
    share = recommender._calibration.known(0.05, 10)
    assert share is not None and share < 1
    assert recommender.stats().batching["requests"] == 2  # calibration searches do not count as requests
    recommender.close()
    recommender.calibrate(0.1, k=100)
    with pytest.raises(errors.ClosedError):
        recommender.recommend([5], 10, recall_target=0.1)


def test_what_was_asked_for_is_not_called_degraded() -> None:
    recommender = recommender_of()
    recommender.calibrate(0.05)
    recommender._pace.took(1, 10.0)
    out = recommender.recommend([5], 10, recall_target=0.05, budget_ms=1000)
    assert out.degraded == "" and not out.fallback[0]
