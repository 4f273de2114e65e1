"""Ragged arrays: concatenated parts of different lengths; part p has elements offsets[p] .. offsets[p + 1] - 1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["known_offsets", "offsets_of", "owners_of"]


def offsets_of(counts: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Offsets int64 [num_parts + 1] of parts with these numbers of elements."""
    counts = np.asarray(counts)
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def owners_of(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The part that each element belongs to, int64 [total]."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def known_offsets(known: npt.NDArray[np.bool_], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Offsets of the elements that remain where `known`, bool [total], is True."""
    return offsets_of(known)[offsets]
