"""Matrices that become others by a change of some rows, and share memory with these."""

from __future__ import annotations

import weakref
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from lsif_sdk import _core

__all__ = ["replaced"]

_VERSIONS: Final[weakref.WeakValueDictionary[int, _core.RowVersion]] = weakref.WeakValueDictionary()
"""Those that are alive, by address: a tensor does not say who owns its memory."""


def replaced(old: torch.Tensor, added: int, rows: npt.ArrayLike, values: npt.ArrayLike) -> torch.Tensor:
    """What float32 rows become; `old` stays as it is.

    Made in this thread alone: torch's threads would take the readers' processors. What it takes, in time and memory, is
    a copy the first time, and then the pieces of memory that change (csrc/engine/versioned_memory.h).

    Args:
        old: float32 [num_rows] or [num_rows, dim].
        added: how many rows come behind the last; zeros where they are not among `rows`.
        rows: [num_changed], of `old` and behind it.
        values: float32 [num_changed] or [num_changed, dim].
    """
    known = old.detach().numpy()
    places = np.asarray(rows, np.int64)
    given = np.ascontiguousarray(values, np.float32).reshape(len(places), *known.shape[1:])
    version = _core.RowVersion(known, _VERSIONS.get(known.ctypes.data), added, places, given)
    array = version.array()
    _VERSIONS[array.ctypes.data] = version
    return torch.from_numpy(array)
