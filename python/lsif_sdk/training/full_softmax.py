"""Cross-entropy over the whole catalogue that computes loss and gradient together, one chunk of scores at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lsif_sdk.model import CatalogRows
from lsif_sdk.model.repeats import RepeatBonus

__all__ = ["Seen", "full_softmax_loss"]

Seen = Callable[[slice], tuple[Tensor, Tensor] | None]
"""From a slice of the queries to the items left out: rows (relative to the slice) and columns, or None."""

# On a CPU a chunk of scores stays in the cache. Chunks are large on a GPU, where every kernel has a latency.
_SCORES_PER_CHUNK = 1 << 19
_SCORES_PER_CHUNK_OF_GPU = 1 << 27


def full_softmax_loss(
    fused: Tensor, bonus: RepeatBonus | None, catalog: CatalogRows, targets: Tensor, seen: Seen
) -> Tensor:
    """Sum over all queries of -log softmax(scores)[target].

    Scores are those of a "fused" model (`InterestFusionModel.scores`). The softmax p gives both the loss and its
    gradient with respect to the scores, p - onehot(target). So no chunk is kept or computed again for the backward
    pass, which only scales the gradients of the forward pass.

    Args:
        fused: user vectors [num_queries, dim].
        bonus: bonuses of the items of each query's history, or None.
        catalog: vectors and biases of all items.
        targets: catalogue rows, int64 [num_queries], none of which is left out.
        seen: the items to leave out.

    Returns:
        a scalar of the catalogue's type.
    """
    items, values = (None, None) if bonus is None else bonus
    scores = _SCORES_PER_CHUNK_OF_GPU if fused.is_cuda else _SCORES_PER_CHUNK
    rows = max(1, scores // len(catalog.bias))
    arguments = fused, *catalog, values, items, targets, seen, rows
    loss: Tensor = _FullSoftmaxLoss.apply(*arguments)  # type: ignore[no-untyped-call]
    return loss


class _FullSoftmaxLoss(torch.autograd.Function):
    """Differentiable once, in the first four arguments."""

    @staticmethod
    def forward(
        ctx: Any,
        fused: Tensor,
        vectors: Tensor,
        bias: Tensor,
        values: Tensor | None,
        items: Tensor | None,
        targets: Tensor,
        seen: Seen,
        rows: int,
    ) -> Tensor:
        """See `full_softmax_loss`."""
        device, dtype = fused.device.type, vectors.dtype
        # Products, also those of gradients, are in bfloat16 if autocast asks for it; the softmax and sums over chunks
        # are not. Never in float16, whose range unscaled gradients might leave.
        half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
        narrow = torch.bfloat16 if half else dtype
        num_queries, num_items = len(targets), len(vectors)
        loss = vectors.new_zeros(())
        of_fused, of_vectors, of_bias = (torch.zeros_like(part, dtype=dtype) for part in (fused, vectors, bias))
        of_values = None if values is None else torch.zeros_like(values)
        # All chunks share these buffers, which stay in the cache of a CPU.
        scores_of_chunk, slopes_of_chunk = vectors.new_empty(2, min(rows, num_queries), num_items)
        ones = vectors.new_ones(min(rows, num_queries))
        with torch.autocast(device, enabled=False):
            queries, columns = fused.to(narrow), vectors.to(narrow)
            for begin in range(0, num_queries, rows):
                chunk = slice(begin, begin + rows)
                size = len(queries[chunk])
                scores = scores_of_chunk[:size].copy_(bias)
                _add_product(scores, queries[chunk], columns.t())
                if values is not None and items is not None:
                    scores.scatter_add_(-1, items[chunk], values[chunk].to(dtype))
                left_out = seen(chunk)
                if left_out is not None:
                    scores[left_out] = -torch.inf
                slope = slopes_of_chunk[:size]
                loss += _cross_entropy(scores, targets[chunk, None], slope)
                of_bias.addmv_(slope.t(), ones[:size])  # a sum over queries, faster as a product
                if of_values is not None and items is not None:
                    of_values[chunk] = slope.gather(-1, items[chunk])
                slope = slope.to(narrow)
                _add_product(of_fused[chunk], slope, columns)
                _add_product(of_vectors, slope.t(), queries[chunk])
        ctx.save_for_backward(of_fused.to(fused.dtype), of_vectors, of_bias, of_values)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Scales the gradients."""
        gradients = (None if part is None else part * grad for part in ctx.saved_tensors)
        return (*gradients, None, None, None, None)


def _cross_entropy(scores: Tensor, target: Tensor, slope: Tensor) -> Tensor:
    """Sum of -log softmax(scores)[target], a scalar; writes its gradient with respect to the scores to `slope`."""
    torch.softmax(scores, -1, out=slope)
    # log p of the target is computed from that of the best item, whose p does not underflow. In this order large scores
    # cancel before small terms are added.
    behind = scores.amax(dim=-1) - scores.gather(-1, target)[:, 0]
    loss = (behind - slope.amax(dim=-1).log()).sum()
    slope.scatter_add_(-1, target, slope.new_full((1, 1), -1.0).expand_as(target))
    return loss


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, with the product in the type of its factors."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
