"""How long searches take lately, to know beforehand which would come too late."""

from __future__ import annotations

import itertools

__all__ = ["Pace"]

_WEIGHT = 1 / 8  # of the newest time in the mean: ten requests later it has forgotten most of what was before
_TRY_EVERY = 16


class Pace:
    """Exponentially weighted means of the time of native calls, by size of batch (powers of two).

    Threads share it without a lock: of two times that end at once one may be lost, which does not matter to a mean.
    """

    def __init__(self) -> None:
        self._means: dict[int, float] = {}
        self._refusals = itertools.count(1)

    def took(self, batch: int, seconds: float) -> None:
        """Counts a call."""
        size = batch.bit_length()
        mean = self._means.get(size, seconds)
        self._means[size] = mean + _WEIGHT * (seconds - mean)

    def expected(self, batch: int) -> float:
        """Seconds a call will take; 0 where nothing is known."""
        return self._means.get(batch.bit_length(), 0.0)

    def is_too_slow(self, batch: int, seconds: float) -> bool:
        """Whether a call would take longer than so many seconds. One of 16 is tried all the same: times do change."""
        return seconds <= 0 or (self.expected(batch) > seconds and next(self._refusals) % _TRY_EVERY != 0)
