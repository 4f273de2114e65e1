"""The peer of bench/gpu_encode.py and gpu_requests.py: the encoder, written in plain torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "HEADS", "HIDDEN", "LAYERS", "LONG", "SHORT", "SHORT_WINDOW", "WINDOW", "Weights", "fused_by_torch",
    "fused_of_all_rows",
]  # fmt: skip

LAYERS, HEADS, WINDOW, LONG, SHORT, SHORT_WINDOW, HIDDEN = 2, 2, 50, 4, 2, 10, 64

Weights = dict[str, Tensor]


def _linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def _norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)


def _pool(weights: Weights, name: str, x: Tensor) -> Tensor:
    logits = _linear(weights, f"{name}.logits", functional.silu(_linear(weights, f"{name}.hidden", x)))
    return torch.softmax(logits, 1).transpose(1, 2) @ x


def _project(weights: Weights, prefix: str, x: Tensor, first: int, count: int) -> Tensor:
    """`count` columns, from `first` on, of the layer's projection of normalised rows."""
    weight, bias = weights[f"{prefix}input.weight"], weights.get(f"{prefix}input.bias")
    columns = slice(first, first + count)
    return functional.silu(functional.linear(x, weight[columns], None if bias is None else bias[columns]))


def _layer(weights: Weights, prefix: str, x: Tensor, kept: int) -> Tensor:
    """The newest `kept` rows of a layer's result; for older rows, only keys and values are computed."""
    batch, events, dim = x.shape
    normed = _norm(weights, f"{prefix}norm", x)
    if kept == events:
        queries, keys, values, gates = _project(weights, prefix, normed, 0, 4 * dim).split(dim, 2)
    else:
        queries = _project(weights, prefix, normed[:, -kept:], 0, dim)
        keys, values = _project(weights, prefix, normed, dim, 2 * dim).split(dim, 2)
        gates = _project(weights, prefix, normed[:, -kept:], 3 * dim, dim)
    heads = [part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (queries, keys, values)]
    places = torch.arange(events, device=x.device)
    distance = places[-kept:, None] - places
    bias = weights[f"{prefix}position_bias"][:, distance.clamp(0, WINDOW - 1)]
    logits = heads[0] @ heads[1].transpose(2, 3) / math.sqrt(dim // HEADS) + bias
    is_seen = (distance >= 0) & (distance < WINDOW)
    mixed = (functional.silu(logits) * is_seen / WINDOW @ heads[2]).transpose(1, 2).reshape(batch, kept, dim)
    return x[:, -kept:] + _linear(weights, f"{prefix}output", _norm(weights, f"{prefix}output_norm", mixed) * gates)


def fused_by_torch(weights: Weights, items: Tensor, *, all_rows: bool = False) -> Tensor:
    """docs/model.md, 1 to 4, in the weights' precision: items [batch, events] to vectors [batch, dim].

    Rows that no output depends on are skipped, as in our encoder; with `all_rows`, all rows go through all layers.
    """
    embedded = weights["item_embedding"][items]
    events = items.shape[1]
    x = embedded if all_rows else embedded[:, -min(events, SHORT_WINDOW + LAYERS * (WINDOW - 1)) :]
    for layer in range(LAYERS):
        kept = SHORT_WINDOW + (LAYERS - 1 - layer) * (WINDOW - 1)
        x = _layer(weights, f"layers.{layer}.", x, x.shape[1] if all_rows else min(kept, x.shape[1]))
    states = _norm(weights, "norm", x)
    pooled = _linear(weights, "long_pooling.value", _pool(weights, "long_pooling", embedded))
    interests = torch.cat([pooled, _pool(weights, "short_pooling", states[:, -SHORT_WINDOW:]), states[:, -1:]], 1)
    count = interests.shape[1]
    directions = interests / (interests.square().sum(2, keepdim=True) + 1e-12).sqrt()
    dispersion = 1 - (directions.sum(1).square().sum(1) - count) / (count * (count - 1))
    length = torch.full_like(dispersion, math.log1p(events) / math.log1p(1000))
    context = torch.stack([torch.zeros_like(length), length, dispersion], 1)
    hidden = functional.silu(_linear(weights, "fusion.hidden", torch.cat([interests.flatten(1), context], 1)))
    shares = torch.softmax(_linear(weights, "fusion.logits", hidden), 1)
    return (shares[:, None] @ interests)[:, 0]


def fused_of_all_rows(weights: Weights, items: Tensor) -> Tensor:
    """`fused_by_torch` with `all_rows`: more work in fewer and larger products, which is faster for one history."""
    return fused_by_torch(weights, items, all_rows=True)
