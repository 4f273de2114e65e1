"""All settings of a training run except the model's hyper-parameters."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

from lsif_sdk.arguments import FLOAT32_MAX, as_choice, as_flag, as_integer, as_number, as_seed
from lsif_sdk.config import ModelConfig
from lsif_sdk.errors import ArgumentError, ArgumentTypeError

__all__ = ["MODEL_FIELDS", "LossName", "Precision", "Schedule", "TrainConfig", "meant"]

MODEL_FIELDS = {field.name for field in dataclasses.fields(ModelConfig)} - {"num_items"}
# field: (lowest, highest)
_INTEGERS = {
    "epochs": (1, 2**31 - 1),
    "batch_size": (1, 2**31 - 1),
    "warmup_steps": (0, 2**31 - 1),
    "max_len": (1, 2**31 - 1),
    "patience": (1, 2**31 - 1),
    "num_negatives": (1, 2**31 - 1),
}
Precision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]
Schedule = Literal["constant", "cosine"]
LossName = Literal["softmax", "binary"]
_CHOICES = {"precision": get_args(Precision), "schedule": get_args(Schedule), "loss": get_args(LossName)}
# field: (lowest, highest, brackets that say whether they are included)
_NUMBERS = {
    "learning_rate": (0.0, FLOAT32_MAX, "(]"),
    "repeats_rate": (0.0, FLOAT32_MAX, "(]"),
    "clip_norm": (0.0, math.inf, "(]"),
    "weight_decay": (0.0, FLOAT32_MAX, "[]"),
    "dropout": (0.0, 1.0, "[)"),
    "time_dropout": (0.0, 1.0, "[]"),
    "averaging": (0.0, 1.0, "[)"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained.

    Args:
        epochs: the most passes over the data.
        batch_size: sequences per step.
        learning_rate: learning rate of AdamW after the warm-up.
        repeats_rate: factor on `learning_rate` for the few weights of `ModelConfig.repeats`. These are logarithms
            shared by all users, which at the rate of embeddings would not converge before those overfit
            (docs/quality_trials.md).
        weight_decay: weight decay of AdamW, on matrices and embeddings; biases, norms, decay rates and `repeats` have
            none.
        warmup_steps: steps over which the learning rate rises linearly from 0.
        clip_norm: limit on the norm of the gradient; infinity = none.
        dropout: probability on embedded events, residual branches and pooled interests.
        time_dropout: probability that a sequence is trained with all its times unknown, so that the model can also
            serve events without times.
        max_len: the most events of a training sequence; a longer history becomes several sequences.
        num_negatives: sampled items per step, for "binary" and for catalogues too large for the full softmax.
        patience: validations without a better NDCG@10 before training stops.
        max_seconds: stop after the first epoch that ends later than this; a resumed run counts from 0. None = no limit.
        seed: random seed.
        precision: Lightning Fabric's name of the number format: "32-true", "bf16-mixed", "16-mixed" or "64-true".
        schedule: schedule of the learning rate: "constant", or "cosine": times (1 + cos(pi s / S)) / 2 at step
            s = 0, 1, .. of the S steps of all `epochs`, including the warm-up. Early stopping then stops at a high
            rate.
        loss: "softmax" or "binary"; see `lsif_sdk.training.losses.NextEventLoss`.
        averaging: decay per step of a moving average of the weights, which is validated and returned in their place
            (Polyak and Juditsky 1992); about 1 / (1 - averaging) steps count. 0 = the weights themselves.
        skip_ties: do not train on targets with the same time as the event before, since the order within a basket
            carries no information. They stay part of the history. Needs events with times.
        skip_seen: do not train on targets that the user had before, and leave items of the user's history out of the
            softmax, full or sampled: for models that never recommend them. Not with `repeats`.

    Raises:
        ArgumentError: a value is out of range; the message names the field.
        ArgumentTypeError: a value is of the wrong type.
    """

    epochs: int = 200
    batch_size: int = 64
    learning_rate: float = 1e-3
    repeats_rate: float = 10.0
    weight_decay: float = 0.0
    warmup_steps: int = 50
    clip_norm: float = 1.0
    dropout: float = 0.3
    time_dropout: float = 0.1
    max_len: int = 200
    num_negatives: int = 4096
    patience: int = 10
    max_seconds: float | None = None
    seed: int = 0
    precision: Precision = "32-true"
    schedule: Schedule = "constant"
    loss: LossName = "softmax"
    averaging: float = 0.0
    skip_ties: bool = False
    skip_seen: bool = False

    def __post_init__(self) -> None:
        for name, (least, most) in _INTEGERS.items():
            object.__setattr__(self, name, as_integer(name, getattr(self, name), least, most))
        object.__setattr__(self, "seed", as_seed(self.seed))
        for name, (low, high, brackets) in _NUMBERS.items():
            object.__setattr__(self, name, as_number(name, getattr(self, name), low, high, brackets))
        if self.max_seconds is not None:
            object.__setattr__(self, "max_seconds", as_number("max_seconds", self.max_seconds, 0.0, FLOAT32_MAX, "(]"))
        for name in ("skip_ties", "skip_seen"):
            object.__setattr__(self, name, as_flag(name, getattr(self, name)))
        for name, choices in _CHOICES.items():
            object.__setattr__(self, name, as_choice(name, getattr(self, name), choices))

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values (an infinite `clip_norm` as None)."""
        values = dataclasses.asdict(self)
        return {**values, "clip_norm": None if math.isinf(self.clip_norm) else self.clip_norm}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The inverse of `to_dict`; missing fields have their defaults, unknown ones are refused by name.

        Raises:
            ArgumentError: a field is unknown or out of range.
            ArgumentTypeError: a field is of the wrong type, or `values` is not a mapping.
        """
        if not isinstance(values, Mapping):
            raise ArgumentTypeError("training", f"a mapping of fields of {cls.__name__}", values)
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known, key=str):
            hint = "; that belongs to model" if set(unknown) <= MODEL_FIELDS else ""
            expected = f"fields of {cls.__name__} ({', '.join(sorted(known))})"
            raise ArgumentError("training", expected, f"unknown {unknown}{hint or meant(unknown[0], known)}")
        clip_norm = values.get("clip_norm", cls.clip_norm)
        return cls(**{**values, "clip_norm": math.inf if clip_norm is None else clip_norm})


def meant(name: object, fields: Collection[str]) -> str:
    """For messages: the field name most similar to an unknown one, in brackets, or ""."""
    near = difflib.get_close_matches(str(name).lower(), fields, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
