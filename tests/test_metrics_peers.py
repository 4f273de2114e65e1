"""Metrics against independent libraries, on random data without ties."""

from __future__ import annotations

import numpy as np
import pytest

from lsif_sdk.evaluation import measure_lists, pessimistic_ranks, rank_gains

NUM_USERS, NUM_ITEMS = 200, 60


@pytest.fixture(scope="module")
def problem():
    """Scores that are all different, one target per user, and each user's list of all items, best first."""
    rng = np.random.default_rng(0)
    scores = rng.permutation(NUM_USERS * NUM_ITEMS).reshape(NUM_USERS, NUM_ITEMS).astype(np.float32)
    return scores, rng.integers(NUM_ITEMS, size=NUM_USERS), np.argsort(-scores, axis=1)


def gains_of(problem, k):
    scores, targets, _ = problem
    return rank_gains(pessimistic_ranks(scores, targets), k)


@pytest.mark.parametrize("k", [1, 5, 10, 60])
def test_metrics_equal_those_of_ranx(problem, k):
    ranx = pytest.importorskip("ranx", reason="ranx, an independent library of metrics, is not installed")
    scores, targets, _ = problem
    qrels = ranx.Qrels({f"u{user}": {f"i{item}": 1} for user, item in enumerate(targets)})
    run = ranx.Run(
        {f"u{user}": {f"i{item}": float(score) for item, score in enumerate(row)} for user, row in enumerate(scores)}
    )
    # Its "ndcg" has the gain in the numerator, "ndcg_burges" has 2^gain - 1: the same for one relevant item.
    names = {"ndcg": f"ndcg@{k}", "ndcg_burges": f"ndcg@{k}", "hit_rate": f"hr@{k}", "mrr": f"mrr@{k}"}
    ranx.evaluate(qrels, run, [f"{name}@{k}" for name in names])
    ours = gains_of(problem, k)
    for name, own in names.items():
        theirs = np.array([run.scores[f"{name}@{k}"][f"u{user}"] for user in range(NUM_USERS)])
        np.testing.assert_allclose(theirs, ours[own], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("k", [1, 5, 10, 60])
def test_metrics_of_several_relevant_items_equal_those_of_ranx(problem, k):
    ranx = pytest.importorskip("ranx", reason="ranx, an independent library of metrics, is not installed")
    pandas = pytest.importorskip("pandas", reason="lists come in tables")
    scores, _, lists = problem
    rng = np.random.default_rng(1)
    wanted = {user: rng.choice(NUM_ITEMS, rng.integers(1, 20), replace=False) for user in range(NUM_USERS)}
    shown = {user: lists[user, : rng.integers(1, 30)] for user in range(NUM_USERS)}
    qrels = ranx.Qrels({f"u{user}": {f"i{item}": 1 for item in items} for user, items in wanted.items()})
    run = ranx.Run(
        {f"u{user}": {f"i{item}": float(scores[user, item]) for item in items} for user, items in shown.items()}
    )
    rows = [(user, item, scores[user, item]) for user, items in shown.items() for item in items]
    relevant = [(user, item) for user, items in wanted.items() for item in items]
    ours = measure_lists(
        pandas.DataFrame(rows, columns=["user", "item", "score"]),
        pandas.DataFrame(relevant, columns=["user", "item"]),
        k,
    )
    names = ("ndcg", "recall", "precision", "map", "mrr", "hit_rate")
    ranx.evaluate(qrels, run, [f"{name}@{k}" for name in names])
    for name in names:
        theirs = np.array([run.scores[f"{name}@{k}"][f"u{user}"] for user in range(NUM_USERS)])
        if name == "map":  # it divides by the number of relevant items, even if that is more than k
            theirs *= [len(items) / min(k, len(items)) for items in wanted.values()]
        own = ours.gains[f"{name.replace('hit_rate', 'hr')}@{k}"]
        np.testing.assert_allclose(own, theirs, rtol=1e-12, atol=1e-15, err_msg=name)


@pytest.mark.parametrize("k", [1, 5, 10, 60])
def test_metrics_equal_those_of_rectools(problem, k):
    metrics = pytest.importorskip("rectools.metrics", reason="RecTools, a library of recommenders, is not installed")
    pandas = pytest.importorskip("pandas", reason="RecTools takes its tables")
    _, targets, lists = problem
    users = np.repeat(np.arange(NUM_USERS), NUM_ITEMS)
    ranks = np.tile(np.arange(1, NUM_ITEMS + 1), NUM_USERS)
    lists = pandas.DataFrame({"user_id": users, "item_id": lists.ravel(), "rank": ranks})
    held_out = pandas.DataFrame({"user_id": np.arange(NUM_USERS), "item_id": targets})
    ours = gains_of(problem, k)
    # By default, its NDCG divides by the DCG of k relevant items; with the option, by 1, what one item can reach.
    for metric, own in (
        (metrics.NDCG(k=k, divide_by_achievable=True), f"ndcg@{k}"),
        (metrics.HitRate(k=k), f"hr@{k}"),
        (metrics.MRR(k=k), f"mrr@{k}"),
    ):
        theirs = metric.calc_per_user(lists, held_out).sort_index().to_numpy()
        np.testing.assert_allclose(theirs, ours[own], rtol=1e-12, err_msg=own)
    ideal = (1 / np.log2(1 + np.arange(1, k + 1))).sum()
    default = metrics.NDCG(k=k).calc_per_user(lists, held_out).sort_index().to_numpy()
    np.testing.assert_allclose(default * ideal, ours[f"ndcg@{k}"], rtol=1e-12)
