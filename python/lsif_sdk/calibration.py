"""How much of a search's bounds can be given up for a part of the exact answer."""

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
"""Queries a calibration asks."""
HURRIED_SHARE = 0.5
"""What a search in a hurry counts of the errors: no promise of recall (docs/score_topk.md has what was measured)."""

_STEPS = 16
_ENOUGH = 10  # rows of each query: where fewer are wanted, what so many need is a floor, for want of rows to judge by
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # of k, for each of which a target is calibrated once

Search = Callable[[int, int, float], npt.NDArray[np.int64]]
"""Of a query's number below `SAMPLE`, k and an error share: the rows found, int64 [k], -1 where there are no more."""


def as_recall_target(recall_target: float) -> float:
    """A checked share of the exact answer."""
    return float(as_number("recall_target", recall_target, 0, 1, "(]"))


class Calibration:
    """The error share a recall target takes, found by trial once and kept.

    A search skips what cannot be among the best whatever the direction of a row's error (Cauchy-Schwarz,
    docs/score_topk.md). Hardly any row lies there, so that bounds that count only a share of the errors lose few. Which
    share is tried on sample queries: by bisection of 1/16, 2/16, .. 1, one that misses at most half of what the target
    allows; half, for the sake of users unlike the sample.
    """

    def __init__(self) -> None:
        self._shares: dict[tuple[float, int], float] = {}
        self._lock = ForkSafeLock()  # one tries, the others wait for what it finds

    def known(self, recall_target: float, k: int) -> float | None:
        """The share for searches of k rows; None if it has not been tried."""
        return 1.0 if recall_target == 1 else self._shares.get((recall_target, _size_of(k)))

    def known_at_most(self, recall_target: float, k: int) -> float:
        """The share of the largest k up to this one that has been tried, since shares fall with k; 1 if none has."""
        tried = [size for target, size in list(self._shares) if target == recall_target and size <= k]  # others may add
        return self._shares[recall_target, max(tried)] if tried else 1.0

    def error_share(self, recall_target: float, k: int, search: Search) -> float:
        """The share for searches of k rows.

        Args:
            recall_target: above 0, at most 1; 1 is exact and needs no trial.
            k: rows wanted.
            search: asked at the first call for a target and size of k.
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
    """Rows of a catalogue, evenly spread: int64 [SAMPLE]; with fewer rows than that, some more than once."""
    return np.arange(SAMPLE) * num_items // SAMPLE


def trial_queries(vectors: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Rows as queries, scaled where float32 would not hold their products with rows of the catalogue."""
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
    """What a calibration asks: by `Catalog.search`, each of the queries without the row that it is made of."""

    def ask(query: int, k: int, share: float) -> npt.NDArray[np.int64]:
        one = slice(query, query + 1)
        exclude = rows[one], np.array([0, 1])  # its own best answer, at a place no user is
        shares = None if weights is None else weights[one]
        found: npt.NDArray[np.int64] = search(vectors[one], shares, temperature, k, exclude, threads, share).indices[0]
        return found

    return ask


def _size_of(k: int) -> int:
    """The k that is tried for k: no larger, since with more rows wanted less is skipped."""
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
    """Mean over queries of the share of the exact rows that were found."""
    shares = [
        np.isin(best[best >= 0], rows).mean() if (best >= 0).any() else 1.0
        for best, rows in zip(exact, found, strict=True)
    ]
    return float(np.mean(shares))
