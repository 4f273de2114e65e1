"""Interest pooling: long-term interests from events, short-term ones from states (docs/model.md section 3)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lsif_sdk.config import ModelConfig
from lsif_sdk.model.times import UNKNOWN_TIME, elapsed
from lsif_sdk.times import SECONDS_PER_DAY

__all__ = ["LongTermPooling", "ShortTermPooling"]

# Days after which an event's weight has fallen by a factor e, for each interest in turn; infinity never forgets.
_TIME_SCALES = (float("inf"), 365.0, 30.0, 1.0)

# Positions pooled at once: few enough to compute little twice, enough to need few sequential steps.
_BLOCK = 32

EMBEDDING_STD = 0.02
"""Standard deviation of the item embeddings when training starts."""


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
        # States have norm sqrt(dim) from the start. Without this, embeddings would be negligibly short in comparison,
        # and the fusion would learn to ignore interests pooled from them.
        with torch.no_grad():
            nn.init.eye_(self.value.weight)
            if not config.normalize_inputs:
                self.value.weight.div_(EMBEDDING_STD)

    def decay(self) -> Tensor:
        """Decay per day of each interest, [num_long], >= 0."""
        return self.rate.square()

    def forward(self, x: Tensor, times: Tensor, visible: Tensor, newest: Tensor) -> Tensor:
        """Long-term interests for one query per user.

        Args:
            x: embedded events [batch, seq_len, dim].
            times: int64 Unix seconds [batch, seq_len].
            visible: bool [batch, seq_len], which events the query's history has.
            newest: int64 [batch, 1], the time of the newest event of the query's history.

        Returns:
            [batch, 1, num_long, dim].
        """
        return cast(Tensor, (self.weights(x, times, visible, newest) @ self.value(x))[:, None])

    def weights(self, x: Tensor, times: Tensor, visible: Tensor, newest: Tensor) -> Tensor:
        """Weight of each event in each interest, [batch, num_long, seq_len]; arguments as in `forward`."""
        logits = self._logits(x) - self._forgotten(newest, times)
        return logits.masked_fill(~visible[:, None], -torch.inf).softmax(dim=-1)

    def every_position(self, x: Tensor, times: Tensor) -> Tensor:
        """Long-term interests at every position, over the events up to it, for training.

        If times never decrease, the history before a block of positions acts as one event: its value is the interest at
        the block's start, and its logit is the log-sum-exp of the logits, which all decay equally from there on. The
        work is then seq_len * block instead of seq_len ** 2. Otherwise the whole sequence is one block.

        Args:
            x: embedded events [batch, seq_len, dim].
            times: int64 Unix seconds [batch, seq_len].

        Returns:
            [batch, seq_len, num_long, dim].
        """
        seq_len = x.shape[1]
        logits, values = self._logits(x), self.value(x)
        block = min(seq_len, _BLOCK) if not self.use_times or _goes_on(times) else seq_len
        later = torch.ones(block, block, dtype=torch.bool, device=x.device).triu(1)
        # Before the first block there is no history: its logit is -infinity.
        before, total, since = (
            torch.zeros_like(values[:, None, :1]),
            torch.full_like(logits[..., 0], -torch.inf),
            times[:, :1],
        )
        parts: list[Tensor] = []
        for begin in range(0, seq_len, block):
            part = slice(begin, begin + block)
            at = times[:, part]
            length = at.shape[1]
            pairs = logits[:, :, None, part] - self._forgotten(at[:, :, None], at[:, None, :])
            pairs = pairs.masked_fill(later[:length, :length], -torch.inf)
            carried = total[:, :, None] - self._forgotten(at, since)
            pairs = torch.cat([pairs, carried[..., None]], dim=-1)
            weights = pairs.softmax(dim=-1)
            inside = torch.unflatten(weights[..., :length].flatten(1, 2) @ values[:, part], 1, (-1, length))
            parts.append(inside + weights[..., length:] * before)
            before, total, since = parts[-1][:, :, -1:], pairs[:, :, -1].logsumexp(dim=-1), at[:, -1:]
        return torch.cat(parts, dim=2).transpose(1, 2)

    def _logits(self, x: Tensor) -> Tensor:
        """Logits of the events without decay, [batch, num_long, seq_len]."""
        return cast(Tensor, self.logits(functional.silu(self.hidden(x))).transpose(1, 2))

    def _forgotten(self, later: Tensor, earlier: Tensor) -> Tensor:
        """How much each interest's logit decays between the times, [batch, num_long, *]; 0 without times."""
        seconds, _ = elapsed(later, earlier)
        days = seconds.to(self.rate.dtype)[:, None] / SECONDS_PER_DAY
        decay = self.decay() if self.use_times else torch.zeros_like(self.rate)
        return decay.view(-1, *[1] * (days.dim() - 2)) * days


def _goes_on(times: Tensor) -> bool:
    """Whether times never decrease in a sequence, and each has all or no times known."""
    unknown = times == UNKNOWN_TIME
    mixed = unknown.any(dim=1) != unknown.all(dim=1)
    return not bool(mixed.any() | (times[:, 1:] < times[:, :-1]).any())


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
        logits = functional.pad(self._logits(states), (0, 0, before, 0), value=-torch.inf).unfold(1, before + 1, 1)
        padded = functional.pad(states, (0, 0, before, 0))
        # Slices, since the gradient of `unfold` is slow with `dim` columns instead of `num_short`.
        recent = torch.stack([padded[:, first : first + states.shape[1]] for first in range(before + 1)], dim=2)
        return logits.softmax(dim=-1) @ recent

    def weights(self, states: Tensor) -> Tensor:
        """Weight of each state at the newest position, [seq_len, dim] -> [num_short, seq_len]."""
        recent = self._logits(states[-self.short_window :]).softmax(dim=0).t()
        return functional.pad(recent, (len(states) - recent.shape[1], 0))

    def _logits(self, states: Tensor) -> Tensor:
        return cast(Tensor, self.logits(functional.silu(self.hidden(states))))
