"""Item vectors from descriptions, in closed form: what an item nobody has met yet should score."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lsif_sdk.arguments import check_number
from lsif_sdk.errors import ArgumentError

__all__ = ["ContentAdapter", "DescribedItems"]

RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Among which cross-validation chooses, unless it is told."""

_FOLDS = 5


class DescribedItems(NamedTuple):
    """Rows of a catalogue, made from descriptions.

    Attributes:
        vectors: float32 [num_items, dim].
        bias: float32 [num_items].
    """

    vectors: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False)
class ContentAdapter:
    """The ridge regression of item vectors and biases on descriptions. Make one with `fit`.

    Attributes:
        feature_mean: float64 [num_features].
        target_mean: float64 [dim + 1], of vectors and, last, biases.
        weights: float64 [num_features, dim + 1].
        uncertainty: what descriptions leave open adds to a score on average (see `fit`), >= 0.
        ridge: the chosen one.
        explained: share of the weighted variance explained in cross-validation; at most 1, below 0 for a description
            worse than none.
    """

    feature_mean: NDArray[np.float64]
    target_mean: NDArray[np.float64]
    weights: NDArray[np.float64]
    uncertainty: float
    ridge: float
    explained: float

    @classmethod
    def fit(
        cls,
        features: ArrayLike,
        vectors: ArrayLike,
        bias: ArrayLike,
        counts: ArrayLike,
        users: ArrayLike,
        *,
        ridge: float | None = None,
        seed: int = 0,
    ) -> ContentAdapter:
        """Fits y_i = (vector_i, bias_i) to features f_i of the items with events, an item counting sqrt(counts_i).

            minimise  sum_i sqrt(c_i) |y_i - mean(y) - W (f_i - mean(f))|^2 + ridge |W|^2

        The ridge is the one of `RIDGES` that explains most in five-fold cross-validation. The residuals left out there
        have a covariance S: what a description does not tell. A softmax weighs items by exp(score), and for a residual
        that is normal the expectation of exp(score) is exp(score + u' S u / 2), u = (I, 1) for the user vector I. The
        mean of u' S u / 2 over users is `uncertainty`: without it, items from descriptions alone, whose vectors are
        shorter than learned ones, would hardly ever be recommended.

        Args:
            features: descriptions such as `embed_titles` makes, [num_items, num_features].
            vectors: of the trained catalogue, [num_items, dim].
            bias: of the trained catalogue, [num_items].
            counts: events of each item, [num_items]; items without are left out.
            users: user vectors as they come (`Recommender.user_vectors`), [num_users, dim]; some thousands are enough.
            ridge: > 0, or None to choose by cross-validation.
            seed: of the folds.

        Raises:
            ArgumentError: shapes do not fit, a number is not finite, fewer than ten items have events, or `ridge` is
                not above 0.
        """
        x, y = _matrix("features", features), _matrix("vectors", vectors)
        b, c = (np.asarray(part, dtype=np.float64) for part in (bias, counts))
        for name, part in (("vectors", y), ("bias", b), ("counts", c)):
            if part.shape[:1] != x.shape[:1] or (part.ndim != 1 and part is not y):
                raise ArgumentError(name, f"one row for each of the {len(x)} items", part.shape)
        u = _matrix("users", users)
        if u.shape[1] != y.shape[1] or len(u) == 0:
            raise ArgumentError("users", f"shape [at least 1, {y.shape[1]}]", u.shape)
        if not (np.isfinite(b).all() and np.isfinite(c).all() and (c >= 0).all()):
            raise ArgumentError("bias, counts", "finite numbers, counts >= 0", "others")
        if ridge is not None:
            check_number("ridge", ridge, 0.0, float(np.finfo(np.float64).max), "(]")
        met = c > 0
        if met.sum() < 2 * _FOLDS:
            raise ArgumentError("counts", f"at least {2 * _FOLDS} items with events", int(met.sum()))
        x, y, weight = x[met], np.concatenate([y, b[:, None]], axis=1)[met], np.sqrt(c[met])
        ridges = RIDGES if ridge is None else (ridge,)
        residuals = _left_out_residuals(x, y, weight, ridges, seed)
        chosen = int(np.argmin([(weight[:, None] * part**2).sum() for part in residuals]))
        left = residuals[chosen]
        covariance = (weight[:, None] * left).T @ left / weight.sum()
        u = np.concatenate([u, np.ones((len(u), 1))], axis=1)
        uncertainty = 0.5 * float(np.einsum("ui,ij,uj->", u, covariance, u) / len(u))
        x_mean, y_mean, solve = _ridge_regression(x, y, weight)
        spread = (weight[:, None] * (y - y_mean) ** 2).sum()
        explained = 1 - float((weight[:, None] * left**2).sum() / spread) if spread > 0 else 0.0
        return cls(x_mean, y_mean, solve(ridges[chosen]), uncertainty, float(ridges[chosen]), explained)

    def items(self, features: ArrayLike, exploration: float = 1.0) -> DescribedItems:
        """Rows for items that are known by their descriptions alone.

        Args:
            features: [num_items, num_features].
            exploration: how much of `uncertainty` their biases get: 1 as much as the model's own probabilities imply;
                0 gives the likeliest score and rarely shows new items; more than 1 shows them more than that.

        Raises:
            ArgumentError: the shape is wrong, or a number is not finite or below 0.
        """
        x = _matrix("features", features)
        if x.shape[1] != len(self.feature_mean):
            raise ArgumentError("features", f"shape [num_items, {len(self.feature_mean)}]", x.shape)
        check_number("exploration", exploration, 0.0, float(np.finfo(np.float32).max))
        y = (x - self.feature_mean) @ self.weights + self.target_mean
        bias = y[:, -1] + exploration * self.uncertainty
        return DescribedItems(y[:, :-1].astype(np.float32), bias.astype(np.float32))


def _matrix(name: str, values: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise ArgumentError(name, "a matrix of finite numbers", f"shape {matrix.shape}" if matrix.ndim != 2 else "NaN")
    return matrix


def _left_out_residuals(
    x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64], ridges: tuple[float, ...], seed: int
) -> list[NDArray[np.float64]]:
    """For each ridge the residuals of every item, [num_items, dim + 1], from a fit without the item's fold."""
    fold = np.random.default_rng(seed).permutation(len(x)) % _FOLDS
    residuals = [np.empty_like(y) for _ in ridges]
    for part in range(_FOLDS):
        kept, left = fold != part, fold == part
        x_mean, y_mean, solve = _ridge_regression(x[kept], y[kept], weight[kept])
        for ridge, residual in zip(ridges, residuals, strict=True):
            residual[left] = y[left] - y_mean - (x[left] - x_mean) @ solve(ridge)
    return residuals


def _ridge_regression(x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]) -> Any:
    """Weighted means of x and y, and a function from the ridge to W; one eigendecomposition serves all ridges."""
    x_mean, y_mean = (np.average(part, axis=0, weights=weight) for part in (x, y))
    centred = x - x_mean
    values, basis = np.linalg.eigh((centred * weight[:, None]).T @ centred)
    right = basis.T @ ((centred * weight[:, None]).T @ (y - y_mean))

    def solve(ridge: float) -> NDArray[np.float64]:
        solution: NDArray[np.float64] = basis @ (right / (values.clip(min=0) + ridge)[:, None])
        return solution

    return x_mean, y_mean, solve
