"""Matrices of a changing catalogue: rows are appended, and some get new values."""

from __future__ import annotations

import weakref

import numpy as np
import numpy.typing as npt
import torch

from lsif_sdk.locks import ForkSafeLock

__all__ = ["replaced"]

_SPARE = 8
"""Spare room for 1/8 more rows is allocated. Pages that are never written to take no memory."""

_USED: dict[int, tuple[weakref.ref[npt.NDArray[np.float32]], int]] = {}
"""Arrays with spare room, by address, with their number of rows in use."""
_USING = ForkSafeLock()


def replaced(old: torch.Tensor, added: int, rows: npt.ArrayLike, values: npt.ArrayLike) -> torch.Tensor:
    """A copy of float32 rows with rows appended and some values replaced; `old` does not change.

    If no row of `old` gets new values and it has spare room, nothing is copied, and both share memory. Uses NumPy in
    this thread alone, since torch's threads would take CPUs from requests.

    Args:
        old: float32 [num_rows] or [num_rows, dim].
        added: how many rows to append; they are zeros unless among `rows`.
        rows: [num_changed], old or appended rows.
        values: float32 [num_changed] or [num_changed, dim].
    """
    known = old.detach().numpy()
    places = np.asarray(rows, np.int64)
    size = len(known) + added
    result = None
    if added and (not len(places) or places.min() >= len(known)):
        result = _grown(known, size)
    if result is None:
        result = _with_room(size, known.shape[1:])
        result[: len(known)] = known
    result[len(known) :] = 0
    result[places] = np.asarray(values, np.float32).reshape(len(places), *known.shape[1:])
    return torch.from_numpy(result)


def _with_room(size: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    whole = np.empty((size + size // _SPARE, *shape), np.float32)
    with _USING:
        for address in [address for address, (reference, _) in _USED.items() if reference() is None]:
            del _USED[address]
        _USED[whole.ctypes.data] = weakref.ref(whole), size
    return whole[:size]


def _grown(rows: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32] | None:
    """These rows extended to `size` in the same memory, or None if there is no room or it is in use."""
    with _USING:
        reference, used = _USED.get(rows.ctypes.data, (None, 0))
        whole = None if reference is None else reference()
        if reference is None or whole is None or used != len(rows) or len(whole) < size:
            return None
        _USED[rows.ctypes.data] = reference, size
        return whole[:size]
