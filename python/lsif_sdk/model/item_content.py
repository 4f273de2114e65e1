"""ItemContent: what an item's description says about it, added to what its events say (docs/model.md section 1)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from lsif_sdk.errors import ArgumentError

__all__ = ["ItemContent"]


class ItemContent(nn.Module):
    """Item vectors as the sum of an embedding of its own, if the item has events, and an adapted description.

        vector_i = (item_embedding_i if trained_i) + adapter(features_i)

    While training, an item's own embedding is dropped at random, so that the adapted description learns to stand alone,
    as it has to for items without events. The sum is made once, at export: serving knows nothing of it.

    Args:
        features: frozen descriptions, such as sentence embeddings of titles, float32 [num_items, feature_dim].
        trained: which items have events to learn from, bool [num_items].
        dim: width of the item vectors.
        own_dropout: probability that an item's own embedding is left out in a training step.

    Raises:
        ArgumentError: shapes do not fit or a feature is not finite.
    """

    features: Tensor
    trained: Tensor

    def __init__(self, features: Tensor, trained: Tensor, dim: int, own_dropout: float = 0.3) -> None:
        super().__init__()
        if features.dim() != 2 or trained.shape != features.shape[:1]:
            got = f"features {tuple(features.shape)}, trained {tuple(trained.shape)}"
            raise ArgumentError("features", "[num_items, feature_dim] and trained [num_items]", got)
        if not bool(features.isfinite().all()):
            raise ArgumentError("features", "finite numbers", "NaN or infinity")
        self.own_dropout = own_dropout
        self.adapter = nn.Linear(features.shape[1], dim)
        nn.init.zeros_(self.adapter.bias)
        self.register_buffer("features", features.to(torch.float32), persistent=False)
        self.register_buffer("trained", trained, persistent=False)

    def forward(self, item_embedding: Tensor) -> Tensor:
        """Item vectors [num_items, dim]."""
        kept = self.trained
        if self.training and self.own_dropout > 0:
            kept = kept & (torch.rand(len(kept), device=kept.device) >= self.own_dropout)
        return cast(Tensor, torch.where(kept[:, None], item_embedding, 0) + self.adapter(self.features))
