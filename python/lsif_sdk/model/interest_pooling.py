"""Interest pooling: events to long-term interests, states to short-term interests (docs/model.md section 3)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lsif_sdk.config import ModelConfig
from lsif_sdk.model.times import elapsed

__all__ = ["LongTermPooling", "ShortTermPooling"]

SECONDS_PER_DAY = 86400
# Days after which an event counts for a factor e less, one interest after another; infinity never forgets.
_TIME_SCALES = (float("inf"), 365.0, 30.0, 1.0)

EMBEDDING_STD = 0.02
"""Of the item embeddings when training starts."""


class LongTermPooling(nn.Module):
    """Additive attention of `num_long` interests over ALL events, each forgetting at its own rate.

    `rate` is the square root of the decay per day: never negative, and 0 (no forgetting) can be held exactly.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.use_times = config.use_times
        self.hidden = nn.Linear(config.dim, config.pooling_dim)
        self.logits = nn.Linear(config.pooling_dim, config.num_long, bias=False)
        self.value = nn.Linear(config.dim, config.dim, bias=False)
        scales = torch.tensor([_TIME_SCALES[a % len(_TIME_SCALES)] for a in range(config.num_long)])
        self.rate = nn.Parameter(scales.rsqrt())
        # States have norm sqrt(dim) from the start; without this, embeddings would be too short to matter beside them
        # and the fusion would learn to ignore what is pooled from them.
        with torch.no_grad():
            nn.init.eye_(self.value.weight).div_(EMBEDDING_STD)

    def decay(self) -> Tensor:
        """Decay per day of each interest, [num_long], >= 0."""
        return self.rate.square()

    def forward(self, x: Tensor, times: Tensor, visible: Tensor, newest: Tensor) -> Tensor:
        """Long-term interests seen from each query.

        Args:
            x: embedded events [batch, seq_len, dim].
            times: int64 Unix seconds [batch, seq_len].
            visible: bool [batch or 1, num_queries, seq_len], which events each query's history has.
            newest: int64 [batch, num_queries], the time of the newest event of each query's history.

        Returns:
            [batch, num_queries, num_long, dim].
        """
        logits = self.logits(functional.silu(self.hidden(x))).transpose(1, 2)[:, :, None, :]
        if self.use_times:
            seconds, _ = elapsed(newest[:, :, None], times[:, None, :])
            days = seconds.to(x.dtype) / SECONDS_PER_DAY
            logits = logits - self.decay()[:, None, None] * days[:, None]
        weights = logits.masked_fill(~visible[:, None], -torch.inf).softmax(dim=-1)
        return cast(Tensor, (weights @ self.value(x)[:, None]).transpose(1, 2))


class ShortTermPooling(nn.Module):
    """Additive attention of `num_short` interests over the last `short_window` states."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.short_window = config.short_window
        self.hidden = nn.Linear(config.dim, config.pooling_dim)
        self.logits = nn.Linear(config.pooling_dim, config.num_short, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """Short-term interests of every position, [batch, seq_len, dim] -> [batch, seq_len, num_short, dim]."""
        before = min(self.short_window, states.shape[1]) - 1
        logits = self.logits(functional.silu(self.hidden(states)))
        logits = functional.pad(logits, (0, 0, before, 0), value=-torch.inf).unfold(1, before + 1, 1)
        recent = functional.pad(states, (0, 0, before, 0)).unfold(1, before + 1, 1)
        return logits.softmax(dim=-1) @ recent.transpose(-1, -2)
