"""torch.ops.lsif.*: contract with torch (opcheck, tracing), values against float64 oracles, refusals by name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import native
import oracles
from lsif_sdk import _core
from lsif_sdk.ops import code_stride, ops
from oracles import f64

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


# ---- Valid arguments, ordinary and awkward


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
        weights[0, 0] = 0.0  # takes no part
    vectors = randn(num_items, dim)
    lists = [np.random.default_rng(user).integers(0, max(num_items, 1), 3 * user) for user in range(batch)]
    if num_items == 0:
        lists = [rows[:0] for rows in lists]
    ragged = np.concatenate([np.zeros(0, np.int64), *lists]), np.cumsum([0, *map(len, lists)])
    return (
        randn(batch, num_interests, dim, seed=1), weights, 0.7, vectors, randn(num_items, seed=2) if bias else None,
        *ops.quantize_rows(vectors, 1), k, *(map(torch.from_numpy, ragged) if exclude else (None, None)), 2,
    )  # fmt: skip


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
    "quantize_rows": {
        "rows": lambda: (randn(40, 24), 2),
        "no rows": lambda: (randn(0, 24), 0),
        "padding": lambda: (randn(3, 65), 1),
        "zeros and extremes": lambda: (torch.tensor([[0.0, 0.0], [1e-45, 0.0], [3e38, -3e38], [1e-38, 2e-38]]), 1),
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
        "no users": lambda: encode_args((), request_time=True),
        "only empty histories": lambda: encode_args((0, 0)),
    },
}
ALL_CASES = [pytest.param(op, name, id=f"{op}, {name}") for op, cases in CASES.items() for name in cases]


def test_every_op_is_tested():
    assert sorted(CASES) == OPS


@pytest.mark.parametrize(("op", "name"), ALL_CASES)
def test_opcheck(op, name):
    torch.library.opcheck(getattr(ops, op).default, CASES[op][name]())


# ---- Values


def embedding_oracle(items, actions, item, action):
    y = items.double()[item]
    if actions is not None:
        y = y + actions.double()[torch.zeros_like(item) if action is None else action]
    return [(y.numpy(), oracles.U * y.abs().numpy())]


def encode_oracle(weights, config_ints, norm_eps, items, times, actions, offsets, now, threads):
    """docs/model.md with the other ops' oracles; within 1e-4 of the norm of each user's part."""
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
        # A bound that lets anything pass would prove nothing.
        assert np.all(bound <= 5e-2 * np.abs(value).max(initial=0))


@pytest.mark.parametrize("name", CASES["quantize_rows"])
def test_codes_are_the_nearest_and_their_bounds_hold(name):
    vectors, threads = CASES["quantize_rows"][name]()
    codes, scales, errors, norms = ops.quantize_rows(vectors, threads)
    num_items, dim = vectors.shape
    assert codes.dtype == torch.int8
    assert codes.shape == (num_items, code_stride(dim))
    assert not codes[:, dim:].any()
    x, c, s = f64(vectors), f64(codes[:, :dim]), f64(scales)[:, None]
    missed = x - s * c
    with np.errstate(over="ignore"):
        for upper, exact in ((errors, np.linalg.norm(missed, axis=1)), (norms, np.linalg.norm(s * c, axis=1))):
            slack = np.maximum(1e-6 * exact, 2.0**-126)
            assert np.all(
                (f64(upper) >= exact) & (f64(upper) <= exact + slack) | np.isinf(f64(upper)) & (exact > 3.4e38)
            )
    coded = s[:, 0] > 0
    assert np.all(np.abs(c).max(axis=1, initial=0)[coded] == 127)
    assert np.all(np.abs(missed)[coded] <= 0.5001 * s[coded])
    assert np.all(np.abs(x)[~coded] < 2.0**-119)  # the scale would not be a normal number


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


# ---- Tracing


def test_compile_takes_ops_into_one_graph_with_any_sizes():
    def block(x, weight, bias, norm_weight, norm_bias):
        return ops.layer_norm(ops.linear(x, weight, bias, None, "silu"), norm_weight, norm_bias, 1e-5) * 2

    compiled = torch.compile(block, fullgraph=True, backend="eager", dynamic=True)
    weights = randn(16, 8), randn(16), randn(16, seed=1), randn(16, seed=2)
    for num_rows in (5, 9):
        x = randn(num_rows, 8)
        assert torch.equal(compiled(x, *weights), block(x, *weights))


def test_a_whole_encoder_and_its_topk_can_be_exported():
    encoder, search = encode_args(request_time=True), topk_args(num_items=53, dim=12, exclude=False)

    class Recommend(torch.nn.Module):
        def forward(self, items, times, actions, offsets, now):
            fused, _, _ = ops.encode(*encoder[:3], items, times, actions, offsets, now, 1)
            return ops.score_topk(fused[:, None], *search[1:])

    events = encoder[3:8]
    exported = torch.export.export(Recommend(), events)
    for actual, expected in zip(exported.module()(*events), Recommend()(*events), strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("op", CASES)
def test_fake_tensors_get_the_shapes_dtypes_and_strides_of_real_ones(op):
    args = next(iter(CASES[op].values()))()
    with FakeTensorMode() as mode:
        convert = torch.utils._pytree.tree_map_only
        fake = getattr(ops, op)(*convert(torch.Tensor, mode.from_tensor, args))
    real = getattr(ops, op)(*args)
    for a, b in zip(*((out if isinstance(out, tuple) else (out,)) for out in (fake, real)), strict=True):
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())


# ---- Refusals

NAMES = {op: [argument.name for argument in getattr(ops, op).default._schema.arguments] for op in OPS}
# One more value in these is one more empty sequence, position, dimension or candidate.
LONGER_IS_VALID = {
    ("attention", "offsets"), ("interest_pooling", "offsets"), ("attention", "position_bias"),
    ("quantize_rows", "vectors"), ("score_items", "items"),
}  # fmt: skip
CHANGES: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "dtype": (lambda t: t.to(torch.float64 if t.is_floating_point() else torch.int32), "{}: expected dtype .*, got "),
    "dimensions": (lambda t: t[None], r"{}: expected .*, got \[1, "),
    "strides": (
        lambda t: torch.stack([t, t], -1)[..., 0],
        "{}: expected a contiguous tensor, got one with other strides",
    ),
    # Where this argument sets the size of another one, that one is named.
    "size": (lambda t: torch.cat([t, t[..., -1:]], -1), r"\w+: expected .*, got "),
}


def first_args(op: str) -> Args:
    return next(iter(CASES[op].values()))()


def tensor_changes() -> list[Any]:
    return [
        pytest.param(op, argument, kind, id=f"{op}, {argument}, {kind}")
        for op in OPS
        for argument, value in zip(NAMES[op], first_args(op), strict=True)
        for kind in CHANGES
        if isinstance(value, torch.Tensor) and not (kind == "size" and (op, argument) in LONGER_IS_VALID)
    ]


@pytest.mark.parametrize(("op", "argument", "kind"), tensor_changes())
def test_tensors_of_another_dtype_shape_or_layout_are_refused_by_name(op, argument, kind):
    args = dict(zip(NAMES[op], first_args(op), strict=True))
    change, message = CHANGES[kind]
    args[argument] = change(args[argument])
    with pytest.raises(ValueError, match="^" + message.format(argument)):
        getattr(ops, op)(**args)


def offsets_with(position: int, value: int) -> torch.Tensor:
    offsets = ints(*OFFSETS)
    offsets[position] = value
    return offsets


REFUSED = [
    ("embedding", {"item": torch.full((20,), 17)}, r"item: expected values in \[0, 16\], got 17 at position 0"),
    ("embedding", {"item": ints(*range(-19, 1))}, r"item: expected values in \[0, 16\], got -19 at position 0"),
    ("embedding", {"action": torch.full((20,), 4)}, r"action: expected values in \[0, 3\], got 4 at position 0"),
    ("embedding", {"action": ints(1)}, r"action: expected shape \[20\], got \[1\]"),
    ("embedding", {"actions": randn(0, 13), "action": None}, r"actions: expected at least one row .*, got none"),
    ("linear", {"activation": "tanh"}, "activation: expected 'identity', 'relu', 'gelu' or 'silu', got 'tanh'"),
    ("attention", {"kind": "linear"}, "kind: expected 'softmax' or 'silu', got 'linear'"),
    (
        "attention",
        {"position_bias": randn(4, 4)},
        r"position_bias: expected shape \[num_heads .* 15, .*\], got \[4, 4\]",
    ),
    ("attention", {"position_bias": randn(3, 0)}, r"position_bias: expected shape .*, got \[3, 0\]"),
    ("attention", {"time_bias": None}, "time_boundaries: expected with time_bias and only then, got one .*"),
    ("attention", {"time_boundaries": None}, "time_boundaries: expected with time_bias and only then, got one .*"),
    *[
        (op, {"offsets": offsets}, f"offsets: expected {message}")
        for op in ("attention", "interest_pooling")
        for offsets, message in [
            (offsets_with(0, 1), "a first value of 0, got 1"),
            (offsets_with(2, -3), "non-decreasing values, got a decrease at position 2"),
            (offsets_with(2, 2**62), "non-decreasing values, got a decrease at position 3"),
            (offsets_with(-1, 25), "a last value of 24, got 25"),
            (ints(0), "a last value of 24, got 0"),
            (ints(), "at least one value, got none"),
        ]
    ],
    ("interest_pooling", {"decay": randn(2)}, r"decay: expected shape \[3\], got \[2\]"),
    ("interest_fusion", {"gap": randn(4)}, r"gap: expected shape \[5\], got \[4\]"),
    ("quantize_rows", {"vectors": randn(3, 0)}, "vectors: expected 1 to 65536 dimensions, got 0"),
    ("quantize_rows", {"threads": -1}, r"threads: expected an integer in \[0, 4096\], got -1"),
    ("score_topk", {"k": 0}, "k: expected an integer >= 1, got 0"),
    ("score_topk", {"threads": 5000}, r"threads: expected an integer in \[0, 4096\], got 5000"),
    (
        "score_topk",
        {"queries": torch.full((4, 1, 24), math.nan)},
        "queries: expected finite numbers, got NaN or infinity .*",
    ),
    ("score_topk", {"queries": randn(4, 2, 24)}, "weights: expected one per interest, got none for 2 interests"),
    (
        "score_topk",
        {"weights": torch.full((4, 1), -1.0)},
        "weights: expected finite numbers >= 0, got -1.0+ in user 0, .*",
    ),
    (
        "score_topk",
        {"weights": torch.zeros(4, 1)},
        "weights: expected a positive weight for each user, got none in user 0",
    ),
    ("score_topk", {"weights": torch.ones(4, 1), "temperature": 0.0}, "temperature: expected a positive .*, got 0.0+"),
    (
        "score_topk",
        {"exclude_items": torch.full((18,), 700)},
        r"exclude_items: expected rows in \[0, 700\), got 700 for user 1",
    ),
    (
        "score_topk",
        {"exclude_items": torch.full((18,), -1)},
        r"exclude_items: expected rows in \[0, 700\), got -1 for user 1",
    ),
    ("score_topk", {"exclude_items": None}, "exclude_offsets: expected with exclude_items and only then, got one .*"),
    ("score_topk", {"exclude_offsets": None}, "exclude_offsets: expected with exclude_items and only then, got one .*"),
    ("score_topk", {"exclude_offsets": ints(0, 18)}, r"exclude_offsets: expected shape \[5\], got \[2\]"),
    (
        "score_topk",
        {"exclude_offsets": ints(0, 9, 3, 9, 18)},
        "exclude_offsets: expected non-decreasing values, got a decrease .*",
    ),
    ("score_items", {"items": torch.full((4, 1), 50)}, r"items: expected rows in \[0, 50\), got 50 for user 0"),
    ("score_items", {"items": torch.full((4, 1), -1)}, r"items: expected rows in \[0, 50\), got -1 for user 0"),
    ("encode", {"weights": []}, "weights: expected 37 tensors, got 0"),
    ("encode", {"config": [1, 2]}, "config: expected 17 integers, got 2"),
    ("encode", {"norm_eps": 0.0}, "norm_eps: expected a finite number > 0, got 0.0+"),
    ("encode", {"items": torch.full((13,), 53)}, r"items: expected values in \[0, 52\], got 53 at position 0"),
    ("encode", {"actions": torch.full((13,), -1)}, r"actions: expected values in \[0, 4\], got -1 at position 0"),
    ("encode", {"now": ints(0)}, r"now: expected shape \[4\], got \[1\]"),
    ("encode", {"offsets": ints(0, 14)}, "offsets: expected a last value of 13, got 14"),
    ("encode", {"threads": -1}, r"threads: expected an integer in \[0, 4096\], got -1"),
]


@pytest.mark.parametrize(("op", "changes", "message"), REFUSED)
def test_values_that_cannot_be_used_are_refused_by_name(op, changes, message):
    args = {**dict(zip(NAMES[op], first_args(op), strict=True)), **changes}
    with pytest.raises(ValueError, match="^" + message + "$"):
        getattr(ops, op)(**args)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("item_embedding", lambda t: t.double(), "item_embedding: expected dtype float32, got float64"),
        ("layers.1.input.weight", lambda t: t[1:], r"layers.1.input.weight: expected shape \[48, 12\], got \[47, 12\]"),
        ("layers.0.output.weight", lambda t: t.t(), "layers.0.output.weight: expected a contiguous tensor, got .*"),
        ("fusion.logits.bias", lambda t: t / 0, "fusion.logits.bias: expected finite values, got .* at position 0"),
        ("long_pooling.decay", lambda t: -t - 1, "long_pooling.decay: expected values >= 0, got .*"),
        ("time_boundaries", lambda t: t.flip(0), "time_boundaries: expected strictly increasing values >= 1, got .*"),
    ],
)
def test_weights_the_encoder_cannot_use_are_refused_by_their_own_name(name, change, message):
    config = native.make_config()
    args = list(encode_args())
    names = [spec[0] for spec in _core.weight_specs(config.to_dict())]
    args[0] = [change(weight) if n == name else weight for n, weight in zip(names, args[0], strict=True)]
    with pytest.raises(ValueError, match="^" + message + "$"):
        ops.encode(*args)
