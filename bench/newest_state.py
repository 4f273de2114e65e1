"""The plain transformer encoder (SASRec's shape) with an artifact's weights, as a torch module that peers can compile.

It computes docs/model.md, 1 and 2, for the newest position only: the last layer has one query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

import lsif_sdk

__all__ = ["NewestState", "newest_state_flops", "plain_config"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


def plain_config(num_items: int, dim: int, seq_len: int) -> lsif_sdk.ModelConfig:
    """Two pre-norm layers over the last `seq_len` events, no times; the fused vector is the newest state."""
    return lsif_sdk.ModelConfig(
        num_items=num_items,
        dim=dim,
        block="transformer",
        ffn_dim=4 * dim,
        window=seq_len,
        num_long=0,
        num_short=0,
        use_times=False,
    )


class _Layer(nn.Module):
    """One block. With `newest`, the result is for the newest position only; keys and values are of all positions."""

    bias: Tensor
    input_weight: Tensor
    input_bias: Tensor

    def __init__(self, config: lsif_sdk.ModelConfig, weights: Mapping[str, Tensor], seq_len: int, newest: bool) -> None:
        super().__init__()
        self.config = config
        self.newest = newest
        for name in ("norm", "input", "output", "ffn_norm", "ffn_up", "ffn_down"):
            self.register_buffer(f"{name}_weight", weights[f"{name}.weight"])
            self.register_buffer(f"{name}_bias", weights[f"{name}.bias"])
        distance = torch.arange(seq_len)[:, None] - torch.arange(seq_len)
        bias = weights["position_bias"][:, distance.clamp(0, config.window - 1)]
        bias = bias.masked_fill((distance < 0) | (distance >= config.window), -torch.inf)
        self.register_buffer("bias", bias[:, -1:].clone() if newest else bias)

    def forward(self, x: Tensor) -> Tensor:
        normed = self._norm(x, "norm")
        if self.newest:
            dim = self.config.dim
            x = x[:, -1:]
            q = functional.linear(normed[:, -1:], self.input_weight[:dim], self.input_bias[:dim])
            k, v = functional.linear(normed, self.input_weight[dim:], self.input_bias[dim:]).chunk(2, dim=-1)
        else:
            q, k, v = functional.linear(normed, self.input_weight, self.input_bias).chunk(3, dim=-1)
        q, k, v = self._heads(q), self._heads(k), self._heads(v)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=self.bias)
        x = x + self._linear(mixed.transpose(1, 2).flatten(2), "output")
        hidden = self._linear(self._norm(x, "ffn_norm"), "ffn_up")
        return x + self._linear(_ACTIVATIONS[self.config.activation](hidden), "ffn_down")

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.config.num_heads, self.config.head_dim).transpose(1, 2)

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        return functional.layer_norm(x, (self.config.dim,), weight, bias, self.config.norm_eps)


class NewestState(nn.Module):
    """Maps items, int64 [batch, seq_len] without padding, to the state of the newest one, [batch, dim].

    Args:
        artifact: a model with transformer blocks and without times, actions and pooled interests.
        seq_len: length of every history.
        newest_only: the last layer is computed for the newest position; False: for all, as an ordinary SASRec does.

    Raises:
        ValueError: the model has parts that this module does not.
    """

    item_embedding: Tensor
    norm_weight: Tensor
    norm_bias: Tensor

    def __init__(self, artifact: lsif_sdk.Artifact, seq_len: int, newest_only: bool = True) -> None:
        super().__init__()
        config = artifact.config
        if config.block != "transformer" or config.use_times or config.num_actions or config.num_interests > 1:
            raise ValueError(f"config: expected transformer blocks alone, got {config}")
        self.dim, self.norm_eps = config.dim, config.norm_eps
        self.register_buffer("item_embedding", artifact.weights["item_embedding"])
        self.register_buffer("norm_weight", artifact.weights["norm.weight"])
        self.register_buffer("norm_bias", artifact.weights["norm.bias"])
        last = config.num_layers - 1
        self.layers = nn.Sequential(
            *(
                _Layer(config, _of_layer(artifact.weights, index), seq_len, newest_only and index == last)
                for index in range(last + 1)
            )
        )

    def forward(self, items: Tensor) -> Tensor:
        """Encodes a batch."""
        newest = self.layers(functional.embedding(items, self.item_embedding))[:, -1]
        return functional.layer_norm(newest, (self.dim,), self.norm_weight, self.norm_bias, self.norm_eps)


def _of_layer(weights: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    prefix = f"layers.{index}."
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def newest_state_flops(config: lsif_sdk.ModelConfig, seq_len: int, folded: bool = False) -> int:
    """Multiplications and additions in the matrix products for one history.

    Args:
        config: the model's.
        seq_len: length of the history.
        folded: count as our engine computes (docs/model.md, 2): the first layer's projections come from a table, and
            the last layer computes no keys or values.
    """
    d, f, n = config.dim, config.ffn_dim, seq_len
    seen = sum(min(position + 1, config.window) for position in range(n))
    inner = 2 * n * (3 * d * d + d * d + 2 * d * f) + 4 * seen * d
    rest = 2 * (d * d + 2 * d * f)  # of the last layer, for one position
    if not folded:
        last = 2 * n * 2 * d * d + 2 * d * d + 4 * min(n, config.window) * d + rest
        return (config.num_layers - 1) * inner + last
    last = 6 * d * d + 4 * min(n, config.window) * d * config.num_heads + rest
    table = 2 * n * 3 * d * d if config.num_layers > 1 else 0
    return (config.num_layers - 1) * inner + last - table
