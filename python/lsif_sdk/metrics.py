"""What a recommender has done since it was loaded: counters, and histograms of time."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Mapping

from lsif_sdk.locks import ForkSafeLock

__all__ = ["BUCKETS_US", "Histogram", "Metrics", "Stats"]

BUCKETS_US = (10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 1_000_000)
"""Upper ends of the buckets of time, microseconds, included; one more bucket has what took longer."""

STAGES = ("parse", "native", "answer", "total")
"""Of a request: ids to rows, the native call (waiting for a batch included), rows to ids, and all of it."""


@dataclasses.dataclass(frozen=True)
class Histogram:
    """How many observations fell into each bucket, and their sum.

    counts: one for each of `BUCKETS_US`, and one for what took longer. total_us: microseconds.
    """

    counts: tuple[int, ...]
    total_us: float

    @property
    def count(self) -> int:
        """Observations."""
        return sum(self.counts)

    def quantile(self, q: float) -> float:
        """An upper bound of the q-quantile in microseconds: the end of its bucket; infinity past the last one."""
        wanted, seen = q * self.count, 0
        for end, count in zip((*BUCKETS_US, float("inf")), self.counts, strict=True):
            seen += count
            if seen >= wanted:
                return float(end)
        return float("inf")


@dataclasses.dataclass(frozen=True)
class Stats:
    """A moment's view.

    requests: `recommend` calls answered. users: in them. unknown: events of items the catalogue does not know.
    fallbacks: users who got the most popular items. short: users who got fewer than k. errors: calls that raised, by
    the error's name. times: by stage (`STAGES`). batching: of searches shared by callers, {} without batching:
    requests, batches, largest_batch (in requests), overloaded, expired, queued (now). version: of the snapshot.
    """

    requests: int
    users: int
    unknown: int
    fallbacks: int
    short: int
    errors: Mapping[str, int]
    times: Mapping[str, Histogram]
    batching: Mapping[str, int]
    version: int = 0


class Metrics:
    """Counts requests. Safe to share between threads; a request costs one lock."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._counters = {"requests": 0, "users": 0, "unknown": 0, "fallbacks": 0, "short": 0}
        self._errors: dict[str, int] = {}
        self._counts = {stage: [0] * (len(BUCKETS_US) + 1) for stage in STAGES}
        self._totals = dict.fromkeys(STAGES, 0.0)

    def answered(
        self, times_ns: tuple[int, int, int, int], users: int, unknown: int, fallbacks: int, short: int
    ) -> None:
        """Counts a request.

        Args:
            times_ns: when it began, and when each stage but "total" was over.
            users: asked for.
            unknown: events left out.
            fallbacks: users who got the most popular items.
            short: users who got fewer than k.
        """
        began, parsed, searched, ended = times_ns
        spent = (parsed - began) / 1e3, (searched - parsed) / 1e3, (ended - searched) / 1e3, (ended - began) / 1e3
        with self._lock:
            counters = self._counters
            counters["requests"] += 1
            counters["users"] += users
            counters["unknown"] += unknown
            counters["fallbacks"] += fallbacks
            counters["short"] += short
            for stage, took in zip(STAGES, spent, strict=True):
                self._counts[stage][bisect.bisect_left(BUCKETS_US, took)] += 1
                self._totals[stage] += took

    def failed(self, error: BaseException) -> None:
        """Counts a request that raised."""
        name = type(error).__name__
        with self._lock:
            self._errors[name] = self._errors.get(name, 0) + 1

    def stats(self, batching: Mapping[str, int], version: int = 0) -> Stats:
        """The counters now."""
        with self._lock:
            times = {stage: Histogram(tuple(self._counts[stage]), self._totals[stage]) for stage in STAGES}
            counters = dict(self._counters)
            return Stats(**counters, errors=dict(self._errors), times=times, batching=batching, version=version)
