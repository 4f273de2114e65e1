"""Estimates how long a search takes, to tell in advance whether it would be too late."""

from __future__ import annotations

import itertools

__all__ = ["Pace"]

_WEIGHT = 1 / 8  # of the newest time in the mean; after ten more requests, earlier times count for little
_TRY_EVERY = 16


class Pace:
    """Exponentially weighted means of the time of native calls, by batch size (powers of two).

    Threads share it without a lock: of two simultaneous updates one may be lost, which hardly changes a mean.
    """

    def __init__(self) -> None:
        self._means: dict[int, float] = {}
        self._refusals = itertools.count(1)

    def took(self, batch: int, seconds: float) -> None:
        """Records the time of a call."""
        size = batch.bit_length()
        mean = self._means.get(size, seconds)
        self._means[size] = mean + _WEIGHT * (seconds - mean)

    def expected(self, batch: int) -> float:
        """Seconds that a call is expected to take; 0 if nothing is known."""
        return self._means.get(batch.bit_length(), 0.0)

    def is_too_slow(self, batch: int, seconds: float) -> bool:
        """Whether a call is expected to take longer than `seconds`; 1 of 16 is tried anyway, since times change."""
        return seconds <= 0 or (self.expected(batch) > seconds and next(self._refusals) % _TRY_EVERY != 0)
