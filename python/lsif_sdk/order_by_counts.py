"""The order of rows by count, and its update after some counts change."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["by_counts", "reordered"]


def by_counts(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """All rows, the largest count first, then by row number."""
    return np.argsort(-counts, kind="stable").astype(np.int64)


def reordered(
    order: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """`by_counts(counts)`, updated from the `order` before these rows (ascending) were added or changed."""
    if len(rows) > len(counts) // 100:
        return by_counts(counts)
    is_moved = np.zeros(len(counts), np.bool_)
    is_moved[rows] = True
    others = order[~is_moved[order]]
    keys = -counts[others]
    rows = rows[by_counts(counts[rows])]
    begins, ends = (np.searchsorted(keys, -counts[rows], side) for side in ("left", "right"))
    within = [np.searchsorted(others[b:e], row) for b, e, row in zip(begins, ends, rows, strict=True)]
    return np.insert(others, begins + np.array(within, np.int64), rows)
