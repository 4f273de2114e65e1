"""ItemContent: what an item's description says about it, added to what its events say (docs/model.md section 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsif_sdk.errors import ArgumentError

__all__ = ["ItemContent"]


class ItemContent(nn.Module):
    """Catalogue rows as the sum of an item's own, if it has events, and of what its description adds.

        (vector_i, bias_i) = ((item_embedding_i, catalog.bias_i) if trained_i) + adapter(features_i)

    While training, an item's own part is dropped at random (Volkovs et al. 2017, DropoutNet), so that the adapted
    description learns to stand alone, as it has to for items without events. The bias is dropped with the vector, so
    the adapter learns how often an item is met that is known by its description only: what the softmax needs to rank it
    fairly among items it knows well. The sum is made once, at export: serving knows nothing of it.

    Args:
        features: frozen descriptions, such as sentence embeddings of titles, float32 [num_items, feature_dim].
        trained: which items have events to learn from, bool [num_items].
        dim: width of the item vectors.
        own_dropout: probability that an item's own part is left out in a training step.

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
        self.adapter = nn.Linear(features.shape[1], dim + 1)
        nn.init.zeros_(self.adapter.bias)
        self.register_buffer("features", features.to(torch.float32), persistent=False)
        self.register_buffer("trained", trained, persistent=False)

    def forward(self, item_embedding: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [num_items, dim] and biases [num_items], from the items' own."""
        kept = self.trained
        if self.training and self.own_dropout > 0:
            kept = kept & (torch.rand(len(kept), device=kept.device) >= self.own_dropout)
        described = self.adapter(self.features)
        vectors = torch.where(kept[:, None], item_embedding, 0) + described[:, :-1]
        return vectors, torch.where(kept, bias, 0) + described[:, -1]
