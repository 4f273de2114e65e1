"""Prometheus: a recommender's `stats()` as metrics, read when they are scraped.

from prometheus_client import REGISTRY, start_http_server
REGISTRY.register(RecommenderCollector(rec))
start_http_server(9000)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from lsif_sdk.errors import MissingExtraError

if TYPE_CHECKING:
    from lsif_sdk.integrations.users import Users
    from lsif_sdk.live import LiveRecommender
    from lsif_sdk.recommender import Recommender

__all__ = ["RecommenderCollector"]


class RecommenderCollector:
    """A collector for a registry of `prometheus_client`.

    Args:
        recommender: the (live) recommender to observe, or a function that returns the current one.
        prefix: prefix of the names.
        users: also observe `Users.stats` of this object.

    Raises:
        MissingExtraError: prometheus_client is not installed.
    """

    def __init__(
        self,
        recommender: Recommender | LiveRecommender | Callable[[], Recommender],
        prefix: str = "lsif",
        users: Users | None = None,
    ) -> None:
        try:
            from prometheus_client import core
        except ImportError:
            raise MissingExtraError("the Prometheus collector", "prometheus-client", "metrics") from None
        self._core = core
        self._recommender = recommender
        self._prefix = prefix
        self._users = users

    def collect(self) -> Iterable[Any]:
        """The current metrics."""
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
        calls = self._core.CounterMetricFamily(
            f"{self._prefix}_calls", "calls of other methods answered", labels=["method"]
        )
        for name, count in stats.calls.items():
            calls.add_metric([name], count)
        yield calls
        times = self._core.HistogramMetricFamily(f"{self._prefix}_seconds", "time of a request", labels=["stage"])
        for stage, histogram in stats.times.items():
            times.add_metric([stage], histogram.cumulative(1e6), sum_value=histogram.total / 1e6)
        yield times
        for name, count in stats.batching.items():
            yield self._one(f"batching_{name}", f"batching: {name}", count, name in ("queued", "largest_batch"))
        if stats.batch_sizes is not None:
            yield self._core.HistogramMetricFamily(
                f"{self._prefix}_batch_size",
                "requests that shared a search",
                buckets=stats.batch_sizes.cumulative(),
                sum_value=stats.batch_sizes.total,
            )
        if self._users is not None:
            for name, count in self._users.stats().items():
                yield self._one(f"states_{name}", f"states in memory: {name}", count, name in ("users", "bytes"))

    def _one(self, name: str, text: str, value: float, is_gauge: bool) -> Any:
        family = self._core.GaugeMetricFamily if is_gauge else self._core.CounterMetricFamily
        return family(f"{self._prefix}_{name}", text, value=value)
