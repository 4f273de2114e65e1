"""Row numbers to leave out of a search, in the form the native code takes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from lsif_sdk.arguments import as_array
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.ragged import offsets_of

__all__ = ["Exclude", "ragged_rows"]

Exclude = Sequence[int] | Set[int] | Sequence[Sequence[int] | Set[int] | None] | npt.NDArray[np.integer[Any]]
"""Rows to leave out: one list or set for all queries, or one (or None) per query."""


def ragged_rows(exclude: Exclude | None, batch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
    """Rows to leave out as (rows int64 [total], offsets int64 [batch + 1]).

    Raises:
        ArgumentError: there is not one list per query.
        ArgumentTypeError: not row numbers.
    """
    if exclude is None or batch == 0:
        return None
    if batch == 1 and type(exclude) is list and _INTEGERS.issuperset(map(type, exclude)):  # most requests
        with contextlib.suppress(OverflowError):  # the code below refuses it with a message
            return np.array(exclude, np.int64), np.array((0, len(exclude)), np.int64)
    given: Any = list(exclude) if isinstance(exclude, Set) else exclude
    if hasattr(given, "__array__"):
        given = _array(given)
    elif isinstance(given, str) or not isinstance(given, Sequence):
        raise ArgumentTypeError("exclude", _EXCLUDED, exclude)
    if isinstance(given, np.ndarray):
        nested = given.ndim == 2
    elif nested := not _INTEGERS.issuperset(map(type, given)):
        given = [[] if part is None else list(part) if isinstance(part, Set) else part for part in given]
        nested = any(_array(part).ndim == 1 for part in given)
    parts = [_rows(part) for part in (given if nested else [given])]
    if nested and len(parts) != batch:
        raise ArgumentError("exclude", f"one list per query ({batch})", f"{len(parts)} lists")
    if not nested:
        parts = parts * batch
    return np.concatenate(parts), offsets_of([len(part) for part in parts])


_EXCLUDED = "a list or set of row numbers, or a list of those (or None), one per query"
_INTEGERS = frozenset({int, np.int64, np.int32})


def _rows(part: Any) -> npt.NDArray[np.int64]:
    array = _array(part)
    if array.ndim != 1:
        raise ArgumentError("exclude", _EXCLUDED, f"shape {list(array.shape)}")
    if array.size and array.dtype.kind not in "iu":
        raise ArgumentTypeError("exclude", "row numbers", part[0])
    if array.dtype == np.uint64 and array.size and array.max() >= 2**63:
        raise ArgumentError("exclude", "row numbers that fit int64", array.max())
    return array.astype(np.int64)


def _array(exclude: Any) -> npt.NDArray[Any]:
    return as_array("exclude", exclude, _EXCLUDED)
