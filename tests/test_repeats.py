"""The torch module's bonus for items of the user's own history (docs/model.md, 5), against the formula per event."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

import native
from lsif_sdk.config import ModelConfig
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.errors import ArgumentError
from lsif_sdk.model import UNKNOWN_TIME, Encoded, InterestFusionModel
from lsif_sdk.model.repeats import RepeatBonus, _distance_bucket, _sums_by_item
from lsif_sdk.training import Targets, TrainConfig, fit
from training_cases import FAST, NUM_ITEMS, small_config
from training_cases import cyclic_log as log_of_pairs

CONFIGS: dict[str, dict[str, Any]] = {
    "times": {},
    "request time": {"request_time": True, "block": "transformer"},
    "no times": {"use_times": False},
    "multi_interest": {"request_time": True, "scoring": "multi_interest", "temperature": 0.5, "normalize_items": True},
}
LENGTHS = (0, 1, 9, 40, 2, 0, 200)


def make_config(name: str) -> ModelConfig:
    return native.make_config(num_items=17, repeats=True, **CONFIGS[name])


def make_model(config: ModelConfig) -> tuple[InterestFusionModel, native.Weights]:
    """A float64 model whose every parameter matters, and its weights."""
    weights = native.random_weights(config)
    return InterestFusionModel.from_weights(config, weights, dtype=torch.float64).eval(), weights


def tensors(batch: native.Batch) -> tuple[torch.Tensor | None, ...]:
    arrays = (batch.items, batch.times, batch.actions, batch.offsets, batch.now)
    return tuple(None if array is None else torch.from_numpy(array) for array in arrays)


def slow_bonus(
    config: ModelConfig, w: native.Weights, items: list[int], times: list[int], now: int, newest: torch.Tensor
) -> dict[int, float]:
    """docs/model.md, section 5, implemented literally."""
    asked = now if config.request_time and now != UNKNOWN_TIME else times[-1]
    gate = float(w["repeats.gate.weight"][0].double() @ newest) + float(w["repeats.gate.bias"])
    sums: dict[int, float] = {}
    for j, (item, time) in enumerate(zip(items, times, strict=True)):
        logit = float(w["repeats.distance"][min(math.ceil(math.log2(len(items) - j)), 15)])
        if config.use_times:
            known = UNKNOWN_TIME not in (asked, time)
            seconds = max(asked - time, 0)
            bucket = 1 + sum(int(b) <= seconds for b in w["time_boundaries"])
            logit += float(w["repeats.age"][bucket if known else 0])
            logit += float(w["repeats.phase"][1 + seconds // 3600 % 168 if known else 0])
        sums[item] = sums.get(item, 0.0) + math.exp(min(logit + gate, 30))
    return {item: math.log1p(total) for item, total in sums.items()}


def without_bonus(encoded: Encoded) -> Encoded:
    return encoded._replace(bonus=None)


@pytest.mark.parametrize("times", ["sorted", "mixed", "unsorted", "unknown"])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_scores_gain_the_bonus_of_the_formula(name: str, times: str) -> None:
    config = make_config(name)
    model, weights = make_model(config)
    batch = native.random_batch(config, LENGTHS, 3, times, "mixed")
    items, stamps, actions, offsets, now = tensors(batch)
    encoded = model.encode(items, stamps, actions, offsets=offsets, now=now)
    gained = model.scores(encoded) - model.scores(without_bonus(encoded))
    for user in range(len(batch)):
        events = slice(batch.offsets[user], batch.offsets[user + 1])
        expected = torch.zeros(17, dtype=torch.float64)
        if LENGTHS[user]:
            newest, history = encoded.interests[user, -1], batch.items[events].tolist()
            found = slow_bonus(config, weights, history, batch.times[events].tolist(), int(batch.now[user]), newest)
            expected[list(found)] = torch.tensor(list(found.values()), dtype=torch.float64)
        torch.testing.assert_close(gained[user], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_forward_gives_every_prefix_its_bonus(name: str) -> None:
    config = make_config(name)
    model, _ = make_model(config)
    batch = native.random_batch(config, (30,), 5)
    items, times, actions, _, now = tensors(batch)
    out = model(items[None], times[None], actions[None], lengths=torch.tensor([30]), now=now)
    scores = model.scores(out)[0]
    for i in range(30):
        following = times[i + 1 : i + 2] if i < 29 else now
        prefix = [column[: i + 1] for column in (items, times, actions)]
        encoded = model.encode(*prefix, offsets=torch.tensor([0, i + 1]), now=following)
        torch.testing.assert_close(scores[i], model.scores(encoded)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scoring", ["fused", "multi_interest"])
@torch.no_grad()
def test_scores_of_candidates_and_targets_are_those_of_the_catalogue(scoring: str) -> None:
    config = native.make_config(num_items=17, repeats=True, scoring=scoring)
    model, _ = make_model(config)
    items, times, actions, offsets, _ = tensors(native.random_batch(config, LENGTHS, 6))
    encoded = model.encode(items, times, actions, offsets=offsets)
    scores = model.scores(encoded)
    candidates = torch.tensor([3, 16, 3, 0, 16, 5, 3])  # drawn negatives occur more than once
    torch.testing.assert_close(model.scores(encoded, candidates), scores[:, candidates])
    for target in range(17):
        targets = torch.full((len(LENGTHS),), target)
        torch.testing.assert_close(model.target_scores(encoded, targets), scores[:, target])


def test_distances_are_rounded_up_to_powers_of_two() -> None:
    distance = torch.arange(-1, 70_000)
    expected = [min(max(int(events), 0).bit_length(), 15) for events in distance]  # ceil(log2(events + 1))
    assert _distance_bucket(distance).tolist() == expected


@pytest.mark.parametrize("gate", [-1e4, 0.0, 20.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_however_strong_the_gate(dtype: torch.dtype, gate: float) -> None:
    config = make_config("request time")
    model = make_model(config)[0].to(dtype)
    with torch.no_grad():
        model.repeats.gate.bias.fill_(gate)
    items, times, actions, offsets, now = tensors(native.random_batch(config, (40, 1, 7), 7))
    scores = model.scores(model.encode(items, times, actions, offsets=offsets, now=now))
    scores.log_softmax(dim=-1)[:, 3].sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
    moved = [bool(p.grad.any()) for name, p in model.named_parameters() if name.startswith("repeats.")]
    assert all(moved) if abs(gate) < 1e3 else not any(moved)  # the clamp has gradient 0, and exp(-10000) is 0


def test_half_precision_neither_overflows_nor_loses_count() -> None:
    config = make_config("no times")
    model = make_model(config)[0].float()
    with torch.no_grad():
        model.repeats.gate.bias.fill_(1e4)  # every event counts exp(30)
    items = torch.full((1, 1001), 2)
    with torch.autocast("cpu", torch.float16), torch.no_grad():
        bonus = model.encode(items[0], offsets=torch.tensor([0, 1001])).bonus
        everywhere = model(items, lengths=torch.tensor([1001])).bonus  # as in training
    assert isinstance(bonus, RepeatBonus) and isinstance(everywhere, RepeatBonus)
    torch.testing.assert_close(everywhere.values[0, -1].sum(), torch.tensor(30 + math.log(1001)), rtol=1e-5, atol=0)
    torch.testing.assert_close(bonus.of(torch.tensor([2])), torch.tensor([30 + math.log(1001)]), rtol=1e-5, atol=0)


def repeating_log():
    """Every user alternates between two items of their own: the next item is the one before the last."""
    log = log_of_pairs(num_users=60, max_length=10)
    pairs = np.random.default_rng(2).permuted(np.tile(np.arange(NUM_ITEMS), (60, 1)), axis=1)[:, :2]
    user = np.repeat(np.arange(60), log.lengths)
    position = np.arange(len(log.items)) - log.offsets[user]
    targets = np.where(log.lengths > 1, pairs[np.arange(60), log.lengths % 2], -1)
    return dataclasses.replace(log, items=pairs[user, position % 2]), Targets(targets, None)


def test_events_older_than_a_training_sequence_count_like_the_oldest_in_one() -> None:
    """Training only sees distances below max_len; serving reads whole histories."""
    log = simulated_shop(40, 15)
    config = ModelConfig(num_items=15, dim=8, num_layers=1, num_heads=2, repeats=True)
    settings = TrainConfig(epochs=1, max_len=8, learning_rate=0.01, time_dropout=0.0)
    with pytest.raises(ArgumentError, match="skip_seen: expected False with repeats"):
        fit(log, config, dataclasses.replace(settings, skip_seen=True), progress=False)
    weights = fit(log, config, settings, progress=False).model.export_weights()
    table = weights["repeats.distance"]
    last = math.ceil(math.log2(settings.max_len))  # the bucket of distance max_len - 1
    assert table[: last + 1].unique().numel() == last + 1
    assert torch.equal(table[last:], table[last].expand(len(table) - last))
    longest = int(log.times.max() - log.times.min())
    unmet = int((weights["time_boundaries"] > longest).nonzero()[0]) + 1
    assert torch.equal(weights["repeats.age"][unmet:], weights["repeats.age"][unmet].expand(66 - unmet))
    assert weights["repeats.age"][unmet] != 0


def test_sums_by_item_are_the_same_for_one_query_and_for_many() -> None:
    torch.manual_seed(1)
    items, values = torch.randint(4, (3, 9)), torch.randn(3, 1, 9, dtype=torch.float64)
    (one,), (many,) = _sums_by_item(items, values), _sums_by_item(items, values.expand(3, 2, 9))
    expected = [[sum(v for i, v in zip(row, part, strict=True) if i == item) for item in row] for row, part in
                zip(items.tolist(), values[:, 0].tolist(), strict=True)]  # fmt: skip
    torch.testing.assert_close(one[:, 0], torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(many[:, 1], one[:, 0])
    (none,) = _sums_by_item(items[:0], values[:0])
    assert none.shape == (0, 1, 9)


def test_training_learns_that_people_come_back() -> None:
    log, targets = repeating_log()
    config = dataclasses.replace(FAST, epochs=6, learning_rate=2e-2, dropout=0.0)
    runs = {}
    for repeats in (False, True):
        model_config = small_config(repeats=repeats)
        runs[repeats] = fit(log, model_config, config, validation=targets, exclude_seen=False, progress=False)
    losses = [epoch["loss"] for epoch in runs[True].epochs]
    assert losses[-1] < 0.7 * losses[0]
    assert losses[-1] < 0.8 * runs[False].epochs[-1]["loss"]
    assert runs[True].best["ndcg@10"] > runs[False].best["ndcg@10"]
    weights = runs[True].model.export_weights()
    assert weights["repeats.distance"][1] > weights["repeats.distance"][0]  # the event before the last counts more
