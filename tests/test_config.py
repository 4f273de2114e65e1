"""ModelConfig and TrainConfig: every field is checked, and refusals name the field."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from lsif_sdk import ModelConfig, _core
from lsif_sdk.config import _SIZES
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.training import TrainConfig

REFUSED = (ArgumentError, ArgumentTypeError)  # a value out of range, or one of another type
HUGE = 10**400  # no float is as large
# More digits than Python converts to text.
ENDLESS = 10**5000


def kind(value: object) -> str:
    return type(value).__name__


def fields_of(config: Any, *kinds: type) -> list[str]:
    return [field.name for field in dataclasses.fields(config) if type(getattr(config, field.name)) in kinds]


MODEL = ModelConfig(num_items=10)
TRAIN = TrainConfig(max_seconds=1.0)


@pytest.mark.parametrize("value", [-1, 2**63, HUGE, ENDLESS, True, 1.0, "4", None, [4], math.nan], ids=kind)
@pytest.mark.parametrize("name", fields_of(MODEL, int))
def test_sizes_of_a_model_are_integers_some_machine_can_hold(name, value):
    with pytest.raises(REFUSED, match=rf"^{name}: expected an integer in \[[01], [0-9]+\], got "):
        dataclasses.replace(MODEL, **{name: value})


@pytest.mark.parametrize(("name", "low", "high"), [(name, *ends) for name, ends in _SIZES.items()])
def test_the_engine_has_the_same_ends_of_the_range(name, low, high):
    """Raw ops accept any integers, from which sizes of states and weights are computed."""
    least = {"num_heads": 1, "num_layers": 1, "num_long": 0, "num_short": 0}
    fields = dataclasses.replace(MODEL, dim=65536, **least).to_dict()
    for value in (low, high):
        assert _core.weight_specs({**fields, name: value})
    for value in (low - 1, high + 1, 2**56 + 1):
        with pytest.raises(ValueError, match=rf"^{name}: expected an integer in \[{low}, {high}\], got {value}$"):
            _core.weight_specs({**fields, name: value})
    with pytest.raises(ValueError, match=r"^num_long \+ num_short: expected at most 255, got 256$"):
        _core.weight_specs({**fields, "num_long": 200, "num_short": 56})


@pytest.mark.parametrize(
    "value",
    [0, -1.0, 1e-40, 1e39, math.inf, math.nan, HUGE, ENDLESS, True, "1", None, [1.0]],
    ids=kind,
)
@pytest.mark.parametrize("name", fields_of(MODEL, float))
def test_numbers_of_a_model_fit_float32(name, value):
    with pytest.raises(REFUSED, match=rf"^{name}: expected a number in \[1\.1754944e-38, 3\.4028235e\+38\], got "):
        dataclasses.replace(MODEL, **{name: value})


def test_the_ends_of_the_range_are_allowed():
    finfo = np.finfo(np.float32)
    for value in (float(finfo.tiny), float(finfo.max), 1, 10**38):
        assert dataclasses.replace(MODEL, temperature=value).temperature == value
    assert dataclasses.replace(MODEL, num_items=2**31 - 1, dim=65536, num_long=200, num_short=55).num_interests == 256


def test_there_are_no_more_interests_than_an_item_is_scored_with_at_once():
    with pytest.raises(REFUSED, match=r"^num_long \+ num_short: expected at most 255, got 256$"):
        dataclasses.replace(MODEL, num_long=128, num_short=128)


@pytest.mark.parametrize("value", [1, "yes", None, np.array([True, False])], ids=kind)
@pytest.mark.parametrize("name", [*fields_of(MODEL, bool), *fields_of(MODEL, str)])
def test_switches_and_choices_of_a_model(name, value):
    expected = "True or False" if isinstance(getattr(MODEL, name), bool) else "one of '"
    with pytest.raises(REFUSED, match=f"^{name}: expected {expected}"):
        dataclasses.replace(MODEL, **{name: value})


@pytest.mark.parametrize("value", [-1, 2**63, HUGE, ENDLESS, True, 1.0, "4", None, [4]], ids=kind)
@pytest.mark.parametrize("name", fields_of(TRAIN, int))
def test_integers_of_a_training_run(name, value):
    with pytest.raises(REFUSED, match=rf"^{name}: expected an integer in \[[01], [0-9]+\], got "):
        dataclasses.replace(TRAIN, **{name: value})


@pytest.mark.parametrize("value", [-1.0, math.nan, HUGE, ENDLESS, True, "abc", [1.0], -math.inf], ids=kind)
@pytest.mark.parametrize("name", fields_of(TRAIN, float))
def test_numbers_of_a_training_run(name, value):
    with pytest.raises(REFUSED, match=rf"^{name}: expected a number (in [\[(]0, .*[\])]|that float64 has), got "):
        dataclasses.replace(TRAIN, **{name: value})


def test_the_ends_of_the_intervals_of_a_training_run():
    allowed = {
        "clip_norm": [math.inf],
        "time_dropout": [0, 1],
        "dropout": [0],
        "weight_decay": [0],
    }
    for name, values in allowed.items():
        for value in values:
            assert getattr(dataclasses.replace(TRAIN, **{name: value}), name) == value
    refused = {"dropout": 1, "learning_rate": 0, "clip_norm": 0.0, "max_seconds": 0}
    for name, value in refused.items():
        with pytest.raises(REFUSED, match=rf"^{name}: expected a number in"):
            dataclasses.replace(TRAIN, **{name: value})
    # They are written to an artifact's config.json after hours of training, and JSON has no infinity.
    for name in ("max_seconds", "learning_rate", "weight_decay"):
        with pytest.raises(REFUSED, match=name):
            dataclasses.replace(TRAIN, **{name: math.inf})


@pytest.mark.parametrize("value", ["32", 32, None, ["32-true"], np.array(["32-true", "64-true"])], ids=kind)
def test_precision_is_one_of_four(value):
    with pytest.raises(REFUSED, match=r"^precision: expected one of '32-true', "):
        dataclasses.replace(TRAIN, precision=value)


@pytest.mark.parametrize("value", [None, 5, "dim", []], ids=kind)
@pytest.mark.parametrize("config", [MODEL, TRAIN], ids=kind)
def test_fields_come_in_a_mapping(config, value):
    expected = f"expected a mapping of (the )?fields of {kind(config)}, got {kind(value)}"
    with pytest.raises(ArgumentTypeError, match=f"^(model config|training): {expected}"):
        type(config).from_dict(value)
    with pytest.raises(ArgumentError, match=r"got unknown \[1, 'x'\]"):
        type(config).from_dict({1: 2, "x": 3})


def test_numbers_of_numpy_become_pythons_own():
    model = ModelConfig(num_items=np.int64(10), dim=np.int32(32), temperature=np.float32(0.5), repeats=np.bool_(True))
    assert model == ModelConfig(num_items=10, dim=32, temperature=0.5, repeats=True)
    train = TrainConfig(epochs=np.int64(3), learning_rate=np.float64(0.25), max_seconds=np.int64(9), clip_norm=math.inf)
    assert train == TrainConfig(epochs=3, learning_rate=0.25, max_seconds=9, clip_norm=math.inf)
    for config in (model, train):
        assert {type(value) for value in vars(config).values()} <= {int, float, bool, str}
