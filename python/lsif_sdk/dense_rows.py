"""Rows of ids by a table, where ids are integers that lie close together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["DenseRows"]

_PLACES_AN_ID = 4  # at most: 32 bytes an item, beside the dictionary, which takes three times as much


class DenseRows:
    """Row by id. A dictionary of Python integers has three places in memory an id, each of which has to be waited for
    when other work has emptied the caches; here there is one, and all of a request are read at once.

    Args:
        ids: int64, no two equal.
    """

    def __init__(self, ids: npt.NDArray[np.int64]) -> None:
        self._first = ids.min()
        self._size = np.uint64(int(ids.max()) - int(self._first) + 1)
        self._rows = np.full(int(self._size) + 1, -1, np.int64)  # the last place is that of all other numbers
        self._rows[ids - self._first] = np.arange(len(ids))

    @classmethod
    def of(cls, ids: npt.NDArray[np.int64]) -> DenseRows | None:
        """None where that would take too much memory."""
        if len(ids) == 0 or int(ids.max()) - int(ids.min()) >= _PLACES_AN_ID * len(ids):
            return None
        return cls(ids)

    def find(self, ids: Sequence[int]) -> npt.NDArray[np.int64] | None:
        """Rows, -1 where there is none; None if a number does not fit int64."""
        try:
            numbers = np.fromiter(ids, np.int64, len(ids))
        except OverflowError:
            return None
        # Modulo 2**64, so that what is below the first comes far behind the last.
        places = np.minimum((numbers - self._first).view(np.uint64), self._size)
        rows: npt.NDArray[np.int64] = self._rows[places.view(np.int64)]
        return rows
