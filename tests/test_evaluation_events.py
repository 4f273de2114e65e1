"""The inputs of evaluation: tables and logs, their columns, and what happens if some are missing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import lsif_sdk
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.errors import ArgumentError, DataError
from lsif_sdk.evaluation import (
    RecommenderScorer,
    compare,
    evaluate,
    leave_one_out,
)
from lsif_sdk.evaluation.metrics import MISSED
from lsif_sdk.training import read_events
from recommender_cases import build


@pytest.mark.parametrize("timestamp", ["when", "place", None])
@pytest.mark.parametrize("action", ["did", None])
def test_columns_may_have_other_names_as_in_training(timestamp, action):
    log = simulated_shop(60, 20)
    frame = pd.DataFrame(
        {
            "who": np.repeat([str(user) for user in log.user_ids], log.lengths),
            "what": [str(log.item_ids[row]) for row in log.items],
            "when": log.times,
            "place": np.arange(len(log.items))[::-1],  # another order, another last event
            "did": np.arange(len(log.items)) % 3,
        }
    )
    names = {"user": "who", "item": "what", "timestamp": timestamp, "action": action}
    rec = lsif_sdk.train(frame, {"dim": 8}, {"epochs": 1}, **names, progress=False)
    expected = evaluate(rec, read_events(frame, **names), progress=False)
    for found in (
        evaluate(rec, frame, **names, progress=False),
        compare({"lsif": rec}, frame, **names, progress=False)[1],
    ):
        assert (found.metrics, found.targets_hash) == (expected.metrics, expected.targets_hash)


@pytest.mark.parametrize("names", [{"user": "who"}, {"timestamp": None}, {"action": "did"}, {"separator": ";"}])
def test_columns_of_events_that_have_been_read_are_not_named(names):
    log = simulated_shop(60, 20)
    rec = build()
    ((name, value),) = names.items()
    message = "^{}: expected nothing beside events that have been read \\({}\\), got {!r}$"
    with pytest.raises(ArgumentError, match=message.format(name, "EventLog", value)):
        lsif_sdk.train(log, **names, progress=False)
    for events in (log, leave_one_out(log)):
        expected = message.format(name, type(events).__name__, value)
        with pytest.raises(ArgumentError, match=expected):
            evaluate(rec, events, **names, progress=False)
        with pytest.raises(ArgumentError, match=expected):
            compare({"lsif": rec}, events, **names, progress=False)


def test_items_that_are_not_recommended_are_no_hits():
    log = simulated_shop(60, 20)
    live = lsif_sdk.LiveRecommender(lsif_sdk.train(log, {"dim": 8}, {"epochs": 1}, progress=False))
    split = leave_one_out(log)
    whole = RecommenderScorer(live.current, split.test_history).scores(np.arange(log.num_users))
    hidden, removed, expired = (str(log.item_ids[row]) for row in (0, 1, 2))
    live.hide([hidden])
    live.remove([removed])
    live.show([expired], until=1_000_000_000)
    scores = RecommenderScorer(live.current, split.test_history).scores(np.arange(log.num_users))
    assert np.isneginf(scores[:, :3]).all() and np.array_equal(scores[:, 3:], whole[:, 3:])
    report = evaluate(live.current, split, k=20, progress=False)
    targets = split.test_items[np.array(report.user_rows)]
    assert (report.per_user[targets < 3] == MISSED).all() and (targets < 3).any()
    answers = live.current.recommend([[log.item_ids[row] for row in split.test_history.user(0).items]], k=20)
    assert not {hidden, removed, expired} & set(answers[0].items)


def test_inputs_that_the_model_reads_and_the_events_lack_are_warned_of():
    log = simulated_shop(60, 20)
    with_actions = dataclasses.replace(log, actions=np.ones(len(log.items), np.int64))
    rec = lsif_sdk.train(with_actions, {"dim": 8}, {"epochs": 1}, progress=False)
    with pytest.warns(UserWarning, match=r"reads action types, and the events have none \(action= names the column\)"):
        evaluate(rec, log, progress=False)
    timeless = dataclasses.replace(with_actions, times=None)
    with pytest.warns(UserWarning, match=r"ours reads times, and the events have none \(timestamp= names the column\)"):
        compare({"ours": rec}, timeless, progress=False)


def test_a_model_is_not_called_popularity():
    log = simulated_shop(60, 20)
    with pytest.raises(ArgumentError, match="models: expected names other than 'popularity'"):
        compare({"popularity": build()}, log, progress=False)


def test_a_text_file_may_have_another_separator_as_in_training(tmp_path):
    log, path = simulated_shop(60, 20), tmp_path / "events.txt"
    users = np.repeat([str(user) for user in log.user_ids], log.lengths)
    frame = pd.DataFrame({"user": users, "item": [str(log.item_ids[row]) for row in log.items], "timestamp": log.times})
    frame.to_csv(path, sep="|", index=False)
    rec = lsif_sdk.train(path, {"dim": 8}, {"epochs": 1}, separator="|", progress=False)
    expected = evaluate(rec, frame, progress=False)
    for found in (
        evaluate(rec, path, separator="|", progress=False),
        compare({"lsif": rec}, path, separator="|", progress=False)[1],
    ):
        assert (found.metrics, found.targets_hash) == (expected.metrics, expected.targets_hash)
    with pytest.raises(DataError, match=r"or separator= \(--separator\) does not fit"):
        evaluate(rec, path, progress=False)


def test_a_column_that_is_not_there_is_named_with_how_to_name_it():
    frame = pd.DataFrame({"who": [1], "what": [1], "when": [1]})
    rec = build()
    with pytest.raises(DataError, match=r"no column 'user'; it has \['who', 'what', 'when'\]; user= "):
        evaluate(rec, frame, progress=False)
