"""The HTML page of an evaluation: complete, self-contained, and true to the reports."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from lsif_sdk.datasets import simulated_shop
from lsif_sdk.errors import ArgumentError
from lsif_sdk.evaluation import compare, leave_one_out
from lsif_sdk.evaluation.behaviour import Behaviour, behaviour, drift_groups, length_groups, taste_drift
from lsif_sdk.evaluation.html_report import write_report
from lsif_sdk.training import EventLog, train

pytest.importorskip("matplotlib", reason="matplotlib (the extra 'report') is not installed")


@pytest.fixture(scope="module")
def measured():
    log = simulated_shop(60, 30)
    recommender = train(log, {"dim": 8, "num_layers": 1}, {"epochs": 1}, progress=False)
    split = leave_one_out(log)
    reports = compare({"<lsif> & co": recommender}, split, progress=False)
    return recommender, split, reports


def test_the_page_needs_nothing_else_and_says_what_the_reports_say(measured, tmp_path):
    recommender, split, reports = measured
    users = behaviour(recommender, split, reports[-1])
    assert np.isnan(users.drift).all(), "these histories are too short to tell"
    users = dataclasses.replace(users, drift=np.linspace(0, 1, len(users.lengths)))
    page = write_report(tmp_path / "out", reports, users, "A <b>title</b>").read_text("utf-8")
    assert not re.search(r'(src|href)="(?!#)', page), "a page of its own refers to nothing outside"
    assert page.count("<figure>") == 7
    assert "A &lt;b&gt;title&lt;/b&gt;" in page and "&lt;lsif&gt; &amp; co" in page and "<lsif>" not in page
    assert "leave-one-out, test targets;" in page and "are such items" not in page
    repeated = [dataclasses.replace(report, num_repeated=3) for report in reports]
    told = write_report(tmp_path / "repeated", repeated, users, "title").read_text("utf-8")
    assert "items of the history left out (3 targets are such items: misses)" in told
    for report in reports:
        assert f"{report.metrics['hr@10']:.4f}" in page
    values = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    for row, report in zip(values["models"], reports, strict=True):
        assert row["metrics"]["ndcg@10"] == report.metrics["ndcg@10"]
        interval = row["ndcg_interval"]
        assert interval["low"] <= report.metrics["ndcg@10"] <= interval["high"]
    assert values["models"][-1]["reference_minus_this"] is None
    difference = values["models"][0]["reference_minus_this"]["mean"]
    assert difference == pytest.approx(reports[1].metrics["ndcg@10"] - reports[0].metrics["ndcg@10"])


def test_behaviour_is_that_of_the_users_measured(measured):
    recommender, split, reports = measured
    users = behaviour(recommender, split, reports[-1])
    history = split.history("test")
    for position, row in enumerate(reports[-1].user_rows[:5]):
        events = history.user(int(row))
        assert users.lengths[position] == len(events.items)
        timed = recommender.encode_rows(events.items, events.times, None, np.array([0, len(events.items)])).weights
        assert users.long_share[position] == pytest.approx(timed[0, : recommender.config.num_long].sum(), abs=1e-6)


def test_reports_that_do_not_compare_are_refused(measured, tmp_path):
    _, _, reports = measured
    with pytest.raises(ArgumentError, match="reports: expected at least one"):
        write_report(tmp_path, [], Behaviour(np.zeros(0, np.int64)))
    with pytest.raises(ArgumentError, match="users: expected"):
        write_report(tmp_path, reports, Behaviour(np.ones(3, np.int64)))


def test_time_scales_are_shown_only_of_models_that_use_times():
    log = simulated_shop(30, 10)
    settings = {"dim": 8, "num_layers": 1, "use_times": False}
    recommender = train(log, settings, {"epochs": 1}, progress=False)
    split = leave_one_out(log)
    users = behaviour(recommender, split, compare({"lsif": recommender}, split, progress=False)[-1])
    assert users.decays is None and users.long_share is not None


def _log(*histories):
    lengths = [len(items) for items in histories]
    return EventLog(
        user_ids=np.arange(len(histories)),
        item_ids=np.arange(4),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        items=np.concatenate([np.asarray(items, dtype=np.int64) for items in histories]),
    )


def test_taste_drift_is_what_its_formula_says():
    # Two opposite tastes, each with two items; centring changes nothing, as the mean vector is 0.
    vectors = np.array([[1, 0], [1, 0], [-1, 0], [-1, 0]], np.float32)
    log = _log([0, 1, 1, 0], [0, 1, 2, 3], [0, 2, 0, 1], [0, 1, 2], [])
    drift = taste_drift(log, vectors, np.arange(5), newest=2)
    assert drift[0] == pytest.approx(0) and drift[1] == pytest.approx(2)
    assert drift[2] == pytest.approx(1), "old events that cancel each other have no direction"
    assert np.isnan(drift[3:]).all()
    shifted = taste_drift(log, vectors + np.float32(5), np.array([1, 0]), newest=2)
    np.testing.assert_allclose(shifted, drift[[1, 0]], atol=1e-6)
    with pytest.raises(ArgumentError, match="newest"):
        taste_drift(log, vectors, np.arange(5), newest=0)


def test_groups_are_disjoint_and_leave_nobody_out_but_those_of_unknown_drift():
    lengths = np.array([1, 5, 6, 250, 300])
    groups = length_groups(lengths)
    assert list(groups) == ["1 to 5", "6 to 10", "201+"]
    np.testing.assert_array_equal(sum(members.astype(int) for members in groups.values()), 1)
    drift = np.array([np.nan, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    quarters = drift_groups(drift)
    assert [int(members.sum()) for members in quarters.values()] == [2, 2, 2, 2]
    np.testing.assert_array_equal(sum(members.astype(int) for members in quarters.values()), [0, *[1] * 8])
    assert drift_groups(drift[:4]) == {}
