"""Interest fusion: the weights over a user's interests, and their weighted sum (docs/model.md section 4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from lsif_sdk.config import ModelConfig
from lsif_sdk.model.times import elapsed
from lsif_sdk.times import SECONDS_PER_DAY

__all__ = ["NORM_EPS", "InterestFusion"]

_GAP_SCALE = math.log1p(365 * SECONDS_PER_DAY)
_LENGTH_SCALE = math.log1p(1000)
NORM_EPS = 1e-12
"""eps of |v| = sqrt(v.v + eps), for zero vectors."""
_NEWEST_WEIGHT = 0.99


class InterestFusion(nn.Module):
    """Weights that depend on the interests, the time since the last event and the history's length."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        num_interests = config.num_interests
        self.request_time = config.request_time
        self.hidden = nn.Linear(num_interests * config.dim + 3, config.fusion_dim)
        self.logits = nn.Linear(config.fusion_dim, num_interests)
        # Training starts with the encoder alone: the newest state has nearly all the weight, whatever the input.
        nn.init.zeros_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)
        if num_interests > 1:
            with torch.no_grad():
                self.logits.bias[-1] = math.log(_NEWEST_WEIGHT * (num_interests - 1) / (1 - _NEWEST_WEIGHT))

    def forward(self, interests: Tensor, times: Tensor, asked: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Fuses interests.

        Args:
            interests: [batch, num_queries, M, dim].
            times: int64 Unix seconds of the newest event of each query's history [batch, num_queries].
            asked: request time of each query, int64 Unix seconds [batch, num_queries].
            counts: int64 number of events in each query's history [batch, num_queries].

        Returns:
            fused [batch, num_queries, dim] and weights [batch, num_queries, M], which sum to 1.
        """
        context = self._context(interests, times, asked, counts)
        hidden = functional.silu(self.hidden(torch.cat([interests.flatten(2), context], dim=-1)))
        weights = self.logits(hidden).softmax(dim=-1)
        return (weights[..., None, :] @ interests).squeeze(-2), weights

    def _context(self, interests: Tensor, times: Tensor, asked: Tensor, counts: Tensor) -> Tensor:
        length = torch.log1p(counts.to(interests.dtype)) / _LENGTH_SCALE
        if self.request_time:
            seconds, _ = elapsed(asked, times)
            gap = torch.log1p(seconds.to(interests.dtype)) / _GAP_SCALE
        else:
            gap = torch.zeros_like(length)
        return torch.stack([gap, length, _dispersion(interests)], dim=-1)


def _dispersion(interests: Tensor) -> Tensor:
    """Mean cosine distance between the interests; 0 if there is only one. [..., M, dim] -> [...]."""
    num_interests = interests.shape[-2]
    if num_interests == 1:
        return interests.new_zeros(interests.shape[:-2])
    units = interests * (interests.square().sum(dim=-1, keepdim=True) + NORM_EPS).rsqrt()
    total = units.sum(dim=-2).square().sum(dim=-1)
    return 1 - (total - num_interests) / (num_interests * (num_interests - 1))
