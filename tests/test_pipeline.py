"""`train` from events to a recommender: which events it may see, and what its provenance record says."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from evaluation_cases import make_log
from lsif_sdk import Recommender
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError
from lsif_sdk.evaluation import compare, evaluate, leave_one_out, time_split
from lsif_sdk.training import Recipe, TrainConfig, load_recipe, pipeline, read_events, train

MODEL = {"dim": 8, "num_layers": 1, "ffn_dim": 8}
TRAINING = TrainConfig(epochs=2, batch_size=32, max_len=20)
SPLITS = {"leave_one_out": leave_one_out, "time": time_split}


@pytest.fixture(scope="module")
def log():
    return simulated_shop(80, 30)


@pytest.mark.parametrize("split", ["leave_one_out", "time"])
@pytest.mark.parametrize(("holdout", "exclude_seen"), [("test", True), ("test", False), ("validation", False)])
def test_training_sees_the_history_of_its_target_and_says_so(log, monkeypatch, split, holdout, exclude_seen):
    fits: list[tuple[Any, dict[str, Any]]] = []
    fit = pipeline.fit

    def recording(events: Any, *arguments: Any, **options: Any) -> Any:
        fits.append((events, options))
        return fit(events, *arguments, **options)

    monkeypatch.setattr(pipeline, "fit", recording)
    options = {"split": split, "holdout": holdout, "exclude_seen": exclude_seen}
    recommender = train(log, MODEL, TRAINING, **options, progress=False)
    expected = SPLITS[split](log)
    stop = "validation" if holdout == "test" else "test"
    ((events, given),) = fits
    assert events.items.tolist() == expected.history(stop).items.tolist()
    for got, wanted in zip(given["validation"], expected.targets(stop), strict=True):
        assert got.tolist() == wanted.tolist()
    assert given["exclude_seen"] is exclude_seen
    counts = np.bincount(expected.history(stop).items, minlength=log.num_items)
    assert recommender.items.counts.tolist() == counts.tolist()
    provenance, metrics = recommender.artifact.training, recommender.artifact.metrics
    assert {name: provenance[name] for name in options} == options
    assert provenance["protocol"] == expected.protocol and provenance["test_from"] == expected.test_from
    assert provenance["targets_hash"] == expected.hash("test")
    assert len(provenance["targets_sample"]) == min(32, sum(row >= 0 for row in expected.test_items))
    if holdout == "validation":
        assert set(metrics) == {"validation"}
        return
    reports = compare({"lsif": recommender}, expected, exclude_seen=exclude_seen, progress=False)
    assert metrics["test"] == {report.name: report.to_dict() for report in reports}
    assert metrics["test"]["lsif"]["exclude_seen"] is exclude_seen


def test_what_cannot_be_held_out_is_refused(log):
    with pytest.raises(ArgumentError, match="split: expected one of 'leave_one_out', 'time', got 'random'"):
        train(log, MODEL, TRAINING, split="random", progress=False)
    with pytest.raises(DataError, match="time split needs events with times"):
        train(dataclasses.replace(log, times=None), MODEL, TRAINING, split="time", progress=False)
    short = make_log([[0, 1], [1]], 2)
    with pytest.raises(DataError, match=r"enough of them, 3 at least, for a test target \(leave-one-out\)"):
        train(short, MODEL, TRAINING, holdout="validation", progress=False)
    # One user comes back after the test boundary, none between the boundaries.
    late = make_log([range(8), [0, 1]], 8, times=np.array([1, 2, 3, 4, 5, 6, 7, 9, 8, 8]))
    assert (time_split(late).test_items >= 0).any()
    with pytest.raises(DataError, match=r"enough of them for a validation target \(time split"):
        train(late, MODEL, TRAINING, split="time", progress=False)


def test_train_and_evaluate_take_tables_and_settings_as_they_come(tmp_path):
    log = simulated_shop(30, 20)
    users = np.repeat(np.arange(log.num_users), log.lengths)
    rows = [f"{u},{log.item_ids[i]},{t}" for u, i, t in zip(users, log.items, log.times, strict=True)]
    path = tmp_path / "events.csv"
    path.write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    settings = {"epochs": 1, "seed": 3}
    model = {"dim": 8, "num_layers": 1}
    recommender = train(path, model, settings, progress=False)
    same = train(path, model, TrainConfig.from_dict(settings), progress=False)
    assert torch.equal(recommender.artifact.weights["item_embedding"], same.artifact.weights["item_embedding"])
    measured = evaluate(recommender, path, progress=False)
    assert measured.to_dict() == evaluate(recommender, read_events(path), progress=False).to_dict()
    with pytest.raises(ArgumentTypeError, match="training: expected a TrainConfig or a mapping"):
        train(path, model, 3, progress=False)
    with pytest.raises(ArgumentError, match=r"^model: .* got unknown \['epochs'\]; that belongs to training$"):
        train(path, {"epochs": 3}, progress=False)
    with pytest.raises(ArgumentError, match=r"^training: .* got unknown \['dim'\]; that belongs to model$"):
        train(path, None, {"dim": 3}, progress=False)
    with pytest.raises(ArgumentError, match=r"^model: expected no num_items, which the events decide, got 3$"):
        train(path, {"num_items": 3}, progress=False)
    with pytest.raises(
        ArgumentTypeError, match=r"^model: expected a mapping of fields of ModelConfig, got str 'dim=16'$"
    ):
        train(path, "dim=16", progress=False)
    with pytest.raises(ArgumentError, match=r"^model: .* got unknown \['depth', 'epochs'\]$"):
        train(path, {"epochs": 3, "depth": 2}, progress=False)
    with pytest.raises(ArgumentError, match="unknown"):
        train(path, model, {"epoch": 1}, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": ["time"]}, "split: expected one of 'leave_one_out', 'time', got list"),
        ({"holdout": None}, "holdout: expected one of 'test', 'validation', 'nothing', got NoneType"),
        ({"model": {1: 2, "x": 3}}, r"model: expected fields of ModelConfig \(.*\), got unknown \[1, 'x'\]$"),
        ({"training": {1: 2, "x": 3}}, r"training: expected fields of TrainConfig \(.*\), got unknown \[1, 'x'\]$"),
        ({"checkpoint_dir": 5}, "checkpoint_dir: expected a folder's path, got int 5"),
    ],
)
def test_odd_options_are_refused_by_name(log, options, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=f"^{message}"):
        train(log, progress=False, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load_recipe(5), "path: expected a JSON file's path, or None, got int 5"),
        (lambda: load_recipe(None, 5), "overrides: expected a mapping of fields to values, or None, got int 5"),
        (lambda: Recipe({}, {}), "training: expected a TrainConfig, got dict"),
        (lambda: Recipe({}, None), "training: expected a TrainConfig, got NoneType"),
    ],
)
def test_what_is_no_recipe_is_refused_by_name(call, message):
    with pytest.raises(ArgumentTypeError, match=f"^{message}"):
        call()


def test_users_with_nothing_beside_what_is_held_out_are_not_enough(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("user,item,timestamp\n" + "".join(f"{u},i{t},{t}\n" for u in range(5) for t in range(3)))
    with pytest.raises(DataError, match="two or more beside those held out"):
        train(path, {"dim": 8}, {"epochs": 1}, progress=False)


@pytest.mark.parametrize(
    ("training", "exclude_seen"),
    [
        ({}, True),
        ({"holdout": "test"}, True),
        ({"holdout": "test", "split": "random", "exclude_seen": None}, True),
        ({"holdout": "test", "split": ["time"], "exclude_seen": False}, False),
    ],
    ids=str,
)
def test_artifacts_that_say_little_of_their_training(training, exclude_seen):
    log = make_log([range(5)] * 3, 5)
    recommender = build_of(log, training)
    with warnings.catch_warnings(action="error" if "split" not in training else "ignore"):
        report = evaluate(recommender, log, progress=False)
    assert report.protocol == "leave-one-out" and report.exclude_seen is exclude_seen

    class Named:
        artifact = "model.pkl"

        def scores(self, user_rows):
            return np.zeros((len(user_rows), 5), np.float32)

    assert evaluate(Named(), log, progress=False).exclude_seen is True


def build_of(log, training):
    artifact = train(log, MODEL, TRAINING, progress=False).artifact
    return Recommender(dataclasses.replace(artifact, training=training))


def test_targets_that_are_not_those_held_out_are_warned_of(log):
    users = np.repeat(np.arange(log.num_users), log.lengths)
    frame = pd.DataFrame({"user": users, "item": [str(log.item_ids[row]) for row in log.items], "timestamp": log.times})
    rec = train(frame, MODEL, TRAINING, progress=False)
    timeless = train(frame, MODEL, TRAINING, timestamp=None, progress=False)
    later = frame.groupby("user").tail(1).assign(timestamp=frame["timestamp"].max() + 1)
    place, left = frame.groupby("user").cumcount(), frame.groupby("user").cumcount(ascending=False)
    with warnings.catch_warnings(action="error"):
        evaluate(rec, frame.sample(frac=1, random_state=0), progress=False)  # the same events, shuffled
        for model, options in ((rec, {}), (timeless, {"timestamp": None})):
            evaluate(model, pd.concat([frame, later]), progress=False, **options)  # with later events
            evaluate(model, frame[frame["user"] % 2 == 0], progress=False, **options)  # some of the users
            evaluate(model, frame[place > 0], progress=False, **options)  # without the oldest
        window = pd.concat([frame[left < 2], later]).sort_values("user", kind="stable")  # only the newest three
        for model, options in ((rec, {}), (timeless, {"timestamp": None})):
            evaluate(model, window, progress=False, **options)
        days = frame.assign(timestamp=86400)
        evaluate(train(days, MODEL, TRAINING, progress=False), days.iloc[::-1], progress=False)  # all on one day
    for model, events, options in (
        (rec, frame[left > 0], {}),  # each user's last event is now another one
        (rec, frame[(left > 0) & (frame["user"] % 2 == 0)], {}),
        (
            train(frame.assign(timestamp=86400), MODEL, TRAINING, progress=False),
            frame[left > 0].assign(timestamp=86400),
            {},
        ),
        (timeless, frame[left > 0], {"timestamp": None}),
    ):
        for target in ("test", "validation"):
            with pytest.warns(UserWarning, match=f"may have been trained on the {target} targets"):
                evaluate(model, events, target=target, progress=False, **options)
    by_time = train(frame, MODEL, TRAINING, split="time", progress=False)
    early = frame[frame["timestamp"] < frame["timestamp"].quantile(0.75)]
    with pytest.warns(UserWarning, match="may have been trained on the validation targets"):
        evaluate(by_time, early, target="validation", progress=False)
    with warnings.catch_warnings(action="error"):
        for model in (rec, by_time):
            evaluate(model, frame, target="validation", progress=False)
    for sample in (None, [1, "x", [1, 2, 3, 4], [[], 2, 3, 4], ["a", "b"]], {"a": 1}):  # unusable: no conclusion
        training = {**rec.artifact.training, "targets_sample": sample}
        with warnings.catch_warnings(action="error"):
            evaluate(Recommender(dataclasses.replace(rec.artifact, training=training)), frame[left > 0], progress=False)


def test_models_are_measured_as_they_were_trained(log):
    """Split and masking are the training's unless given; a warning says if the model may know the targets."""
    by_time = train(log, MODEL, TRAINING, split="time", exclude_seen=False, progress=False)
    with warnings.catch_warnings(action="error"):
        report = evaluate(by_time, log, progress=False)
        same = evaluate(by_time, time_split(log), exclude_seen=False, progress=False)
        popularity, ours = compare({"lsif": by_time}, log, progress=False)
    assert report.to_dict() == same.to_dict() == {**ours.to_dict(), "name": report.name}
    assert report.protocol == popularity.protocol == time_split(log).protocol and not popularity.exclude_seen
    with pytest.warns(UserWarning, match="recommender may have been trained on the test targets of this split"):
        assert evaluate(by_time, leave_one_out(log), progress=False).exclude_seen is False
    early, late = time_split(log, *np.quantile(log.times, [0.3, 0.6]).astype(int).tolist()), time_split(log)
    with pytest.warns(UserWarning, match="trained on the test targets"):
        evaluate(by_time, early, progress=False)
    later = time_split(log, late.test_from, late.test_from + 1)
    with warnings.catch_warnings(action="error"):
        evaluate(by_time, later, progress=False)
    old = dataclasses.replace(by_time.artifact, training={"holdout": "test", "split": "time", "protocol": "time split"})
    with pytest.warns(UserWarning, match="trained on the test targets"):  # the record lacks the time its test begins
        evaluate(Recommender(old), late, progress=False)
    for_production = train(log, MODEL, TRAINING, holdout="validation", progress=False)
    with pytest.warns(UserWarning, match="trained on the test targets"):
        assert evaluate(for_production, log, progress=False).exclude_seen is True
    both = {"a": by_time, "b": for_production}
    with pytest.raises(ArgumentError, match="events: expected to be told: models differ in the split of"):
        compare(both, log, progress=False)
    with pytest.raises(ArgumentError, match="exclude_seen: expected to be told: models differ"):
        compare(both, time_split(log), progress=False)
    with pytest.warns(UserWarning, match="b may have been"):
        assert len(compare(both, time_split(log), exclude_seen=True, progress=False)) == 3
    with pytest.raises(ArgumentTypeError, match="models: expected a mapping of names to recommenders"):
        compare([by_time], log)
    for odd in ("no", 0):
        for call in (evaluate, train):
            with pytest.raises(ArgumentTypeError, match=f"exclude_seen: expected True or False, got .* {odd!r}$"):
                call(by_time if call is evaluate else log, log if call is evaluate else None, exclude_seen=odd)


def test_all_events_are_trained_on_where_nothing_is_held_out(log, monkeypatch):
    trained = []
    fit = pipeline.fit

    def noted(events, *rest, **options):
        trained.append(events)
        return fit(events, *rest, **options)

    monkeypatch.setattr(pipeline, "fit", noted)
    for split in ("leave_one_out", "time"):
        model = train(log, MODEL, {"epochs": 2}, split=split, holdout="nothing", progress=False)
        assert trained.pop() is log and model.artifact.metrics == {}
        assert model.artifact.training["epochs"] == model.artifact.training["best_epoch"] == 2
        assert model.items.counts.tolist() == np.bincount(log.items, minlength=log.num_items).tolist()
        with pytest.warns(UserWarning, match="trained on the test targets"):
            evaluate(model, log, progress=False)
    short = make_log([[0, 1], [2]], 3)
    assert len(train(short, MODEL, {"epochs": 1}, holdout="nothing", progress=False).items) == 3
    with pytest.raises(DataError, match="events: expected a user with two or more, got none"):
        train(make_log([[0], [2]], 3), MODEL, {"epochs": 1}, holdout="nothing", progress=False)
    for unnamed in (None, {"batch_size": 8}):
        with pytest.raises(ArgumentError, match="training: expected epochs to be named where nothing is held out"):
            train(log, MODEL, unnamed, holdout="nothing", progress=False)
    by_time = train(log, MODEL, TRAINING, split="time", progress=False)
    with pytest.warns(UserWarning, match="whole may have been"):  # the split is that of the model named "measured"
        reports = compare({"measured": by_time, "whole": model}, log, progress=False)
    assert reports[0].protocol == time_split(log).protocol
    with pytest.raises(ArgumentError, match="holdout: expected one of 'test', 'validation', 'nothing', got 'all'"):
        train(log, MODEL, TRAINING, holdout="all", progress=False)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"features": "described"},
            ArgumentError,
            "features: expected descriptions of at least 10 items with events, got 9",
        ),
        ({"source": 5}, ArgumentTypeError, "source: expected a string or None, got int"),
        ({"resume": "no"}, ArgumentTypeError, "resume: expected True or False, got"),
        ({"progress": "no"}, ArgumentTypeError, "progress: expected True or False, got"),
        ({"split": ["time"]}, ArgumentTypeError, "split: expected one of 'leave_one_out', 'time', got list"),
        ({"holdout": None}, ArgumentTypeError, "holdout: expected one of 'test', .*, got NoneType"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_before_training(log, monkeypatch, options, error, message):
    monkeypatch.setattr(pipeline, "fit", None)
    if "features" in options:
        features = np.zeros((log.num_items, 6), np.float32)
        features[np.unique(log.items)[:9]] = 1
        options = {"features": features}
    with pytest.raises(error, match=f"^{message}"):
        train(log, MODEL, TRAINING, **{"progress": False, **options})


def test_targets_after_all_that_was_trained_on_are_unseen(log):
    moment = int(np.quantile(log.times, 0.8))
    frame = pd.DataFrame({"user": np.repeat(np.arange(log.num_users), log.lengths), "timestamp": log.times})
    frame["item"] = [log.item_ids[item] for item in log.items]
    model = train(frame[frame.timestamp < moment], MODEL, TRAINING, holdout="validation", progress=False)
    with warnings.catch_warnings(action="error"):
        evaluate(model, time_split(log, moment - 1, moment), progress=False)
    with pytest.warns(UserWarning, match="trained on the test targets"):
        evaluate(model, time_split(log, *np.quantile(log.times, [0.5, 0.6]).astype(int).tolist()), progress=False)


def test_a_model_of_times_is_not_trained_on_events_without(log):
    with pytest.raises(ArgumentError, match="use_times: expected False for events without times, got True"):
        train(dataclasses.replace(log, times=None), {"use_times": True}, TRAINING, progress=False)


def test_described_items_are_measured_as_they_are_served(log):
    features = np.random.default_rng(5).normal(size=(log.num_items, 6)).astype(np.float32)
    plain = train(log, MODEL, TRAINING, progress=False)
    described = train(log, MODEL, TRAINING, features=features, progress=False)
    for model in (plain, described):
        measured = evaluate(model, log, target="validation", progress=False).metrics
        assert model.artifact.metrics["validation"] == pytest.approx(
            {name: measured[name] for name in model.artifact.metrics["validation"]}, abs=1e-6
        )
    assert described.artifact.metrics["validation"] != plain.artifact.metrics["validation"]
    frame = pd.DataFrame(features, index=log.item_ids)
    with pytest.raises(
        ArgumentError, match=r"^features: expected rows in the order of EventLog.item_ids .* begins with"
    ):
        train(log, MODEL, TRAINING, features=frame.sample(frac=1, random_state=0), progress=False)
    for named in (frame, frame.reset_index(drop=True)):
        same = train(log, MODEL, TRAINING, features=named, progress=False)
        assert torch.equal(same.artifact.weights["item_embedding"], described.artifact.weights["item_embedding"])
