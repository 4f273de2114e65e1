"""Sets of catalogue rows as bitmaps, and which items may be recommended at a time."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["FOREVER", "HIDDEN", "REMOVED", "Availability", "Bitmap", "as_bitmap", "in_bitmap"]

Bitmap = npt.NDArray[np.uint64]
"""One bit per catalogue row, uint64 [ceil(num_items / 64)]: row r is bit r % 64 of word r // 64."""

FOREVER: Final = int(np.iinfo(np.int64).max)
HIDDEN: Final = int(np.iinfo(np.int64).min) + 1
REMOVED: Final = int(np.iinfo(np.int64).min)
"""Special values of `until`. A removed item keeps its row, but is refused where an item of the catalogue is needed."""


class Availability:
    """Which items may be recommended at a time. Thread-safe, without locks.

    Args:
        until: int64 [num_items], Unix seconds from which an item is no longer recommended, or one of the special
            values above.
    """

    def __init__(self, until: npt.NDArray[np.int64]) -> None:
        until.flags.writeable = False
        self.until = until
        # The last result with the period for which it holds, (from, to, bitmap), replaced as a whole.
        self._known: tuple[float, float, Bitmap | None] = (np.inf, -np.inf, None)

    def bitmap(self, now: float) -> Bitmap | None:
        """The items that may be recommended `now` (Unix seconds), read-only; None: all."""
        begin, end, bitmap = self._known
        if begin <= now < end:
            return bitmap
        holds = self.until > now
        begin, end = float(self.until[~holds].max(initial=REMOVED)), float(self.until[holds].min(initial=FOREVER))
        bitmap = None if holds.all() else as_bitmap(holds)
        self._known = begin, end, bitmap
        return bitmap


def as_bitmap(holds: npt.NDArray[np.bool_]) -> Bitmap:
    """bool [num_items] as a read-only bitmap."""
    packed = np.packbits(holds, bitorder="little")
    padded = np.zeros((len(packed) + 7) // 8 * 8, np.uint8)
    padded[: len(packed)] = packed
    bitmap = padded.view("<u8").astype(np.uint64, copy=False)
    bitmap.flags.writeable = False
    return bitmap


def in_bitmap(bitmap: Bitmap, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which of the rows are in the set."""
    return (bitmap[rows // 64] >> (rows % 64).astype(np.uint64) & np.uint64(1)).astype(np.bool_)
