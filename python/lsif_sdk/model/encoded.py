"""The model's encoding of histories, and the rows that items are scored with."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lsif_sdk.model.repeats import RepeatBonus

__all__ = ["CatalogRows", "Encoded"]


class Encoded(NamedTuple):
    """An encoded history; the leading dimensions are the caller's.

    Attributes:
        fused: the user vector I, [..., dim].
        interests: long-term, pooled short-term, newest state, [..., M, dim].
        weights: weights of the interests, [..., M], with sum 1.
        bonus: bonuses of the items of the history; None without `repeats`.
    """

    fused: Tensor
    interests: Tensor
    weights: Tensor
    bonus: RepeatBonus | None = None

    def select(self, index: Any) -> Encoded:
        """Indexes the leading dimensions, for example with a bool mask of positions."""
        bonus = None if self.bonus is None else RepeatBonus(*(part[index] for part in self.bonus))
        return Encoded(self.fused[index], self.interests[index], self.weights[index], bonus)

    def where(self, valid: Tensor) -> Encoded:
        """Zeros where not valid (bool over the leading dimensions)."""
        bonus = self.bonus
        if bonus is not None:
            bonus = bonus._replace(values=torch.where(valid[..., None], bonus.values, 0))
        return Encoded(
            torch.where(valid[..., None], self.fused, 0),
            torch.where(valid[..., None, None], self.interests, 0),
            torch.where(valid[..., None], self.weights, 0),
            bonus,
        )


class CatalogRows(NamedTuple):
    """The vectors and biases that items are scored with.

    Attributes:
        vectors: [num_items, dim].
        bias: [num_items].
    """

    vectors: Tensor
    bias: Tensor
