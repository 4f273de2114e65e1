"""torch.ops.lsif_kept.*: the results of torch.ops.lsif.*, for models that are kept under a number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import encode_cases
import native
import test_precision
from device_cases import DEVICES, kept_ops_of, memory_of
from lsif_sdk import _core
from lsif_sdk.bitmaps import as_bitmap
from lsif_sdk.ops import ops
from op_cases import CASES, encode_args, topk_args

pytestmark = pytest.mark.parametrize("device", DEVICES)


def placed(values, device):
    return torch.utils._pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.to(memory_of(device)), values)


def ascending(exclude_items, exclude_offsets, num_items):
    if exclude_items is None:
        return None, None
    rows, offsets = _core.ragged_union([(exclude_items.numpy(), exclude_offsets.numpy())], num_items)
    return torch.from_numpy(rows), torch.from_numpy(offsets)


def kept_topk(args, device, allowed=None, as_they_are=False):
    kept_ops = kept_ops_of(device)
    queries, weights, temperature, vectors, bias, codes, k, *exclude, threads = args
    bias = torch.zeros(len(vectors)) if bias is None else bias
    if not as_they_are:
        exclude = ascending(*exclude, len(vectors))
    catalog = kept_ops.keep_catalog(*placed((vectors, bias, codes), device))
    asked = placed((queries, weights, temperature, k, *exclude, allowed, threads), device)
    found = kept_ops.score_topk(catalog, *asked)
    kept_ops.drop(catalog, asked[0])
    return [part.cpu() for part in found]


@pytest.mark.parametrize("case", CASES["encode"])
def test_encode(device, case):
    kept_ops = kept_ops_of(device)
    args = CASES["encode"][case]()
    on_device = placed(args, device)
    encoder = kept_ops.keep_encoder(*on_device[:3], "float32", 1)
    for expected, actual in zip(ops.encode(*args), kept_ops.encode(encoder, *on_device[3:]), strict=True):
        tolerance = 0.0 if device == "cpu" else 2e-5 * float(expected.abs().max()) if expected.numel() else 0.0
        torch.testing.assert_close(actual.cpu(), expected, rtol=0, atol=tolerance)
    kept_ops.drop(encoder, on_device[3])


@pytest.mark.parametrize("case", CASES["score_topk"])
def test_score_topk(device, case):
    args = CASES["score_topk"][case]()
    for expected, actual in zip(ops.score_topk(*args), kept_topk(args, device), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0 if args[1] is None else 2e-7, atol=0)


@pytest.mark.parametrize("name", test_precision.CASES)
def test_bfloat16_is_near_float32(device, name):
    kept_ops = kept_ops_of(device)
    case = encode_cases.CASES[name]
    artifact = case.artifact()
    batch = case.batch().select([0, 1, 2, 5, 7])
    args = placed(native.encode_op_args(artifact, batch, 2), device)
    results = {}
    for precision in ("float32", "bfloat16"):
        encoder = kept_ops.keep_encoder(*args[:3], precision, 1)
        results[precision] = [part.cpu().numpy() for part in kept_ops.encode(encoder, *args[3:])]
        kept_ops.drop(encoder, args[3])
    error = max(map(native.relative_error, results["bfloat16"], results["float32"]))
    assert error < test_precision.TOLERANCE
    assert error > encode_cases.TOLERANCE or name == "dim 1"  # a norm of one value leaves nothing to round
    if device == "cpu":
        expected = batch.encode(native.request_path(artifact, precision="bfloat16"))
        assert all(map(np.array_equal, results["bfloat16"], expected))


def test_rows_past_the_last_offset_are_not_read(device):
    args = list(topk_args())
    args[7:9] = ascending(*args[7:9], 700)
    expected = kept_topk(args, device)
    args[7] = torch.cat([args[7], torch.tensor([10**9, -5])])
    for one, other in zip(expected, kept_topk(args, device, as_they_are=True), strict=True):
        assert torch.equal(one, other)


def test_bitmaps_are_read_where_their_addresses_point(device):
    args = topk_args(batch=3, exclude=False)
    holds = np.arange(700) % 3 == 1
    bitmap = torch.from_numpy(as_bitmap(holds).view(np.int64).copy()).to(memory_of(device))
    allowed = torch.tensor([bitmap.data_ptr(), 0, bitmap.data_ptr()])
    _, indices, _ = kept_topk(args, device, allowed)
    _, everything, _ = ops.score_topk(*args[:6], 700, *args[7:])
    for user in range(3):
        rows = everything[user]
        assert indices[user].tolist() == (rows if user == 1 else rows[rows % 3 == 1])[:9].tolist()


def test_score_items(device):
    kept_ops = kept_ops_of(device)
    queries, weights, temperature, vectors, bias, items = CASES["score_items"]["several interests"]()
    catalog = kept_ops.keep_catalog(*placed((vectors, bias, ops.code_catalog(vectors, bias, 1)), device))
    scores = kept_ops.score_items(catalog, *placed((queries, weights, temperature, items), device))
    expected = ops.score_items(queries, weights, temperature, vectors, bias, items)
    torch.testing.assert_close(scores.cpu(), expected, rtol=2e-7, atol=0)


def test_what_is_kept_is_checked_once(device):
    kept_ops = kept_ops_of(device)
    weights, config, eps, *_ = encode_args()
    with pytest.raises(native.REFUSED, match=r"^weights: expected \d+ tensors, got 3$"):
        kept_ops.keep_encoder(placed(weights[:3], device), config, eps, "float32", 1)
    broken = [weight.clone() for weight in weights]
    broken[0][3, 1] = float("nan")
    with pytest.raises(native.REFUSED, match=r"^item_embedding: expected"):
        kept_ops.keep_encoder(placed(broken, device), config, eps, "float32", 1)
    with pytest.raises(native.REFUSED, match=r"^precision: expected 'float32' or 'bfloat16', got 'half'$"):
        kept_ops.keep_encoder(placed(weights, device), config, eps, "half", 1)
    wide = encode_args(dim=258, num_heads=2)[:3]
    if device == "cpu":
        kept_ops.drop(kept_ops.keep_encoder(*wide, "bfloat16", 1), wide[0][0])
    else:
        with pytest.raises(
            native.REFUSED, match=r"^precision: expected 'float32' on a GPU with heads of more than 128 "
        ):
            kept_ops.keep_encoder(*placed(wide, device), "bfloat16", 1)
    vectors, bias = torch.ones(5, 3), torch.zeros(5)
    with pytest.raises(native.REFUSED, match=r"^codes: expected"):
        kept_ops.keep_catalog(*placed((vectors, bias, torch.zeros(64, dtype=torch.uint8)), device))


def test_shapes_types_and_numbers_are_checked_always(device):
    kept_ops = kept_ops_of(device)
    queries, _, _, vectors, bias, codes, *_ = placed(topk_args(), device)
    catalog = kept_ops.keep_catalog(vectors, bias, codes)
    for arguments, message in (
        ((queries[:, :, :3], None, 1.0, 5, None, None, None, 1), r"queries: expected shape \[4, 1, 24\], got"),
        ((queries.double(), None, 1.0, 5, None, None, None, 1), "queries: expected dtype float32"),
        ((queries, None, 1.0, 5, bias, None, None, 1), "exclude_"),
        ((queries, None, 1.0, 5, None, None, bias, 1), "allowed: expected dtype int64"),
        (
            (queries.repeat(1, 2, 1), None, 1.0, 5, None, None, None, 1),
            "weights: expected one per interest",
        ),
        ((queries, None, 1.0, 0, None, None, None, 1), "k: expected an integer >= 1, got 0"),
        ((queries, None, 1.0, -3, None, None, None, 1), "k: expected an integer >= 1, got -3"),
    ):
        with pytest.raises(native.REFUSED, match="^" + message):
            kept_ops.score_topk(catalog, *arguments)
    encoder = kept_ops.keep_encoder(*placed(encode_args()[:3], device), "float32", 1)
    with pytest.raises(native.REFUSED, match=r"^catalog: expected the number of one that is kept on this device, got"):
        kept_ops.score_topk(encoder, queries, None, 1.0, 5, None, None, None, 1)
    kept_ops.drop(encoder, queries)
    kept_ops.drop(encoder, queries)  # no error
    with pytest.raises(native.REFUSED, match=r"^encoder: expected"):
        kept_ops.encode(encoder, *placed(encode_args()[3:], device))
