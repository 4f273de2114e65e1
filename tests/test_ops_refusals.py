"""torch.ops.lsif.*: arguments they cannot use are refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import emulated
import native
from lsif_sdk import _core
from lsif_sdk.config import _SIZES
from lsif_sdk.ops import ops
from op_cases import OFFSETS, OPS, encode_args, first_args, ints, randn

NAMES = {op: [argument.name for argument in getattr(ops, op).default._schema.arguments] for op in OPS}
# One more value in these is valid: one more empty sequence, position, dimension or candidate.
LONGER_IS_VALID = {
    ("attention", "offsets"), ("interest_pooling", "offsets"), ("attention", "position_bias"),
    ("code_catalog", "vectors"), ("score_items", "items"), ("update_codes", "changed"),
}  # fmt: skip
CHANGES: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "dtype": (lambda t: t.to(torch.float64 if t.is_floating_point() else torch.int32), "{}: expected dtype .*, got "),
    "dimensions": (lambda t: t[None], r"{}: expected .*, got \[1, "),
    "strides": (
        lambda t: torch.stack([t, t], -1)[..., 0],
        "{}: expected a contiguous tensor, got one with other strides",
    ),
    # If this argument determines the size of another one, the error names that one.
    "size": (lambda t: torch.cat([t, t[..., -1:]], -1), r"\w+: expected .*, got "),
}


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
    with pytest.raises(native.REFUSED, match="^" + message.format(argument)):
        getattr(ops, op)(**args)


def offsets_with(position: int, value: int) -> torch.Tensor:
    offsets = ints(*OFFSETS)
    offsets[position] = value
    return offsets


def with_bad(value: float) -> torch.Tensor:
    vectors = randn(4, 24)
    vectors[2, 23] = value
    return vectors


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
            (offsets_with(-1, 25), r"a last value of 24 \(the number of rows\), got 25"),
            (ints(0), r"a last value of 24 \(the number of rows\), got 0"),
            (ints(), "at least one value, got none"),
        ]
    ],
    ("interest_pooling", {"decay": randn(2)}, r"decay: expected shape \[3\], got \[2\]"),
    ("interest_fusion", {"gap": randn(4)}, r"gap: expected shape \[5\], got \[4\]"),
    ("code_catalog", {"vectors": randn(40, 0)}, "vectors: expected 1 to 65536 dimensions, got 0"),
    (
        "code_catalog",
        {"vectors": with_bad(math.nan), "bias": None},
        r"vectors: expected finite float32 values, got nan at position \[2, 23\]",
    ),
    (
        "code_catalog",
        {"vectors": with_bad(-math.inf), "bias": None},
        r"vectors: expected finite float32 values, got -inf at position \[2, 23\]",
    ),
    (
        "code_catalog",
        {"bias": torch.full((40,), math.nan)},
        r"bias: expected finite float32 values, got nan at position \[0\]",
    ),
    ("code_catalog", {"threads": -1}, r"threads: expected an integer in \[0, 4096\], got -1"),
    ("update_codes", {"num_coded": 25}, "codes: expected those of 25 x 24 vectors, got those of 24 x 24"),
    ("update_codes", {"num_coded": -1}, r"num_coded: expected an integer in \[0, 40\], got -1"),
    (
        "update_codes",
        {"vectors": randn(20, 24), "bias": None},
        r"num_coded: expected an integer in \[0, 20\], got 24",
    ),
    (  # the size of so many codes does not fit an int64
        "update_codes",
        {"num_coded": 2**60, "codes": torch.empty(0, dtype=torch.uint8)},
        r"num_coded: expected an integer in \[0, 40\], got 1152921504606846976",
    ),
    ("update_codes", {"changed": ints(40)}, r"changed: expected values in \[0, 39\], got 40 at position 0"),
    ("update_codes", {"changed": ints(-1)}, r"changed: expected values in \[0, 39\], got -1 at position 0"),
    (
        "update_codes",
        {"bias": torch.full((40,), math.nan)},
        r"bias: expected finite float32 values, got nan at position \[3\]",
    ),
    (
        "update_codes",
        {"vectors": torch.full((40, 24), math.inf)},
        r"vectors: expected finite float32 values, got inf at position \[3, 0\]",
    ),
    ("update_codes", {"threads": -1}, r"threads: expected an integer in \[0, 4096\], got -1"),
    ("score_topk", {"codes": torch.zeros(11328, dtype=torch.uint8)}, "codes: expected codes of a catalogue, .*"),
    ("score_topk", {"k": 0}, r"k: expected an integer in \[1, 1048576\], got 0"),
    ("score_topk", {"k": 2**40}, r"k: expected an integer in \[1, 1048576\], got 1099511627776"),
    ("score_topk", {"threads": 5000}, r"threads: expected an integer in \[0, 4096\], got 5000"),
    (
        "score_topk",
        {"queries": torch.full((4, 1, 24), math.nan)},
        r"queries: expected finite float32 values, got nan at position \[0, 0\]",
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
    ("encode", {"config": [1, 2]}, "config: expected 18 integers, got 2"),
    ("encode", {"norm_eps": 0.0}, "norm_eps: expected a finite number > 0, got 0.0+"),
    ("encode", {"items": torch.full((13,), 53)}, r"items: expected values in \[0, 52\], got 53 at position 0"),
    ("encode", {"actions": torch.full((13,), -1)}, r"actions: expected values in \[0, 4\], got -1 at position 0"),
    ("encode", {"now": ints(0)}, r"now: expected shape \[4\], got \[1\]"),
    ("encode", {"offsets": ints(0, 14)}, r"offsets: expected a last value of 13 \(the number of rows\), got 14"),
    ("encode", {"threads": -1}, r"threads: expected an integer in \[0, 4096\], got -1"),
]


@pytest.mark.parametrize(("op", "changes", "message"), REFUSED)
def test_values_that_cannot_be_used_are_refused_by_name(op, changes, message):
    args = {**dict(zip(NAMES[op], first_args(op), strict=True)), **changes}
    with pytest.raises(native.REFUSED, match="^" + message + "$"):
        getattr(ops, op)(**args)


@pytest.mark.skipif(bool(emulated.MISSING), reason=emulated.MISSING)
@pytest.mark.parametrize(
    ("op", "changes", "message"), [case for case in REFUSED if case[0] not in ("code_catalog", "update_codes")]
)
def test_the_cuda_ops_refuse_them_in_the_same_words(op, changes, message):
    emulated.load()
    args = {**dict(zip(NAMES[op], first_args(op), strict=True)), **changes}
    with pytest.raises(native.REFUSED, match="^" + message + "$"):
        getattr(torch.ops.lsif_emulated, op)(**args)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("item_embedding", lambda t: t.double(), "item_embedding: expected dtype float32, got float64"),
        ("layers.1.input.weight", lambda t: t[1:], r"layers.1.input.weight: expected shape \[48, 12\], got \[47, 12\]"),
        ("layers.0.output.weight", lambda t: t.t(), "layers.0.output.weight: expected a contiguous tensor, got .*"),
        (
            "fusion.logits.bias",
            lambda t: t / 0,
            r"fusion.logits.bias: expected finite float32 values, got .* at position \[0\]",
        ),
        ("long_pooling.decay", lambda t: -t - 1, "long_pooling.decay: expected values >= 0, got .*"),
        ("time_boundaries", lambda t: t.flip(0), "time_boundaries: expected strictly increasing values >= 1, got .*"),
    ],
)
def test_weights_the_encoder_cannot_use_are_refused_by_their_own_name(name, change, message):
    config = native.make_config()
    args = list(encode_args())
    names = [spec[0] for spec in _core.weight_specs(config.to_dict())]
    args[0] = [change(weight) if n == name else weight for n, weight in zip(names, args[0], strict=True)]
    with pytest.raises(native.REFUSED, match="^" + message + "$"):
        ops.encode(*args)


@pytest.mark.parametrize("beyond", [-1, 1])
@pytest.mark.parametrize("name", _SIZES)
def test_sizes_beyond_the_limits_of_config_py_are_refused(name, beyond):
    low, high = _SIZES[name]
    value = low - 1 if beyond < 0 else high + 1
    fields = {**native.make_config().to_dict(), name: value}
    message = rf"^{name}: expected an integer in \[{low}, {high}\], got {value}$"
    args = dict(zip(NAMES["encode"], encode_args(), strict=True))
    with pytest.raises(native.REFUSED, match=message):
        ops.encode(**{**args, "config": _core.config_ints(fields)})


@pytest.mark.parametrize(
    ("name", "position", "high", "value"),
    [("block", 4, 1, 2), ("activation", 5, 3, -1), ("use_times", 13, 1, -1), ("repeats", 17, 1, 2**32)],
)
def test_numbers_of_choices_and_flags_are_refused_by_name(name, position, high, value):
    args = dict(zip(NAMES["encode"], encode_args(), strict=True))
    args["config"][position] = value
    with pytest.raises(native.REFUSED, match=rf"^{name}: expected an integer in \[0, {high}\], got {value}$"):
        ops.encode(**args)
