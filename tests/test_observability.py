"""Counters and histograms: what was done is what they say, to Prometheus and OpenTelemetry, too."""

from __future__ import annotations

import pytest

from concurrency import run_together
from lsif_sdk import Batching, Recommender, errors
from lsif_sdk.metrics import BUCKETS_US, STAGES, Histogram
from recommender_cases import HISTORIES, NUM_ITEMS, build


def asked() -> Recommender:
    """A recommender that has answered three calls and refused two."""
    recommender = Recommender(build().artifact, batching=Batching())
    recommender.recommend(HISTORIES, k=3)  # one user without events, one unknown item
    recommender.recommend(["i1"], k=NUM_ITEMS)  # one item too few
    recommender.recommend(state=recommender.new_state(["i2", "new"]), k=2)
    for k in (0, "three"):
        with pytest.raises(errors.LsifError):
            recommender.recommend(["i1"], k=k)
    return recommender


def test_everything_is_counted():
    stats = asked().stats()
    assert (stats.requests, stats.users, stats.unknown, stats.fallbacks, stats.short) == (3, 6, 2, 1, 1)
    assert stats.errors == {"ArgumentError": 1, "ArgumentTypeError": 1}
    assert stats.batching["requests"] == 3
    assert stats.batch_sizes == Histogram((3, *[0] * 7), 3.0, (1, 2, 4, 8, 16, 32, 64))  # one by one
    assert set(stats.times) == set(STAGES)
    parts = sum(stats.times[stage].total for stage in STAGES if stage != "total")
    assert parts == pytest.approx(stats.times["total"].total)
    for histogram in stats.times.values():
        assert histogram.count == 3 and histogram.total > 0
        assert histogram.quantile(0.5) <= histogram.quantile(1.0)


def test_quantiles_are_ends_of_buckets():
    counts = [0] * (len(BUCKETS_US) + 1)
    counts[0], counts[3], counts[-1] = 5, 4, 1
    histogram = Histogram(tuple(counts), 1.0)
    assert [histogram.quantile(q) for q in (0.5, 0.51, 0.9, 0.95)] == [10, 100, 100, float("inf")]


@pytest.mark.parametrize(("max_batch", "ends"), [(1, (1,)), (2, (1, 2)), (5, (1, 2, 4, 8)), (8, (1, 2, 4, 8))])
def test_batch_sizes_are_counted_up_to_the_largest_there_can_be(max_batch, ends):
    recommender = Recommender(build().artifact, batching=Batching(max_batch=max_batch))
    assert recommender.stats().batch_sizes == Histogram((0,) * (len(ends) + 1), 0.0, ends)


def test_threads_are_counted_without_loss():
    recommender = build()
    run_together(4, lambda caller: [recommender.recommend(["i1"], k=2) for _ in range(50)])
    assert recommender.stats().requests == 200


def test_prometheus_has_the_same():
    prometheus_client = pytest.importorskip("prometheus_client")
    from lsif_sdk.integrations.prometheus import RecommenderCollector

    recommender = asked()
    for source in (recommender, lambda: recommender):
        registry = prometheus_client.CollectorRegistry()
        registry.register(RecommenderCollector(source))
        assert registry.get_sample_value("lsif_requests_total") == 3
        assert registry.get_sample_value("lsif_async_in_flight") == 0
        assert registry.get_sample_value("lsif_errors_total", {"error": "ArgumentError"}) == 1
        assert registry.get_sample_value("lsif_seconds_count", {"stage": "total"}) == 3
        assert registry.get_sample_value("lsif_seconds_bucket", {"stage": "native", "le": "1.0"}) == 3
        assert registry.get_sample_value("lsif_batching_requests_total") == 3
        assert registry.get_sample_value("lsif_batch_size_bucket", {"le": "1.0"}) == 3
        assert registry.get_sample_value("lsif_batch_size_bucket", {"le": "+Inf"}) == 3
        assert registry.get_sample_value("lsif_batch_size_sum") == 3
        assert b"lsif_seconds_sum" in prometheus_client.generate_latest(registry)


def test_opentelemetry_has_the_same():
    metrics = pytest.importorskip("opentelemetry.sdk.metrics")
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from lsif_sdk.integrations.opentelemetry import observe

    reader = InMemoryMetricReader()
    recommender = asked()
    observe(lambda: recommender, metrics.MeterProvider([reader]).get_meter("test"))
    data = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    points = {metric.name: metric.data.data_points for metric in data}
    assert points["lsif.requests"][0].value == 3
    assert points["lsif.async_in_flight"][0].value == 0
    assert {point.attributes["error"]: point.value for point in points["lsif.errors"]}["ArgumentTypeError"] == 1
    assert {point.attributes["stage"] for point in points["lsif.time"]} == set(STAGES)
    assert {point.attributes["what"] for point in points["lsif.batching"]} >= {"requests", "queued"}
    assert {point.attributes["quantile"]: point.value for point in points["lsif.batch_size"]} == {
        0.5: 1,
        0.9: 1,
        0.99: 1,
    }
