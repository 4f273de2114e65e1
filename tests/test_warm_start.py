"""Training that starts from a trained model: what it takes over, what it refuses, and what it records about it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import shutil
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cli_cases import run
from lsif_sdk import Artifact, Events, ItemTable, LiveRecommender, ModelConfig, Recommender
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ArtifactError
from lsif_sdk.evaluation import evaluate, time_split
from lsif_sdk.model import InterestFusionModel
from lsif_sdk.training import EventLog, FitResult, TrainConfig, fit, train
from lsif_sdk.training.validation import validate
from training_cases import FAST, NUM_ITEMS, assert_same_weights, cyclic_log, following, small_config

STILL = dataclasses.replace(FAST, epochs=1, learning_rate=1e-30, warmup_steps=0)
"""Training steps so small that no float32 weight changes."""
SHAPES: list[dict[str, Any]] = [
    {},
    {"block": "transformer", "scoring": "multi_interest", "temperature": 0.7, "num_actions": 0},
    {"normalize_items": True, "item_scale": 3.0, "request_time": True},
    {"normalize_inputs": True, "repeats": True},
    {"normalize_inputs": True, "normalize_items": True, "use_times": False, "num_long": 0},
]
SMALL = {"dim": 8, "num_layers": 1, "ffn_dim": 8}
SHORT = {"epochs": 2, "batch_size": 32, "max_len": 20}


def trained(log: EventLog, config: ModelConfig, training: TrainConfig = FAST, **options: Any) -> Artifact:
    model = fit(log, config, training, **options, progress=False).model
    counts = np.bincount(log.items, minlength=config.num_items)
    return Artifact(config, model.export_weights(), ItemTable(log.item_ids, None, counts))


def with_items(log: EventLog, item_ids: list[str]) -> EventLog:
    """The events of the items in `item_ids`, with item rows numbered by that list."""
    rows = {item: row for row, item in enumerate(item_ids)}
    log = log.select(np.array([log.item_ids[item] in rows for item in log.items]))
    items = np.array([rows[log.item_ids[item]] for item in log.items], np.int64)
    return dataclasses.replace(log, item_ids=item_ids, items=items)


def scores(artifact: Artifact, history: list[str], candidates: list[str]) -> list[float]:
    times = [10**6 + 3600 * place for place in range(len(history))]
    events = Events(history, times, [1] * len(history) if artifact.config.num_actions else None)
    return Recommender(artifact).score(events, candidates, now=2 * 10**6)[0].tolist()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_training_without_change_scores_as_its_start_whatever_the_order_of_items(shape: dict[str, Any]) -> None:
    log, config = cyclic_log(), small_config(**shape)
    start = trained(log, config)
    kept = [item for item in log.item_ids if item != "item 3"]
    other = with_items(log, ["new b", *reversed(kept), "new a"])
    after = trained(other, dataclasses.replace(config, num_items=len(other.item_ids)), STILL, start=start)
    history = ["item 7", "item 1", "item 7", "item 10"]
    # decay and the tables of repeats are stored as a square and sums of the trained values: a rounding or two each
    expected = scores(start, history, kept)
    assert scores(after, history, kept) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize("shape", [{}, {"normalize_inputs": True}], ids=str)
def test_new_items_begin_as_in_any_training(shape: dict[str, Any]) -> None:
    log = cyclic_log()
    start = trained(log, small_config(**shape))
    other = with_items(log, ["new", *log.item_ids[1:]])
    config = small_config(num_items=NUM_ITEMS + 1, **shape)  # one more row, without an id
    model = fit(other, config, STILL, start=start, progress=False).model
    torch.manual_seed(STILL.seed)
    fresh = InterestFusionModel(config).item_embedding
    assert torch.equal(model.item_embedding[[0, NUM_ITEMS]], fresh[[0, NUM_ITEMS]])
    assert model.catalog.bias[[0, NUM_ITEMS]].abs().max() < 1e-27  # from 0, by a few steps
    assert torch.equal(model.item_embedding[1:NUM_ITEMS], start.catalog_vectors[1:])
    assert torch.equal(model.catalog.bias[1:NUM_ITEMS], start.catalog_bias[1:]) and start.catalog_bias[1:].any()


def test_it_learns_from_there_and_leaves_the_start_alone() -> None:
    log, config = cyclic_log(num_users=100, max_length=NUM_ITEMS - 1), small_config()
    good = dataclasses.replace(FAST, epochs=15, learning_rate=2e-2, dropout=0.0)
    start = trained(log, config, good)
    before = {name: weight.clone() for name, weight in start.weights.items()}
    one = dataclasses.replace(good, epochs=1)
    warm, again, cold = (
        fit(log, config, one, validation=following(log), start=given, progress=False) for given in (start, start, None)
    )
    assert warm.epochs[0]["loss"] < 0.5 * cold.epochs[0]["loss"]
    assert_same_weights(warm.model, again.model)
    assert all(torch.equal(start.weights[name], weight) for name, weight in before.items())


def test_the_start_comes_back_where_no_epoch_is_better(tmp_path: pathlib.Path) -> None:
    log, config = cyclic_log(num_users=100, max_length=NUM_ITEMS - 1), small_config()
    start = trained(log, config, dataclasses.replace(FAST, epochs=15, learning_rate=2e-2, dropout=0.0))
    harmful = dataclasses.replace(FAST, learning_rate=1.0, patience=2, averaging=0.5)

    def go(**options: Any) -> FitResult:
        return fit(log, config, harmful, validation=following(log), start=start, progress=False, **options)

    result = go()
    measured = validate(InterestFusionModel.from_weights(config, start.weights).eval(), log, following(log))
    assert result.best == {"epoch": 0.0} | {name: pytest.approx(value) for name, value in measured.items()}
    assert [entry["epoch"] for entry in result.epochs] == [1.0, 2.0], "patience counts from the start"
    assert all(entry["ndcg@10"] < result.best["ndcg@10"] for entry in result.epochs)
    assert torch.equal(result.model.item_embedding, start.catalog_vectors)
    first = dataclasses.replace(harmful, epochs=1)
    fit(log, config, first, validation=following(log), start=start, checkpoint_dir=tmp_path, progress=False)
    resumed = go(checkpoint_dir=tmp_path, resume=True)
    assert resumed.best == result.best and len(resumed.epochs) == 2
    assert_same_weights(resumed.model, result.model)


def test_a_popularity_penalty_is_no_part_of_the_start() -> None:
    log = cyclic_log()
    log = dataclasses.replace(log, items=np.where(np.arange(len(log.items)) % 3 > 0, 0, log.items))
    start = trained(log, small_config())
    penalized = start.with_popularity_penalty(0.3).with_popularity_penalty(0.4)
    assert (penalized.catalog_bias - start.catalog_bias).abs().max() > 0.5
    after = trained(log, small_config(), STILL, start=penalized)
    assert after.catalog_bias.tolist() == pytest.approx(start.catalog_bias.tolist(), abs=1e-6)


def test_only_what_a_penalty_has_taken_off_is_put_back(tmp_path: pathlib.Path) -> None:
    log = cyclic_log()
    log = dataclasses.replace(log, items=np.where(np.arange(len(log.items)) % 3 > 0, 0, log.items))
    start = trained(log, small_config())
    penalized = start.with_popularity_penalty(0.7)
    penalized.save(tmp_path / "penalized")
    live, vector = LiveRecommender.load(tmp_path / "penalized"), np.ones((1, 8), np.float32)
    live.upsert(["new"], vector, bias=[0.25], counts=[10**6])
    live.upsert(["item 1"], vector, counts=[10**6])
    live.upsert(["item 2"], vector, bias=[0.5], counts=[10**6])
    live.upsert(["later"], vector, bias=[9.0], counts=[10**9])
    live.rollback()
    live.current.save(tmp_path / "live")
    other = with_items(log, [*log.item_ids, "new"])
    after = trained(other, small_config(num_items=NUM_ITEMS + 1), STILL, start=Artifact.load(tmp_path / "live"))
    expected = [*start.catalog_bias.tolist(), 0.25]
    expected[2] = 0.5
    assert after.catalog_bias.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", [{}, {"normalize_items": True, "item_scale": 3.0}], ids=str)
def test_a_catalogue_that_was_changed_live_is_a_start(shape: dict[str, Any]) -> None:
    log = cyclic_log()
    start = trained(log, small_config(**shape))
    live = LiveRecommender(Recommender(start))
    live.upsert(["new"], np.full((1, 8), 0.25, np.float32))
    live.upsert(["item 2"], np.full((1, 8), 0.5, np.float32))
    live.remove(["item 3"])
    live.hide(["item 4"])
    changed = live.current.artifact
    other = with_items(log, [*log.item_ids, "new"])
    model = fit(other, small_config(num_items=NUM_ITEMS + 1, **shape), STILL, start=changed, progress=False).model
    assert torch.equal(model.item_embedding, changed.weights["item_embedding"])
    known = [
        f"item {n}" for n in (0, 1, 4, 5)
    ]  # as inputs of the encoder; "item 2" has another vector only as a candidate
    after = Artifact(model.config, model.export_weights(), ItemTable(other.item_ids))
    assert scores(after, ["item 2", "item 5"], known) == pytest.approx(scores(start, ["item 2", "item 5"], known))


OTHER_SHAPES: list[dict[str, Any]] = [
    {"dim": 16}, {"num_layers": 2}, {"num_heads": 1}, {"block": "transformer"}, {"window": 6}, {"num_long": 1},
    {"short_window": 3}, {"use_times": False}, {"request_time": True}, {"num_time_boundaries": 8}, {"num_actions": 5},
    {"scoring": "multi_interest"}, {"temperature": 0.5}, {"normalize_inputs": True}, {"repeats": True},
]  # fmt: skip


@pytest.mark.parametrize("change", OTHER_SHAPES, ids=str)
def test_another_shape_is_refused_by_name(change: dict[str, Any]) -> None:
    log, config = cyclic_log(), small_config()
    start = Artifact(config, InterestFusionModel(config).export_weights(), ItemTable(log.item_ids))
    ((name, value),) = change.items()
    expected = rf"^{name}: expected {getattr(config, name)!r}, as start has it, got {value!r}$"
    with pytest.raises(ArgumentError, match=expected):
        fit(log, small_config(**change), STILL, start=start, progress=False)
    shape = {field: getattr(config, field) for field in start.config.to_dict() if field != "num_items"}
    with pytest.raises(ArgumentError, match=expected):
        train(log, {**shape, **change}, STILL, start=start, holdout="nothing", progress=False)


def test_a_builder_whose_model_lacks_what_the_start_has_is_refused() -> None:
    class Without(InterestFusionModel):
        def __init__(self, config: ModelConfig, dropout: float = 0.0) -> None:
            super().__init__(config, dropout)
            del self.long_pooling

    log = cyclic_log()
    start = trained(log, small_config(), STILL)
    with pytest.raises(ArtifactError, match=r"weights do not fit the config: [\s\S]*long_pooling"):
        fit(log, small_config(), STILL, build=Without, start=start, progress=False)


def test_a_resumed_run_is_that_of_its_start(tmp_path: pathlib.Path) -> None:
    log, config = cyclic_log(), small_config()
    first, second = (trained(log, config, dataclasses.replace(STILL, seed=seed)) for seed in (1, 2))
    whole = fit(log, config, FAST, start=first, progress=False)

    def resume(start: Artifact | None, epochs: int, folder: pathlib.Path = tmp_path) -> InterestFusionModel:
        part = dataclasses.replace(FAST, epochs=epochs)
        return fit(log, config, part, start=start, checkpoint_dir=folder, resume=True, progress=False).model

    resume(first, 2)
    for other in (second, None):
        with pytest.raises(ArtifactError, match=r"belongs to another run; other values of start$"):
            resume(other, 4)
    assert_same_weights(resume(first, 4), whole.model)
    resume(None, 1, tmp_path / "cold")
    with pytest.raises(ArtifactError, match=r"belongs to another run; other values of start$"):
        resume(first, 2, tmp_path / "cold")


@pytest.fixture(scope="module")
def log() -> EventLog:
    return simulated_shop(80, 30)


@pytest.fixture(scope="module")
def folder(log: EventLog, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("start") / "model"
    train(log, {**SMALL, "window": 7}, SHORT, progress=False).save(path)
    return path


def test_train_takes_over_the_shape_and_says_where_it_began(log: EventLog, folder: pathlib.Path) -> None:
    gone = log.item_ids[4]
    other = with_items(log, ["new", *(item for item in log.item_ids if item != gone)])
    old = Recommender.load(folder)
    models = [train(other, None, SHORT, start=start, progress=False) for start in (folder, f"{folder}/", old)]
    models.append(train(other, {"window": 7, "dim": 8}, SHORT, start=old.artifact, progress=False))
    weights = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    for model, source in zip(models, ["model", "model", None, None], strict=True):
        assert dataclasses.replace(model.config, num_items=30) == old.config
        assert model.artifact.training["start"] == {
            "source": source, "weights_sha256": weights, "kept": 29, "new": 1, "gone": 1, "has_seen_targets": False,
            "has_seen_test_targets": False,
        }  # fmt: skip
        assert gone not in model.items and "new" in model.items
        assert torch.equal(model.catalog.vectors, models[0].catalog.vectors)
    assert "start" not in old.artifact.training
    models[0].save(folder.with_name("next"))
    assert Artifact.load(folder.with_name("next")).training["start"]["kept"] == 29


@pytest.mark.filterwarnings("ignore:lsif reads action types, and the events have none:UserWarning")
def test_events_have_to_have_what_the_start_reads(log: EventLog, folder: pathlib.Path) -> None:
    kinds = np.arange(len(log.items)) % 3
    with_kinds = dataclasses.replace(log, actions=kinds)
    of_kinds = train(with_kinds, SMALL, {"epochs": 1}, progress=False)

    def refused(events: EventLog, start: Any, expected: str, model: dict[str, Any] | None = None) -> None:
        with pytest.raises(ArgumentError, match=f"^start: expected a model with {expected}"):
            train(events, model, {"epochs": 1}, start=start, progress=False)

    refused(
        dataclasses.replace(log, times=None), folder, "use_times False for events without times, got use_times True"
    )
    refused(log, of_kinds, "num_actions 0 for events without action types, got num_actions 2")
    refused(with_kinds, folder, "num_actions 2 or more for the events' action types, got num_actions 0")
    refused(dataclasses.replace(log, actions=kinds + 1), of_kinds, "num_actions 3 or more .*, got num_actions 2")
    for events, start, named in (
        (with_kinds, of_kinds, None),
        (dataclasses.replace(log, actions=kinds // 2), of_kinds, None),  # fewer kinds of events than before
        (log, of_kinds, {"num_actions": 2}),  # as the caller says
        (with_kinds, folder, {"num_actions": 0}),
    ):
        model = train(events, named, {"epochs": 1}, start=start, progress=False)
        assert model.config.num_actions == (2 if start is of_kinds else 0)


def test_fit_takes_what_train_takes(log: EventLog, folder: pathlib.Path) -> None:
    start = Artifact.load(folder)
    config, once = start.config, TrainConfig(epochs=1, batch_size=32, max_len=20)
    models = [fit(log, config, once, start=given).model for given in (start, folder, f"{folder}/", Recommender(start))]
    for model in models:
        assert_same_weights(model, models[0])


@pytest.mark.parametrize("texts", ["in the events", "in start"])
def test_ids_of_start_match_by_their_text(log: EventLog, texts: str) -> None:
    numbered = dataclasses.replace(log, item_ids=np.arange(log.num_items))
    named = dataclasses.replace(log, item_ids=[str(item) for item in range(log.num_items)])
    first, second = (numbered, named) if texts == "in the events" else (named, numbered)
    start = train(first, SMALL, {"epochs": 1}, progress=False)
    after = train(second, None, dataclasses.replace(STILL, batch_size=32), start=start, progress=False)
    assert after.artifact.training["start"]["kept"] == log.num_items
    assert torch.equal(after.catalog.vectors, start.catalog.vectors)
    assert list(after.items.ids) == list(second.item_ids), "ids are those of the events"


def test_what_is_no_start_is_refused(log: EventLog, folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for odd in (3, b"model", {"dim": 8}, LiveRecommender(Recommender.load(folder))):
        with pytest.raises(
            ArgumentTypeError, match=r"^start: expected a model's directory, an Artifact or a Recommender"
        ):
            train(log, None, SHORT, start=odd, progress=False)  # type: ignore[arg-type]
        with pytest.raises(ArgumentTypeError, match=r"^start: expected a model's directory"):
            fit(log, small_config(), start=odd, progress=False)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match=r"a Recommender \(take `current`\), got LiveRecommender$"):
        train(log, None, SHORT, start=LiveRecommender(Recommender.load(folder)), progress=False)  # type: ignore[arg-type]
    numbered = dataclasses.replace(log, item_ids=np.arange(log.num_items))
    renamed = dataclasses.replace(log, item_ids=[f"other {item}" for item in log.item_ids])
    for events, first in ((numbered, "0"), (renamed, "'other sku-1'")):
        with pytest.raises(
            ArgumentError, match=rf"^start: .* knows an item of the events, such as \[{first}\], got \['"
        ):
            train(events, None, SHORT, start=folder, progress=False)
    with pytest.raises(ArtifactError, match="nowhere: no such directory"):
        train(log, None, SHORT, start=tmp_path / "nowhere", progress=False)
    shutil.copytree(folder, tmp_path / "damaged")
    weights = tmp_path / "damaged" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(
        ArtifactError, match=r"damaged/weights.safetensors: changed: its SHA-256 is not the recorded one"
    ):
        train(log, None, SHORT, start=tmp_path / "damaged", progress=False)


@pytest.mark.filterwarnings("ignore:lsif may have been trained on the test targets:UserWarning")  # also from `compare`
def test_a_start_that_knows_the_targets_is_told(log: EventLog) -> None:
    later = dataclasses.replace(log, times=log.times + 10**9)

    def go(events: EventLog, holdout: str, start: Recommender | None = None, **options: Any) -> Recommender:
        return train(events, SMALL, SHORT, holdout=holdout, start=start, **options, progress=False)

    measured, production, whole = (go(log, holdout) for holdout in ("test", "validation", "nothing"))
    with warnings.catch_warnings(action="error"):
        clean = [go(log, "test", measured), go(log, "validation", production), go(log, "validation", measured)]
        clean += [go(log, "nothing", whole), go(later, "test", whole)]
        assert evaluate(clean[0], log, progress=False).num_users
    assert not any(model.artifact.training["start"]["has_seen_targets"] for model in clean)
    assert clean[-1].artifact.training["newest_time"] == later.times.max()
    for holdout, start in (("test", production), ("test", whole), ("validation", whole)):
        with pytest.warns(UserWarning, match="start may have been trained on the targets that this training holds out"):
            knowing = go(log, holdout, start)
        assert knowing.artifact.training["start"]["has_seen_targets"]
        with pytest.warns(UserWarning, match="may have been trained on the test targets"):
            evaluate(knowing, log, progress=False)
        with pytest.warns(UserWarning, match="start may have been trained"):  # the new model inherits this
            assert go(log, holdout, knowing).artifact.training["start"]["has_seen_targets"]
    with pytest.warns(UserWarning, match="start may have been trained"):
        go(log, "test", measured, split="time")
    early = dataclasses.replace(log, times=log.times - 10**8)
    assert go(early, "nothing", whole).artifact.training["newest_time"] == log.times.max()
    untimed = dataclasses.replace(whole.artifact, training=whole.artifact.training | {"newest_time": None})
    knowing = go(early, "nothing", untimed)  # the times of the start's events are unknown
    assert knowing.artifact.training["newest_time"] is None
    with pytest.warns(UserWarning, match="may have been trained on the test targets"):
        evaluate(knowing, later, progress=False)


def test_a_start_that_knows_only_what_stops_the_training_is_told(log: EventLog) -> None:
    split = time_split(log)
    production = train(log.select(log.times < split.test_from), SMALL, SHORT, holdout="nothing", progress=False)
    with pytest.warns(UserWarning, match="start may have been trained on the targets that this training holds out"):
        knowing = train(log, None, SHORT, split="time", start=production, progress=False)
    facts = knowing.artifact.training["start"]
    assert facts["has_seen_targets"] and not facts["has_seen_test_targets"]
    with warnings.catch_warnings(action="error"):
        evaluate(knowing, log, progress=False)
        clean = train(log, SMALL, SHORT, split="time", progress=False)
        again = train(log, None, SHORT, split="time", start=clean, progress=False).artifact.training["start"]
    assert not again["has_seen_targets"]
    with pytest.warns(UserWarning, match="may have been trained on the validation targets"):
        evaluate(knowing, log, target="validation", progress=False)
    with pytest.warns(UserWarning, match="start may have been trained"):  # the next model inherits this
        facts = train(log, None, SHORT, split="time", start=knowing, progress=False).artifact.training["start"]
    assert facts["has_seen_targets"] and not facts["has_seen_test_targets"]
    older = {name: value for name, value in facts.items() if name != "has_seen_test_targets"}
    artifact = dataclasses.replace(knowing.artifact, training={**knowing.artifact.training, "start": older})
    with pytest.warns(UserWarning, match="may have been trained on the test targets"):  # as older records say it
        evaluate(Recommender(artifact), log, progress=False)


def test_the_command_goes_on_from_a_model(
    log: EventLog, folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users = np.repeat(np.asarray(log.user_ids), log.lengths)
    frame = pd.DataFrame({"user": users, "item": np.asarray(log.item_ids)[log.items], "timestamp": log.times})
    frame.to_csv(tmp_path / "events.csv", index=False)
    command = ["train", tmp_path / "events.csv", "--out", tmp_path / "out", "--set", "epochs=1", "--quiet", "--start"]
    code, out, err = run(capsys, *command, folder)
    assert (code, out) == (0, f"wrote {tmp_path / 'out'}\n")
    assert "30 items kept, 0 new, 0 gone; no epoch was better\n1 of at most 1 epochs.\n" in err
    artifact = Artifact.load(tmp_path / "out")
    assert artifact.config.window == 7 and artifact.training["start"]["source"] == "model"
    assert run(capsys, *command, tmp_path / "out", "--overwrite")[0] == 0  # every night in the same place
    facts = json.loads(run(capsys, "inspect", tmp_path / "out", "--json")[1])
    assert facts["training"]["start"]["source"] == "out" and facts["training"]["start"]["kept"] == log.num_items
    loudly = [word for word in command if word != "--quiet"]
    for rate, end in (("1e-12", "; no epoch was better"), ("0.01", "")):
        said = run(capsys, *loudly, folder, "--overwrite", "--set", "epochs=8", "--set", f"learning_rate={rate}")[2]
        assert f"began with model: 30 items kept, 0 new, 0 gone{end}\n" in said
    code, out, err = run(capsys, *command, folder, "--overwrite", "--set", "window=8")
    assert (code, out, err) == (2, "", "lsif train: window: expected 7, as start has it, got 8\n")
    code, out, err = run(capsys, *command, tmp_path / "nowhere", "--overwrite")
    assert (code, out, err) == (2, "", f"lsif train: {tmp_path / 'nowhere'}: no such directory\n")
    train(log, SMALL, SHORT, exclude_seen=False, progress=False).save(tmp_path / "again")
    for options, expected in (((), False), (("--no-include-seen",), True)):
        assert run(capsys, *command, tmp_path / "again", "--overwrite", *options)[0] == 0
        assert Artifact.load(tmp_path / "out").training["exclude_seen"] is expected
    code, out, err = run(capsys, *command, "", "--overwrite")
    assert (code, out, err) == (2, "", "lsif train: --start: expected a model's directory, got ''\n")
    train(log, SMALL, SHORT, holdout="nothing", progress=False).save(tmp_path / "whole")
    code, _, err = run(capsys, *command, tmp_path / "whole", "--overwrite")
    assert code == 0 and err.startswith("lsif train: warning: start may have been trained on the targets")


def test_seen_items_are_left_out_or_not_as_in_the_start(log: EventLog, folder: pathlib.Path) -> None:
    again = train(log, SMALL, SHORT, exclude_seen=False, progress=False)
    for start, given, expected in (
        (again, None, False),
        (again, True, True),
        (folder, None, True),
        (folder, False, False),
        (dataclasses.replace(again.artifact, training={"exclude_seen": "no"}), None, True),
    ):
        once = {"epochs": 1, "batch_size": 32}
        model = train(log, None, once, start=start, holdout="nothing", exclude_seen=given, progress=False)
        assert model.artifact.training["exclude_seen"] is expected
        if given is None:
            begun, config = Artifact.load(start) if isinstance(start, pathlib.Path) else start, model.config
            measured = [
                fit(log, config, STILL, start=begun, validation=following(log), **told, progress=False).best
                for told in ({}, {"exclude_seen": expected}, {"exclude_seen": not expected})
            ]
            assert measured[0] == measured[1] != measured[2]


def test_described_items_are_a_start(log: EventLog) -> None:
    features = np.random.default_rng(0).normal(size=(log.num_items, 4)).astype(np.float32)
    start = train(log, SMALL, SHORT, features=features, progress=False)
    after = train(log, None, dataclasses.replace(STILL, batch_size=32), start=start, progress=False)
    assert torch.equal(after.catalog.vectors, start.catalog.vectors)
    again = train(log, None, SHORT, start=start, features=features, progress=False)
    assert json.dumps(again.artifact.training) and again.artifact.metrics["test"]
