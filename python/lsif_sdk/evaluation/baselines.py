"""What can score a whole catalogue for a user, and the first thing a model has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from lsif_sdk.errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lsif_sdk.training.data import EventLog

__all__ = ["Popularity", "Scorer"]


@runtime_checkable
class Scorer(Protocol):
    """Anything that `lsif_sdk.evaluation.evaluate` can rank: it has read the histories of a split beforehand."""

    def scores(self, user_rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores float32 [batch, num_items] of every item row of the split for the users int64 [batch]; never NaN."""
        ...


class Popularity:
    """Scores an item by how many events it has, the same for every user.

    Args:
        counts: events per item, int64 [num_items], >= 0.
    """

    def __init__(self, counts: NDArray[np.int64]) -> None:
        counts = np.asarray(counts)
        if counts.ndim != 1 or (counts.size and counts.min() < 0):
            raise ArgumentError("counts", "a count >= 0 for each item", f"shape {counts.shape}, {counts.ravel()[:5]}")
        # Dense ranks keep the order and ties of the counts, and float32 holds them exactly; large counts it may merge.
        self._scores = np.unique(counts, return_inverse=True)[1].astype(np.float32)

    @classmethod
    def from_log(cls, history: EventLog) -> Popularity:
        """Counts the events of a history log, such as `LeaveOneOut.test_history`."""
        return cls(np.bincount(history.items, minlength=history.num_items))

    def scores(self, user_rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """One score an item, repeated for every user: float32 [batch, num_items]."""
        return np.broadcast_to(self._scores, (len(user_rows), self._scores.size))
