"""Statistics of a recommender since it was loaded: counters, and histograms of time and of batch sizes."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from lsif_sdk.locks import ForkSafeLock

__all__ = ["BUCKETS_US", "CALLS", "Histogram", "Metrics", "Stats"]

BUCKETS_US = (
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
)  # fmt: skip
"""Upper ends of the time buckets in microseconds, inclusive; one more bucket counts what took longer."""

CALLS = ("append", "score", "search", "explain", "similar_items")
"""Counted calls other than `recommend`; `new_state` counts as an `append`."""

STAGES = ("parse", "native", "answer", "total")
"""Stages of a request: ids to rows, the native call (including the wait for a batch), rows to ids, and the total."""


@dataclasses.dataclass(frozen=True)
class Histogram:
    """How many observations fell into each bucket, and their sum.

    counts: one for each end, and one for what is beyond the last. total: the sum. ends: upper ends, inclusive.
    """

    counts: tuple[int, ...]
    total: float
    ends: tuple[int, ...] = BUCKETS_US

    @property
    def count(self) -> int:
        """Number of observations."""
        return sum(self.counts)

    def cumulative(self, unit: float = 1.0) -> list[tuple[str, int]]:
        """Pairs of an end, divided by `unit` and as text, and the number of observations up to it; "+Inf" is last."""
        ends = [*(str(end / unit) for end in self.ends), "+Inf"]
        return list(zip(ends, itertools.accumulate(self.counts), strict=True))

    def quantile(self, q: float) -> float:
        """An upper bound of the q-quantile: the end of its bucket; infinity for the last bucket."""
        wanted, seen = q * self.count, 0
        for end, count in zip((*self.ends, float("inf")), self.counts, strict=True):
            seen += count
            if seen >= wanted:
                return float(end)
        return float("inf")


@dataclasses.dataclass(frozen=True)
class Stats:
    """Statistics at one moment.

    requests: answered `recommend` calls. degraded: those with an answer simplified to keep `budget_ms`.
    users: users in these calls. unknown: events of items the catalogue does not know. fallbacks: users who got the most
    popular items. short: users who got fewer than k. errors: `recommend` calls that raised, by the error's name. times:
    in microseconds by stage (`STAGES`). batching: counters of shared searches, {} without batching: requests, batches,
    largest_batch (in requests), overloaded and expired of all snapshots together, queued (now) of the current one.
    batch_sizes: the batches by size in requests, up to 1, 2, 4 and so on to `max_batch`; None without batching.
    version: version of the snapshot. calls: other answered calls, by name (`CALLS`). async_in_flight: unfinished calls
    of `recommend_async`, including those that wait for a thread.
    """

    requests: int
    degraded: int
    users: int
    unknown: int
    fallbacks: int
    short: int
    errors: Mapping[str, int]
    times: Mapping[str, Histogram]
    batching: Mapping[str, int]
    batch_sizes: Histogram | None
    version: int
    async_in_flight: int
    calls: Mapping[str, int]


class Metrics:
    """Counts requests. Thread-safe; a request takes one lock."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._counters = dict.fromkeys(("requests", "degraded", "users", "unknown", "fallbacks", "short"), 0)
        self._errors: dict[str, int] = {}
        self._calls = dict.fromkeys(CALLS, 0)
        self._counts = {stage: [0] * (len(BUCKETS_US) + 1) for stage in STAGES}
        self._totals = dict.fromkeys(STAGES, 0.0)

    def answered(
        self,
        times_ns: tuple[int, int, int, int],
        users: int,
        unknown: int,
        fallbacks: int,
        short: int,
        is_degraded: bool,
    ) -> None:
        """Counts a request.

        Args:
            times_ns: when it began, and when each stage except "total" ended.
            users: number of users.
            unknown: see `Stats`.
            fallbacks: see `Stats`.
            short: see `Stats`.
            is_degraded: see `Stats`.
        """
        began, parsed, searched, ended = times_ns
        spent = (parsed - began) / 1e3, (searched - parsed) / 1e3, (ended - searched) / 1e3, (ended - began) / 1e3
        with self._lock:
            counters = self._counters
            counters["requests"] += 1
            counters["degraded"] += is_degraded
            counters["users"] += users
            counters["unknown"] += unknown
            counters["fallbacks"] += fallbacks
            counters["short"] += short
            for stage, took in zip(STAGES, spent, strict=True):
                self._counts[stage][bisect.bisect_left(BUCKETS_US, took)] += 1
                self._totals[stage] += took

    def called(self, name: str) -> None:
        """Counts one of the `CALLS`."""
        with self._lock:
            self._calls[name] += 1

    def failed(self, error: BaseException) -> None:
        """Counts a request that raised."""
        name = type(error).__name__
        with self._lock:
            self._errors[name] = self._errors.get(name, 0) + 1

    def stats(self, batching: Mapping[str, Any], version: int, async_in_flight: int) -> Stats:
        """The current counters, with those of batching that native code has counted ({} without batching)."""
        shared = dict(batching)
        sizes = _batch_sizes(shared.pop("sizes"), shared["requests"]) if shared else None
        with self._lock:
            times = {stage: Histogram(tuple(self._counts[stage]), self._totals[stage]) for stage in STAGES}
            counters, errors, calls = dict(self._counters), dict(self._errors), dict(self._calls)
        return Stats(
            **counters,
            errors=errors,
            times=times,
            batching=shared,
            batch_sizes=sizes,
            version=version,
            calls=calls,
            async_in_flight=async_in_flight,
        )


def _batch_sizes(counts: Sequence[int], requests: int) -> Histogram:
    """The histogram of the counts of TopkBatcher::Stats (csrc/engine/topk_batcher.h)."""
    return Histogram(tuple(counts), float(requests), tuple(1 << power for power in range(len(counts) - 1)))
