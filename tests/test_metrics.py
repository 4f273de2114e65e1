"""Ranks and metrics against slow float64 oracles that share no code with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation_cases import slow_rank
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.evaluation import (
    coverage,
    novelty,
    pessimistic_ranks,
    rank_gains,
    ranks_to_metrics,
)
from lsif_sdk.evaluation.metrics import MISSED, top_k_rows


@st.composite
def ranking_problems(draw):
    batch, num_items = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    # Few distinct values make ties common; the infinities are legal scores.
    value = st.sampled_from([-np.inf, -1.5, 0.0, 0.25, 0.25000003, 3.0, np.inf])
    scores = draw(st.lists(st.lists(value, min_size=num_items, max_size=num_items), min_size=batch, max_size=batch))
    rows = st.integers(0, num_items - 1)
    targets = draw(st.lists(rows, min_size=batch, max_size=batch))
    seen = draw(st.lists(st.lists(rows, max_size=8), min_size=batch, max_size=batch))
    return np.array(scores, dtype=np.float32), np.array(targets, dtype=np.int64), seen


def ragged(seen):
    offsets = np.concatenate([[0], np.cumsum([len(items) for items in seen])]).astype(np.int64)
    return np.array([item for items in seen for item in items], dtype=np.int64), offsets


def mask(seen, num_items):
    result = np.zeros((len(seen), num_items), dtype=bool)
    for user, items in enumerate(seen):
        result[user, items] = True
    return result


@settings(deadline=None)
@given(ranking_problems())
def test_ranks_and_lists_equal_the_slow_oracle(problem):
    scores, targets, seen = problem
    batch, num_items = scores.shape
    before = scores.copy()
    expected = [slow_rank(scores[u], targets[u], set(seen[u])) for u in range(batch)]
    assert pessimistic_ranks(scores, targets, ragged(seen)).tolist() == expected
    assert pessimistic_ranks(scores, targets, mask(seen, num_items)).tolist() == expected
    unmasked = [slow_rank(scores[u], targets[u], set()) for u in range(batch)]
    assert pessimistic_ranks(scores, targets).tolist() == unmasked
    for k in (1, 3, 20):
        lists = top_k_rows(scores, k, ragged(seen))
        for user in range(batch):
            left = [i for i in range(num_items) if i not in seen[user] and scores[user, i] > -np.inf]
            best = sorted(left, key=lambda item: (-float(scores[user, item]), item))[:k]
            assert lists[user].tolist() == best + [-1] * (k - len(best))
    assert np.array_equal(scores, before)


@settings(deadline=None)
@given(ranking_problems(), st.randoms(use_true_random=False))
def test_ranks_do_not_depend_on_the_order_of_items_and_only_fall_when_the_target_gains(problem, random):
    scores, targets, seen = problem
    batch, num_items = scores.shape
    ranks = pessimistic_ranks(scores, targets, mask(seen, num_items))
    order = np.array(random.sample(range(num_items), num_items))
    place = np.argsort(order)
    assert np.array_equal(ranks, pessimistic_ranks(scores[:, order], place[targets], mask(seen, num_items)[:, order]))
    raised = scores.copy()
    raised[np.arange(batch), targets] += 1.0
    assert (pessimistic_ranks(raised, targets, ragged(seen)) <= ranks).all()
    fresh = np.array([targets[user] not in seen[user] for user in range(batch)])
    assert (pessimistic_ranks(scores, targets) >= ranks)[fresh].all()


def test_a_constant_model_ranks_last_and_a_seen_target_is_a_miss():
    scores = np.zeros((1, 5), dtype=np.float32)
    assert pessimistic_ranks(scores, np.array([2])).tolist() == [5]
    assert pessimistic_ranks(scores, np.array([2]), (np.array([3, 3]), np.array([0, 2]))).tolist() == [4]
    scores[0, 2] = 1.0
    assert pessimistic_ranks(scores, np.array([2]), (np.array([2, 3, 3]), np.array([0, 3]))).tolist() == [MISSED]


@pytest.mark.parametrize(
    ("scores", "targets", "seen", "message"),
    [
        ([[0.0, np.nan]], [0], None, "scores: expected no NaN, got NaN for user 0, item 1"),
        ([[0.0, 1.0]], [2], None, "targets"),
        ([[0.0, 1.0]], [-1], None, "targets"),
        ([[0.0, 1.0]], [0, 1], None, "targets"),
        ([0.0, 1.0], [0], None, "scores: expected shape"),
        ([[0.0, 1.0]], [0], ([2], [0, 1]), "seen"),
        ([[0.0, 1.0]], [0], ([-1], [0, 1]), "seen"),
        ([[0.0, 1.0]], [0], ([1], [0, 1, 1]), "seen"),
        ([[0.0, 1.0]], [0], ([1], [1, 1]), "seen"),
    ],
)
def test_bad_ranking_arguments_are_refused_by_name(scores, targets, seen, message):
    seen = None if seen is None else tuple(np.array(part, dtype=np.int64) for part in seen)
    with pytest.raises(ArgumentError, match=message):
        pessimistic_ranks(np.array(scores, dtype=np.float32), np.array(targets, dtype=np.int64), seen)


def test_a_mask_of_wrong_type_is_refused():
    with pytest.raises(ArgumentError, match="seen: expected a bool mask"):
        pessimistic_ranks(np.zeros((1, 2), np.float32), np.array([0]), np.zeros((1, 2), np.int64))


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 12))
def test_metrics_equal_their_definitions(ranks, k):
    got = ranks_to_metrics(np.array(ranks), k)
    hits = [rank for rank in ranks if rank <= k]
    assert got == pytest.approx(
        {
            f"ndcg@{k}": math.fsum(math.log(2) / math.log(1 + rank) for rank in hits) / len(ranks),
            f"hr@{k}": len(hits) / len(ranks),
            f"mrr@{k}": math.fsum(1 / rank for rank in hits) / len(ranks),
        },
        abs=1e-12,
    )
    # Swapping any rank for a better one can only help.
    assert all(ranks_to_metrics(np.maximum(np.array(ranks) - 1, 1), k)[name] >= got[name] for name in got)
    assert ranks_to_metrics(np.array(ranks[::-1]), k) == pytest.approx(got)


def test_metrics_refuse_bad_arguments():
    for ranks, k in (([], 10), ([0], 10), ([1], 0), ([[1]], 10)):
        with pytest.raises(ArgumentError):
            ranks_to_metrics(np.array(ranks, dtype=np.int64), k)


def test_coverage_and_novelty_by_hand():
    top = np.array([[0, 1], [1, -1], [3, 1]])
    assert coverage(top, 6) == 3 / 6
    counts = np.array([8, 2, 1, 0, 0, 0])
    bits = [-math.log2(count / 8) for count in (8, 2, 2, 1, 2)]  # item 3 has no users: counted as one
    assert novelty(top, counts, 8) == pytest.approx(sum(bits) / 5)
    assert math.isnan(novelty(np.full((2, 2), -1), counts, 8))
    for wrong in (lambda: coverage(top, 3), lambda: novelty(top, counts, 7), lambda: novelty(top, counts[:2], 8)):
        with pytest.raises(ArgumentError):
            wrong()


def test_lists_are_read_as_arrays_are():
    assert coverage([[0, 1], [1, -1]], 4) == 0.5
    assert novelty([[0, 1]], [2, 1], 2) == 0.5
    scores, seen = [[0.0, 1.0, 2.0]], [[True, False, False]]
    assert (
        pessimistic_ranks(scores, [1], seen).tolist() == pessimistic_ranks(scores, [1], ([0], [0, 1])).tolist() == [2]
    )
    assert top_k_rows(scores, 2, seen).tolist() == [[2, 1]]
    assert top_k_rows(np.array([[3, 1, 2]]), 2, np.array([[True, False, False]])).tolist() == [[2, 1]], "counts"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coverage(None, 3), "top_items: expected item rows, got NoneType"),
        (lambda: coverage([[0.5]], 3), r"top_items: expected whole numbers, got 0\.5 at position 0"),
        (lambda: coverage([[0]], "x"), r"num_items: expected an integer in \[1, .*, got str 'x'"),
        (lambda: coverage([[0]], 1.5), r"num_items: expected an integer in \[1, .*, got float 1\.5"),
        (lambda: novelty([[0]], None, 3), "user_counts: expected a sequence of whole numbers, got NoneType"),
        (lambda: novelty([[0]], [0.5], 3), r"user_counts: expected whole numbers, got 0\.5 at position 0"),
        (lambda: novelty([[0]], [[1]], 3), r"user_counts: expected one dimension, got shape \[1, 1\]"),
        (lambda: novelty([[0]], [1], None), r"num_users: expected an integer in \[1, .*, got NoneType"),
        (lambda: pessimistic_ranks(None, [0]), r"scores: expected numbers of shape \[batch, num_items\], got NoneType"),
        (lambda: top_k_rows([["a"]], 1), r"scores: expected numbers of shape \[batch, num_items\], got list"),
        (lambda: pessimistic_ranks([[0.0]], None), "targets: expected a sequence of whole numbers, got NoneType"),
        (lambda: pessimistic_ranks([[0.0]], [0.5]), r"targets: expected whole numbers, got 0\.5 at position 0"),
        (lambda: pessimistic_ranks([[0.0]], [0], 5), r"seen: expected a bool mask of shape \(1, 1\), got int64 \(\)"),
        (
            lambda: pessimistic_ranks([[0.0]], [0], (1,)),
            "seen: expected a mask, or a pair of items and offsets, got 1 a",
        ),
        (
            lambda: pessimistic_ranks([[0.0]], [0], (None, [0])),
            r"seen\[0\]: expected a sequence of whole numbers, got N",
        ),
        (lambda: rank_gains([math.nan]), "ranks: expected whole numbers, got nan at position 0"),
        (lambda: rank_gains([1.5]), r"ranks: expected whole numbers, got 1\.5 at position 0"),
        (lambda: rank_gains(None), "ranks: expected a sequence of whole numbers, got NoneType"),
        (lambda: ranks_to_metrics([True]), "ranks: expected whole numbers, got bool True"),
    ],
)
def test_what_is_no_array_of_its_kind_is_refused_by_name(call, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=f"^{message}"):
        call()
