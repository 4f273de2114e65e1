"""Folding in a new item: the closed form against a float64 oracle, and its effect on a real catalogue."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsif_sdk import Catalog
from lsif_sdk.errors import LsifError
from lsif_sdk.fold_in import fold_in


def objective(solution, met, met_scores, others, other_scores, ridge, others_weight):
    vector, bias = solution[:-1], solution[-1]
    near = ((met @ vector + bias - met_scores) ** 2).sum()
    far = ((others @ vector + bias - other_scores) ** 2).mean()
    return near + others_weight * far + ridge * (vector**2).sum()


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(1, 30), st.integers(0, 2**31))
def test_no_other_row_fits_better(dim, num_met, num_others, seed):
    rng = np.random.default_rng(seed)
    met, others = rng.normal(size=(num_met, dim)), rng.normal(size=(num_others, dim))
    scores, other_scores = rng.normal(size=num_met), rng.normal(size=num_others)
    data = (met, scores, others, other_scores)
    item = fold_in(*data, ridge=0.5, others_weight=3.0)
    best = np.append(item.vector.astype(np.float64), item.bias)
    least = objective(best, *data, 0.5, 3.0)
    # The objective is quadratic with curvature of at most 2 trace(H) in any direction, so rounding the solution to
    # float32 raises it by no more than that times the square of the rounding error.
    curvature = (met**2).sum() + num_met + 3 * ((others**2).sum() / num_others + 1) + 0.5 * dim
    slack = curvature * (2**-24) ** 2 * (best**2).sum() + 1e-12 * (1 + least)
    for _ in range(5):
        assert objective(best + 1e-2 * rng.normal(size=dim + 1), *data, 0.5, 3.0) >= least - slack


def test_the_solution_is_that_of_an_augmented_least_squares_problem():
    rng = np.random.default_rng(3)
    met, others = rng.normal(size=(20, 6)), rng.normal(size=(50, 6))
    scores, other_scores = rng.normal(size=20), rng.normal(size=50)
    weight = np.sqrt(4.0 / 50)
    design = np.concatenate([np.c_[met, np.ones(20)], weight * np.c_[others, np.ones(50)], np.eye(7)[:6]])
    right = np.concatenate([scores, weight * other_scores, np.zeros(6)])
    expected = np.linalg.lstsq(design, right, rcond=None)[0]
    item = fold_in(met, scores, others, other_scores, ridge=1.0, others_weight=4.0)
    # Condition number of the normal equations is below 1e3 here; float32 rounds the vector.
    np.testing.assert_allclose(item.vector, expected[:6], rtol=2**-23, atol=1e-12)
    assert item.bias == pytest.approx(expected[6], rel=1e-10)


def test_a_new_item_reaches_those_like_its_users_and_not_the_others():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 16)).astype(np.float32)
    catalog = Catalog.from_vectors(vectors)
    taste = rng.normal(size=16)
    fans = (taste + 0.3 * rng.normal(size=(60, 16))).astype(np.float32)
    others = rng.normal(size=(2000, 16)).astype(np.float32)
    item = catalog.fit_item(fans[:30], others)
    extended = Catalog.from_vectors(np.r_[vectors, item.vector[None]], bias=np.r_[np.zeros(500), item.bias])
    found = (extended.top_k(fans[30:], 20).indices == 500).any(axis=1).mean()
    astray = (extended.top_k(others, 20).indices == 500).any(axis=1).mean()
    assert found > 0.8 and astray < 0.1


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.ones((2, 3)), np.ones((5, 4))), {}, "met: expected shape"),
        ((np.ones((0, 4)), np.ones((5, 4))), {}, "met: expected shape"),
        ((np.ones((2, 4)), np.ones((0, 4))), {}, "others: expected shape"),
        ((np.full((2, 4), np.nan), np.ones((5, 4))), {}, "met: expected finite"),
        ((np.ones((2, 4)), np.ones((5, 4))), {"place": 0}, r"^place: expected an integer in \[1, 10\], got 0"),
        (
            (np.ones((2, 4)), np.ones((5, 4))),
            {"place": 1.0},
            r"^place: expected an integer in \[1, 10\], got float 1\.0$",
        ),
        ((np.ones((2, 4)), np.ones((5, 4))), {"ridge": "1"}, r"^ridge: expected a number in \(0, inf\], got str"),
        ((np.ones((2, 4)), np.ones((5, 4))), {"place": 11}, r"^place: expected an integer in \[1, 10\], got 11"),
        ((np.ones((2, 4)), np.ones((5, 4))), {"ridge": 0.0}, r"^ridge: expected a number in \(0, inf\], got 0\.0"),
        (
            (np.ones((2, 4)), np.ones((5, 4))),
            {"others_weight": float("nan")},
            r"^others_weight: expected a number in \(0, inf\), got nan",
        ),
        (
            (np.ones((2, 4)), np.ones((5, 4))),
            {"others_weight": np.inf},  # the solution would be NaN
            r"^others_weight: expected a number in \(0, inf\), got inf",
        ),
        (
            (np.ones((2, 4)), np.ones((5, 4))),
            {"others_weight": 1e308},  # sums overflow float64
            r"^ridge, others_weight: expected weights of which the solution is finite .*, got 100\.0 and 1e\+308",
        ),
        (
            (np.ones((2, 4)), np.ones((5, 4))),
            {"ridge": 1e-16},  # lost in rounding, so the matrix is singular
            r"^ridge, others_weight: expected weights of which the solution is finite .*, got 1e-16 and 100\.0",
        ),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_cannot_be_fitted_is_refused_by_name(arguments, options, message):
    catalog = Catalog.from_vectors(np.eye(10, 4, dtype=np.float32))
    with pytest.raises(LsifError, match=message):
        catalog.fit_item(*arguments, **options)
