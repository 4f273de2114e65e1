"""Prometheus: a recommender's `stats()` as metrics, read when they are scraped.

from prometheus_client import REGISTRY, start_http_server
REGISTRY.register(RecommenderCollector(rec))
start_http_server(9000)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from lsif_sdk.errors import MissingExtraError
from lsif_sdk.metrics import Histogram

if TYPE_CHECKING:
    from lsif_sdk.live import LiveRecommender
    from lsif_sdk.recommender import Recommender

__all__ = ["RecommenderCollector"]


class RecommenderCollector:
    """A collector for a registry of `prometheus_client`.

    Args:
        recommender: whose counters, a live one's too; or a function that gives the one of the moment.
        prefix: of the names.

    Raises:
        MissingExtraError: prometheus_client is not installed.
    """

    def __init__(
        self, recommender: Recommender | LiveRecommender | Callable[[], Recommender], prefix: str = "lsif"
    ) -> None:
        try:
            from prometheus_client import core
        except ImportError:
            raise MissingExtraError("the Prometheus collector", "prometheus-client", "metrics") from None
        self._core = core
        self._recommender = recommender
        self._prefix = prefix

    def collect(self) -> Iterable[Any]:
        """The metrics of the moment."""
        source = self._recommender
        stats = (source() if callable(source) else source).stats()
        for name, text in (
            ("requests", "recommend calls answered"),
            ("degraded", "of them, answered by less than the whole"),
            ("users", "users in them"),
            ("unknown", "events of items the catalogue does not know"),
            ("fallbacks", "users who got the most popular items"),
            ("short", "users who got fewer items than asked for"),
        ):
            yield self._core.CounterMetricFamily(f"{self._prefix}_{name}", text, value=getattr(stats, name))
        yield self._core.GaugeMetricFamily(f"{self._prefix}_version", "snapshot that answers", value=stats.version)
        yield self._core.GaugeMetricFamily(
            f"{self._prefix}_async_in_flight", "recommend_async calls that are not over", value=stats.async_in_flight
        )
        errors = self._core.CounterMetricFamily(
            f"{self._prefix}_errors", "recommend calls that raised", labels=["error"]
        )
        for name, count in stats.errors.items():
            errors.add_metric([name], count)
        yield errors
        times = self._core.HistogramMetricFamily(f"{self._prefix}_seconds", "time of a request", labels=["stage"])
        for stage, histogram in stats.times.items():
            times.add_metric([stage], _buckets(histogram, 1e6), sum_value=histogram.total / 1e6)
        yield times
        for name, count in stats.batching.items():
            kind = (
                self._core.GaugeMetricFamily if name in ("queued", "largest_batch") else self._core.CounterMetricFamily
            )
            yield kind(f"{self._prefix}_batching_{name}", f"batching: {name}", value=count)
        if stats.batch_sizes is not None:
            yield self._core.HistogramMetricFamily(
                f"{self._prefix}_batch_size",
                "requests that shared a search",
                buckets=_buckets(stats.batch_sizes, 1),
                sum_value=stats.batch_sizes.total,
            )


def _buckets(histogram: Histogram, unit: float) -> list[tuple[str, float]]:
    """Cumulative counts by upper end, of which one `unit` is 1."""
    ends = [*(str(end / unit) for end in histogram.ends), "+Inf"]
    total, buckets = 0, []
    for end, count in zip(ends, histogram.counts, strict=True):
        total += count
        buckets.append((end, float(total)))
    return buckets
