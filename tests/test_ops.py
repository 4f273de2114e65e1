"""torch.ops.lsif.*: the contract with torch (opcheck, tracing, gradients)."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lsif_sdk.ops import ops
from op_cases import ALL_CASES, CASES, OPS, encode_args, first_args, randn, topk_args


def test_every_op_is_tested():
    assert sorted(CASES) == OPS


@pytest.mark.parametrize(("op", "name"), ALL_CASES)
def test_opcheck(op, name):
    torch.library.opcheck(getattr(ops, op).default, CASES[op][name]())


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


# ---- Gradients


def float_inputs(args):
    return [
        leaf
        for leaf in torch.utils._pytree.tree_leaves(args)
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
    ]


@pytest.mark.parametrize("op", [op for op in CASES if op not in ("code_catalog", "update_codes")])  # they return bytes
def test_a_gradient_is_refused_rather_than_left_out(op):
    args = first_args(op)
    for wanted in range(len(float_inputs(args))):
        copy = torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, args)
        float_inputs(copy)[wanted].requires_grad_()
        got = getattr(ops, op)(*copy)
        result = next(part for part in (got if isinstance(got, tuple) else (got,)) if part.is_floating_point())
        with pytest.raises(NotImplementedError, match=f"^torch.ops.lsif.{op}: expected inputs whose gradients"):
            result.sum().backward()
        with torch.no_grad():
            assert torch.equal(getattr(ops, op)(*copy)[0], getattr(ops, op)(*args)[0])
