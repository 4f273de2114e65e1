"""Evaluation of scorers and recommenders against slow float64 oracles that share no code with it."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math

import numpy as np
import pandas as pd
import pytest

from evaluation_cases import make_log, random_log, slow_rank
from lsif_sdk import Artifact, Events, ItemTable, Recommender
from lsif_sdk.config import ModelConfig
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError
from lsif_sdk.evaluation import (
    Popularity,
    RecommenderScorer,
    compare,
    evaluate,
    format_table,
    leave_one_out,
    time_split,
)
from lsif_sdk.evaluation.evaluate import with_catalog_items
from lsif_sdk.evaluation.metrics import MISSED
from lsif_sdk.live import LiveRecommender
from native import random_weights
from recommender_cases import build


class FixedScorer:
    def __init__(self, table):
        self.table = np.asarray(table, dtype=np.float32)

    def scores(self, user_rows):
        return self.table[user_rows]


# Evaluation


def slow_evaluation(log, table, k, exclude_seen, back):
    """Metrics by the definitions: Python lists, one user and one item at a time."""
    ranks, lists, met = [], [], [set() for _ in range(log.num_items)]
    for user in range(log.num_users):
        events = log.user(user).items.tolist()
        history = events[:-back] if len(events) >= 3 else events
        for item in history:
            met[item].add(user)
        if len(events) < 3:
            continue
        seen = set(history) if exclude_seen else set()
        ranks.append(slow_rank(table[user], events[-back], seen))
        left = sorted((i for i in range(log.num_items) if i not in seen), key=lambda i: (-table[user][i], i))
        lists.append(left[:k])
    bits = [-math.log2(max(len(met[item]), 1) / log.num_users) for items in lists for item in items]
    return ranks, {
        f"ndcg@{k}": np.mean([1 / math.log2(1 + rank) if rank <= k else 0.0 for rank in ranks]),
        f"hr@{k}": np.mean([rank <= k for rank in ranks]),
        f"mrr@{k}": np.mean([1 / rank if rank <= k else 0.0 for rank in ranks]),
        f"coverage@{k}": len({item for items in lists for item in items}) / log.num_items,
        f"novelty@{k}": np.mean(bits),
    }


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize(("target", "back"), [("test", 1), ("validation", 2)])
def test_evaluate_equals_the_slow_oracle(monkeypatch, exclude_seen, target, back):
    # Seven users per chunk, so the last chunk is short.
    monkeypatch.setattr(importlib.import_module("lsif_sdk.evaluation.evaluate"), "USERS_PER_CHUNK", 7)
    log = random_log(3)
    table = np.random.default_rng(4).integers(0, 9, (log.num_users, log.num_items)).astype(np.float32)
    report = evaluate(FixedScorer(table), log, 4, target=target, exclude_seen=exclude_seen, progress=False)
    ranks, metrics = slow_evaluation(log, table, 4, exclude_seen, back)
    assert report.per_user.tolist() == ranks
    assert report.metrics == pytest.approx(metrics)
    assert report.num_users == len(ranks) == report.user_rows.size
    gains = np.array([1 / math.log2(1 + rank) if rank <= 4 else 0.0 for rank in ranks])
    assert report.standard_errors["ndcg@4"] == pytest.approx(gains.std(ddof=1) / math.sqrt(len(ranks)))
    repeats = [events[-back] in events[:-back] for u in report.user_rows for events in [log.user(u).items.tolist()]]
    assert report.num_repeated == sum(repeats) > 0
    misses = report.per_user[np.array(repeats)] == MISSED
    assert misses.all() if exclude_seen else not misses.all()


def test_warm_users_only():
    log = random_log(5)
    table = np.random.default_rng(6).normal(size=(log.num_users, log.num_items))
    everyone = evaluate(FixedScorer(table), log, progress=False)
    warm = evaluate(FixedScorer(table), log, min_history=6, progress=False)
    assert warm.user_rows.tolist() == np.flatnonzero(log.lengths >= 7).tolist()
    assert 0 < warm.num_users < everyone.num_users
    assert warm.per_user.tolist() == everyone.per_user[np.isin(everyone.user_rows, warm.user_rows)].tolist()
    assert warm.targets_hash == everyone.targets_hash


def test_popularity_counts_the_history_and_orders_large_counts():
    log = make_log([[0, 1, 2], [1, 0, 2], [1, 3, 0]], 4)
    scores = Popularity.from_log(leave_one_out(log).test_history).scores(np.array([0, 2]))
    assert scores.shape == (2, 4) and scores.dtype == np.float32
    assert scores[0, 1] > scores[0, 0] > scores[0, 3] > scores[0, 2]
    close = Popularity(np.array([1 << 24, (1 << 24) + 1])).scores(np.array([0]))[0]
    assert close[1] > close[0]
    with pytest.raises(ArgumentError, match="counts"):
        Popularity(np.array([1, -1]))


def test_evaluate_refuses_what_it_cannot_rank():
    log = random_log(7)
    good = np.zeros((log.num_users, log.num_items))
    with pytest.raises(ArgumentTypeError, match="recommender"):
        evaluate(object(), log, progress=False)
    with pytest.raises(ArgumentError, match="recommender: expected scores of shape"):
        evaluate(FixedScorer(good[:, :-1]), log, progress=False)
    with pytest.raises(ArgumentError, match="no NaN"):
        evaluate(FixedScorer(good * np.nan), log, progress=False)
    with pytest.raises(ArgumentError, match="min_history"):
        evaluate(FixedScorer(good), log, min_history=0, progress=False)
    with pytest.raises(ArgumentError, match="with_request_time"):
        evaluate(FixedScorer(good), log, with_request_time=True, progress=False)


# A recommender


class Asked(Recommender):
    def __init__(self, artifact):
        super().__init__(artifact)
        self.now = []

    def encode_rows(self, items, times, actions, offsets, now=None):
        self.now.append(now)
        self.had_times, self.had_actions = times is not None, actions is not None
        return super().encode_rows(items, times, actions, offsets, now)


def recommender_of(ids, last_bias=None, **fields):
    """A recommender with random weights; each item's training count is ten more than the one before."""
    config = ModelConfig(num_items=len(ids), dim=8, num_layers=1, ffn_dim=8, window=5, **fields)
    weights = random_weights(config)
    if last_bias is not None:
        weights["catalog.bias"][-1] = last_bias
    return Asked(Artifact(config, weights, ItemTable(ids, counts=10 * np.arange(len(ids)))))


def slow_scores(recommender, ids, events):
    """The two formulas of docs/model.md, section 5, in float64; -inf for items the catalogue lacks."""
    vectors, bias = (part.double().numpy() for part in (recommender.catalog.vectors, recommender.catalog.bias))
    known = recommender.items.ids.tolist()
    names = [ids[item] for item in events.items]
    encoded = recommender.encode(Events(names, events.times, events.actions))
    interests, weights = (part[0].astype(np.float64) for part in (encoded.interests, encoded.weights))
    scores = np.full(len(ids), -np.inf)
    for item, name in enumerate(ids):
        if name not in known:
            continue
        row = known.index(name)
        if not set(names) & set(known):
            scores[item] = recommender.items.counts[row]
            continue
        dots = [interest @ vectors[row] for interest in interests]
        if recommender.config.scoring == "fused":
            scores[item] = sum(weight * dot for weight, dot in zip(weights, dots, strict=True)) + bias[row]
        else:
            tau = recommender.config.temperature
            total = sum(weight * math.exp(dot / tau) for weight, dot in zip(weights, dots, strict=True))
            scores[item] = tau * math.log(total) + bias[row]
    return scores


@pytest.mark.parametrize("scoring", ["fused", "multi_interest"])
def test_recommender_scores_equal_the_formulas(scoring):
    log = random_log(8, num_items=12)
    # The catalogue has another order, lacks two items of the events and has one that is not in them.
    ids = [log.item_ids[i] for i in np.random.default_rng(1).permutation(12)[:10]] + ["new"]
    recommender = recommender_of(ids, scoring=scoring, temperature=2.0)
    users = np.array([3, 0, 17, 17])
    got = RecommenderScorer(recommender, log).scores(users)
    expected = np.array([slow_scores(recommender, log.item_ids, log.user(u)) for u in users])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scoring", ["fused", "multi_interest"])
def test_unknown_items_are_skipped_and_a_user_of_unknown_items_gets_popularity(scoring):
    log = make_log([[0, 0, 1], [0, 0, 0]], 2)
    recommender = recommender_of(["new", "i1"], scoring=scoring)
    scores = RecommenderScorer(recommender, log).scores(np.array([0, 1]))
    assert scores[:, 0].tolist() == [-np.inf, -np.inf]
    assert scores[1, 1] == 10
    assert scores[0, 1] == pytest.approx(slow_scores(recommender, log.item_ids, log.user(0))[1], rel=1e-5)


def test_evaluating_a_recommender_ranks_the_items_only_its_catalogue_knows():
    log = random_log(9, num_items=12)
    recommender = recommender_of([*log.item_ids, "new"], last_bias=1e6)
    report = evaluate(recommender, log, progress=False)
    assert report.num_items == 13 and report.name == "asked"
    assert report.per_user.min() == 2  # the new item beats every target
    history = leave_one_out(log).test_history
    table = [slow_scores(recommender, log.item_ids, history.user(u)) for u in range(log.num_users)]
    ranks = slow_evaluation(log, table, 10, True, 1)[0]
    assert report.per_user.tolist() == [rank + (rank != MISSED) for rank in ranks]


def test_integer_ids_are_matched_by_their_text():
    log = make_log([[0, 1, 2, 1]], 3, item_ids=np.array([10, 20, 30]))
    recommender = recommender_of(["30", "20", "10", "40"])
    assert evaluate(recommender, log, progress=False).num_items == 4
    with pytest.raises(DataError, match="none of the 3 items"):
        RecommenderScorer(recommender_of(["1", "2"]), log)


def test_request_time_is_the_target_time_only_where_the_model_reads_it():
    log = random_log(10)
    split = leave_one_out(log)
    knows = recommender_of(log.item_ids, request_time=True)
    report = evaluate(knows, split, progress=False)
    assert report.request_time
    assert np.concatenate(knows.now).tolist() == split.test_times[report.user_rows].tolist()
    assert knows.had_times and not knows.had_actions
    blind = evaluate(knows, split, with_request_time=False, progress=False)
    assert knows.now[-1] is None and not blind.request_time
    plain = recommender_of(log.item_ids, use_times=False, num_actions=2)
    assert not evaluate(plain, split, progress=False).request_time
    assert plain.now == [None] and not plain.had_times and plain.had_actions
    with pytest.raises(ArgumentError, match="with_request_time"):
        evaluate(plain, split, with_request_time=True, progress=False)
    timeless = leave_one_out(dataclasses.replace(log, times=None))
    with pytest.warns(UserWarning, match="reads times, and the events have none"):
        assert not evaluate(knows, timeless, progress=False).request_time


def test_compare_puts_popularity_first_and_ranks_all_in_one_catalogue():
    log = random_log(11, num_items=12)
    models = {
        "lsif": recommender_of([*log.item_ids, "new"], request_time=True),
        "zero": FixedScorer(np.zeros((40, 13))),
    }
    reports = compare(models, log, 5, progress=False, with_request_time=False)
    assert [report.name for report in reports] == ["popularity", "lsif", "zero"]
    assert {report.num_items for report in reports} == {13}
    split = leave_one_out(log)
    alone = evaluate(Popularity.from_log(split.test_history), split, 5, progress=False)
    assert (reports[0].per_user >= alone.per_user).all()
    table = format_table(reports)
    assert f"{reports[1].metrics['ndcg@5'] / reports[0].metrics['ndcg@5']:.2f}" in table
    assert reports[0].targets_hash[:12] in table and "popularity" in table
    assert len({len(line) for line in table.splitlines()[:-1]}) == 1


def test_tables_of_different_tasks_are_refused():
    log = random_log(12)
    zero = FixedScorer(np.zeros((log.num_users, log.num_items)))
    reports = [evaluate(zero, log, progress=False, exclude_seen=seen) for seen in (True, False)]
    with pytest.raises(ArgumentError, match="reports"):
        format_table(reports)
    with pytest.raises(ArgumentError, match="reports: expected the same protocol"):
        format_table([reports[0], dataclasses.replace(reports[0], protocol="another")])
    with pytest.raises(ArgumentError, match="reports"):
        format_table([])
    assert "-" in format_table(reports[:1])


def test_the_table_says_protocol_and_repeated_targets():
    log = make_log([[0, 1, 0], [0, 1, 2], [2, 1, 1]], 3)
    popularity = Popularity(np.array([3, 2, 1]))
    for exclude_seen, words in ((True, "left out (2 targets are seen items: misses)"), (False, "kept (2 targets are")):
        note = format_table([evaluate(popularity, log, progress=False, exclude_seen=exclude_seen)]).splitlines()[-1]
        assert note.startswith("leave-one-out, test targets ") and f"seen items {words}" in note
    fresh = make_log([[0, 1, 2]], 3)
    assert "targets are seen" not in format_table([evaluate(popularity, fresh, progress=False)])
    split = time_split(log, 102, 105)
    note = format_table([evaluate(popularity, split, target="validation", progress=False)]).splitlines()[-1]
    assert note.startswith("time split: trained before 102, tested on each user's first event from 105 on, validation")


def test_a_repeated_target_is_no_hit_because_recommend_never_lists_it():
    log = make_log([[0, 1, 0]], 20)
    knows = FixedScorer(np.arange(20)[None, ::-1])  # the target has the highest score
    for k in (10, 19, 20, 21, 1000):  # the seen target is left out even of lists as long as the catalogue or longer
        report = evaluate(knows, log, k, progress=False)
        assert (report.per_user.tolist(), report.metrics[f"hr@{k}"], report.num_repeated) == ([MISSED], 0.0, 1)
    assert evaluate(knows, log, exclude_seen=False, progress=False).metrics["mrr@10"] == 1.0


def test_report_is_json_even_for_one_user():
    log = make_log([[0, 1, 2]], 3)
    report = evaluate(Popularity(np.ones(3, np.int64)), log, progress=True)
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["standard_errors"]["ndcg@10"] is None
    assert values["metrics"]["hr@10"] == 1.0 and "per_user" not in values
    assert report.to_dict(per_user=True)["per_user"] == [1]


def test_events_of_other_items_are_refused() -> None:
    recommender = build()
    frame = pd.DataFrame({"user": [1, 1, 1], "item": ["x", "y", "z"], "timestamp": [1, 2, 3]})
    with pytest.raises(DataError, match="no item is in the recommender's catalogue; they name x, y, z"):
        evaluate(recommender, frame, progress=False)


def test_counts_are_scores():
    class Counts(FixedScorer):
        def scores(self, user_rows):
            return super().scores(user_rows).astype(np.int64)

    log = random_log(9)
    table = np.random.default_rng(4).integers(0, 9, (log.num_users, log.num_items))
    for exclude_seen in (True, False):
        counts, floats = (
            evaluate(kind(table), log, 4, exclude_seen=exclude_seen, progress=False) for kind in (Counts, FixedScorer)
        )
        assert counts.per_user.tolist() == floats.per_user.tolist() and counts.metrics == floats.metrics


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda log: RecommenderScorer(None, log), "recommender: expected a Recommender .* got NoneType"),
        (
            lambda log: RecommenderScorer(LiveRecommender(build()), log),
            "recommender: expected a Recommender .* got Live",
        ),
        (lambda log: RecommenderScorer(build(), None), "history: expected an EventLog, .* got NoneType"),
        (lambda log: RecommenderScorer(build(), log, [1]), "now: expected one time for each of 40 users, got 1"),
        (lambda log: RecommenderScorer(build(), log, "x"), "now: expected a sequence of whole numbers, got str 'x'"),
        (lambda log: with_catalog_items(None, build()), "split: expected a Split, .* got NoneType"),
        (
            lambda log: with_catalog_items(leave_one_out(log), None),
            "recommender: expected a Recommender .* got NoneType",
        ),
        (lambda log: compare({1: Popularity.from_log(log)}, log), "models: expected names that are texts, got int 1"),
        (lambda log: evaluate(Popularity.from_log(log), log, name=5), "name: expected a text, or None, got int 5"),
        (lambda log: format_table(5), "reports: expected a Report, or several in a sequence, got int 5"),
        (lambda log: format_table([None]), "reports: expected a Report, or several in a sequence, got NoneType"),
    ],
)
def test_arguments_of_another_type_are_refused_by_name(call, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=f"^{message}"):
        call(random_log(3))
