"""Valid arguments of every op, ordinary ones and edge cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import native
import oracles
from lsif_sdk.ops import ops

OPS = sorted(name.removeprefix("lsif::") for name in torch._C._dispatch_get_all_op_names() if name.startswith("lsif::"))
OFFSETS = [0, 0, 3, 4, 4, 24, 24]  # empty sequences first, between and last
UNKNOWN = oracles.UNKNOWN_TIME

Args = tuple[Any, ...]


def randn(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def event_times(total: int, unknown: float = 0.2) -> torch.Tensor:
    rng = np.random.default_rng(total)
    times = native.NOW + rng.integers(-(10**6), 10**6, total)
    times[rng.random(total) < unknown] = UNKNOWN
    return torch.from_numpy(times)


def embedding_args(num_rows: int = 20, dim: int = 13, num_actions: int = 3, action: bool = True) -> Args:
    rng = np.random.default_rng(1)
    item = torch.from_numpy(rng.integers(0, 17, num_rows))
    actions = randn(num_actions + 1, dim) if num_actions else None
    return randn(17, dim), actions, item, torch.from_numpy(rng.integers(0, 4, num_rows)) if action else None


def layer_norm_args(num_rows: int = 5, dim: int = 19, gate: bool = True, constant: bool = False) -> Args:
    x = torch.full((num_rows, dim), 0.37) if constant else 3 + 2 * randn(num_rows, dim)
    return x, 1 + randn(dim), randn(dim, seed=1), 1e-5, randn(num_rows, dim, seed=2) if gate else None


def linear_args(
    num_rows: int = 7, in_dim: int = 33, out_dim: int = 21, activation: str = "identity", optional: bool = True
) -> Args:
    bias, residual = (randn(out_dim), randn(num_rows, out_dim)) if optional else (None, None)
    return randn(num_rows, in_dim), randn(out_dim, in_dim, seed=1), bias, residual, activation


def attention_args(
    kind: str, num_heads: int = 3, dim: int = 15, window: int = 4, offsets: list[int] = OFFSETS, times: str = "all"
) -> Args:
    total = offsets[-1]
    boundaries = ints(1, 60, 3600, 86400, 10**6) if times != "no bias" else None
    return (
        randn(total, dim), randn(total, dim, seed=1), randn(total, dim, seed=2), ints(*offsets),
        event_times(total) if times == "all" else None,
        event_times(total, 0.1) + 10**6 if times == "all" else None,
        randn(num_heads, window), randn(num_heads, 7) if times != "no bias" else None, boundaries, kind,
    )  # fmt: skip


def pooling_args(
    dim: int = 10, pooling_dim: int = 6, num_interests: int = 3, offsets: list[int] = OFFSETS, times: bool = True,
    decay: bool = True,
) -> Args:  # fmt: skip
    total = offsets[-1]
    return (
        randn(total, dim), ints(*offsets), event_times(total) if times else None, randn(pooling_dim, dim, scale=0.5),
        randn(pooling_dim), randn(num_interests, pooling_dim), randn(num_interests).abs() if decay else None,
    )  # fmt: skip


def fusion_args(batch: int = 5, num_interests: int = 4, dim: int = 9, fusion_dim: int = 7) -> Args:
    return (
        randn(batch, num_interests, dim), randn(batch).abs(), randn(batch, seed=1).abs(),
        randn(fusion_dim, num_interests * dim + 3, scale=(num_interests * dim) ** -0.5), randn(fusion_dim),
        randn(num_interests, fusion_dim, scale=2 * fusion_dim**-0.5), randn(num_interests),
    )  # fmt: skip


def topk_args(
    batch: int = 4, num_interests: int = 1, num_items: int = 700, dim: int = 24, k: int = 9, bias: bool = True,
    exclude: bool = True,
) -> Args:  # fmt: skip
    weights = (
        torch.rand(batch, num_interests, generator=torch.Generator().manual_seed(3)) if num_interests > 1 else None
    )
    if weights is not None and batch:
        weights[0, 0] = 0.0  # this interest has no effect
    vectors, offsets = randn(num_items, dim), randn(num_items, seed=2) if bias else None
    lists = [np.random.default_rng(user).integers(0, max(num_items, 1), 3 * user) for user in range(batch)]
    if num_items == 0:
        lists = [rows[:0] for rows in lists]
    ragged = np.concatenate([np.zeros(0, np.int64), *lists]), np.cumsum([0, *map(len, lists)])
    return (
        randn(batch, num_interests, dim, seed=1), weights, 0.7, vectors, offsets,
        ops.code_catalog(vectors, offsets, 1), k, *(map(torch.from_numpy, ragged) if exclude else (None, None)), 2,
    )  # fmt: skip


def update_args(num_items: int = 40, num_coded: int = 24, dim: int = 24, changed: tuple[int, ...] = (3, 17)) -> Args:
    vectors, bias = randn(num_items, dim), randn(num_items)
    old_vectors, old_bias = vectors[:num_coded].clone(), bias[:num_coded].clone()
    for row in changed:
        if row < num_coded:
            old_vectors[row] *= 3
            old_bias[row] += 9
    return vectors, bias, ops.code_catalog(old_vectors, old_bias, 1), num_coded, ints(*changed), 2


def score_args(batch: int = 4, num_interests: int = 3, num_candidates: int = 6) -> Args:
    queries, weights, temperature, vectors, bias, *_ = topk_args(batch, num_interests, 50)
    items = torch.from_numpy(np.random.default_rng(5).integers(0, 50, (batch, num_candidates)))
    return queries, weights, temperature, vectors, bias, items


def encode_args(
    lengths: tuple[int, ...] = (0, 3, 9, 1), times: str = "mixed", now: str = "mixed", **config: Any
) -> Args:
    artifact = native.make_artifact(native.make_config(**config))
    batch = native.random_batch(artifact.config, lengths, 1, times, now, times != "none")
    return native.encode_op_args(artifact, batch)


CASES: dict[str, dict[str, Callable[[], Args]]] = {
    "embedding": {
        "all": embedding_args,
        "no rows": lambda: embedding_args(0),
        "no actions": lambda: embedding_args(num_actions=0, action=False),
        "actions without a table": lambda: embedding_args(num_actions=0),
        "unknown actions": lambda: embedding_args(dim=64, action=False),
    },
    "layer_norm": {
        "gate": layer_norm_args,
        "no gate": lambda: layer_norm_args(gate=False),
        "no rows": lambda: layer_norm_args(0),
        "dim 1": lambda: layer_norm_args(dim=1),
        "constant rows": lambda: layer_norm_args(dim=64, constant=True),
    },
    "linear": {
        **{a: lambda a=a: linear_args(activation=a) for a in ("identity", "relu", "gelu", "silu")},
        "no bias, no residual": lambda: linear_args(optional=False),
        "no rows": lambda: linear_args(0),
        "no inputs": lambda: linear_args(3, 0, 5),
        "no outputs": lambda: linear_args(3, 5, 0),
        "one of each": lambda: linear_args(1, 1, 1, "gelu"),
        "wide": lambda: linear_args(65, 130, 48, "silu"),
    },
    "attention": {
        "silu": lambda: attention_args("silu"),
        "softmax": lambda: attention_args("softmax"),
        "softmax without time bias": lambda: attention_args("softmax", times="no bias"),
        "silu, all times unknown": lambda: attention_args("silu", times="unknown"),
        "window 1": lambda: attention_args("softmax", window=1),
        "long": lambda: attention_args("silu", 1, 17, 60, [0, 150]),
        "no events": lambda: attention_args("silu", offsets=[0, 0]),
        "no users": lambda: attention_args("softmax", offsets=[0]),
    },
    "interest_pooling": {
        "all": pooling_args,
        "no times": lambda: pooling_args(times=False),
        "no decay": lambda: pooling_args(decay=False),
        "over chunks": lambda: pooling_args(17, 33, 5, [0, 130, 131], decay=False),
        "no events": lambda: pooling_args(offsets=[0, 0, 0]),
        "no users": lambda: pooling_args(offsets=[0]),
    },
    "interest_fusion": {
        "all": fusion_args,
        "one interest": lambda: fusion_args(num_interests=1),
        "no users": lambda: fusion_args(0),
        "wide": lambda: fusion_args(3, 9, 65, 70),
    },
    "code_catalog": {
        "rows": lambda: (randn(40, 24), randn(40), 2, None),
        "rows in an order": lambda: (randn(300, 24), randn(300), 2, True),
        "no rows": lambda: (randn(0, 24), randn(0), 0, None),
        "no bias": lambda: (randn(30, 24), None, 0, None),
        "padding": lambda: (randn(3, 65), randn(3), 1, None),
        "zeros": lambda: (torch.zeros(20, 3), torch.zeros(20), 1, None),
        "equal": lambda: (torch.full((20, 3), 0.7), torch.full((20,), -0.3), 1, None),
        "tiny": lambda: (torch.tensor([[0.0, 0.0], [1e-45, 0.0], [1e-38, 2e-38]]), randn(3) * 1e-45, 1, None),
        "of all sizes": lambda: (randn(64, 9) * 10.0 ** (torch.arange(64.0)[:, None] - 30), randn(64) * 1e30, 1, None),
        "far from zero": lambda: (randn(33, 5) + 1e6, randn(33) + 1e6, 1, None),
        "beyond float32": lambda: (torch.cat([randn(20, 2), torch.tensor([[3e38, -3e38]])]), randn(21), 1, None),
    },
    "update_codes": {
        "longer, two rows changed": update_args,
        "as long, others changed": lambda: update_args(40, 40, changed=(17, 0)),
        "longer within a group": lambda: update_args(23, 20, 65, changed=()),
        "of nothing": lambda: update_args(33, 0, changed=()),
        "nothing changed": lambda: update_args(32, 32, changed=()),
        "no rows": lambda: update_args(0, 0, changed=()),
        "rows named twice": lambda: update_args(50, 48, 3, changed=(9, 49, 9)),
    },
    "score_topk": {
        "one interest": topk_args,
        "several interests": lambda: topk_args(num_interests=4),
        "no bias, nothing excluded": lambda: topk_args(dim=65, bias=False, exclude=False),
        "k beyond the catalogue": lambda: topk_args(num_items=12, k=20),
        "no items": lambda: topk_args(num_items=0),
        "no users": lambda: topk_args(0),
    },
    "score_items": {
        "several interests": score_args,
        "one interest": lambda: score_args(num_interests=1),
        "no candidates": lambda: score_args(num_candidates=0),
        "no users": lambda: score_args(0),
    },
    "encode": {
        "hstu": lambda: encode_args(request_time=True),
        "transformer": lambda: encode_args(block="transformer"),
        "no times, no actions": lambda: encode_args((5, 0), "none", "none", use_times=False, num_actions=0),
        "repeats": lambda: encode_args(repeats=True),
        "no users": lambda: encode_args((), request_time=True),
        "only empty histories": lambda: encode_args((0, 0)),
    },
}
ALL_CASES = [pytest.param(op, name, id=f"{op}, {name}") for op, cases in CASES.items() for name in cases]


def first_args(op: str) -> Args:
    return next(iter(CASES[op].values()))()
