"""Matrices of a catalogue that changes: rows come behind the last, and some get other values."""

from __future__ import annotations

import weakref

import numpy as np
import numpy.typing as npt
import torch

from lsif_sdk.locks import ForkSafeLock

__all__ = ["replaced"]

_SPARE = 8
"""Room for this part of the rows is kept behind them. Memory that nobody has written to takes none."""

_USED: dict[int, tuple[weakref.ref[npt.NDArray[np.float32]], int]] = {}
"""Arrays with room behind the rows of some tensor, by address, and how many rows of each are in use."""
_USING = ForkSafeLock()


def replaced(old: torch.Tensor, added: int, rows: npt.ArrayLike, values: npt.ArrayLike) -> torch.Tensor:
    """A copy of float32 rows with further rows behind the last and other values in some; `old` stays as it is.

    Where no row of `old` gets other values, and there is room behind it, nothing is copied: both begin in one memory.
    NumPy does it, in this thread alone: torch's threads would take the readers' processors.

    Args:
        old: float32 [num_rows] or [num_rows, dim].
        added: how many rows come behind the last; zeros where they are not among `rows`.
        rows: [num_changed], of `old` and behind it.
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
    """These rows and, in the same memory, those up to `size`, if there is room that no others have got."""
    with _USING:
        reference, used = _USED.get(rows.ctypes.data, (None, 0))
        whole = None if reference is None else reference()
        if reference is None or whole is None or used != len(rows) or len(whole) < size:
            return None
        _USED[rows.ctypes.data] = reference, size
        return whole[:size]
