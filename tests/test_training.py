"""lsif_sdk.training: sequences, losses, validation and the trainer, on problems of a few hundred events."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ArtifactError
from lsif_sdk.model import UNKNOWN_TIME, InterestFusionModel
from lsif_sdk.training import Targets, TrainConfig, fit, trainer, validate
from lsif_sdk.training.batches import Sequences
from training_cases import FAST, NUM_ITEMS, all_batches, assert_same_weights, cyclic_log, following, small_config


def test_every_event_but_the_first_is_a_target_once() -> None:
    log = cyclic_log()
    log = dataclasses.replace(log, times=np.arange(len(log.items)))  # the time tells which event it is
    batches = all_batches(Sequences(log, max_len=4, batch_size=5, time_dropout=0.0))
    targets = []
    for batch in batches:
        assert len(batch.lengths) <= 5
        assert batch.times is not None and batch.now is not None and batch.actions is not None
        for row, length in enumerate(batch.lengths.tolist()):
            events = batch.times[row, :length].numpy()
            user = int(np.searchsorted(log.offsets, events[0], side="right")) - 1
            assert length <= 4
            assert (np.diff(events) == 1).all()
            assert batch.start[row] == events[0] - log.offsets[user]
            assert batch.now[row] == events[-1] + 1 < log.offsets[user + 1]
            assert (batch.items[row, :length].numpy() == log.items[events]).all()
            assert (batch.actions[row, :length].numpy() == log.actions[events]).all()
            assert (batch.targets[row, :length].numpy() == log.items[events + 1]).all()
            assert (batch.targets[row, length:] == -1).all()
            targets.extend(events + 1)
    firsts = log.offsets[:-1][log.lengths > 0]
    assert sorted(targets) == sorted(set(range(len(log.items))) - set(firsts.tolist()))
    assert len(batches) == len(Sequences(log, 4, 5, 0.0))


def test_what_was_seen_is_no_target() -> None:
    log = cyclic_log(num_users=40)
    rng = np.random.default_rng(2)
    log = dataclasses.replace(log, items=rng.integers(0, 6, len(log.items)))
    expected = [
        (user, position)
        for user in range(log.num_users)
        for position, event in enumerate(range(log.offsets[user] + 1, log.offsets[user + 1]), 1)
        if log.items[event] not in log.items[log.offsets[user] : event]
    ]
    got = sum(int((batch.targets >= 0).sum()) for batch in all_batches(Sequences(log, 3, 5, 0.0, skip_seen=True)))
    assert got == len(expected) < log.lengths.sum() - log.num_users
    same = dataclasses.replace(log, items=np.zeros_like(log.items))
    with pytest.raises(ArgumentError, match="skip_seen: expected False where all that people come to"):
        Sequences(same, 3, 5, 0.0, skip_seen=True)


def test_time_dropout_hides_whole_sequences() -> None:
    log = cyclic_log(num_users=300)
    hidden = shown = 0
    for batch in all_batches(Sequences(log, max_len=4, batch_size=16, time_dropout=0.4)):
        unknown = batch.times == UNKNOWN_TIME
        assert (unknown.all(dim=1) | ~unknown.any(dim=1)).all()
        assert ((batch.now == UNKNOWN_TIME) == unknown.all(dim=1)).all()
        hidden += int(unknown.all(dim=1).sum())
        shown += int((~unknown.any(dim=1)).sum())
    assert 0.3 < hidden / (hidden + shown) < 0.5


@pytest.mark.parametrize(("per_batch", "exclude_seen"), [(1 << 14, True), (9, True), (1 << 14, False)])
def test_validate_ranks_like_a_sort(per_batch: int, exclude_seen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lsif_sdk.training.validation._EVENTS_PER_BATCH", per_batch)
    torch.manual_seed(5)
    log = cyclic_log(max_length=7)
    model = InterestFusionModel(small_config(request_time=True)).eval()
    now = 2 * 10**6 + 10**6 * np.arange(log.num_users)
    targets = Targets(following(log).items, now)
    targets.items[5:20] = log.items[log.offsets[5:20]]  # consumed again
    gains = []
    for row in np.flatnonzero(targets.items >= 0):
        items, times, actions = (torch.from_numpy(part) for part in log.user(row))
        with torch.no_grad():
            encoded = model.encode(
                items, times, actions, offsets=torch.tensor([0, len(items)]), now=torch.tensor([now[row]])
            )
            scores = model.scores(encoded)[0].tolist()
        listed = [item for item in range(NUM_ITEMS) if not exclude_seen or item not in items.tolist()]
        best = sorted(listed, key=lambda item: -scores[item])
        rank = 1 + best.index(targets.items[row]) if targets.items[row] in best else NUM_ITEMS
        gains.append((1 / np.log2(1 + rank), 1.0, 1 / rank) if rank <= 3 else (0.0, 0.0, 0.0))
    expected = dict(zip(("ndcg@3", "hr@3", "mrr@3"), np.mean(gains, axis=0), strict=True))
    got = validate(model, log, targets, k=3, exclude_seen=exclude_seen)
    assert got == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ArgumentError, match=r"^targets: expected at least one user"):
        validate(model, log, Targets(np.full(log.num_users, -1), None))


@pytest.mark.parametrize(
    "changes", [{}, {"block": "transformer", "scoring": "multi_interest"}, {"normalize_items": True, "item_scale": 3.0}]
)
def test_fit_learns_a_cycle(changes: dict[str, object]) -> None:
    log = cyclic_log(num_users=100, max_length=NUM_ITEMS - 1)  # no user gets back to an item of their history
    config = dataclasses.replace(FAST, epochs=15, learning_rate=2e-2, patience=40, dropout=0.0)
    validation = following(log)
    result = fit(log, small_config(**changes), config, validation=validation, progress=False)
    assert result.epochs[-1]["loss"] < 0.5 * result.epochs[0]["loss"]
    assert result.best["ndcg@10"] > 0.9
    assert not result.model.training
    assert validate(result.model, log, validation)["ndcg@10"] == result.best["ndcg@10"]


def test_fit_without_validation_returns_the_last_epoch() -> None:
    result = fit(cyclic_log(), small_config(), FAST, progress=False)
    assert len(result.epochs) == FAST.epochs
    assert result.best is result.epochs[-1]
    assert set(result.best) == {"epoch", "loss", "seconds"}


def test_seeds_make_runs_reproducible() -> None:
    log = cyclic_log()
    before = torch.get_rng_state()
    first, again = (fit(log, small_config(), FAST, validation=following(log), progress=False) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_weights(first.model, again.model)
    other = fit(log, small_config(), dataclasses.replace(FAST, seed=1), progress=False)
    assert not torch.equal(first.model.item_embedding, other.model.item_embedding)


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in history]


@pytest.mark.parametrize(("with_validation", "repeats"), [(True, False), (False, False), (True, True)])
def test_resumed_run_is_bit_identical(tmp_path: Path, with_validation: bool, repeats: bool) -> None:
    log, model = cyclic_log(), small_config(repeats=repeats)
    validation = following(log) if with_validation else None
    whole = fit(log, model, FAST, validation=validation, progress=False)
    for epochs in (1, 3, 4):
        part = dataclasses.replace(FAST, epochs=epochs)
        resumed = fit(log, model, part, validation=validation, checkpoint_dir=tmp_path, resume=True, progress=False)
        assert len(resumed.epochs) == epochs
    assert_same_weights(whole.model, resumed.model)
    assert without_seconds(resumed.epochs) == without_seconds(whole.epochs)
    assert [path.name for path in tmp_path.iterdir()] == [trainer.CHECKPOINT_NAME]
    torch.load(tmp_path / trainer.CHECKPOINT_NAME, weights_only=True)
    with pytest.raises(ArgumentError, match="checkpoint_dir: expected a folder without a checkpoint, or resume=True"):
        fit(log, model, part, validation=validation, checkpoint_dir=tmp_path, progress=False)
    fewer = dataclasses.replace(FAST, epochs=2)
    with pytest.raises(ArgumentError, match="epochs: expected at least 4, which the checkpoint has behind it, got 2"):
        fit(log, model, fewer, validation=validation, checkpoint_dir=tmp_path, resume=True, progress=False)


def test_a_limit_of_time_counts_from_the_start_of_each_run(tmp_path: Path) -> None:
    log, hasty = cyclic_log(), dataclasses.replace(FAST, epochs=4, max_seconds=1e-6)
    for epochs in (1, 2, 3):
        result = fit(log, small_config(), hasty, checkpoint_dir=tmp_path, resume=True, progress=False)
        assert len(result.epochs) == epochs
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match="checkpoint_dir: expected a folder, or a path where one can be made"):
        fit(log, small_config(), hasty, checkpoint_dir=tmp_path / "file", progress=False)


def test_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    log, path = cyclic_log(), tmp_path / trainer.CHECKPOINT_NAME

    def resume(config: TrainConfig) -> None:
        fit(log, small_config(), config, checkpoint_dir=tmp_path, resume=True, progress=False)

    resume(FAST)
    with pytest.raises(ArtifactError, match="learning_rate"):
        resume(dataclasses.replace(FAST, learning_rate=1e-3))
    state = torch.load(path, weights_only=True)
    torch.save(state | {"version": state["version"] - 1}, path)  # all else agrees, but its weights have another meaning
    with pytest.raises(
        ArtifactError, match=f"expected checkpoint version {state['version']}, got {state['version'] - 1}"
    ):
        resume(FAST)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ArtifactError, match="checkpoint"):
        resume(FAST)
    torch.save({"something": 1}, path)
    with pytest.raises(ArtifactError, match="checkpoint"):
        resume(FAST)


def test_early_stopping_keeps_the_best_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([0.1, 0.3, 0.2, 0.3, 0.25, 0.9])
    states = []

    def fake(model: InterestFusionModel, *_: object, **__: object) -> dict[str, float]:
        states.append(model.item_embedding.detach().clone())
        return {"ndcg@10": next(measured)}

    monkeypatch.setattr(trainer, "validate", fake)
    log = cyclic_log()
    config = dataclasses.replace(FAST, epochs=50, patience=3)
    result = fit(log, small_config(), config, validation=following(log), progress=False)
    assert len(result.epochs) == 5
    assert result.best["epoch"] == 2
    assert torch.equal(result.model.item_embedding, states[1])


def test_time_budget_stops_training() -> None:
    config = dataclasses.replace(FAST, epochs=10**6, max_seconds=1e-6)
    assert len(fit(cyclic_log(), small_config(), config, progress=True).epochs) == 1


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions_train(precision: str) -> None:
    config = dataclasses.replace(FAST, precision=precision, epochs=8)
    result = fit(cyclic_log(), small_config(request_time=True), config, progress=False)
    assert result.epochs[-1]["loss"] < result.epochs[0]["loss"]


def test_fit_refuses_what_does_not_fit() -> None:
    log = cyclic_log()
    no_times = dataclasses.replace(log, times=None)
    short = log.select(np.isin(np.arange(len(log.items)), log.offsets[:-1]))
    for arguments, word in (
        ((log, small_config(num_items=NUM_ITEMS - 1)), "num_items"),
        ((no_times, small_config(request_time=True)), "request_time"),
        ((log, small_config(num_actions=1)), "num_actions"),
        ((short, small_config()), "log"),
    ):
        with pytest.raises(ArgumentError, match=word):
            fit(*arguments, FAST, progress=False)
    with pytest.raises(ArgumentError, match="validation"):
        fit(log, small_config(), FAST, validation=(np.zeros(3, dtype=np.int64), None), progress=False)
    nobody = Targets(np.full(log.num_users, -1), None)
    with pytest.raises(ArgumentError, match="validation: expected at least one user"):
        fit(log, small_config(), FAST, validation=nobody, progress=False)
    with pytest.raises(ArgumentError, match="checkpoint_dir"):
        fit(log, small_config(), FAST, resume=True, progress=False)
    with pytest.raises(ArgumentError, match="learning_rate"):
        fit(log, small_config(), dataclasses.replace(FAST, learning_rate=1e30, clip_norm=float("inf")), progress=False)


NO_TARGETS = [
    (5, ": expected a pair of items and times, .* got int 5"),
    ((1, 2, 3), ": expected a pair of items and times, .* got tuple"),
    ("ab", ": expected a pair of items and times, .* got str 'ab'"),
    ((None, None), r"\[0\]: expected a sequence of whole numbers, got NoneType"),
    ((["a"] * 40, None), r"\[0\]: expected whole numbers, got str 'a'"),
    ((np.full(40, 0.5), None), r"\[0\]: expected whole numbers, got 0\.5 at position 0"),
    ((np.full(40, NUM_ITEMS), None), r"\[0\]: expected item rows in \[0, 12\), -1 for none, got 12 to 12"),
    ((np.full(40, -2), None), r"\[0\]: expected item rows in \[0, 12\), -1 for none, got -2 to -2"),
    ((np.ones(40, int), [1]), r": expected arrays of 40 users, got \[\[40\], \[1\]\]"),
]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({"log": odd}, f"log: expected an EventLog, .* got {type(odd).__name__}") for odd in (None, 5, {})),
        *(({"model_config": odd}, "model_config: expected a ModelConfig, got ") for odd in (None, 5, {})),
        *(({"train_config": odd}, "train_config: expected a TrainConfig or None, got ") for odd in (5, {})),
        ({"exclude_seen": 5}, "exclude_seen: expected True or False, got int 5"),
        ({"build": 5}, "build: expected a class of models, .* got int 5"),
        ({"checkpoint_dir": 5}, "checkpoint_dir: expected a folder's path, got int 5"),
        ({"checkpoint_dir": "\0"}, "checkpoint_dir: expected a folder, or a path where one can be made, got "),
        *(({"validation": odd}, "validation" + message) for odd, message in NO_TARGETS),
    ],
)
def test_fit_names_what_is_of_another_type(changes: dict[str, Any], message: str) -> None:
    good = {"log": cyclic_log(), "model_config": small_config(), "train_config": FAST}
    with pytest.raises((ArgumentError, ArgumentTypeError), match=f"^{message}"):
        fit(**{**good, **changes}, progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({"model": odd}, "model: expected an InterestFusionModel, got ") for odd in (None, 5)),
        *(({"log": odd}, "log: expected an EventLog, .* got ") for odd in (None, 5)),
        ({"exclude_seen": 5}, "exclude_seen: expected True or False, got int 5"),
        *(({"targets": odd}, "targets" + message) for odd, message in [*NO_TARGETS, (None, ": expected a pair")]),
    ],
)
def test_validate_names_what_it_cannot_rank(changes: dict[str, Any], message: str) -> None:
    log = cyclic_log()
    good = {"model": InterestFusionModel(small_config()).eval(), "log": log, "targets": following(log)}
    with pytest.raises((ArgumentError, ArgumentTypeError), match=f"^{message}"):
        validate(**{**good, **changes})
    listed = tuple(None if part is None else part.tolist() for part in following(log))
    assert validate(**{**good, "targets": listed}) == validate(**good)


def test_train_config_round_trip_and_ranges() -> None:
    config = dataclasses.replace(FAST, clip_norm=float("inf"), max_seconds=3.5)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict(), allow_nan=False))) == config
    assert TrainConfig.from_dict({}) == TrainConfig()
    for change in ({"epochs": 0}, {"dropout": 1.0}, {"learning_rate": 0.0}, {"precision": "8"}, {"seed": True},
                   {"max_seconds": -1.0}, {"learning_rate": float("nan")}, {"speed": 1}):  # fmt: skip
        with pytest.raises((ArgumentError, ArgumentTypeError), match=next(iter(change))):
            TrainConfig.from_dict(change)


def test_trainings_in_threads_are_those_alone() -> None:
    log = cyclic_log()
    config = dataclasses.replace(FAST, epochs=2)
    alone = fit(log, small_config(), config, progress=False)
    before = torch.get_rng_state()
    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(lambda _: fit(log, small_config(), config, progress=False), range(6)))
    assert torch.equal(torch.get_rng_state(), before)
    for result in results:
        assert_same_weights(result.model, alone.model)


def test_weights_that_diverge_are_named() -> None:
    config = dataclasses.replace(FAST, learning_rate=1e38, clip_norm=float("inf"))
    for validation in (None, following(cyclic_log())):
        with pytest.raises(
            ArgumentError, match=r"^learning_rate: expected a value with which .* finite, got 1e\+38 \(ep"
        ):
            fit(cyclic_log(), small_config(), config, validation=validation, progress=False)
