"""Counters and histograms agree with what was done, also for Prometheus and OpenTelemetry."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from concurrency import run_together
from lsif_sdk import Batching, LiveRecommender, Recommender, errors
from lsif_sdk.integrations import SQLiteStore, Users
from lsif_sdk.stats import BUCKETS_US, STAGES, Histogram, Metrics
from recommender_cases import HISTORIES, NUM_ITEMS, build


def asked() -> Recommender:
    """A recommender that has answered three calls and refused two."""
    recommender = Recommender(build().artifact, batching=Batching())
    recommender.recommend(HISTORIES, k=3)  # one user without events, one unknown item
    recommender.recommend(["i1"], k=NUM_ITEMS)  # one item fewer than k
    recommender.recommend(state=recommender.new_state(["i2", "new"]), k=2)
    for k in (0, "three"):
        with pytest.raises(errors.LsifError):
            recommender.recommend(["i1"], k=k)
    return recommender


def test_upper_ends_of_buckets_are_included():
    metrics = Metrics()
    for end in (BUCKETS_US[0], BUCKETS_US[3]):
        began = 10**9
        over = began + int(end * 1000)
        metrics.answered((began, over, over, over), 1, 0, 0, 0, is_degraded=False)
    counts = metrics.stats({}, 0, 0).times["total"].counts
    assert [place for place, count in enumerate(counts) if count] == [0, 3]


def test_everything_is_counted():
    stats = asked().stats()
    assert (stats.requests, stats.users, stats.unknown, stats.fallbacks, stats.short) == (3, 6, 2, 1, 1)
    assert stats.errors == {"ArgumentError": 1, "ArgumentTypeError": 1}
    assert stats.batching["requests"] == 3
    assert stats.batch_sizes == Histogram((3, *[0] * 7), 3.0, (1, 2, 4, 8, 16, 32, 64))  # three batches of one
    assert set(stats.times) == set(STAGES)
    parts = sum(stats.times[stage].total for stage in STAGES if stage != "total")
    assert parts == pytest.approx(stats.times["total"].total)
    assert stats.calls == {"append": 1, "score": 0, "search": 0, "explain": 0, "similar_items": 0}  # append: new_state
    for histogram in stats.times.values():
        assert histogram.count == 3 and histogram.total > 0
        assert histogram.quantile(0.5) <= histogram.quantile(1.0)


def test_other_calls_are_counted_when_they_are_answered():
    recommender = build()
    recommender.score(["i1"], ["i2"])
    recommender.explain(["i1"], "i2")
    recommender.similar_items("i1")
    recommender.search(np.ones(12, np.float32))
    recommender.append(recommender.new_state(["i1"]), ["i2"])
    for call in (recommender.score, recommender.explain, recommender.append):
        with pytest.raises(errors.LsifError):
            call(["i1"], 3.5)
    assert recommender.stats().calls == {"append": 2, "score": 1, "search": 1, "explain": 1, "similar_items": 1}
    assert recommender.stats().requests == 0


def test_a_live_catalogue_and_other_models_count_on():
    live = LiveRecommender(Recommender(build().artifact, batching=Batching(max_batch=2)))
    old = live.current
    vector = np.ones((1, 12), np.float32)

    def ask(expected):
        live.current.recommend(["i1"], k=2)
        stats = live.stats()
        assert (stats.requests, stats.batching["requests"], stats.batching["batches"]) == (expected,) * 3
        assert stats.batch_sizes.count == stats.batch_sizes.counts[0] == expected

    ask(1)
    live.upsert(["new"], vector)
    ask(2)
    live.hide(["i2"])
    ask(3)
    old.recommend(["i1"], k=2)  # a request in flight
    ask(5)
    live.replace(Recommender(build(seed=2).artifact, batching=Batching(max_batch=16)))
    ask(6)
    live.rollback()
    ask(7)
    assert live.stats().batch_sizes.ends == (1, 2, 4, 8, 16)


def test_times_are_told_apart_between_a_tenth_of_a_second_and_one():
    assert {200_000, 500_000} < set(BUCKETS_US) and sorted(BUCKETS_US) == list(BUCKETS_US)
    histogram = Histogram((1, 0, 2, 1), 0.0, (10, 20, 50))
    assert histogram.cumulative() == [("10.0", 1), ("20.0", 1), ("50.0", 3), ("+Inf", 4)]
    assert histogram.cumulative(10)[0] == ("1.0", 1)


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


@pytest.fixture
def users(tmp_path) -> Iterator[Users]:
    with SQLiteStore(tmp_path / "users.db") as store, Users(build(), store) as users:
        users.record("anna", ["i1"])
        for _ in range(2):
            users.recommend("anna")
        yield users


def test_prometheus_has_the_same(users):
    prometheus_client = pytest.importorskip("prometheus_client")
    from lsif_sdk.integrations.prometheus import RecommenderCollector

    recommender = asked()
    for source in (recommender, lambda: recommender):
        registry = prometheus_client.CollectorRegistry()
        registry.register(RecommenderCollector(source, users=users))
        assert registry.get_sample_value("lsif_requests_total") == 3
        assert registry.get_sample_value("lsif_async_in_flight") == 0
        assert registry.get_sample_value("lsif_errors_total", {"error": "ArgumentError"}) == 1
        assert registry.get_sample_value("lsif_seconds_count", {"stage": "total"}) == 3
        assert registry.get_sample_value("lsif_seconds_bucket", {"stage": "native", "le": "1.0"}) == 3
        assert registry.get_sample_value("lsif_batching_requests_total") == 3
        assert registry.get_sample_value("lsif_batch_size_bucket", {"le": "1.0"}) == 3
        assert registry.get_sample_value("lsif_batch_size_bucket", {"le": "+Inf"}) == 3
        assert registry.get_sample_value("lsif_batch_size_sum") == 3
        assert registry.get_sample_value("lsif_calls_total", {"method": "append"}) == 1
        assert registry.get_sample_value("lsif_states_rebuilt_total") == 1
        assert registry.get_sample_value("lsif_states_hits_total") == users.stats()["hits"] > 0
        assert registry.get_sample_value("lsif_states_bytes") == users.stats()["bytes"] > 0
        assert b"lsif_seconds_sum" in prometheus_client.generate_latest(registry)


def test_opentelemetry_has_the_same(users):
    metrics = pytest.importorskip("opentelemetry.sdk.metrics")
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from lsif_sdk.integrations.opentelemetry import observe

    reader = InMemoryMetricReader()
    recommender = asked()
    observe(lambda: recommender, metrics.MeterProvider([reader]).get_meter("test"), users=users)
    data = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    points = {metric.name: metric.data.data_points for metric in data}
    monotonic = {metric.name for metric in data if getattr(metric.data, "is_monotonic", False)}

    def by(name: str, label: str) -> dict[str, float]:
        return {point.attributes[label]: point.value for point in points[f"lsif.{name}"]}

    assert points["lsif.requests"][0].value == 3
    assert points["lsif.async_in_flight"][0].value == 0
    assert by("errors", "error")["ArgumentTypeError"] == 1
    assert by("calls", "method")["append"] == 1
    assert set(by("batching", "what")) == {"requests", "batches", "overloaded", "expired"}
    assert points["lsif.batching.queued"][0].value == 0
    total = {p.attributes["le"]: p.value for p in points["lsif.time.bucket"] if p.attributes["stage"] == "total"}
    assert total["1.0"] == total["+Inf"] == 3 and len(total) == len(BUCKETS_US) + 1
    assert set(by("time.sum", "stage")) == set(STAGES) and by("time.sum", "stage")["total"] < 1
    assert by("batch_size.bucket", "le")["1.0"] == points["lsif.batch_size.sum"][0].value == 3
    assert by("states", "what")["rebuilt"] == 1
    assert points["lsif.states.users"][0].value == 1
    gauges = {"lsif.version", "lsif.async_in_flight", "lsif.batching.queued", "lsif.batching.largest_batch"}
    assert set(points) - monotonic == gauges | {"lsif.states.users", "lsif.states.bytes"}


def test_opentelemetry_without_batching_and_users_has_less():
    metrics = pytest.importorskip("opentelemetry.sdk.metrics")
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from lsif_sdk.integrations.opentelemetry import observe

    reader = InMemoryMetricReader()
    observe(build(), metrics.MeterProvider([reader]).get_meter("test"), "shop")
    data = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    names = {metric.name for metric in data if metric.data.data_points}
    assert {"shop.requests", "shop.time.bucket"} < names
    assert not any("batch" in name or "states" in name for name in names)
