"""Diversity: maximal marginal relevance, against a literal implementation of the formula."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsif_sdk import errors
from lsif_sdk.diversity import _in_blocks, diversified, diversify
from lsif_sdk.ranker import Ranker
from recommender_cases import NUM_ITEMS, build, same


def word_for_word(scores, vectors, k, diversity):
    """The formula of the docstring, item by item."""
    low, high = float(scores.min()), float(scores.max())
    relevance = [(float(score) - low) / (high - low) if high > low else 1.0 for score in scores]

    def cosine(i, j):
        return float(vectors[i] @ vectors[j] / np.linalg.norm(vectors[i]) / np.linalg.norm(vectors[j]))

    chosen: list[int] = []
    while len(chosen) < min(k, len(scores)):
        values = {
            i: (1 - diversity) * relevance[i] - diversity * max((cosine(i, j) for j in chosen), default=0.0)
            for i in range(len(scores))
            if i not in chosen
        }
        chosen.append(max(values, key=lambda i: (round(values[i], 12), -i)))
    return chosen


@settings(deadline=None)
@given(n=st.integers(1, 20), k=st.integers(1, 25), diversity=st.floats(0, 1), seed=st.integers(0, 999))
def test_items_are_chosen_by_the_formula(n, k, diversity, seed):
    rng = np.random.default_rng(seed)
    scores = -np.sort(-rng.normal(size=n)).astype(np.float32)
    vectors = rng.normal(size=(n, 4)).astype(np.float32)
    chosen, is_late = diversify(scores, vectors, k, diversity)
    assert not is_late
    assert chosen.tolist() == word_for_word(scores.astype(np.float64), vectors.astype(np.float64), k, diversity)


def mean_similarity(recommender, out):
    rows = [recommender.items.row(item) for item in out[0].items]
    vectors = recommender.catalog.vectors.numpy()[rows].astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors @ vectors.T)[np.triu_indices(len(rows), 1)].mean()


def test_the_more_diversity_the_less_alike_the_items_are():
    recommender = build()
    plain = recommender.recommend(["i1", "i2"], k=5)
    assert same(recommender.recommend(["i1", "i2"], k=5, diversity=0), plain)
    outs = [recommender.recommend(["i1", "i2"], k=5, diversity=d) for d in (0.0, 0.5, 1.0)]
    similarities = [mean_similarity(recommender, out) for out in outs]
    assert similarities[2] < similarities[0] and similarities[1] <= similarities[0]
    for out in outs:
        assert out[0].items[0] == plain[0].items[0]
        assert len(set(out[0].items)) == 5 and not {"i1", "i2"} & set(out[0].items)
        scores = recommender.score(["i1", "i2"], out[0].items.tolist())[0]
        assert out[0].scores.tolist() == scores.tolist()


def test_fewer_items_than_asked_for_and_users_without_events():
    recommender = build()
    out = recommender.recommend([["i1"], []], k=NUM_ITEMS, diversity=0.5)
    assert out.counts.tolist() == [NUM_ITEMS - 1, NUM_ITEMS] and out.fallback.tolist() == [False, True]
    assert out.items[0, NUM_ITEMS - 1] is None
    popular = recommender.recommend([[]], k=5)
    assert recommender.recommend([[]], k=5, diversity=0.5)[0].items.tolist() == popular[0].items.tolist()


def test_a_diversity_out_of_range_is_refused():
    recommender = build()
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(errors.ArgumentError, match=r"diversity: expected a number in \[0, 1\]"):
            recommender.recommend(["i1"], diversity=value)
    with pytest.raises(errors.ArgumentTypeError, match=r"diversity: expected a number in \[0, 1\], got str"):
        recommender.recommend(["i1"], diversity="much")


def test_a_budget_ends_the_choice(monkeypatch):
    rng = np.random.default_rng(3)
    scores, vectors = -np.sort(-rng.normal(size=40)).astype(np.float32), rng.normal(size=(40, 6)).astype(np.float32)
    whole, _ = diversify(scores, vectors, 12, 0.9)
    assert diversify(scores, vectors, 12, 0.9, seconds=3600)[0].tolist() == whole.tolist()
    assert diversify(scores, vectors, 12, 0.9, seconds=-1)[0].tolist() == list(range(12))
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    cut, is_late = diversify(scores, vectors, 12, 0.9, seconds=5)  # one tick at the start, then one per choice
    chosen = whole[:4].tolist()
    assert is_late and cut.tolist() == chosen + [row for row in range(40) if row not in chosen][:8]


def test_only_a_choice_that_was_left_is_late(monkeypatch):
    rng = np.random.default_rng(3)
    scores, vectors = (
        -np.sort(-rng.normal(size=(2, 10))).astype(np.float32),
        rng.normal(size=(10, 6)).astype(np.float32),
    )
    rows = np.tile(np.arange(10), (2, 1))

    def late(k, counts, seconds):
        return diversified(vectors, scores, rows, np.array(counts), k, 0.9, seconds)[3]

    assert late(10, [10, 10], -1) and late(3, [0, 2], -1) and late(3, [10, 10], 0)
    assert not late(1, [10, 10], -1) and not late(5, [1, 0], -1) and not late(10, [10, 10], 3600)
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    assert not late(3, [10, 0], 7)  # 1 at the start, 2 for each user, 3 for the choices: just in time


@pytest.mark.parametrize("users", [1, 3])
def test_what_a_budget_cut_short_says_so(users, monkeypatch):
    recommender = build()
    history = [["i1", "i2"]] * users
    recommender.recommend(history, k=5, diversity=0.9)
    in_time = recommender.recommend(history, k=5, diversity=0.9, budget_ms=60_000)
    assert in_time.degraded == ""
    clock = time.perf_counter_ns
    searched = Ranker._search

    def slow(*arguments):
        answer = searched(*arguments)
        offset = 120_000 * 1_000_000
        monkeypatch.setattr(time, "perf_counter_ns", lambda: clock() + offset)
        return answer

    monkeypatch.setattr(Ranker, "_search", slow)
    late = recommender.recommend(history, k=5, diversity=0.9, budget_ms=60_000)
    monkeypatch.undo()
    assert late.degraded == "less diverse" and recommender.stats().degraded == 1
    plain = recommender.recommend(history, k=5)
    assert np.array_equal(late.items, plain.items) and np.array_equal(late.scores, plain.scores)


@pytest.mark.parametrize(("n", "dim"), [(0, 4), (1, 1), (129, 64), (128, 64), (127, 64), (5, 9000)])
def test_blocks_hold_every_row_once(n, dim):
    matrix = np.random.default_rng(n).normal(size=(n, dim))
    blocks = _in_blocks(matrix)
    vector = np.arange(dim) - 2.0
    assert np.allclose((blocks @ vector).reshape(-1)[:n], matrix @ vector, rtol=1e-12, atol=1e-9)
    assert blocks.shape[1] * dim <= max(8192, dim)
    assert np.array_equal(blocks.reshape(-1, dim)[:n], matrix)
