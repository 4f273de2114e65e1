"""OpenTelemetry: a recommender's `stats()` as observable instruments, read when they are exported.

from opentelemetry import metrics
observe(rec, metrics.get_meter("my-service"))
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lsif_sdk.errors import MissingExtraError

if TYPE_CHECKING:
    from lsif_sdk.integrations.users import Users
    from lsif_sdk.live import LiveRecommender
    from lsif_sdk.recommender import Recommender
    from lsif_sdk.stats import Histogram, Stats

__all__ = ["observe"]

_Points = list[tuple[float, dict[str, str]]]
_BATCHING_NOW, _STATES_NOW = ("queued", "largest_batch"), ("users", "bytes")


def observe(
    recommender: Recommender | LiveRecommender | Callable[[], Recommender],
    meter: Any,
    prefix: str = "lsif",
    users: Users | None = None,
) -> None:
    """Registers counters of requests, users, unknown events, fallbacks, errors, times and batching, and gauges.

    OpenTelemetry has no histograms that are read when they are exported. So the histograms of time (seconds, by stage)
    and of batch sizes are counters as in Prometheus: `time.bucket` and `batch_size.bucket` count observations up to
    "le", with "+Inf" for all; `time.sum` and `batch_size.sum` are the sums. Their rates show the current load.

    Args:
        recommender: the (live) recommender to observe, or a function that returns the current one.
        meter: an `opentelemetry.metrics.Meter`.
        prefix: prefix of the names.
        users: also observe `Users.stats` of this object.

    Raises:
        MissingExtraError: opentelemetry-api is not installed.
    """
    try:
        from opentelemetry.metrics import Observation
    except ImportError:
        raise MissingExtraError("the OpenTelemetry instruments", "opentelemetry-api", "metrics") from None

    def now() -> Stats:
        return (recommender() if callable(recommender) else recommender).stats()

    def register(create: Any, name: str, points: Callable[[], _Points], unit: str = "1") -> None:
        create(
            f"{prefix}.{name}",
            callbacks=[lambda options: [Observation(value, labels) for value, labels in points()]],
            unit=unit,
        )

    counter, gauge = meter.create_observable_counter, meter.create_observable_gauge
    for name in ("requests", "degraded", "users", "unknown", "fallbacks", "short"):
        register(counter, name, functools.partial(lambda name: _only(vars(now()), name), name))
    for name in ("version", "async_in_flight"):
        register(gauge, name, functools.partial(lambda name: _only(vars(now()), name), name))
    register(counter, "errors", lambda: _by("error", now().errors))
    register(counter, "calls", lambda: _by("method", now().calls))
    register(counter, "time.bucket", lambda: [point for entry in _times(now()) for point in _buckets(*entry, 1e6)])
    register(counter, "time.sum", lambda: [(spent.total / 1e6, labels) for spent, labels in _times(now())], "s")
    register(counter, "batch_size.bucket", lambda: _buckets(now().batch_sizes, {}))
    register(counter, "batch_size.sum", lambda: [(sizes.total, {}) for sizes in [now().batch_sizes] if sizes])
    register(counter, "batching", lambda: _by("what", _without(now().batching, _BATCHING_NOW)))
    for name in _BATCHING_NOW:
        register(gauge, f"batching.{name}", functools.partial(lambda name: _only(now().batching, name), name))
    if users is None:
        return
    states = users.stats
    register(counter, "states", lambda: _by("what", _without(states(), _STATES_NOW)))
    for name in _STATES_NOW:
        register(gauge, f"states.{name}", functools.partial(lambda name: _only(states(), name), name))


def _by(label: str, counts: Mapping[str, int]) -> _Points:
    return [(count, {label: name}) for name, count in counts.items()]


def _only(counts: Mapping[str, int], name: str) -> _Points:
    return [(counts[name], {})] if name in counts else []


def _without(counts: Mapping[str, int], names: tuple[str, ...]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if name not in names}


def _times(stats: Stats) -> list[tuple[Histogram, dict[str, str]]]:
    return [(histogram, {"stage": stage}) for stage, histogram in stats.times.items()]


def _buckets(histogram: Histogram | None, labels: dict[str, str], unit: float = 1.0) -> _Points:
    return [] if histogram is None else [(count, labels | {"le": end}) for end, count in histogram.cumulative(unit)]
