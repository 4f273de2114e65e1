"""The ops' formulas (docs/model.md, docs/score_topk.md) in float64, with the float32 kernels' error bounds.

Bounds follow csrc/kernels/*.h: every function returns (value, bound) for float32 inputs taken as exact.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch

UNKNOWN_TIME = -(2**63)
U = 2.0**-24  # half a unit in the last place of float32

Bounded = tuple[np.ndarray, np.ndarray]

_SLOPE = {"identity": 1.0, "relu": 1.0, "silu": 1.1, "gelu": 1.13}  # the largest slope of each activation


def f64(x: torch.Tensor | None) -> np.ndarray | None:
    return None if x is None else x.double().numpy()


def softmax(z: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def silu(z: np.ndarray) -> np.ndarray:
    return z * np.exp(-np.logaddexp(0, -z))


def activate(z: np.ndarray, activation: str) -> np.ndarray:
    if activation == "relu":
        return np.maximum(z, 0)
    if activation == "gelu":
        return z * np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)), otypes=[np.float64])(z)
    return silu(z) if activation == "silu" else z


def linear(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    residual: np.ndarray | None = None,
    activation: str = "identity",
    x_bound: np.ndarray | float = 0.0,
) -> Bounded:
    """`x_bound`: how far the x the kernel saw may be from this x."""
    b = np.zeros(len(weight)) if bias is None else bias
    z = x @ weight.T + b
    size = np.abs(x) @ np.abs(weight).T + np.abs(b)
    missed = np.broadcast_to(x_bound, x.shape) @ np.abs(weight).T
    y = activate(z, activation)
    bound = _SLOPE[activation] * (x.shape[1] * U * size + missed) + 8 * U * np.abs(y)
    if activation == "gelu":
        bound += 2e-7 * np.abs(z)
    if residual is not None:
        y = y + residual
        bound += U * np.abs(y)
    return y, bound


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float, gate: np.ndarray | None) -> Bounded:
    dim = x.shape[1]
    centred = x - x.mean(axis=1, keepdims=True)
    std = np.sqrt((centred**2).mean(axis=1, keepdims=True) + eps)
    y = centred / std * weight + bias
    # The mean may be off by dim U max|x|, which shifts the centred values and therefore std.
    largest = np.abs(x).max(axis=1, keepdims=True, initial=0) / std
    bound = (4 * dim + 8) * U * (largest * np.abs(weight) + np.abs(bias))
    if gate is None:
        return y, bound
    return y * gate, bound * np.abs(gate) + 2 * U * np.abs(y * gate)


def bucket(query_time: int, time: int, boundaries: np.ndarray) -> int:
    if UNKNOWN_TIME in (query_time, time):
        return 0
    return 1 + sum(int(b) <= max(query_time - time, 0) for b in boundaries)


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    offsets: Sequence[int],
    times: Sequence[int] | None,
    query_times: Sequence[int] | None,
    position_bias: np.ndarray,
    time_bias: np.ndarray | None,
    boundaries: np.ndarray | None,
    kind: str,
) -> Bounded:
    num_heads, window = position_bias.shape
    head_dim = q.shape[1] // num_heads
    y, bound = np.zeros_like(q), np.zeros_like(q)
    for begin, end in itertools.pairwise(offsets):
        for i in range(begin, end):
            keys = np.arange(max(begin, i - window + 1), i + 1)
            for h in range(num_heads):
                part = slice(h * head_dim, (h + 1) * head_dim)
                products = q[i, part] * k[keys, part]
                position = position_bias[h, i - keys]
                by_time = np.zeros(len(keys))
                if time_bias is not None:
                    asked = UNKNOWN_TIME if query_times is None else int(query_times[i])
                    known = [UNKNOWN_TIME if times is None else int(times[j]) for j in keys]
                    by_time = time_bias[h, [bucket(asked, t, boundaries) for t in known]]
                s = products.sum(axis=1) / math.sqrt(head_dim) + position + by_time
                size = (head_dim + 4) * np.abs(products).sum(axis=1) / math.sqrt(head_dim)
                e = U * (size + 2 * np.abs(position) + 2 * np.abs(by_time))
                values = v[keys, part]
                if kind == "softmax":
                    p = softmax(s, 0)
                    miss = (2 * e.max() + (2 * len(keys) + 12) * U) * p
                else:
                    p = silu(s) / window
                    miss = (1.1 * e + (len(keys) + 12) * U * np.abs(silu(s))) / window
                y[i, part] = p @ values
                bound[i, part] = miss @ np.abs(values)
    return y, bound


def interest_pooling(
    x: np.ndarray,
    offsets: Sequence[int],
    times: Sequence[int] | None,
    hidden_weight: np.ndarray,
    hidden_bias: np.ndarray,
    logits_weight: np.ndarray,
    decay: np.ndarray | None,
) -> Bounded:
    shape = (len(offsets) - 1, len(logits_weight), x.shape[1])
    y, bound = np.zeros(shape), np.zeros(shape)
    for b, (begin, end) in enumerate(itertools.pairwise(offsets)):
        if begin == end:
            continue
        rows = x[begin:end]
        hidden, hidden_bound = linear(rows, hidden_weight, hidden_bias, activation="silu")
        logits, e = linear(hidden, logits_weight, None, x_bound=hidden_bound)
        if decay is not None and times is not None:
            newest = int(times[end - 1])
            known = [UNKNOWN_TIME not in (newest, int(t)) for t in times[begin:end]]
            seconds = [max(newest - int(t), 0) if k else 0 for t, k in zip(times[begin:end], known, strict=True)]
            decayed = np.array(seconds)[:, None] / 86400 * decay
            logits = logits - decayed
            e = e + U * (3 * decayed + np.abs(logits))
        p = softmax(logits, 0)
        # A weight that underflows in float32 is 0 instead; it was below 2^-126 of the sum. Decayed logits have large e,
        # so each weight has its own bound.
        seq_len = end - begin
        miss = p * np.expm1(np.minimum(e + (p * e).sum(axis=0), 50)) + (2 * seq_len + 17) * U * p + 2.0**-126
        y[b] = p.T @ rows
        bound[b] = miss.T @ np.abs(rows)
    return y, bound


def interest_fusion(
    interests: np.ndarray,
    gap: np.ndarray,
    length: np.ndarray,
    hidden_weight: np.ndarray,
    hidden_bias: np.ndarray,
    logits_weight: np.ndarray,
    logits_bias: np.ndarray,
) -> tuple[Bounded, Bounded]:
    """((weights, bound), (fused, bound))."""
    batch, count, dim = interests.shape
    units = interests / np.sqrt((interests**2).sum(axis=2, keepdims=True) + 1e-12)
    total = (units.sum(axis=1) ** 2).sum(axis=1)
    dispersion = 1 - (total - count) / (count * (count - 1)) if count > 1 else np.zeros(batch)
    x = np.concatenate([interests.reshape(batch, count * dim), np.stack([gap, length, dispersion], axis=1)], axis=1)
    x_bound = np.zeros_like(x)
    if count > 1:
        x_bound[:, -1] = (dim + count + 10) * 2 * U * (count**2 + total) / (count * (count - 1))
    hidden, hidden_bound = linear(x, hidden_weight, hidden_bias, activation="silu", x_bound=x_bound)
    logits, e = linear(hidden, logits_weight, logits_bias, x_bound=hidden_bound)
    weights = softmax(logits, 1)
    weights_bound = weights * (2 * e.max(axis=1, keepdims=True, initial=0) + (2 * count + 12) * U) + 2.0**-126
    fused = np.einsum("bm,bmd->bd", weights, interests)
    fused_bound = np.einsum("bm,bmd->bd", weights_bound + count * U * weights, np.abs(interests))
    return (weights, weights_bound), (fused, fused_bound)


def scores(
    queries: np.ndarray, weights: np.ndarray | None, temperature: float, vectors: np.ndarray, bias: np.ndarray | None
) -> np.ndarray:
    """Exact scores of all rows, [batch, num_items]."""
    b = 0.0 if bias is None else bias
    products = queries @ vectors.T
    if weights is None:
        return products[:, 0] + b
    with np.errstate(divide="ignore"):
        logits = products / temperature + np.log(weights)[..., None]
    return temperature * np.logaddexp.reduce(logits, axis=1) + b


def float32_spacing(x: np.ndarray) -> np.ndarray:
    """The distance between adjacent float32 numbers near x."""
    return np.spacing(np.abs(x).astype(np.float32)).astype(np.float64)


@dataclasses.dataclass(frozen=True)
class Codes:
    """A catalogue's codes by csrc/kernels/score_topk.h, in float64; one value per row, except the sizes and padding."""

    row_size: float
    bias_size: float
    codes: np.ndarray  # [num_items, dim]
    scales: np.ndarray
    errors: np.ndarray
    biases: np.ndarray
    code_norms: np.ndarray
    scale_units: np.ndarray
    error_units: np.ndarray
    bias_units: np.ndarray
    padding: np.ndarray  # the values stored past dim or num_items


def decode(blob: np.ndarray, num_items: int, dim: int) -> Codes:
    row_size, bias_size = blob[12:16].view(np.float32)[0], blob[32:36].view(np.float32)[0]
    groups = blob[64:].reshape(-(-num_items // 16), 1 + -(-dim // 8), 64)
    side, lines = groups[:, 0], groups[:, 1:]
    nibbles = np.stack([lines & 15, lines >> 4], axis=2).reshape(*lines.shape[:2], 2, 16, 4)  # low or high, row, dim
    rows = nibbles.transpose(0, 3, 1, 2, 4).reshape(len(groups) * 16, 8 * lines.shape[1]).astype(np.int64)
    floats = side[:, 48:60].copy().view(np.float32).astype(np.float64)
    halves = (side[:, 60:64].copy().view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    per_row = [np.repeat(values, 16)[:num_items] for values in (*floats.T, *halves.T)]
    scale_units, bias_bases, bias_units, error_units, code_norms = per_row
    scales, errors, biases = (side[:, 16 * i : 16 * i + 16].reshape(-1)[:num_items] for i in range(3))
    return Codes(
        row_size=float(row_size),
        bias_size=float(bias_size),
        codes=rows[:num_items, :dim] - 8,
        scales=scales * scale_units,
        errors=errors * error_units,
        biases=bias_bases + biases * bias_units,
        code_norms=code_norms,
        scale_units=scale_units,
        error_units=error_units,
        bias_units=bias_units,
        padding=np.concatenate([rows[num_items:].reshape(-1), rows[:num_items, dim:].reshape(-1)]),
    )
