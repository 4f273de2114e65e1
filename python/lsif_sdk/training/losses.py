"""Cross-entropy of the following event over the catalogue; with sampled negatives where the full one is too much."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lsif_sdk.model import CatalogRows, Encoded, InterestFusionModel
from lsif_sdk.training.batches import Batch
from lsif_sdk.training.config import LossName
from lsif_sdk.training.full_softmax import full_softmax_loss

__all__ = ["FULL_SOFTMAX_ITEMS", "NextEventLoss"]

FULL_SOFTMAX_ITEMS = 50_000
"""Largest catalogue that is trained with the full softmax."""

# On a CPU a chunk of scores stays in the cache.
_LOGITS_PER_CHUNK = 1 << 20
# Where a batch has more scores than this, the backward pass computes each chunk again instead of keeping all.
_KEPT_LOGITS = 1 << 27
_SAMPLING_POWER = 0.75


class NextEventLoss(nn.Module):
    """Mean loss over all positions of a batch.

    "softmax" is cross-entropy. Up to `FULL_SOFTMAX_ITEMS` items: over the whole catalogue. Above: the softmax's
    denominator is estimated from `num_negatives` items drawn with probability Q(i) ~ (count(i) + 1)^0.75, each standing
    for 1 / (num_negatives Q(i)) items: its score is lowered by log(num_negatives Q(i)) (log-Q correction; Bengio and
    Senecal 2003), which makes the estimate of the denominator unbiased. Draws that hit a position's target are left
    out there.

    "binary" is the cross-entropy of sigmoid(score) with one item of the catalogue drawn uniformly as the negative; to
    spread less, the mean over `num_negatives` draws stands for the one:

        softplus(-score(target)) + mean_j softplus(score(negative_j))

    With `skip_seen` items of the history are left out of the softmax, full or sampled: otherwise a model that is never
    asked for them spends itself on learning not to recommend them. Of a long history those of the sequence are left
    out; "binary" leaves out none. Targets must not be among them (see `Sequences`).

    Args:
        model: the model to train.
        counts: events of each item, int64 [num_items].
        num_negatives: draws a batch.
        loss: see `TrainConfig`.
        skip_seen: see above.
    """

    def __init__(
        self,
        model: InterestFusionModel,
        counts: NDArray[np.int64],
        num_negatives: int,
        loss: LossName = "softmax",
        skip_seen: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.num_negatives = num_negatives
        self.binary = loss == "binary"
        self.skip_seen = skip_seen
        self.sampled = self.binary or model.config.num_items > FULL_SOFTMAX_ITEMS
        weights = np.ones(len(counts)) if self.binary else (counts + 1.0) ** _SAMPLING_POWER
        cumulative = torch.from_numpy(np.cumsum(weights / weights.sum()))
        self.register_buffer("cumulative", cumulative, persistent=False)
        self.cumulative: Tensor

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar."""
        encoded = self.model(
            batch.items, batch.times, batch.actions, lengths=batch.lengths, start=batch.start, now=batch.now
        )
        if self.model.config.scoring == "fused":
            # Interests take no part in scores, and would be most of what is copied below.
            encoded = encoded._replace(interests=encoded.interests[..., :0, :])
        valid = batch.targets >= 0
        targets, encoded = batch.targets[valid], encoded.select(valid)
        negatives = self._draw() if self.sampled else None
        width = self.model.config.num_items if negatives is None else len(negatives) + 1
        if self.model.config.scoring == "multi_interest":
            width *= self.model.config.num_interests
        catalog = self.model.catalog_rows()
        user, position = valid.nonzero(as_tuple=True)

        def seen(chunk: slice) -> tuple[Tensor, Tensor] | None:
            if not self.skip_seen or self.binary:
                return None
            return _seen_before(batch.items[user[chunk]], position[chunk])

        if negatives is None and self.model.config.scoring == "fused":
            return full_softmax_loss(encoded.fused, encoded.bonus, catalog, targets, seen) / len(targets)
        # A GPU wants large chunks: there every kernel is waited for, and nothing stays in a cache.
        rows = max(1, (_KEPT_LOGITS if targets.is_cuda else _LOGITS_PER_CHUNK) // width)
        sums = []
        for begin in range(0, len(targets), rows):
            chunk = slice(begin, begin + rows)
            arguments = encoded.select(chunk), targets[chunk], negatives, catalog, seen(chunk)
            if len(targets) * width <= _KEPT_LOGITS:
                sums.append(self._sum(*arguments))
            else:
                sums.append(checkpoint(self._sum, *arguments, use_reentrant=False, preserve_rng_state=False))
        return torch.stack(sums).sum() / len(targets)

    def _sum(
        self,
        encoded: Encoded,
        targets: Tensor,
        negatives: Tensor | None,
        catalog: CatalogRows,
        seen: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        if negatives is None:
            scores = self.model.scores(encoded, rows=catalog)
            if seen is not None:
                scores = scores.index_put(seen, scores.new_tensor(-torch.inf))
            return functional.cross_entropy(scores, targets, reduction="sum")
        positive = self.model.target_scores(encoded, targets, catalog)
        scores = self.model.scores(encoded, negatives, catalog)
        if self.binary:
            return (functional.softplus(-positive) + functional.softplus(scores).mean(dim=-1)).sum()
        probability = self.cumulative.diff(prepend=self.cumulative.new_zeros(1))[negatives]
        correction = torch.log(self.num_negatives * probability).to(encoded.fused.dtype)
        hits = negatives == targets[:, None]
        if seen is not None:
            hits |= _drawn(negatives, seen, len(targets))
        scores = (scores - correction).masked_fill(hits, -torch.inf)
        logits = torch.cat([positive[:, None], scores], dim=1)
        return functional.cross_entropy(logits, torch.zeros_like(targets), reduction="sum")

    def _draw(self) -> Tensor:
        draws = torch.rand(self.num_negatives, dtype=torch.float64, device=self.cumulative.device)
        return torch.searchsorted(self.cumulative, draws, right=True).clamp_max(len(self.cumulative) - 1)


def _seen_before(items: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    """Where, in scores [num_rows, num_items], the items up to each row's position stand.

    Args:
        items: each row's sequence, int64 [num_rows, seq_len].
        position: int64 [num_rows].

    Returns:
        rows and columns, int64 [num_seen] each; an item seen twice stands there twice.
    """
    row, place = (torch.arange(items.shape[1], device=items.device) <= position[:, None]).nonzero(as_tuple=True)
    return row, items[row, place]


def _drawn(negatives: Tensor, seen: tuple[Tensor, Tensor], num_rows: int) -> Tensor:
    """Which draws each row has seen (see `_seen_before`), bool [num_rows, num_negatives]."""
    distinct, which = torch.unique(negatives, return_inverse=True)
    row, item = seen
    place = torch.searchsorted(distinct, item).clamp_max(len(distinct) - 1)
    met = distinct[place] == item
    drawn = torch.zeros(num_rows, len(distinct), dtype=torch.bool, device=negatives.device)
    drawn[row[met], place[met]] = True
    return drawn[:, which]
