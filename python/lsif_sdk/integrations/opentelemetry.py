"""OpenTelemetry: a recommender's `stats()` as observable instruments, read when they are exported.

from opentelemetry import metrics
observe(rec, metrics.get_meter("my-service"))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from lsif_sdk.errors import MissingExtraError

if TYPE_CHECKING:
    from lsif_sdk.live import LiveRecommender
    from lsif_sdk.metrics import Histogram, Stats
    from lsif_sdk.recommender import Recommender

__all__ = ["observe"]

_QUANTILES = (0.5, 0.9, 0.99)


def observe(
    recommender: Recommender | LiveRecommender | Callable[[], Recommender], meter: Any, prefix: str = "lsif"
) -> None:
    """Registers counters of requests, users, unknown events, fallbacks, errors; gauges of time, batching, async calls.

    Times, by stage, and batch sizes are upper bounds of quantiles since loading; the histograms themselves are
    `stats().times` and `stats().batch_sizes`.

    Args:
        recommender: whose counters, a live one's too; or a function that gives the one of the moment.
        meter: an `opentelemetry.metrics.Meter`.
        prefix: of the names.

    Raises:
        MissingExtraError: opentelemetry-api is not installed.
    """
    try:
        from opentelemetry.metrics import Observation
    except ImportError:
        raise MissingExtraError("the OpenTelemetry instruments", "opentelemetry-api", "metrics") from None

    def now() -> Stats:
        return (recommender() if callable(recommender) else recommender).stats()

    def counter(name: str) -> Callable[[Any], Iterable[Any]]:
        return lambda options: [Observation(getattr(now(), name))]

    for name in ("requests", "degraded", "users", "unknown", "fallbacks", "short"):
        meter.create_observable_counter(f"{prefix}.{name}", callbacks=[counter(name)])
    for name in ("version", "async_in_flight"):
        meter.create_observable_gauge(f"{prefix}.{name}", callbacks=[counter(name)])
    meter.create_observable_counter(
        f"{prefix}.errors",
        callbacks=[lambda options: [Observation(n, {"error": error}) for error, n in now().errors.items()]],
    )

    def quantiles(histogram: Histogram | None, labels: dict[str, str]) -> list[Any]:
        if histogram is None or not histogram.count:
            return []
        return [Observation(histogram.quantile(q), labels | {"quantile": q}) for q in _QUANTILES]

    meter.create_observable_gauge(
        f"{prefix}.time",
        callbacks=[
            lambda options: [
                point for stage, histogram in now().times.items() for point in quantiles(histogram, {"stage": stage})
            ]
        ],
        unit="us",
    )
    meter.create_observable_gauge(
        f"{prefix}.batch_size", callbacks=[lambda options: quantiles(now().batch_sizes, {})], unit="1"
    )
    meter.create_observable_gauge(
        f"{prefix}.batching",
        callbacks=[lambda options: [Observation(n, {"what": what}) for what, n in now().batching.items()]],
    )
