"""Neural models to compare with: our encoder without fusion, other fusions, and recurrent and factorisation models.

Each reads the same inputs and is trained on the same data as `lsif_sdk`; only the named part differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lsif_sdk.config import ModelConfig
from lsif_sdk.model import InterestFusion, InterestFusionModel
from lsif_sdk.training import EventLog
from lsif_sdk.training.validation import encode_users


class RecurrentEncoder(nn.Module):
    """Embedded events to states by config.num_layers recurrent layers and a dense one."""

    def __init__(self, config: ModelConfig, dropout: float, cell: type[nn.GRU] | type[nn.LSTM]) -> None:
        super().__init__()
        self.recurrent = cell(config.dim, config.dim, num_layers=config.num_layers, batch_first=True)
        self.dense = nn.Linear(config.dim, config.dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, times: Tensor, asked: Tensor) -> Tensor:
        """[batch, seq_len, dim] -> [batch, seq_len, dim]."""
        states, _ = self.recurrent(x)
        return self.dense(self.dropout(states))


def gru4rec(config: ModelConfig, dropout: float) -> InterestFusionModel:
    """GRU4Rec (Hidasi et al. 2016) with the loss of the config's training."""
    return _with_encoder(config, dropout, nn.GRU)


def lstm(config: ModelConfig, dropout: float) -> InterestFusionModel:
    """The model of the source document, section 5.2: Embedding -> LSTM -> Dense -> sigmoid (with the loss "binary")."""
    return _with_encoder(config, dropout, nn.LSTM)


def _with_encoder(config: ModelConfig, dropout: float, cell: Any) -> InterestFusionModel:
    model = InterestFusionModel(config, dropout)
    model.encoder = RecurrentEncoder(config, dropout, cell)
    return model


class MaskedFusion(InterestFusion):
    """Learned weights over the long-term interests only."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.num_long = config.num_long

    def forward(self, interests: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        """As `InterestFusion`, with zero weight on all other interests."""
        _, weights = super().forward(interests, *context)
        weights = weights[..., : self.num_long]
        weights = weights / weights.sum(dim=-1, keepdim=True)
        weights = functional.pad(weights, (0, interests.shape[-2] - self.num_long))
        return (weights[..., None, :] @ interests).squeeze(-2), weights


class MeanFusion(InterestFusion):
    """Equal weights."""

    def forward(self, interests: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        """As `InterestFusion`."""
        return interests.mean(dim=-2), torch.full_like(interests[..., 0], 1 / interests.shape[-2])


class GateFusion(InterestFusion):
    """One scalar gate between the mean long-term interest and the newest state (after SLi-Rec, Yu et al. 2019)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.num_long = config.num_long
        self.logits = nn.Linear(config.fusion_dim, 1)

    def forward(self, interests: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        """As `InterestFusion`."""
        inputs = torch.cat([interests.flatten(2), self._context(interests, *context)], dim=-1)
        gate = self.logits(functional.silu(self.hidden(inputs))).sigmoid()
        between = interests.shape[-2] - self.num_long - 1
        long = (gate / self.num_long).expand(*gate.shape[:-1], self.num_long)
        weights = torch.cat([long, gate.new_zeros(*gate.shape[:-1], between), 1 - gate], dim=-1)
        return (weights[..., None, :] @ interests).squeeze(-2), weights


def with_fusion(fusion: type[InterestFusion]) -> Any:
    def build(config: ModelConfig, dropout: float) -> InterestFusionModel:
        model = InterestFusionModel(config, dropout)
        model.fusion = fusion(config)
        return model

    return build


EVENTS_PER_BATCH = 1 << 15


class TorchScorer:
    """Scores with the torch module, for models the native engine does not know.

    Args:
        model: in eval mode.
        history: the histories.
        now: request time per user int64 [num_users], or None.
    """

    def __init__(self, model: InterestFusionModel, history: EventLog, now: NDArray[np.int64] | None) -> None:
        self._model, self._history, self._now = model, history, now

    def scores(self, user_rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores float32 [batch, num_items]."""
        lengths = self._history.lengths[user_rows]
        result = np.empty((len(user_rows), self._history.num_items), dtype=np.float32)
        order = np.argsort(lengths, kind="stable")
        begin = 0
        while begin < len(order):  # a batch: as many users of similar length as fit, padded to the longest
            fits = lengths[order[begin:]] * np.arange(1, len(order) - begin + 1) <= EVENTS_PER_BATCH
            end = begin + max(1, int(fits.sum()))
            result[order[begin:end]] = self._scores(user_rows[order[begin:end]])
            begin = end
        return result

    @torch.inference_mode()
    def _scores(self, user_rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._model.scores(encode_users(self._model, self._history, user_rows, self._now)).numpy()


class NeuMF(nn.Module):
    """Neural collaborative filtering (He et al. 2017): generalised matrix factorisation and a multilayer perceptron."""

    def __init__(self, num_users: int, num_items: int, dim: int) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(num_users, 2 * dim), nn.Embedding(num_items, 2 * dim)
        nn.init.normal_(self.users.weight, std=0.05)
        nn.init.normal_(self.items.weight, std=0.05)
        self.mlp = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, dim // 2), nn.ReLU())
        self.out = nn.Linear(dim + dim // 2, 1)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Logits of (user, item) pairs; users and items broadcast."""
        user_factor, user_mlp = self.users(users).chunk(2, dim=-1)
        item_factor, item_mlp = self.items(items).chunk(2, dim=-1)
        product = user_factor * item_factor
        user_mlp, item_mlp = user_mlp.expand_as(product), item_mlp.expand_as(product)
        hidden = self.mlp(torch.cat([user_mlp, item_mlp], dim=-1))
        return self.out(torch.cat([product, hidden], dim=-1)).squeeze(-1)

    @torch.inference_mode()
    def scores(self, user_rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores float32 [batch, num_items]: as `forward`, but the items' part of the first layer is computed once."""
        factors, mlps = self.items.weight.chunk(2, dim=-1)
        first, factor_weights = self.mlp[0], self.out.weight[0, : factors.shape[1]]
        of_user, of_item = first.weight.chunk(2, dim=-1)
        items = mlps @ of_item.T + first.bias
        rows = []
        for user_factor, user_mlp in zip(*self.users(torch.from_numpy(user_rows)).chunk(2, dim=-1), strict=True):
            hidden = self.mlp[1:](items + of_user @ user_mlp)
            rows.append(factors @ (factor_weights * user_factor) + hidden @ self.out.weight[0, factors.shape[1] :])
        return (torch.stack(rows) + self.out.bias).numpy()


def fit_neumf(history: EventLog, dim: int, epochs: int, learning_rate: float, seed: int, decay: float = 1e-6) -> NeuMF:
    """Binary cross-entropy with four negatives per event, drawn from items not in the user's history, as published.

    A draw that hits one of the user's items is left out, not repeated: if users have few items, that hardly matters.
    """
    torch.manual_seed(seed)
    model = NeuMF(history.num_users, history.num_items, dim)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=decay, fused=True)
    users = torch.from_numpy(history.users)
    items = torch.from_numpy(history.items)
    met = torch.unique(users * history.num_items + items)
    for _ in range(epochs):
        for rows in _without_denormals(torch.randperm(len(items)).split(2048)):
            negatives = torch.randint(history.num_items, (len(rows), 4))
            logits = model(users[rows, None], torch.cat([items[rows, None], negatives], dim=1))
            labels, weights = torch.zeros_like(logits), torch.ones_like(logits)
            labels[:, 0] = 1
            weights[:, 1:] = (~_is_in(users[rows, None] * history.num_items + negatives, met)).float()
            optimizer.zero_grad()
            functional.binary_cross_entropy_with_logits(logits, labels, weights).backward()
            optimizer.step()
    return model.eval()


def _without_denormals(steps: Iterable[Tensor]) -> Iterator[Tensor]:
    """Flushes denormals: weight decay makes unused rows, and Adam's moments of them, denormal, which is slow."""
    torch.set_flush_denormal(True)
    try:
        yield from steps
    finally:
        torch.set_flush_denormal(False)


def _is_in(values: Tensor, ascending: Tensor) -> Tensor:
    """Which values occur in a sorted tensor of distinct ones."""
    place = torch.searchsorted(ascending, values).clamp_max(len(ascending) - 1)
    return ascending[place] == values
