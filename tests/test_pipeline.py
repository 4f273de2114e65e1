"""`train` from events to a recommender: which events it may see, and what its provenance says."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from evaluation_cases import make_log
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError
from lsif_sdk.evaluation import compare, evaluate, leave_one_out, time_split
from lsif_sdk.training import TrainConfig, pipeline, read_events, train

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
    assert provenance["protocol"] == expected.protocol
    assert provenance["targets_hash"] == expected.hash("test")
    if holdout == "validation":
        assert set(metrics) == {"validation"}
        return
    reports = compare({"lsif": recommender}, expected, exclude_seen=exclude_seen, progress=False)
    assert metrics["test"] == {report.name: report.to_dict() for report in reports}
    assert metrics["test"]["lsif"]["exclude_seen"] is exclude_seen


def test_what_cannot_be_held_out_is_refused(log):
    with pytest.raises(ArgumentError, match="split: expected 'leave_one_out' or 'time', got 'random'"):
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
    with pytest.raises(ArgumentError, match=r"^model: .* got unknown \['depth', 'epochs'\]$"):
        train(path, {"epochs": 3, "depth": 2}, progress=False)
    with pytest.raises(ArgumentError, match="unknown"):
        train(path, model, {"epoch": 1}, progress=False)


def test_users_with_nothing_beside_what_is_held_out_are_not_enough(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("user,item,timestamp\n" + "".join(f"{u},i{t},{t}\n" for u in range(5) for t in range(3)))
    with pytest.raises(DataError, match="two or more beside those held out"):
        train(path, {"dim": 8}, {"epochs": 1}, progress=False)
