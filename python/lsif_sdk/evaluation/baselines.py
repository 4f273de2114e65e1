"""The protocol of scorers, and simple baselines that a model has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np

from lsif_sdk.arguments import as_array, as_choice, as_number
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.event_log import EventLog, check_log
from lsif_sdk.times import SECONDS_PER_DAY

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OwnItems", "Popularity", "RecentPopularity", "Scorer"]


@runtime_checkable
class Scorer(Protocol):
    """A model for `lsif_sdk.evaluation.evaluate`, made with the histories of a split."""

    def scores(self, user_rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores of all items of the split, float32 [batch, num_items], for the users int64 [batch]; never NaN."""
        ...


class Popularity:
    """Scores an item by its number of events, the same for every user.

    Args:
        counts: events per item, int64 [num_items], >= 0.

    Raises:
        ArgumentError: not one dimension, or a count is negative or NaN.
        ArgumentTypeError: not numbers.
    """

    def __init__(self, counts: NDArray[np.int64]) -> None:
        array = as_array("counts", counts, "a count >= 0 for each item")
        if array.dtype.kind not in "iuf":
            raise ArgumentTypeError("counts", "a count >= 0 for each item", counts)
        if array.ndim != 1 or not (array >= 0).all():
            raise ArgumentError("counts", "a count >= 0 for each item", f"shape {array.shape}, {array.ravel()[:5]}")
        # Dense ranks keep the order and ties of the counts. float32 holds them exactly, but could merge large counts.
        self._scores = np.unique(array, return_inverse=True)[1].astype(np.float32)

    @classmethod
    def from_log(cls, history: EventLog) -> Popularity:
        """Counts the events of a history log, such as `Split.test_history`.

        Raises:
            ArgumentTypeError: not an `EventLog`.
        """
        check_log("history", history)
        return cls(np.bincount(history.items, minlength=history.num_items))

    def scores(self, user_rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """One score per item, the same for every user: float32 [batch, num_items]."""
        return np.broadcast_to(self._scores, (len(user_rows), self._scores.size))


class RecentPopularity(Popularity):
    """Popularity in the newest days of a log."""

    @classmethod
    def from_log(cls, history: EventLog, days: float = 7) -> RecentPopularity:
        """Counts the events less than `days` older than the newest event of `history`.

        Raises:
            ArgumentError: the events have no times, or `days` is not above 0.
            ArgumentTypeError: `history` is not a log, or `days` is not a number.
        """
        check_log("history", history)
        if history.times is None:
            raise ArgumentError("history", "events with times", "none")
        days = as_number("days", days, 0, np.inf, "(]")
        age = history.times.max(initial=np.iinfo(np.int64).min) - history.times
        recent = age < days * SECONDS_PER_DAY
        return cls(np.bincount(history.items[recent], minlength=history.num_items))


class OwnItems:
    """Scores the items a user has met before, the most frequent or the newest first; all others by popularity.

    The baseline to beat where people consume items again. If seen items are excluded it equals popularity.

    Args:
        history: the histories, oldest event first.
        by: "frequency" (ties: the newer item first) or "recency".
        half_life: an event counts 2 ** -(later events of the user / half_life) towards the frequency; None: 1.

    Raises:
        ArgumentError: `by` is neither, or `half_life` is not above 0.
        ArgumentTypeError: `history` is not a log, `by` is not a text, or `half_life` is not a number.
    """

    def __init__(self, history: EventLog, by: Literal["frequency", "recency"], half_life: float | None = None) -> None:
        check_log("history", history)
        as_choice("by", by, ("frequency", "recency"))
        if half_life is not None:
            half_life = as_number("half_life", half_life, 0, np.inf, "(]")
        self._history, self._by, self._half_life = history, by, half_life
        popular = np.unique(np.bincount(history.items, minlength=history.num_items), return_inverse=True)[1]
        self._popular = (popular / (popular.max(initial=0) + 1)).astype(np.float32)

    def weights(self, user: int) -> NDArray[np.float64]:
        """How much each event of a user counts towards the frequency, oldest first: float64 [num_events]."""
        later = np.arange(len(self._history.user(user).items))[::-1]
        return np.exp2(-later / (np.inf if self._half_life is None else self._half_life))

    def scores(self, user_rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """1, 2, .. for a user's own items, the best one highest, and a popularity in [0, 1) for all others.

        Returns:
            float32 [batch, num_items].
        """
        result = np.tile(self._popular, (len(user_rows), 1))
        for row, user in enumerate(user_rows):
            items = self._history.user(int(user)).items
            if items.size == 0:
                continue
            own, newest, place = np.unique(items[::-1], return_index=True, return_inverse=True)
            counts = np.bincount(place, weights=self.weights(int(user))[::-1])
            order = np.lexsort((-newest, counts)) if self._by == "frequency" else np.argsort(-newest)
            result[row, own[order]] = np.arange(1, own.size + 1)
        return result
