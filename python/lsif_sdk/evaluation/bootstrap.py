"""Confidence intervals of the difference between two models: the paired bootstrap over users."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsif_sdk.arguments import as_array, as_integer, as_number, as_seed
from lsif_sdk.errors import ArgumentError, ArgumentTypeError

__all__ = ["Interval", "paired_bootstrap"]

_VALUES_PER_CHUNK = 1 << 22


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    gains: NDArray[np.float64],
    baseline: NDArray[np.float64] | None = None,
    *,
    confidence: float = 0.95,
    num_samples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The mean of `gains` - `baseline` over users, with its percentile bootstrap interval (Efron 1979).

    Each resample draws users with replacement and takes both models' gains of these users, so that what makes a user
    easy or hard for both models cancels out. If the interval does not contain 0, the difference is unlikely to be due
    to the choice of users. It does not cover the randomness of training: for that, train with several seeds and average
    each model's gains over them first.

    Args:
        gains: each user's contribution to a metric, float64 [num_users]: for a report of `evaluate`,
            `rank_gains(report.per_user, report.k)["ndcg@10"]` with k = 10.
        baseline: the gains of another model for the same users in the same order; None = 0, for the interval of one
            model.
        confidence: probability that the interval covers, in (0, 1).
        num_samples: number of resamples, >= 1.
        seed: random seed.

    Raises:
        ArgumentError: shapes do not fit, there are no users, a value is not finite or an option is out of range.
        ArgumentTypeError: gains are not numbers, or an option is of the wrong type.
    """
    difference = _gains("gains", gains)
    if baseline is not None:
        others = _gains("baseline", baseline)
        if others.shape != difference.shape:
            raise ArgumentError("baseline", f"the users of gains, {difference.shape}", others.shape)
        with np.errstate(over="ignore", invalid="ignore"):  # refused below
            difference = difference - others
    if difference.ndim != 1 or difference.size == 0:
        raise ArgumentError("gains", "one number for each of at least one user", f"shape {difference.shape}")
    if not np.isfinite(difference).all():
        user = int(np.argmin(np.isfinite(difference)))
        raise ArgumentError("gains", "finite numbers, in the baseline, too", f"a difference of {difference[user]}")
    confidence = as_number("confidence", confidence, 0.0, 1.0, "()")
    num_samples = as_integer("num_samples", num_samples, 1, 2**31 - 1)
    rng, num_users = np.random.default_rng(as_seed(seed)), difference.size
    rows = max(1, _VALUES_PER_CHUNK // num_users)
    means = [
        difference[rng.integers(num_users, size=(min(rows, num_samples - begin), num_users))].mean(axis=1)
        for begin in range(0, num_samples, rows)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(difference.mean()), float(low), float(high))


def _gains(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    array = as_array(name, values, "an array of numbers")
    if array.dtype.kind not in "biuf":
        raise ArgumentTypeError(name, "an array of numbers", values)
    return array.astype(np.float64)
