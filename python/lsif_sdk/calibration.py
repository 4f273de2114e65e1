"""Calibrates approximate searches: how much a search's bounds can be relaxed for a given recall."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lsif_sdk.arguments import as_number
from lsif_sdk.locks import ForkSafeLock

__all__ = [
    "HURRIED_SHARE", "SAMPLE", "Calibration", "as_recall_target", "trial_queries", "trial_rows", "trial_search",
]  # fmt: skip

SAMPLE = 512
"""Number of queries of a calibration."""
HURRIED_SHARE = 0.5
"""The error share of a search that is short of time, without a guaranteed recall (measured in docs/score_topk.md)."""

_STEPS = 16
_ENOUGH = 10  # rows per query; a smaller k gives few rows to judge by, so its share is at least that of this k
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # the k for which a target is calibrated, once each

Search = Callable[[int, int, float], npt.NDArray[np.int64]]
"""From a query's number (below `SAMPLE`), k and an error share to the rows found, int64 [k], padded with -1."""


def as_recall_target(recall_target: float) -> float:
    """A checked recall target."""
    return float(as_number("recall_target", recall_target, 0, 1, "(]"))


class Calibration:
    """Finds, once per recall target and size of k, the error share that it needs, by trial searches.

    An exact search skips only rows that cannot be among the best for any direction of their coding error
    (Cauchy-Schwarz, docs/score_topk.md). Errors are hardly ever that extreme, so bounds that count only a share of them
    miss few rows. Sample queries give the share, by bisection over 1/16, 2/16, .. 1: the smallest that misses at most
    half of what the target allows, as a margin for users unlike the sample.
    """

    def __init__(self) -> None:
        self._shares: dict[tuple[float, int], float] = {}
        self._lock = ForkSafeLock()  # one thread tries, and others wait for its result

    def known(self, recall_target: float, k: int) -> float | None:
        """The share for searches of k rows; None if it is not calibrated."""
        return 1.0 if recall_target == 1 else self._shares.get((recall_target, _size_of(k)))

    def known_at_most(self, recall_target: float, k: int) -> float:
        """The share of the largest calibrated k up to this one, since shares fall with k; 1 if there is none."""
        tried = [size for target, size in list(self._shares) if target == recall_target and size <= k]  # others may add
        return self._shares[recall_target, max(tried)] if tried else 1.0

    def error_share(self, recall_target: float, k: int, search: Search) -> float:
        """The share for searches of k rows.

        Args:
            recall_target: above 0, at most 1; 1 is exact and needs no trial.
            k: number of rows wanted.
            search: used by the first call for a target and size of k.
        """
        share = self.known(recall_target, k)
        if share is None:
            with self._lock:
                share = self.known(recall_target, k)
                if share is None:
                    size = _size_of(k)
                    share = max(_smallest_share(recall_target, tried, search) for tried in {size, max(size, _ENOUGH)})
                    self._shares[recall_target, size] = share
        return share


def trial_rows(num_items: int) -> npt.NDArray[np.int64]:
    """Evenly spaced rows of a catalogue, int64 [SAMPLE]; in a smaller catalogue some come more than once."""
    return np.arange(SAMPLE) * num_items // SAMPLE


def trial_queries(vectors: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Rows as queries, scaled if their products with rows of the catalogue might overflow or underflow float32."""
    queries = vectors[rows]
    largest = max(float(vectors.max(initial=0)), -float(vectors.min(initial=0)))
    if 2.0**-40 < largest < 2.0**40:
        return queries
    sizes = np.abs(queries).max(axis=1, keepdims=True)
    scaled = np.zeros_like(queries)
    np.divide(queries, sizes, out=scaled, where=sizes > 0)
    scaled /= np.float32(vectors.shape[1])
    return scaled


def trial_search(
    search: Callable[..., Any],
    rows: npt.NDArray[np.int64],
    vectors: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float32] | None = None,
    temperature: float = 1.0,
    threads: int | None = None,
) -> Search:
    """The search of a calibration: `Catalog.search` for one query, without the row that the query was made from."""

    def ask(query: int, k: int, share: float) -> npt.NDArray[np.int64]:
        one = slice(query, query + 1)
        exclude = rows[one], np.array([0, 1])  # it would be its own best result, unlike for a user
        shares = None if weights is None else weights[one]
        found: npt.NDArray[np.int64] = search(vectors[one], shares, temperature, k, exclude, threads, share).indices[0]
        return found

    return ask


def _size_of(k: int) -> int:
    """The calibrated size that serves k: not larger than k, since a search for more rows skips less."""
    return max(size for size in _SIZES if size <= k)


def _smallest_share(recall_target: float, k: int, search: Search) -> float:
    exact = [search(query, k, 1.0) for query in range(SAMPLE)]
    wanted = (1 + recall_target) / 2
    low, high = 0, _STEPS  # the share of `high` steps is enough, that of `low` is not
    while high - low > 1:
        middle = (low + high) // 2
        if _recall(exact, [search(query, k, middle / _STEPS) for query in range(SAMPLE)]) >= wanted:
            high = middle
        else:
            low = middle
    return high / _STEPS


def _recall(exact: list[npt.NDArray[np.int64]], found: list[npt.NDArray[np.int64]]) -> float:
    shares = [
        np.isin(best[best >= 0], rows).mean() if (best >= 0).any() else 1.0
        for best, rows in zip(exact, found, strict=True)
    ]
    return float(np.mean(shares))
