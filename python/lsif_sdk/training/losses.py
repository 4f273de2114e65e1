"""Cross-entropy of the next event over the catalogue, with sampled negatives for large catalogues."""

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
# If a batch has more scores than this, the backward pass computes each chunk again instead of keeping all.
_KEPT_LOGITS = 1 << 27
_SAMPLING_POWER = 0.75


class NextEventLoss(nn.Module):
    """Mean loss over all positions of a batch.

    "softmax" is cross-entropy: up to `FULL_SOFTMAX_ITEMS` items over the whole catalogue. Above that, the denominator
    of the softmax is estimated from `num_negatives` items drawn with probability Q(i) ~ (count(i) + 1)^0.75, each of
    which stands for 1 / (num_negatives Q(i)) items: its score is lowered by log(num_negatives Q(i)) (log-Q correction;
    Bengio and Senecal 2003), which makes the estimate of the denominator unbiased. Draws that equal a position's target
    are ignored at that position.

    "binary" is the cross-entropy of sigmoid(score) with one item of the catalogue, drawn uniformly, as negative. To
    reduce variance, it takes the mean over `num_negatives` draws:

        softplus(-score(target)) + mean_j softplus(score(negative_j))

    With `skip_seen`, items of the history are left out of the softmax, full or sampled. Otherwise a model that never
    recommends them would waste capacity on learning that. Of a history that is cut into sequences, only items of the
    current sequence are left out; "binary" leaves out none. Targets must not be among them (see `Sequences`).

    Args:
        model: the model to train.
        counts: number of events of each item, int64 [num_items].
        num_negatives: draws per batch.
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
            # Interests are not needed for scores, and would be most of the data copied below.
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
        # Chunks are large on a GPU, where every kernel has a latency and chunks do not stay in a cache.
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
    """Indices in scores [num_rows, num_items] of the items up to each row's position.

    Args:
        items: each row's sequence, int64 [num_rows, seq_len].
        position: int64 [num_rows].

    Returns:
        rows and columns, int64 [num_seen] each; an item seen twice is there twice.
    """
    row, place = (torch.arange(items.shape[1], device=items.device) <= position[:, None]).nonzero(as_tuple=True)
    return row, items[row, place]


def _drawn(negatives: Tensor, seen: tuple[Tensor, Tensor], num_rows: int) -> Tensor:
    """Which negatives each row has seen (`seen` as of `_seen_before`), bool [num_rows, num_negatives]."""
    distinct, which = torch.unique(negatives, return_inverse=True)
    row, item = seen
    place = torch.searchsorted(distinct, item).clamp_max(len(distinct) - 1)
    met = distinct[place] == item
    drawn = torch.zeros(num_rows, len(distinct), dtype=torch.bool, device=negatives.device)
    drawn[row[met], place[met]] = True
    return drawn[:, which]
