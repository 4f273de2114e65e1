"""Fold-in: a new item's row of a trained catalogue, in closed form from the users who met it.

A least-squares problem like that of ALS for one item (Hu, Koren and Volinsky 2008, "Collaborative filtering for
implicit feedback datasets").
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsif_sdk.arguments import as_number
from lsif_sdk.errors import ArgumentError

__all__ = ["FoldedItem", "fold_in"]


class FoldedItem(NamedTuple):
    """The row of an item in a catalogue.

    Attributes:
        vector: float32 [dim].
        bias: float.
    """

    vector: NDArray[np.float32]
    bias: float


def fold_in(
    met: NDArray[np.floating],
    met_scores: NDArray[np.floating],
    others: NDArray[np.floating],
    other_scores: NDArray[np.floating],
    *,
    ridge: float,
    others_weight: float,
) -> FoldedItem:
    """The vector x and bias b whose scores fit the wanted scores s best, by weighted least squares:

        minimise  sum_met (I.x + b - s)^2 + others_weight mean_others (I.x + b - s)^2 + ridge |x|^2

    where I is a user's fused vector. The normal equations are solved in float64; the ridge keeps them regular if there
    are few users.

    Args:
        met: fused vectors of users just before they met the item, float32 [num_met, dim].
        met_scores: the wanted score for each of them, [num_met].
        others: fused vectors of a sample of all users, float32 [num_others, dim].
        other_scores: the wanted score for each of them, [num_others].
        ridge: weight of |x|^2, > 0; infinity makes x zeros.
        others_weight: weight of all `others` together, > 0 and finite.

    Raises:
        ArgumentError: shapes do not fit, a number is not finite, or a weight is out of range, or so small or large that
            there is no finite solution.
        ArgumentTypeError: a weight is not a number.
    """
    for name, vectors, scores in (("met", met, met_scores), ("others", others, other_scores)):
        if vectors.ndim != 2 or vectors.shape[1] != met.shape[1] or scores.shape != vectors.shape[:1]:
            raise ArgumentError(name, "vectors [n, dim] and n scores", f"{vectors.shape} and {scores.shape}")
        if len(vectors) == 0 or not (np.isfinite(vectors).all() and np.isfinite(scores).all()):
            raise ArgumentError(name, "finite numbers of at least one user", f"{len(vectors)} users")
    ridge = as_number("ridge", ridge, 0, math.inf, "(]")
    others_weight = as_number("others_weight", others_weight, 0, math.inf, "()")
    dim = met.shape[1]
    gram, right = np.zeros((dim + 1, dim + 1)), np.zeros(dim + 1)
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        for vectors, scores, weight in ((met, met_scores, 1.0), (others, other_scores, others_weight / len(others))):
            design = np.concatenate([vectors, np.ones((len(vectors), 1))], axis=1, dtype=np.float64)
            gram += weight * design.T @ design
            right += weight * design.T @ scores
        gram[np.arange(dim), np.arange(dim)] += ridge
        try:
            solution = np.linalg.solve(gram, right)
        except np.linalg.LinAlgError:
            solution = np.full(dim + 1, np.nan)
        vector, bias = solution[:dim].astype(np.float32), float(solution[dim])
    if not (np.isfinite(vector).all() and math.isfinite(bias)):
        expected = "weights of which the solution is finite (a larger ridge, say)"
        raise ArgumentError("ridge, others_weight", expected, f"{ridge} and {others_weight}")
    return FoldedItem(vector, bias)
