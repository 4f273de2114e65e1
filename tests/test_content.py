"""ContentAdapter: the regression, the ridge it chooses, and the correction for what descriptions leave open."""

from __future__ import annotations

import numpy as np
import pytest

from lsif_sdk import ContentAdapter
from lsif_sdk.errors import ArgumentError

NUM_ITEMS, NUM_FEATURES, DIM = 400, 6, 4


def _world(noise, seed=0):
    """Item vectors that descriptions determine but for normal noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(NUM_ITEMS, NUM_FEATURES)) + 3
    weights = rng.normal(size=(NUM_FEATURES, DIM + 1))
    rows = features @ weights + 2 + noise * rng.normal(size=(NUM_ITEMS, DIM + 1))
    counts = rng.integers(0, 30, NUM_ITEMS)
    return features, rows[:, :-1], rows[:, -1], counts, rng.normal(size=(500, DIM))


def test_it_finds_the_map_that_made_the_items():
    features, vectors, bias, counts, users = _world(noise=0.0)
    adapter = ContentAdapter.fit(features, vectors, bias, counts, users, ridge=1e-9)
    described = adapter.items(features, exploration=0)
    np.testing.assert_allclose(described.vectors, vectors, atol=1e-5)
    np.testing.assert_allclose(described.bias, bias, atol=1e-5)
    assert adapter.explained == pytest.approx(1) and adapter.uncertainty == pytest.approx(0, abs=1e-12)


def test_the_weights_minimise_what_the_docstring_says():
    features, vectors, bias, counts, users = _world(noise=1.0)
    ridge = 50.0
    adapter = ContentAdapter.fit(features, vectors, bias, counts, users, ridge=ridge)
    met = counts > 0
    weight, y = np.sqrt(counts[met]), np.column_stack([vectors, bias])[met]

    def loss(weights):
        left = y - adapter.target_mean - (features[met] - adapter.feature_mean) @ weights
        return (weight[:, None] * left**2).sum() + ridge * (weights**2).sum()

    best = loss(adapter.weights)
    rng = np.random.default_rng(1)
    for _ in range(20):
        assert loss(adapter.weights + 1e-3 * rng.normal(size=adapter.weights.shape)) > best


def test_uncertainty_is_the_expected_gain_of_the_exponential():
    noise = 0.7
    features, vectors, bias, counts, users = _world(noise)
    adapter = ContentAdapter.fit(features, vectors, bias, np.maximum(counts, 1), users, ridge=1e-3)
    # The residuals are independent with variance noise^2, so u' S u / 2 = noise^2 (|I|^2 + 1) / 2.
    expected = 0.5 * noise**2 * ((users**2).sum(axis=1).mean() + 1)
    assert adapter.uncertainty == pytest.approx(expected, rel=0.15)
    zero, one, two = (adapter.items(features, exploration).bias for exploration in (0, 1, 2))
    np.testing.assert_allclose(one - zero, adapter.uncertainty, rtol=1e-4)
    np.testing.assert_allclose(two - one, one - zero, rtol=1e-4)


def test_a_description_of_nothing_is_given_no_weight():
    _, vectors, bias, counts, users = _world(noise=0.5)
    noise_features = np.random.default_rng(2).normal(size=(NUM_ITEMS, 100))
    adapter = ContentAdapter.fit(noise_features, vectors, bias, counts, users)
    assert adapter.ridge == 1000.0 and adapter.explained < 0.02
    informed = ContentAdapter.fit(*_world(noise=0.5))
    assert informed.explained > 0.5


def test_items_without_events_teach_nothing():
    features, vectors, bias, counts, users = _world(noise=0.5)
    unmet = counts == 0
    assert unmet.any()
    spoilt = vectors.copy()
    spoilt[unmet] = 1e6
    first, second = (ContentAdapter.fit(features, part, bias, counts, users) for part in (vectors, spoilt))
    np.testing.assert_array_equal(first.weights, second.weights)


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"features": np.full((NUM_ITEMS, 2), np.nan)}, "features"),
        ({"features": np.zeros(3)}, "features"),
        ({"vectors": np.zeros((3, DIM))}, "vectors"),
        ({"bias": np.zeros((NUM_ITEMS, 1))}, "bias"),
        ({"counts": np.zeros(NUM_ITEMS)}, "counts"),
        ({"counts": np.full(NUM_ITEMS, -1)}, "counts"),
        ({"users": np.zeros((0, DIM))}, "users"),
        ({"users": np.zeros((5, DIM + 1))}, "users"),
        ({"ridge": 0.0}, "ridge"),
    ],
)
def test_bad_arguments_are_named(change, argument):
    names = ("features", "vectors", "bias", "counts", "users")
    arguments = dict(zip(names, _world(noise=0.5), strict=True)) | change
    with pytest.raises(ArgumentError, match=argument):
        ContentAdapter.fit(**arguments)


def test_bad_descriptions_are_refused():
    adapter = ContentAdapter.fit(*_world(noise=0.5))
    with pytest.raises(ArgumentError, match="features"):
        adapter.items(np.zeros((2, NUM_FEATURES + 1)))
    with pytest.raises(ArgumentError, match="exploration"):
        adapter.items(np.zeros((2, NUM_FEATURES)), exploration=-1)
    assert adapter.items(np.zeros((0, NUM_FEATURES))).vectors.shape == (0, DIM)
