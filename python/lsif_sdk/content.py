"""Item vectors from descriptions, for items without events and to improve those of items with few events."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lsif_sdk.arguments import FLOAT32_MAX, FLOAT32_TINY, as_column, as_integer, as_number, as_seed
from lsif_sdk.catalog import Catalog
from lsif_sdk.errors import ArgumentError
from lsif_sdk.float_arrays import as_floats

__all__ = ["LEAST_DESCRIBED", "ContentAdapter", "DescribedItems"]

_FOLDS = 5
LEAST_DESCRIBED = 2 * _FOLDS
"""The least number of items with events and a description that an adapter needs."""
_LARGEST_CALIBRATION = 20.0
_USERS_PER_CHUNK = 256


class DescribedItems(NamedTuple):
    """Rows of a catalogue that were computed with the help of descriptions.

    Attributes:
        vectors: float32 [num_items, dim].
        bias: float32 [num_items].
    """

    vectors: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False)
class ContentAdapter:
    """Predicts an item's row from the items of a trained catalogue with the nearest descriptions. Make one with `fit`.

    An item with description f gets the weighted mean of the rows y_i = (vector_i, bias_i) of the `neighbours` items
    whose descriptions f_i are nearest by cosine:

        y(f) = sum_i w_i y_i / sum_i w_i,    w_i = exp(cos(f, f_i) / temperature)

    Neighbours are few and the temperature is low, because the mean of many vectors has no meaningful direction
    (docs/quality_trials.md compares other values and a linear map).

    Attributes:
        described: a catalogue of the unit descriptions of the items with events, [num_met, num_features].
        met: rows of these items in the fitted catalogue, int64 [num_met].
        features: unit descriptions of all items, float32 [num_items, num_features].
        vectors: float32 [num_items, dim], as fitted.
        bias: float32 [num_items], as fitted.
        counts: events of each item, float64 [num_items].
        calibration: added to the bias of an item that has only a description, see `fit`.
        neighbours: how many.
        temperature: divides the cosines.
    """

    described: Catalog
    met: NDArray[np.int64]
    features: NDArray[np.float32]
    vectors: NDArray[np.float32]
    bias: NDArray[np.float32]
    counts: NDArray[np.float64]
    calibration: float
    neighbours: int
    temperature: float

    @classmethod
    def fit(
        cls,
        features: ArrayLike,
        vectors: ArrayLike,
        bias: ArrayLike,
        counts: ArrayLike,
        users: ArrayLike,
        targets: ArrayLike,
        *,
        neighbours: int = 3,
        temperature: float = 0.05,
        seed: int = 0,
    ) -> ContentAdapter:
        """Learns from a trained catalogue, and calibrates how often items with only a description are shown.

        The mean of vectors is shorter than the vectors, so its scores are too low. In five folds, a fifth of the items
        is treated as if it had no events. `calibration` is the number b that, added to their biases, makes the
        probability of these items together that with which users did meet one of them (maximum likelihood in b):

            sum_{folds, users} P(target in fold | user; b) = number of targets,    P by the softmax of all scores

        Args:
            features: descriptions, for example of `embed_titles`, [num_items, num_features]; zeros for an item without
                one.
            vectors: vectors of the trained catalogue, [num_items, dim].
            bias: biases of the trained catalogue, [num_items].
            counts: number of events of each item, [num_items].
            users: user vectors just before an event (`Recommender.user_vectors`), [num_users, dim]; some thousands are
                enough. With `multi_interest` scoring the calibration approximates the scores by the fused vector.
            targets: the row of the item met in this event, int [num_users].
            neighbours: >= 1.
            temperature: > 0.
            seed: random seed of the folds.

        Raises:
            ArgumentError: shapes do not fit, a number is not finite in float32 or out of range, fewer than ten items
                have events and a description, or no target is one of them.
            ArgumentTypeError: an argument is of the wrong type, for example texts in place of embeddings.
        """
        x, y = _matrix("features", features), _matrix("vectors", vectors)
        b, c = (as_floats(name, part, 1).numpy() for name, part in (("bias", bias), ("counts", counts)))
        for name, part in (("vectors", y), ("bias", b), ("counts", c)):
            if len(part) != len(x):
                raise ArgumentError(name, f"one row for each of the {len(x)} items", part.shape)
        if (c < 0).any():
            raise ArgumentError("counts", "numbers >= 0", c[c < 0][0])
        u, t = _matrix("users", users), as_column("targets", targets, "item rows")
        if u.shape[1] != y.shape[1]:
            raise ArgumentError("users", f"shape [num_users, {y.shape[1]}]", list(u.shape))
        if t.shape != u.shape[:1] or t.dtype.kind not in "iu":
            raise ArgumentError("targets", f"int of shape [{len(u)}], a row each", f"{t.dtype} {list(t.shape)}")
        if len(t) and not (t.min() >= 0 and t.max() < len(x)):
            raise ArgumentError("targets", f"rows in [0, {len(x) - 1}]", f"{t.min()} to {t.max()}")
        neighbours = as_integer("neighbours", neighbours, 1, 2**20)
        temperature = as_number("temperature", temperature, FLOAT32_TINY, FLOAT32_MAX)
        seed = as_seed(seed)
        x = _unit(x)
        met = np.flatnonzero((c > 0) & x.any(axis=1))
        if len(met) < LEAST_DESCRIBED:
            raise ArgumentError(
                "counts, features", f"at least {LEAST_DESCRIBED} items with events and a description", len(met)
            )
        described, c = Catalog.from_vectors(x[met]), c.astype(np.float64)
        adapter = cls(described, met, x, y, b.copy(), c, 0.0, neighbours, temperature)
        known = np.isin(t, met)
        if not known.any():
            raise ArgumentError("targets", "an item with events and a description", "none")
        return dataclasses.replace(adapter, calibration=adapter._calibrate(u[known], t[known], seed))

    def items(self, features: ArrayLike, exploration: float = 0.5) -> DescribedItems:
        """Rows for items that have only a description.

        Args:
            features: [num_items, num_features], no row all zeros.
            exploration: added to the calibrated biases, in units of the score: 0 gives these items together the
                probability with which users meet one of them, 1 about e times that.

        Raises:
            ArgumentError: the shape is wrong, a description is all zeros, or a number is not finite in float32.
            ArgumentTypeError: an argument is of the wrong type.
        """
        x = _matrix("features", features)
        if x.shape[1] != self.features.shape[1]:
            raise ArgumentError("features", f"shape [num_items, {self.features.shape[1]}]", x.shape)
        if not x.any(axis=1).all():
            raise ArgumentError(
                "features", "descriptions that are not all zeros", f"zeros in row {np.flatnonzero(~x.any(axis=1))[0]}"
            )
        exploration = as_number("exploration", exploration, -_LARGEST_CALIBRATION, _LARGEST_CALIBRATION)
        vectors, bias = self._mean_of_nearest(self.described, self.met, _unit(x))
        return DescribedItems(vectors, bias + np.float32(self.calibration + exploration))

    def catalog(self, exploration: float = 0.5, prior_events: float = 3.0) -> DescribedItems:
        """Rows for all items of the fitted catalogue, in its order.

        An item without events gets the row of `items`. An item with c events keeps its bias and gets a vector between
        its own and that of its description, which counts as much as `prior_events` events:

            vector = (c vector + prior_events described) / (c + prior_events)

        Items without a description keep the rows they have.

        Args:
            exploration: see `items`.
            prior_events: >= 0; 0 leaves items with events as they are.

        Raises:
            ArgumentError: a number is not finite or out of range.
            ArgumentTypeError: an argument is not a number.
        """
        prior_events = as_number("prior_events", prior_events, 0.0, FLOAT32_MAX)
        vectors, bias = self.vectors.copy(), self.bias.copy()
        unmet = np.flatnonzero((self.counts == 0) & self.features.any(axis=1))
        vectors[unmet], bias[unmet] = self.items(self.features[unmet], exploration)
        described, _ = self._mean_of_nearest(self.described, self.met, self.features[self.met], leave_out_self=True)
        own = (self.counts[self.met] / (self.counts[self.met] + prior_events))[:, None]
        vectors[self.met] = own * vectors[self.met] + (1 - own) * described
        return DescribedItems(vectors, bias)

    def _mean_of_nearest(
        self, described: Catalog, rows: NDArray[np.int64], features: NDArray[np.float32], leave_out_self: bool = False
    ) -> DescribedItems:
        """Weighted means of vectors and biases; `rows` maps rows of `described` to rows of the fitted catalogue."""
        exclude = np.arange(len(features))[:, None] if leave_out_self else None
        nearest = described.top_k(features, min(self.neighbours, len(rows) - int(leave_out_self)), exclude)
        weights = nearest.scores.astype(np.float64) / self.temperature
        weights = np.exp(weights - weights.max(axis=1, keepdims=True, initial=-np.inf))
        weights /= weights.sum(axis=1, keepdims=True)
        of_fitted = rows[nearest.indices]
        vectors = (weights[..., None] * self.vectors[of_fitted]).sum(axis=1)
        bias = (weights * self.bias[of_fitted]).sum(axis=1)
        return DescribedItems(vectors.astype(np.float32), bias.astype(np.float32))

    def _calibrate(self, users: NDArray[np.float32], targets: NDArray[np.int64], seed: int) -> float:
        """`calibration` (see `fit`), by bisection, since the sum of probabilities rises with b."""
        fold = np.random.default_rng(seed).permutation(len(self.met)) % _FOLDS
        log_odds = []
        for part in range(_FOLDS):
            kept, left = self.met[fold != part], self.met[fold == part]
            rows = self._mean_of_nearest(Catalog.from_vectors(self.features[kept]), kept, self.features[left])
            for begin in range(0, len(users), _USERS_PER_CHUNK):
                chunk = users[begin : begin + _USERS_PER_CHUNK]
                others = _log_sum_exp(chunk @ self.vectors[kept].T + self.bias[kept])
                log_odds.append(_log_sum_exp(chunk @ rows.vectors.T + rows.bias) - others)
        odds = np.concatenate(log_odds).astype(np.float64)
        low, high = -_LARGEST_CALIBRATION, _LARGEST_CALIBRATION
        while high - low > 1e-6:
            middle = (low + high) / 2
            shown = (1 / (1 + np.exp(-(odds + middle).clip(-700, 700)))).sum()
            low, high = (middle, high) if shown < len(targets) else (low, middle)
        return (low + high) / 2


def _matrix(name: str, values: ArrayLike) -> NDArray[np.float32]:
    return as_floats(name, values, 2).numpy()


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return (features / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _log_sum_exp(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    largest = scores.max(axis=1, keepdims=True)
    total: NDArray[np.float32] = (largest + np.log(np.exp(scores - largest).sum(axis=1, keepdims=True)))[:, 0]
    return total
