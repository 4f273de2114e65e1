"""Hyper-parameters of a model, with the same names in config.json, Python and C++."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from lsif_sdk.arguments import FLOAT32_MAX, FLOAT32_TINY, as_choice, as_flag, as_integer, as_number
from lsif_sdk.errors import ArgumentError, ArgumentTypeError

__all__ = ["ModelConfig"]

_CHOICES = {
    "block": ("hstu", "transformer"),
    "activation": ("relu", "gelu", "silu"),
    "scoring": ("fused", "multi_interest"),
}
_MAX_DIM = 65536  # of the engine's integer codes
_MAX_INTERESTS = 256  # the engine scores an item with at once
# field: (lowest, highest): limits of the engine, or values that no machine can train or no history reaches.
_SIZES = {
    "num_items": (1, 2**31 - 1),
    "dim": (1, _MAX_DIM),
    "num_layers": (1, 1024),
    "num_heads": (1, _MAX_DIM),
    "ffn_dim": (1, 2**20),
    "window": (1, 2**20),
    "num_long": (0, _MAX_INTERESTS - 1),
    "num_short": (0, _MAX_INTERESTS - 1),
    "short_window": (1, 2**20),
    "pooling_dim": (1, _MAX_DIM),
    "fusion_dim": (1, _MAX_DIM),
    "num_time_boundaries": (1, _MAX_DIM),
    "num_actions": (0, 2**20),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape and behaviour of an interest-fusion model; docs/model.md has the formula behind every field.

    Args:
        num_items: catalogue rows the model was trained on.
        dim: width d of events, states, interests and item vectors.
        num_layers: blocks N.
        num_heads: attention heads H; must divide `dim`.
        block: "hstu" (pointwise SiLU attention, gated) or "transformer" (softmax attention and feed-forward).
        activation: activation of the feed-forward in "transformer" blocks: "relu", "gelu" or "silu".
        ffn_dim: hidden width of that feed-forward.
        window: how many events a position attends to in each layer, itself included.
        num_long: number m of long-term interests, pooled over all events.
        num_short: number n of pooled short-term interests; the newest state is one more.
        short_window: how many of the newest states the short-term pooling reads.
        pooling_dim: hidden width of both poolings.
        fusion_dim: hidden width of the fusion.
        use_times: attention has a time bias and long-term interests decay with age.
        request_time: positions know the time of the next event (`now` for the newest); needs `use_times`.
        num_time_boundaries: number of boundaries between time buckets.
        num_actions: action types, numbered from 1; 0 if events have none.
        scoring: "fused" (one dot product an item) or "multi_interest" (log-sum-exp over the interests).
        temperature: tau of "multi_interest".
        normalize_inputs: the encoder reads embeddings scaled to length sqrt(dim).
        normalize_items: catalogue vectors are the item embeddings scaled to length `item_scale`.
        item_scale: see `normalize_items`.
        repeats: items of the history get a learned bonus, for catalogues that people consume again.
        norm_eps: epsilon of every LayerNorm.

    Raises:
        ArgumentError: a value is out of range; the message names the field.
        ArgumentTypeError: a value is of the wrong type.
    """

    num_items: int
    dim: int = 64
    num_layers: int = 2
    num_heads: int = 2
    block: Literal["hstu", "transformer"] = "hstu"
    activation: Literal["relu", "gelu", "silu"] = "gelu"
    ffn_dim: int = 256
    window: int = 50
    num_long: int = 4
    num_short: int = 2
    short_window: int = 10
    pooling_dim: int = 64
    fusion_dim: int = 64
    use_times: bool = True
    request_time: bool = False
    num_time_boundaries: int = 64
    num_actions: int = 0
    scoring: Literal["fused", "multi_interest"] = "fused"
    temperature: float = 1.0
    normalize_inputs: bool = False
    normalize_items: bool = False
    item_scale: float = 1.0
    repeats: bool = False
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            object.__setattr__(self, name, as_choice(name, getattr(self, name), choices))
        for name, (low, high) in _SIZES.items():
            object.__setattr__(self, name, as_integer(name, getattr(self, name), low, high))
        for name in ("temperature", "item_scale", "norm_eps"):
            object.__setattr__(self, name, as_number(name, getattr(self, name), FLOAT32_TINY, FLOAT32_MAX))
        for name in ("use_times", "request_time", "normalize_inputs", "normalize_items", "repeats"):
            object.__setattr__(self, name, as_flag(name, getattr(self, name)))
        if self.dim % self.num_heads:
            raise ArgumentError("num_heads", f"a divisor of dim = {self.dim}", self.num_heads)
        if self.num_interests > _MAX_INTERESTS:
            raise ArgumentError("num_long + num_short", f"at most {_MAX_INTERESTS - 1}", self.num_interests - 1)
        if self.request_time and not self.use_times:
            raise ArgumentError("request_time", "False when use_times is False", True)

    @property
    def num_interests(self) -> int:
        """M = m + n + 1: the long-term interests, the pooled short-term ones and the newest state."""
        return self.num_long + self.num_short + 1

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.num_heads

    @property
    def has_two_tables(self) -> bool:
        """Whether the vectors that items are scored with differ from those that the encoder reads."""
        return self.normalize_inputs or self.normalize_items

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `to_dict`; unknown and missing fields are refused by name.

        Raises:
            ArgumentError: a field is unknown, missing or out of range.
            ArgumentTypeError: a field is of the wrong type, or `values` is not a mapping.
        """
        if not isinstance(values, Mapping):
            raise ArgumentTypeError("model config", f"a mapping of the fields of {cls.__name__}", values)
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known, key=str):
            got = f"unknown {unknown}; there are {', '.join(sorted(known))}"
            raise ArgumentError("model config", f"only the fields of {cls.__name__}", got)
        if missing := sorted(known - set(values)):
            raise ArgumentError("model config", "every field", f"no {missing}")
        return cls(**values)
