"""Checks made before anything is timed: implementations of the same work must give the same answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["agree", "close", "recall"]

_TIES = 1e-3  # share of the results that may differ, because scores are equal up to float32 rounding


def agree(name: str, found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    """Refuses results (rows of items, in any order) if more than one in a thousand differs.

    Raises:
        SystemExit: too many differ, or the shapes do.
    """
    if found.shape != expected.shape:
        raise SystemExit(f"{name}: expected results of shape {expected.shape}, got {found.shape}; nothing timed")
    different = 1 - recall(found, expected)
    if different > _TIES:
        raise SystemExit(f"{name}: {different:.1%} of the results are not the exact ones; nothing timed")


def recall(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """The share of the expected items that were found, in any order within a row; -1 stands for no item."""
    hits = [len(np.intersect1d(a[a >= 0], b)) for a, b in zip(found, expected, strict=True)]
    return sum(hits) / expected.size


def close(name: str, found: npt.NDArray[Any], expected: npt.NDArray[Any], tolerance: float) -> float:
    """The largest error relative to the largest value.

    Raises:
        SystemExit: the error is above `tolerance`, or the shapes differ.
    """
    if found.shape != expected.shape:
        raise SystemExit(f"{name}: expected values of shape {expected.shape}, got {found.shape}; nothing timed")
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not error <= tolerance:
        raise SystemExit(f"{name}: differs by {error:.1e} of the largest value, above {tolerance:.0e}; nothing timed")
    return error
