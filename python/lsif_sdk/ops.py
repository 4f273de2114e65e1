"""Loads the torch ops `torch.ops.lsif.*` and gives each a fake kernel, so that torch.compile and export can trace them.

An argument that an op refuses raises ValueError, with newer torch (2.15) RuntimeError: "argument: expected ..., got
...". The ops have no gradients: `backward` through one raises NotImplementedError (train with lsif_sdk.model).

csrc/ops has the schemas; every op is a pure function of tensors. docs/model.md and docs/score_topk.md have
the formulas. `torch.ops.lsif_kept.*` serve the request path on a device (csrc/ops/kept_ops.cpp): they do not check
values, refer to models by number, and are not for tracing.
"""

from __future__ import annotations

import pathlib
from typing import NoReturn

import torch
from torch import Tensor

from lsif_sdk import _core
from lsif_sdk.native_parts import not_loaded
from lsif_sdk.torch_version import check_torch

__all__ = ["codes_size", "cuda_ops_problem", "kept_ops", "ops"]

# The folder of _core, which in an editable install is not that of this file.
_FOLDER = pathlib.Path(_core.__file__).parent


def _reason(error: OSError) -> str:
    """The linker's message; torch's own error has only the path."""
    return str(error.__cause__ or error)


def _load_cuda_ops() -> str:
    """Loads the CUDA ops, except for a CPU build of torch; returns why they do not load, or ""."""
    library = _FOLDER / "_ops_cuda.so"
    if torch.version.cuda is None or not library.exists():
        return ""
    try:
        torch.ops.load_library(library)
    except OSError as error:
        return _reason(error)
    return ""


check_torch(torch.__version__)
try:
    torch.ops.load_library(_FOLDER / "_ops.so")
except OSError as error:
    raise not_loaded("_ops", [str(_FOLDER)], _reason(error)) from error
_CUDA_OPS_PROBLEM = _load_cuda_ops()
ops = torch.ops.lsif
kept_ops = torch.ops.lsif_kept


def cuda_ops_problem() -> str:
    """The linker's message if there are CUDA ops that do not load, or ""."""
    return _CUDA_OPS_PROBLEM


_LEAST_ORDERED = 4096
"""The least number of rows for which codes may be ordered by default (csrc/engine/row_order.cpp)."""


def codes_size(num_items: int, dim: int, ordered: bool = False) -> int:
    """Size of a catalogue's codes in bytes, in lines of 64: a header, and per 16 rows a line of bounds and one per 8
    dimensions. Ordered codes have as much again per 16 cells of 16 rows and per 16 regions of 256, and 4 bytes per row.
    """
    groups = -(-num_items // 16)
    if ordered:
        groups += -(-num_items // 256) + -(-num_items // 4096)
    order_lines = -(-num_items // 16) if ordered else 0
    return 64 * (1 + groups * (1 + -(-dim // 8)) + order_lines)


@torch.library.register_fake("lsif::embedding")
def _embedding(items: Tensor, actions: Tensor | None, item: Tensor, action: Tensor | None) -> Tensor:
    return items.new_empty(item.shape[0], items.shape[1])


@torch.library.register_fake("lsif::layer_norm")
def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, gate: Tensor | None = None) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.register_fake("lsif::linear")
def _linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, residual: Tensor | None = None, activation: str = "identity"
) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


@torch.library.register_fake("lsif::attention")
def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    times: Tensor | None,
    query_times: Tensor | None,
    position_bias: Tensor,
    time_bias: Tensor | None,
    time_boundaries: Tensor | None,
    kind: str,
) -> Tensor:
    return q.new_empty(q.shape)


@torch.library.register_fake("lsif::interest_pooling")
def _interest_pooling(
    x: Tensor,
    offsets: Tensor,
    times: Tensor | None,
    hidden_weight: Tensor,
    hidden_bias: Tensor,
    logits_weight: Tensor,
    decay: Tensor | None = None,
) -> Tensor:
    return x.new_empty(offsets.shape[0] - 1, logits_weight.shape[0], x.shape[1])


@torch.library.register_fake("lsif::interest_fusion")
def _interest_fusion(
    interests: Tensor,
    gap: Tensor,
    length: Tensor,
    hidden_weight: Tensor,
    hidden_bias: Tensor,
    logits_weight: Tensor,
    logits_bias: Tensor,
) -> tuple[Tensor, Tensor]:
    batch, num_interests, dim = interests.shape
    return interests.new_empty(batch, num_interests), interests.new_empty(batch, dim)


@torch.library.register_fake("lsif::encode")
def _encode(
    weights: list[Tensor],
    config: list[int],
    norm_eps: float,
    items: Tensor,
    times: Tensor | None,
    actions: Tensor | None,
    offsets: Tensor,
    now: Tensor | None,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    item_embedding, logits_bias = weights[0], weights[-1]  # first and last of the engine's weight_specs
    batch, dim, num_interests = offsets.shape[0] - 1, item_embedding.shape[1], logits_bias.shape[0]
    return (
        item_embedding.new_empty(batch, dim),
        item_embedding.new_empty(batch, num_interests, dim),
        item_embedding.new_empty(batch, num_interests),
    )


@torch.library.register_fake("lsif::code_catalog")
def _code_catalog(vectors: Tensor, bias: Tensor | None, threads: int, ordered: bool | None = None) -> Tensor:
    num_items, dim = vectors.shape
    if ordered is None and num_items >= _LEAST_ORDERED:  # the vectors decide
        return vectors.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.uint8)
    return vectors.new_empty(codes_size(num_items, dim, bool(ordered) and num_items > 0), dtype=torch.uint8)


@torch.library.register_fake("lsif::update_codes")
def _update_codes(
    vectors: Tensor, bias: Tensor | None, codes: Tensor, num_coded: int, changed: Tensor, threads: int
) -> Tensor:
    num_items, dim = vectors.shape
    is_ordered = codes.shape[0] != codes_size(num_coded, dim)
    return vectors.new_empty(codes_size(num_items, dim, is_ordered), dtype=torch.uint8)


@torch.library.register_fake("lsif::score_topk")
def _score_topk(
    queries: Tensor,
    weights: Tensor | None,
    temperature: float,
    vectors: Tensor,
    bias: Tensor | None,
    codes: Tensor,
    k: int,
    exclude_items: Tensor | None,
    exclude_offsets: Tensor | None,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    batch = queries.shape[0]
    return (
        queries.new_empty(batch, k),
        queries.new_empty(batch, k, dtype=torch.int64),
        queries.new_empty(batch, dtype=torch.int64),
    )


@torch.library.register_fake("lsif::score_items")
def _score_items(
    queries: Tensor, weights: Tensor | None, temperature: float, vectors: Tensor, bias: Tensor | None, items: Tensor
) -> Tensor:
    return queries.new_empty(items.shape)


def _refuse_gradients(op: str) -> None:
    def backward(ctx: object, *gradients: Tensor | None) -> NoReturn:
        raise NotImplementedError(
            f"torch.ops.lsif.{op}: expected inputs whose gradients are not wanted, got some that require grad; "
            "the ops are for inference, lsif_sdk.model has differentiable layers"
        )

    torch.library.register_autograd(f"lsif::{op}", backward)


for _op in (
    "embedding", "layer_norm", "linear", "attention", "interest_pooling", "interest_fusion", "encode",
    "score_topk", "score_items",
):  # fmt: skip
    _refuse_gradients(_op)
