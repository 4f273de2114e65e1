"""SequenceEncoder: N blocks of windowed causal attention over a user's events (docs/model.md section 2)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lsif_sdk.config import ModelConfig
from lsif_sdk.model.times import elapsed

__all__ = ["SequenceEncoder", "time_boundaries"]

_BOUNDARY_LOG_RATIO = 0.301
_BOUNDARY_LOG_LIMIT = 40.0
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


def time_boundaries(count: int) -> Tensor:
    """Boundaries between time buckets, in seconds: about geometric with ratio exp(0.301), integers from 1 upwards.

    64 boundaries reach about 8 years. For counts that would leave the int64 range the ratio is smaller.

    Args:
        count: how many boundaries.

    Returns:
        int64 [count], strictly increasing, the first is 1.
    """
    ratio = math.exp(min(_BOUNDARY_LOG_RATIO, _BOUNDARY_LOG_LIMIT / count))
    boundaries = [1]
    while len(boundaries) < count:
        boundaries.append(max(boundaries[-1] + 1, round(boundaries[-1] * ratio)))
    return torch.tensor(boundaries, dtype=torch.int64)


@dataclasses.dataclass(frozen=True)
class _WindowBlocks:
    """Cuts a sequence into blocks of queries, each with the keys its window can reach.

    Memory is then about seq_len * 1.5 window instead of seq_len ** 2. A sequence within the window is one block.
    """

    seq_len: int
    window: int

    @property
    def block(self) -> int:
        return self.seq_len if self.seq_len <= self.window else -(-self.window // 2)

    @property
    def reach(self) -> int:
        """Number of keys before a block's first query: two blocks, which are at least the window."""
        return 0 if self.seq_len <= self.window else 2 * self.block

    @property
    def tail(self) -> int:
        return -self.seq_len % self.block

    def queries(self, x: Tensor) -> Tensor:
        """[batch, seq_len, *rest] -> [batch, num_blocks, block, *rest]."""
        padding = [0, 0] * (x.dim() - 2) + [0, self.tail]
        return torch.unflatten(functional.pad(x, padding), 1, (-1, self.block))

    def keys(self, x: Tensor) -> Tensor:
        """[batch, seq_len, *rest] -> [batch, num_blocks, reach + block, *rest]."""
        if self.reach == 0:
            return x[:, None]
        padding = [0, 0] * (x.dim() - 2) + [self.reach, self.tail]
        parts = torch.unflatten(functional.pad(x, padding), 1, (-1, self.block))
        # Slices, since the gradient of `unfold` is slow.
        return torch.cat([parts[:, :-2], parts[:, 1:-1], parts[:, 2:]], dim=2)

    def distances(self, device: torch.device) -> Tensor:
        """How many events a key precedes its query by, int64 [block, reach + block]; negative for later keys."""
        query = torch.arange(self.block, device=device)[:, None] + self.reach
        return query - torch.arange(self.reach + self.block, device=device)

    def visible(self, device: torch.device) -> Tensor:
        """Which keys are in the window and in the sequence, bool [num_blocks, 1, block, reach + block]."""
        distance = self.distances(device)
        in_window = (distance >= 0) & (distance < self.window)
        first_key = torch.arange(0, self.seq_len, self.block, device=device) - self.reach
        exists = first_key[:, None] + torch.arange(self.reach + self.block, device=device) >= 0
        return (in_window & exists[:, None, :])[:, None]


class _Block(nn.Module):
    """The common parts of both block types: the additive bias and the split into heads."""

    def __init__(self, config: ModelConfig, dropout: float) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.window = config.window
        self.scale = 1 / math.sqrt(config.head_dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.position_bias = nn.Parameter(torch.zeros(config.num_heads, config.window))
        if config.use_times:
            self.time_bias = nn.Parameter(torch.zeros(config.num_heads, config.num_time_boundaries + 2))
        self.output = nn.Linear(config.dim, config.dim)

    def bias(self, blocks: _WindowBlocks, buckets: Tensor | None) -> Tensor:
        """Additive attention bias, broadcastable to [batch, num_blocks, num_heads, block, reach + block]."""
        distance = blocks.distances(self.position_bias.device).clamp(0, self.window - 1)
        bias = self.position_bias[:, distance]
        if buckets is None:
            return bias
        # Selecting along the last dimension is many times faster than an embedding of num_heads columns.
        by_time = torch.unflatten(self.time_bias.index_select(1, buckets.flatten()), 1, buckets.shape)
        return bias + by_time.permute(1, 2, 0, 3, 4)

    def logits(self, q: Tensor, k: Tensor, blocks: _WindowBlocks, buckets: Tensor | None) -> Tensor:
        """Scaled dot products plus bias, [batch, num_blocks, num_heads, block, reach + block]."""
        queries = torch.unflatten(blocks.queries(q * self.scale), -1, (self.num_heads, -1)).transpose(2, 3)
        keys = torch.unflatten(blocks.keys(k), -1, (self.num_heads, -1)).permute(0, 1, 3, 4, 2)
        return queries @ keys + self.bias(blocks, buckets)

    def mix(self, weights: Tensor, v: Tensor, blocks: _WindowBlocks) -> Tensor:
        """Attention-weighted sums of the values, [batch, seq_len, dim]."""
        values = torch.unflatten(blocks.keys(v), -1, (self.num_heads, -1)).transpose(2, 3)
        return (weights @ values).transpose(2, 3).flatten(3).flatten(1, 2)[:, : blocks.seq_len]


class _HstuBlock(_Block):
    """Pointwise SiLU attention with a gate (Zhai et al. 2024, eq. 1-3; normalised by the window)."""

    def __init__(self, config: ModelConfig, dropout: float) -> None:
        super().__init__(config, dropout)
        self.input = nn.Linear(config.dim, 4 * config.dim)
        self.output_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)

    def forward(self, x: Tensor, blocks: _WindowBlocks, visible: Tensor, buckets: Tensor | None) -> Tensor:
        q, k, v, u = functional.silu(self.input(self.norm(x))).chunk(4, dim=-1)
        weights = functional.silu(self.logits(q, k, blocks, buckets)) * (visible / self.window).to(x.dtype)
        attended = self.mix(weights, v, blocks)
        return cast(Tensor, x + self.output(self.dropout(self.output_norm(attended) * u)))


class _TransformerBlock(_Block):
    """Pre-norm softmax attention and feed-forward (Vaswani et al. 2017)."""

    def __init__(self, config: ModelConfig, dropout: float) -> None:
        super().__init__(config, dropout)
        self.input = nn.Linear(config.dim, 3 * config.dim)
        self.ffn_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.ffn_up = nn.Linear(config.dim, config.ffn_dim)
        self.ffn_down = nn.Linear(config.ffn_dim, config.dim)
        self.activation = _ACTIVATIONS[config.activation]

    def forward(self, x: Tensor, blocks: _WindowBlocks, visible: Tensor, buckets: Tensor | None) -> Tensor:
        q, k, v = self.input(self.norm(x)).chunk(3, dim=-1)
        weights = self.logits(q, k, blocks, buckets).masked_fill(~visible, -torch.inf).softmax(dim=-1)
        x = x + self.dropout(self.output(self.mix(weights, v, blocks)))
        hidden = self.activation(self.ffn_up(self.ffn_norm(x)))
        return cast(Tensor, x + self.dropout(self.ffn_down(self.dropout(hidden))))


class SequenceEncoder(nn.Module):
    """Encodes embedded events as states h; state i depends only on events <= i within the window of each layer.

    Args:
        config: the model's hyper-parameters.
        dropout: probability on every residual branch.
    """

    time_boundaries: Tensor

    def __init__(self, config: ModelConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.window = config.window
        self.use_times = config.use_times
        block: type[_Block] = _HstuBlock if config.block == "hstu" else _TransformerBlock
        self.layers = nn.ModuleList(block(config, dropout) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        if config.use_times:
            self.register_buffer("time_boundaries", time_boundaries(config.num_time_boundaries))

    def forward(self, x: Tensor, times: Tensor, asked: Tensor) -> Tensor:
        """Encodes right-padded sequences; padding needs no mask, because attention never looks ahead.

        Args:
            x: embedded events, [batch, seq_len, dim].
            times: event times, int64 Unix seconds [batch, seq_len].
            asked: the request time of each position (q of docs/model.md), int64 [batch, seq_len].

        Returns:
            states [batch, seq_len, dim]; those of padding are meaningless.
        """
        blocks = _WindowBlocks(x.shape[1], self.window)
        visible = blocks.visible(x.device)
        buckets = self._buckets(blocks, times, asked) if self.use_times else None
        for layer in self.layers:
            x = layer(x, blocks, visible, buckets)
        return cast(Tensor, self.norm(x))

    def _buckets(self, blocks: _WindowBlocks, times: Tensor, asked: Tensor) -> Tensor:
        seconds, known = elapsed(blocks.queries(asked)[..., None], blocks.keys(times)[:, :, None, :])
        return torch.where(known, 1 + torch.bucketize(seconds, self.time_boundaries, right=True), 0)
