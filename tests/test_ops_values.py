"""torch.ops.lsif.*: values against float64 oracles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

import oracles
from lsif_sdk.ops import codes_size, ops
from op_cases import ALL_CASES, CASES, UNKNOWN
from oracles import f64


def embedding_oracle(items, actions, item, action):
    y = items.double()[item]
    if actions is not None:
        y = y + actions.double()[torch.zeros_like(item) if action is None else action]
    return [(y.numpy(), oracles.U * y.abs().numpy())]


def encode_oracle(weights, config_ints, norm_eps, items, times, actions, offsets, now, threads):
    """docs/model.md computed with the other ops' oracles; tolerance: 1e-4 of the norm of each user's part."""
    fields = [
        "num_items",
        "dim",
        "num_layers",
        "num_heads",
        "transformer",
        "activation",
        "ffn_dim",
        "window",
        "num_long",
        "num_short",
        "short_window",
        "pooling_dim",
        "fusion_dim",
        "use_times",
        "request_time",
        "num_time_boundaries",
        "num_actions",
        "repeats",
    ]
    c = dict(zip(fields, config_ints, strict=True))
    remaining = iter([f64(weight) if weight.dtype == torch.float32 else weight.numpy() for weight in weights])
    take = lambda count: [next(remaining) for _ in range(count)]  # noqa: E731
    table, dim, bounds = next(remaining), c["dim"], offsets.tolist()
    action_table = next(remaining) if c["num_actions"] else None
    boundaries = next(remaining) if c["use_times"] else None
    x = table[items.numpy()]
    if action_table is not None:
        x = x + action_table[np.zeros(len(items), int) if actions is None else actions.numpy()]
    embedded, seconds = x, None if times is None or not c["use_times"] else times.tolist()
    users = [(begin, end) for begin, end in itertools.pairwise(bounds)]
    asked = seconds
    if seconds is not None and c["request_time"]:
        asked = [*seconds[1:], UNKNOWN]
        for b, (begin, end) in enumerate(users):
            if begin < end:
                known = now is not None and int(now[b]) != UNKNOWN
                asked[end - 1] = int(now[b]) if known else seconds[end - 1]
    for _ in range(c["num_layers"]):
        norm_weight, norm_bias, weight, bias, position_bias = take(5)
        time_bias = next(remaining) if c["use_times"] else None
        normed = oracles.layer_norm(x, norm_weight, norm_bias, norm_eps, None)[0]
        q, k, v, *u = np.split(
            oracles.linear(normed, weight, bias, activation="identity" if c["transformer"] else "silu")[0],
            3 if c["transformer"] else 4, axis=1,
        )  # fmt: skip
        kind = "softmax" if c["transformer"] else "silu"
        o = oracles.attention(q, k, v, bounds, seconds, asked, position_bias, time_bias, boundaries, kind)[0]
        if not c["transformer"]:
            o = oracles.layer_norm(o, *take(2), norm_eps, u[0])[0]
        x = oracles.linear(o, *take(2), x)[0]
        if c["transformer"]:
            normed = oracles.layer_norm(x, *take(2), norm_eps, None)[0]
            hidden = oracles.linear(normed, *take(2), activation=["identity", "relu", "gelu", "silu"][c["activation"]])[
                0
            ]
            x = oracles.linear(hidden, *take(2), x)[0]
    h = oracles.layer_norm(x, *take(2), norm_eps, None)[0]
    parts = []
    if c["num_long"]:
        hidden_weight, hidden_bias, logits_weight, decay, value = take(5)
        pooled = oracles.interest_pooling(embedded, bounds, seconds, hidden_weight, hidden_bias, logits_weight, decay)[
            0
        ]
        parts.append(pooled @ value.T)
    if c["num_short"]:
        recent = [np.arange(max(begin, end - c["short_window"]), end) for begin, end in users]
        rows = np.concatenate([np.zeros(0, int), *recent])
        parts.append(
            oracles.interest_pooling(h[rows], np.cumsum([0, *map(len, recent)]).tolist(), None, *take(3), None)[0]
        )
    newest = [h[end - 1] if begin < end else np.zeros(dim) for begin, end in users]
    parts.append(np.array(newest).reshape(len(users), 1, dim))
    interests = np.concatenate(parts, axis=1)
    gap = np.zeros(len(users))
    if asked is not None and c["request_time"]:
        for b, (begin, end) in enumerate(users):
            if begin < end and UNKNOWN not in (asked[end - 1], seconds[end - 1]):
                gap[b] = math.log1p(max(asked[end - 1] - seconds[end - 1], 0)) / math.log1p(31536000)
    if c["repeats"]:
        take(5 if c["use_times"] else 3)  # weights for scores, which this op does not compute
    lengths = np.diff(bounds)
    length = np.log1p(lengths) / math.log1p(1000)
    (share, _), (fused, _) = oracles.interest_fusion(interests, gap, length, *take(4))
    assert next(remaining, None) is None
    fused, share = (np.where(lengths[:, None] > 0, part, 0) for part in (fused, share))
    return [(part, 1e-4 * np.linalg.norm(part, axis=-1, keepdims=True)) for part in (fused, interests, share)]


def score_items_oracle(queries, weights, temperature, vectors, bias, items):
    everything = oracles.scores(f64(queries), f64(weights), temperature, f64(vectors), f64(bias))
    y = np.take_along_axis(everything, items.numpy(), axis=1)
    return [(y, 0.51 * oracles.float32_spacing(y))]


ORACLES: dict[str, Callable[..., list[oracles.Bounded]]] = {
    "embedding": embedding_oracle,
    "layer_norm": lambda x, weight, bias, eps, gate: [
        oracles.layer_norm(f64(x), f64(weight), f64(bias), eps, f64(gate))
    ],
    "linear": lambda x, weight, bias, residual, activation: [
        oracles.linear(f64(x), f64(weight), f64(bias), f64(residual), activation)
    ],
    "attention": lambda q, k, v, offsets, times, asked, position, time, boundaries, kind: [
        oracles.attention(
            f64(q), f64(k), f64(v), offsets.tolist(), times, asked, f64(position), f64(time), boundaries, kind
        )
    ],
    "interest_pooling": lambda x, offsets, times, *rest: [
        oracles.interest_pooling(f64(x), offsets.tolist(), times, *map(f64, rest))
    ],
    "interest_fusion": lambda *args: list(oracles.interest_fusion(*map(f64, args))),
    "score_items": score_items_oracle,
    "encode": encode_oracle,
}


@pytest.mark.parametrize(("op", "name"), [case for case in ALL_CASES if case.values[0] in ORACLES])
def test_values_are_within_the_kernels_bounds_of_float64(op, name):
    args = CASES[op][name]()
    actual = getattr(ops, op)(*args)
    for got, (value, bound) in zip(actual if isinstance(actual, tuple) else [actual], ORACLES[op](*args), strict=True):
        assert got.dtype == torch.float32
        assert got.shape == value.shape
        assert np.all(np.abs(f64(got) - value) <= bound)
        # A bound that is too loose would prove nothing.
        assert np.all(bound <= 5e-2 * np.abs(value).max(initial=0))


@pytest.mark.parametrize("name", CASES["update_codes"])
def test_updated_codes_are_those_of_the_whole_catalogue(name):
    vectors, bias, old, num_coded, changed, threads = CASES["update_codes"][name]()
    codes, whole = ops.update_codes(vectors, bias, old, num_coded, changed, threads), ops.code_catalog(vectors, bias, 1)
    groups, expected = (oracles.decode(part.numpy(), *vectors.shape) for part in (codes, whole))
    header = 64  # its sizes may be those of rows that were replaced
    assert torch.equal(codes[header:], whole[header:])
    assert groups.row_size >= expected.row_size
    assert groups.bias_size >= expected.bias_size


@pytest.mark.parametrize("name", CASES["code_catalog"])
def test_codes_are_within_their_bounds(name):
    vectors, bias, threads, _ = CASES["code_catalog"][name]()
    num_items, dim = vectors.shape
    codes = ops.code_catalog(vectors, bias, threads, False)
    assert codes.shape == (codes_size(num_items, dim),)
    groups = oracles.decode(codes.numpy(), num_items, dim)
    x, c, s, b = f64(vectors), groups.codes, groups.scales, np.zeros(num_items) if bias is None else f64(bias)
    assert not groups.padding.any()
    missed = np.linalg.norm(x - s[:, None] * c, axis=1)
    never_dropped = np.isinf(groups.biases)
    assert np.array_equal(never_dropped, np.full(num_items, name == "beyond float32") & (np.arange(num_items) >= 16))
    x, c, s, b, missed = (values[~never_dropped] for values in (x, c, s, b, missed))
    errors, norms, biases = (v[~never_dropped] for v in (groups.errors, groups.code_norms, groups.biases))
    # Bounds hold, and are no looser than a step of their group's unit; units are powers of two.
    assert np.all((missed <= s * errors) & (s * errors <= missed + s * groups.error_units[~never_dropped] * 1.001))
    assert np.all((b <= biases) & (biases <= b + groups.bias_units[~never_dropped]))
    assert np.all(np.linalg.norm(c, axis=1) <= norms)
    for units in (groups.scale_units, groups.error_units, groups.bias_units):
        assert np.all((np.frexp(units)[0] == 0.5) | (units == 0))
    sizes = s * (np.linalg.norm(c, axis=1) + errors)
    assert sizes.max(initial=0) <= groups.row_size <= (1 + 1e-6) * sizes.max(initial=0) + 2.0**-126
    assert groups.bias_size == np.abs(0 if bias is None else f64(bias)).max(initial=0)
    if name in ("rows", "padding"):  # the least error of 4 bits for normal values is .107 of their norm (Max, 1960)
        assert np.all(missed <= 0.16 * np.linalg.norm(x, axis=1))


@pytest.mark.parametrize("name", CASES["score_topk"])
def test_topk_is_the_best_of_all_exact_scores(name):
    args = CASES["score_topk"][name]()
    queries, weights, temperature, vectors, bias, *_, k, exclude_items, exclude_offsets, _ = args
    scores, indices, counts = ops.score_topk(*args)
    assert scores.shape == indices.shape == (len(queries), k)
    exact = oracles.scores(f64(queries), f64(weights), temperature, f64(vectors), f64(bias))
    for user, count in enumerate(counts.tolist()):
        unwanted = set()
        if exclude_items is not None:
            unwanted = set(exclude_items[exclude_offsets[user] : exclude_offsets[user + 1]].tolist())
        allowed = [row for row in range(len(vectors)) if row not in unwanted]
        assert count == min(k, len(allowed))
        rows, got = indices[user, :count].tolist(), f64(scores[user, :count])
        assert len(set(rows)) == count
        assert set(rows) <= set(allowed)
        spacing = oracles.float32_spacing(exact[user, rows])
        assert np.all(np.abs(got - exact[user, rows]) <= 0.51 * spacing)
        assert np.all(np.abs(exact[user, rows] - np.sort(exact[user, allowed])[::-1][:count]) <= spacing)
        assert not scores[user, count:].any()
        assert torch.all(indices[user, count:] == -1)
