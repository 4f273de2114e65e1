"""Diversity: maximal marginal relevance, against the formula taken word for word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsif_sdk import errors
from lsif_sdk.diversity import diversify
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
    assert diversify(scores, vectors, k, diversity).tolist() == word_for_word(
        scores.astype(np.float64), vectors.astype(np.float64), k, diversity
    )


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
        with pytest.raises(errors.ArgumentError, match="diversity: expected a number from 0 to 1"):
            recommender.recommend(["i1"], diversity=value)
    with pytest.raises(errors.ArgumentTypeError, match="diversity: expected a number"):
        recommender.recommend(["i1"], diversity="much")
