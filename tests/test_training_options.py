"""The options of `fit`: schedule, binary loss, another builder, validation with seen items, and when it may resume."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lsif_sdk.config import ModelConfig
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ArtifactError
from lsif_sdk.model import InterestFusionModel
from lsif_sdk.training import EventLog, Targets, TrainConfig, fit, losses, validate
from lsif_sdk.training.batches import Batch, Sequences
from lsif_sdk.training.losses import NextEventLoss
from training_cases import FAST, NUM_ITEMS, assert_same_weights, cyclic_log, following, small_config

COSINE = dataclasses.replace(FAST, schedule="cosine")


def recorded_rates(monkeypatch: pytest.MonkeyPatch, config: TrainConfig) -> list[float]:
    """The learning rate of each optimizer step; the weights of `repeats` have a multiple of it."""
    rates = []
    step = torch.optim.AdamW.step

    def recording(self: torch.optim.AdamW, *arguments: Any, **options: Any) -> Any:
        *others, of_repeats = [group["lr"] for group in self.param_groups]
        (rate,) = set(others)
        assert of_repeats == config.repeats_rate * rate
        rates.append(rate)
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", recording)
    fit(cyclic_log(), small_config(repeats=True), config, exclude_seen=False, progress=False)
    return rates


def test_cosine_is_a_factor_from_one_towards_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 4 * len(Sequences(cyclic_log(), FAST.max_len, FAST.batch_size, 0.0))
    warm_up = [min(1.0, (s + 1) / 4) * 5e-3 for s in range(steps)]
    assert recorded_rates(monkeypatch, FAST) == pytest.approx(warm_up)
    rates = recorded_rates(monkeypatch, COSINE)
    assert rates == pytest.approx([w * (1 + math.cos(math.pi * s / steps)) / 2 for s, w in enumerate(warm_up)])
    assert 0 < rates[-1] < 0.02 * 5e-3


def test_the_bonus_of_own_items_has_a_rate_of_its_own_and_no_decay() -> None:
    """Adam's first step equals the learning rate, whatever the gradient, in each weight that has a gradient."""
    config = dataclasses.replace(
        FAST, epochs=1, batch_size=1000, warmup_steps=0, dropout=0.0, repeats_rate=7.0, weight_decay=0.5
    )
    trained = fit(cyclic_log(), small_config(repeats=True), config, exclude_seen=False, progress=False).model
    torch.manual_seed(config.seed)
    untrained = dict(InterestFusionModel(small_config(repeats=True), 0.0).named_parameters())
    moved = {name: (value - untrained[name]).detach() for name, value in trained.named_parameters()}
    of_bonus = {name: change for name, change in moved.items() if name.startswith("repeats.")}
    assert {"repeats.gate.weight", "repeats.gate.bias", "repeats.distance_steps"} <= set(of_bonus)
    for name, change in of_bonus.items():
        assert change.abs().max().item() == pytest.approx(7 * config.learning_rate, rel=1e-3), name
    decay = config.learning_rate * config.weight_decay * untrained["item_embedding"].detach()
    assert (moved["item_embedding"] + decay).abs().max().item() == pytest.approx(config.learning_rate, rel=1e-3)


def binary_loss(scoring: str, num_negatives: int) -> tuple[NextEventLoss, Batch]:
    torch.manual_seed(3)
    log = cyclic_log()
    model = InterestFusionModel(small_config(scoring=scoring)).to(torch.float64).eval()
    batch = next(Sequences(log, max_len=6, batch_size=16, time_dropout=0.0).batches(np.random.default_rng(0)))
    skewed = 1000 * np.arange(NUM_ITEMS)  # counts must not matter: negatives are drawn uniformly
    return NextEventLoss(model, skewed, num_negatives, "binary"), batch


@pytest.mark.parametrize("scoring", ["fused", "multi_interest"])
def test_binary_loss_is_its_formula(scoring: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, batch = binary_loss(scoring, num_negatives=7)
    torch.manual_seed(8)
    negatives = [int(draw * NUM_ITEMS) for draw in torch.rand(7, dtype=torch.float64).tolist()]
    terms = []
    with torch.no_grad():
        encoded = loss.model(
            batch.items, batch.times, batch.actions, lengths=batch.lengths, start=batch.start, now=batch.now
        )
        for row, position in (batch.targets >= 0).nonzero().tolist():
            scores = loss.model.scores(encoded.select((row, position))).tolist()
            probability = [1 / (1 + math.exp(-score)) for score in scores]
            right = -math.log(probability[int(batch.targets[row, position])])
            terms.append(right - sum(math.log(1 - probability[item]) for item in negatives) / 7)
    torch.manual_seed(8)
    assert loss(batch).item() == pytest.approx(sum(terms) / len(terms), rel=1e-10)
    monkeypatch.setattr(losses, "_LOGITS_PER_CHUNK", 100)
    monkeypatch.setattr(losses, "_KEPT_LOGITS", 1)
    torch.manual_seed(8)
    assert loss(batch).item() == pytest.approx(sum(terms) / len(terms), rel=1e-10)


def test_many_binary_negatives_stand_for_the_mean_over_the_catalogue() -> None:
    loss, batch = binary_loss("fused", num_negatives=200_000)
    with torch.no_grad():
        valid = batch.targets >= 0
        encoded = loss.model(
            batch.items, batch.times, batch.actions, lengths=batch.lengths, start=batch.start, now=batch.now
        ).select(valid)
        scores = loss.model.scores(encoded)
        right = torch.nn.functional.softplus(-scores.gather(1, batch.targets[valid][:, None])).mean()
        wrong = torch.nn.functional.softplus(scores)
        torch.manual_seed(0)
        # One draw deviates by at most the range of the items' mean terms. Tolerance: five standard errors of the mean.
        tolerance = 5 * float(wrong.mean(dim=0).max() - wrong.mean(dim=0).min()) / math.sqrt(200_000)
        assert abs(float(loss(batch) - right - wrong.mean())) < tolerance < 0.05


def test_binary_training_learns_a_cycle() -> None:
    log = cyclic_log(num_users=100, max_length=NUM_ITEMS - 1)
    config = dataclasses.replace(FAST, loss="binary", epochs=6, learning_rate=2e-2, dropout=0.0)
    result = fit(log, small_config(), config, validation=following(log), progress=False)
    assert result.best["ndcg@10"] > 0.8  # untrained: 0.6


class Other(InterestFusionModel):
    def __init__(self, config: ModelConfig, dropout: float) -> None:
        super().__init__(config, dropout)
        self.extra = torch.nn.Parameter(torch.zeros(3))


def test_the_builder_makes_the_model_from_config_dropout_and_seed(tmp_path: Path) -> None:
    log, asked = cyclic_log(), []

    def build(config: ModelConfig, dropout: float) -> InterestFusionModel:
        asked.append((config, dropout))
        return InterestFusionModel(config, dropout)

    built = fit(log, small_config(), FAST, build=build, progress=False)
    assert asked == [(small_config(), FAST.dropout)]
    assert_same_weights(built.model, fit(log, small_config(), FAST, progress=False).model)
    other = fit(log, small_config(), FAST, build=Other, checkpoint_dir=tmp_path, progress=False)
    assert isinstance(other.model, Other) and "extra" in other.model.state_dict()
    with pytest.raises(ArtifactError, match="other values of modules, parameters"):
        fit(log, small_config(), FAST, checkpoint_dir=tmp_path, resume=True, progress=False)


def test_validation_keeps_seen_items_where_people_consume_again() -> None:
    log = cyclic_log(max_length=3)
    again = Targets(np.array([log.user(row).items[-1] if log.lengths[row] else -1 for row in range(40)]), None)
    kept = fit(log, small_config(), FAST, validation=again, exclude_seen=False, progress=False)
    assert kept.best["ndcg@10"] == validate(kept.model, log, again, exclude_seen=False)["ndcg@10"] > 0
    masked = fit(log, small_config(), FAST, validation=again, progress=False)
    assert {entry["ndcg@10"] for entry in masked.epochs} == {0.0}  # every target is a seen item, so all are misses


def test_a_resumed_cosine_run_is_bit_identical(tmp_path: Path) -> None:
    log = cyclic_log()
    whole = fit(log, small_config(), COSINE, progress=False)
    first = dataclasses.replace(COSINE, max_seconds=1e-9)  # ends after one epoch
    assert len(fit(log, small_config(), first, checkpoint_dir=tmp_path, progress=False).epochs) == 1
    resumed = fit(log, small_config(), COSINE, checkpoint_dir=tmp_path, resume=True, progress=False)
    assert len(resumed.epochs) == COSINE.epochs
    assert_same_weights(whole.model, resumed.model)


def changed(values: np.ndarray, position: int) -> np.ndarray:
    return np.where(np.arange(len(values)) == position, (values + 1) % NUM_ITEMS, values)


def moved_offset(log: EventLog) -> EventLog:
    """The same events, but the second user's last one belongs to the third."""
    return dataclasses.replace(log, offsets=log.offsets - (np.arange(len(log.offsets)) == 2))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"log": lambda log: dataclasses.replace(log, items=changed(log.items, 7))}, "events"),
        ({"log": lambda log: dataclasses.replace(log, times=log.times + 1)}, "events"),
        ({"log": lambda log: dataclasses.replace(log, times=None)}, "events"),
        ({"log": lambda log: dataclasses.replace(log, actions=log.actions // 2)}, "events"),
        ({"log": moved_offset}, "events"),
        ({"validation": lambda targets: Targets(changed(targets.items, 3), None)}, "validation"),
        ({"validation": lambda targets: Targets(targets.items, np.zeros(40, np.int64))}, "validation"),
        ({"validation": lambda targets: None}, "validation"),
        ({"exclude_seen": lambda seen: not seen}, "exclude_seen"),
        ({"config": lambda config: dataclasses.replace(config, epochs=5)}, "epochs"),
        ({"config": lambda config: dataclasses.replace(config, schedule="constant")}, "schedule"),
        ({"config": lambda config: dataclasses.replace(config, loss="binary")}, "loss"),
    ],
)
def test_a_run_on_other_data_or_settings_does_not_resume(tmp_path: Path, change: Any, word: str) -> None:
    config = dataclasses.replace(COSINE, epochs=1)
    arguments = {"log": cyclic_log(), "config": config, "validation": following(cyclic_log()), "exclude_seen": True}

    def run(log: EventLog, config: TrainConfig, **options: Any) -> None:
        fit(log, small_config(), config, **options, checkpoint_dir=tmp_path, resume=True, progress=False)

    run(**arguments)
    run(**arguments)
    with pytest.raises(ArtifactError, match=rf"other values of .*\b{word}\b"):
        run(**{name: change.get(name, lambda value: value)(value) for name, value in arguments.items()})


def test_unknown_schedules_and_losses_are_refused() -> None:
    for change, message in (
        ({"schedule": "linear"}, "schedule: expected one of 'constant', 'cosine', got 'linear'"),
        ({"loss": "hinge"}, "loss: expected one of 'softmax', 'binary', got 'hinge'"),
    ):
        with pytest.raises(ArgumentError, match=message):
            TrainConfig(**change)


AVERAGED = dataclasses.replace(FAST, averaging=0.75)


def test_averaging_returns_the_moving_average_of_the_weights_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The average starts from the weights after the first step: w <- 0.75 w + 0.25 (weights)."""
    averages: dict[int, torch.Tensor] = {}
    step = torch.optim.AdamW.step

    def recording(self: torch.optim.AdamW, *arguments: Any, **options: Any) -> Any:
        result = step(self, *arguments, **options)
        for group in self.param_groups:
            for parameter in group["params"]:
                old = averages.get(id(parameter))
                new = parameter.detach().double()
                averages[id(parameter)] = new if old is None else 0.75 * old + 0.25 * new
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", recording)
    trained = fit(cyclic_log(), small_config(), AVERAGED, progress=False).model
    expected = {tuple(average.shape): [] for average in averages.values()}
    for average in averages.values():
        expected[tuple(average.shape)].append(average)
    for value in trained.parameters():
        # A step rounds by half an ulp of the largest weight; later steps shrink that by 0.75: in total 1 / (1 - 0.75).
        close = [
            torch.allclose(value.double(), other, rtol=0, atol=4 * 2**-23 * float(other.abs().max()))
            for other in expected[value.shape]
        ]
        assert any(close)
    plain = fit(cyclic_log(), small_config(), FAST, progress=False).model
    assert not torch.equal(plain.item_embedding, trained.item_embedding)


def test_an_averaged_run_resumes_bit_by_bit(tmp_path: Path) -> None:
    log, config = cyclic_log(), small_config()
    whole = fit(log, config, AVERAGED, validation=following(log), progress=False)
    fit(log, config, dataclasses.replace(AVERAGED, epochs=2), validation=following(log), checkpoint_dir=tmp_path)
    resumed = fit(log, config, AVERAGED, validation=following(log), checkpoint_dir=tmp_path, resume=True)
    assert_same_weights(whole.model, resumed.model)


def targets_of(log: EventLog, max_len: int = 4) -> list[tuple[int, int]]:
    """(item before, target) of every training position of one epoch."""
    pairs = []
    for batch in Sequences(log, max_len, 3, 0.0, skip_ties=True).batches(np.random.default_rng(0)):
        assert (batch.targets >= 0).any()
        for row, position in (batch.targets >= 0).nonzero().tolist():
            pairs.append((int(batch.items[row, position]), int(batch.targets[row, position])))
    return sorted(pairs)


def test_targets_at_the_time_of_the_event_before_are_skipped_and_no_others() -> None:
    histories = [[0, 1, 2, 3, 4, 5, 6], [7, 8], [9], [10, 11]]
    times = [[1, 1, 2, 2, 2, 3, 3], [3, 4], [4], [5, 5]]
    log = EventLog(
        user_ids=np.arange(4),
        item_ids=np.arange(12),
        offsets=np.cumsum([0, 7, 2, 1, 2]),
        items=np.concatenate(histories),
        times=np.concatenate(times),
    )
    for max_len in (1, 2, 4, 9):
        assert targets_of(log, max_len) == [(1, 2), (4, 5), (7, 8)]


def test_ties_need_times_and_something_left() -> None:
    log = cyclic_log()
    with pytest.raises(ArgumentError, match="skip_ties: expected False for events without times"):
        fit(dataclasses.replace(log, times=None), small_config(use_times=False), ties(), progress=False)
    with pytest.raises(ArgumentError, match="skip_ties: expected False where no event"):
        fit(dataclasses.replace(log, times=np.zeros_like(log.times)), small_config(), ties(), progress=False)
    with pytest.raises(ArgumentTypeError, match="skip_ties: expected True or False, got int 1"):
        dataclasses.replace(FAST, skip_ties=1)


def ties() -> TrainConfig:
    return dataclasses.replace(FAST, skip_ties=True)
