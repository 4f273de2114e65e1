"""InterestFusionModel: embedding, encoder, poolings, fusion and scores as one torch module (docs/model.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from lsif_sdk.config import ModelConfig
from lsif_sdk.errors import ArgumentError
from lsif_sdk.model.encoded import CatalogRows, Encoded
from lsif_sdk.model.encoder import SequenceEncoder
from lsif_sdk.model.interest_fusion import NORM_EPS, InterestFusion
from lsif_sdk.model.interest_pooling import EMBEDDING_STD, LongTermPooling, ShortTermPooling
from lsif_sdk.model.repeats import RepeatBonus, Repeats
from lsif_sdk.model.times import UNKNOWN_TIME
from lsif_sdk.model.weights import exported, load

__all__ = ["InterestFusionModel"]


class _ItemCatalog(nn.Module):
    def __init__(self, num_items: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_items))


class InterestFusionModel(nn.Module):
    """The interest-fusion model, in any float type and on any device.

    Args:
        config: the model's hyper-parameters.
        dropout: probability while training: on embedded events, with ONE mask for all modules that read them (otherwise
            the poolings would reveal what is hidden from the encoder), on residual branches and on pooled interests.
    """

    def __init__(self, config: ModelConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        # Small, so that all items have nearly equal scores when training starts.
        self.item_embedding = nn.Parameter(torch.randn(config.num_items, config.dim) * EMBEDDING_STD)
        if config.num_actions > 0:
            self.action_embedding = nn.Parameter(torch.randn(config.num_actions + 1, config.dim) * EMBEDDING_STD)
        self.dropout = nn.Dropout(dropout)
        self.encoder = SequenceEncoder(config, dropout)
        if config.num_long > 0:
            self.long_pooling = LongTermPooling(config)
        if config.num_short > 0:
            self.short_pooling = ShortTermPooling(config)
        self.fusion = InterestFusion(config)
        if config.repeats:
            self.repeats = Repeats(config)
        self.catalog = _ItemCatalog(config.num_items)

    def forward(
        self,
        items: Tensor,
        times: Tensor | None = None,
        actions: Tensor | None = None,
        *,
        lengths: Tensor,
        start: Tensor | None = None,
        now: Tensor | None = None,
    ) -> Encoded:
        """Encodes EVERY position of right-padded sequences: position i sees events 0..i only.

        With `request_time`, the request time of position i is the time of event i + 1, and that of the newest position
        is `now`. `encode` gives the same for the prefix with this time as `now`, except if the time is unknown: here it
        stays unknown, as within a longer history.

        Args:
            items: catalogue rows, int64 [batch, seq_len]; padding may hold any valid row.
            times: int64 Unix seconds [batch, seq_len], `UNKNOWN_TIME` where unknown; None if all are.
            actions: int64 [batch, seq_len] in [0, num_actions]; None if all are unknown.
            lengths: number of events of each sequence, int64 [batch], >= 1.
            start: number of events cut off before the sequence (they count in the history's length), int64 [batch].
            now: int64 [batch] Unix seconds, or None.

        Returns:
            Encoded with leading dimensions [batch, seq_len]; padding holds zeros.
        """
        times = torch.full_like(items, UNKNOWN_TIME) if times is None else times
        asked = self._asked_times(times, lengths, now)
        positions = torch.arange(items.shape[1], device=items.device)
        counts = (positions + 1).expand_as(items) + (0 if start is None else start[:, None])
        x = self._embed(items, actions)
        states = self.encoder(x, times, asked)
        interests = self._interests(x, states, times)
        fused, weights = self.fusion(interests, times, asked, counts)
        valid = positions < lengths[:, None]
        bonus = None
        if self.config.repeats:
            distance = (positions[:, None] - positions)[None]
            bonus = self._repeat_bonus(states, items, times, asked, distance)
        return Encoded(fused, interests, weights, bonus).where(valid)

    def encode(
        self,
        items: Tensor,
        times: Tensor | None = None,
        actions: Tensor | None = None,
        *,
        offsets: Tensor,
        now: Tensor | None = None,
    ) -> Encoded:
        """Encodes whole histories of any length for their newest position (docs/model.md "Inputs").

        Args:
            items: catalogue rows of all events, int64 [total].
            times: int64 Unix seconds [total], `UNKNOWN_TIME` where unknown; None if all are.
            actions: int64 [total]; None if all are unknown.
            offsets: int64 [batch + 1]; user b has events offsets[b] .. offsets[b + 1] - 1.
            now: int64 [batch] Unix seconds, only read if `request_time`; None if unknown.

        Returns:
            Encoded with leading dimension [batch]; zeros for an empty history.

        Raises:
            ArgumentError: `offsets` does not cover `items`.
        """
        lengths = _lengths(offsets, items.shape[0])
        positions = torch.arange(max(int(lengths.max()), 1) if len(lengths) else 1, device=items.device)
        valid = positions < lengths[:, None]
        index = (offsets[:-1, None] + positions)[valid]

        def padded(values: Tensor | None, fill: int) -> Tensor:
            out = torch.full(valid.shape, fill, dtype=torch.int64, device=items.device)
            if values is not None:
                out[valid] = values[index]
            return out

        times_padded = padded(times, UNKNOWN_TIME)
        asked = self._asked_times(times_padded, lengths, now)
        # An empty history is encoded as one padding event and set to zero below, so that no softmax is empty.
        last = (lengths - 1).clamp_min(0)[:, None]
        newest, asked_last = times_padded.gather(1, last), asked.gather(1, last)
        x = self._embed(padded(items, 0), None if actions is None else padded(actions, 0))
        states = self.encoder(x, times_padded, asked)
        interests = self._interests(x, states, times_padded, last)
        fused, weights = self.fusion(interests, newest, asked_last, lengths[:, None])
        bonus = None
        if self.config.repeats:
            distance = torch.where(valid, last - positions, -1)[:, None, :]
            newest_state = states.take_along_dim(last[..., None], dim=1)
            bonus = self._repeat_bonus(newest_state, padded(items, 0), times_padded, asked_last, distance)
        encoded = Encoded(fused, interests, weights, bonus).where(lengths[:, None] > 0)
        return encoded.select((slice(None), 0))

    def embed_and_encode(
        self, items: Tensor, times: Tensor, actions: Tensor | None = None, now: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The embedded events and states from which the interests of ONE history are pooled; in training after dropout.

        Args:
            items: catalogue rows, int64 [seq_len], at least one.
            times: int64 Unix seconds [seq_len].
            actions: int64 [seq_len], or None.
            now: int64 [1], or None.

        Returns:
            the embedded events and their states, both [seq_len, dim].
        """
        asked = self._asked_times(times[None], torch.tensor([len(items)], device=items.device), now)
        x = self._embed(items[None], None if actions is None else actions[None])
        return x[0], self.encoder(x, times[None], asked)[0]

    def scores(self, encoded: Encoded, candidates: Tensor | None = None, rows: CatalogRows | None = None) -> Tensor:
        """Scores of items (docs/model.md section 5).

        Args:
            encoded: leading dimensions [...].
            candidates: int64 rows [num_candidates]; None for the whole catalogue.
            rows: `catalog_rows()`, for callers that score in several parts; None: they are computed.

        Returns:
            [..., num_candidates or num_items].
        """
        vectors, bias = self.catalog_rows() if rows is None else rows
        if candidates is not None:
            vectors, bias = vectors[candidates], bias[candidates]
        if self.config.scoring == "fused":
            scores = encoded.fused @ vectors.t() + bias
        else:
            temperature = self.config.temperature
            logits = encoded.interests @ vectors.t() / temperature + _log(encoded.weights)[..., None]
            scores = temperature * logits.logsumexp(dim=-2) + bias
        return scores if encoded.bonus is None else encoded.bonus.added_to(scores, candidates)

    def target_scores(self, encoded: Encoded, targets: Tensor, rows: CatalogRows | None = None) -> Tensor:
        """The score of ONE item for each encoded history: targets int64 [batch] -> [batch]; see `scores`."""
        vectors, bias = (part[targets] for part in (self.catalog_rows() if rows is None else rows))
        if encoded.bonus is not None:
            bias = bias + encoded.bonus.of(targets)
        if self.config.scoring == "fused":
            return (encoded.fused * vectors).sum(dim=-1) + bias
        logits = (encoded.interests @ vectors[..., None]).squeeze(-1) / self.config.temperature
        return self.config.temperature * (logits + _log(encoded.weights)).logsumexp(dim=-1) + bias

    def catalog_rows(self) -> CatalogRows:
        """The vectors and biases that items are scored with."""
        vectors: Tensor = self.item_embedding
        if self.config.normalize_items:
            vectors = _at_length(vectors, self.config.item_scale)
        return CatalogRows(vectors, self.catalog.bias)

    def inputs_of(self, embeddings: Tensor) -> Tensor:
        """Embeddings as the encoder reads them."""
        return _at_length(embeddings, self.config.dim**0.5) if self.config.normalize_inputs else embeddings

    def export_weights(self) -> dict[str, Tensor]:
        """The artifact's tensors, named and shaped as in docs/model.md: float32 on the CPU, time_boundaries int64."""
        return exported(self)

    @classmethod
    def from_weights(
        cls, config: ModelConfig, weights: Mapping[str, Tensor], *, dtype: torch.dtype = torch.float32
    ) -> InterestFusionModel:
        """Rebuilds a model from `export_weights`.

        The model has one matrix, from which it computes, in its own float type, both the encoder's inputs and the
        vectors for scoring. It refuses an artifact whose `item_embedding` and `catalog.vectors` are not derived from
        one matrix, since its scores would differ.

        Args:
            config: the config the weights belong to.
            weights: tensors by name.
            dtype: float type of the module.

        Raises:
            ArtifactError: a tensor is missing, unknown or has another shape, or `catalog.vectors` and `item_embedding`
                do not belong together; the message names it.
        """
        model = cls(config).to(dtype)
        load(model, weights)
        return model

    def _embed(self, items: Tensor, actions: Tensor | None) -> Tensor:
        x = self.inputs_of(nn.functional.embedding(items, self.item_embedding))
        if self.config.num_actions > 0:
            actions = torch.zeros_like(items) if actions is None else actions
            x = x + nn.functional.embedding(actions, self.action_embedding)
        return cast(Tensor, self.dropout(x))

    def _asked_times(self, times: Tensor, lengths: Tensor, now: Tensor | None) -> Tensor:
        """q of docs/model.md section 2, int64 [batch, seq_len]."""
        if not self.config.request_time:
            return times
        last = (lengths - 1).clamp_min(0)[:, None]
        newest = times.gather(1, last)
        if now is not None:
            newest = torch.where(now[:, None] == UNKNOWN_TIME, newest, now[:, None])
        following = torch.cat([times[:, 1:], times[:, -1:]], dim=1)
        return following.scatter(1, last, newest)

    def _repeat_bonus(
        self, newest: Tensor, items: Tensor, times: Tensor, asked: Tensor, distance: Tensor
    ) -> RepeatBonus:
        boundaries = self.encoder.time_boundaries if self.config.use_times else None
        bonus: RepeatBonus = self.repeats(newest, items, times, asked, distance, boundaries)
        return bonus

    def _interests(self, x: Tensor, states: Tensor, times: Tensor, last: Tensor | None = None) -> Tensor:
        """All interests, [batch, num_queries, M, dim]; `last` selects one position per user, None all positions."""

        def pick(values: Tensor) -> Tensor:
            return values if last is None else values.take_along_dim(last[..., None, None], dim=1)

        pooled = []
        if self.config.num_long > 0:
            if last is None:
                pooled.append(self.long_pooling.every_position(x, times))
            else:
                visible = torch.arange(x.shape[1], device=x.device) <= last
                pooled.append(self.long_pooling(x, times, visible, times.gather(1, last)))
        if self.config.num_short > 0:
            pooled.append(pick(self.short_pooling(states)))
        return torch.cat([*map(self.dropout, pooled), pick(states[:, :, None])], dim=2)


def _at_length(vectors: Tensor, length: float) -> Tensor:
    """The rows scaled to a length; zeros stay zeros."""
    return vectors * (length / (vectors.square().sum(dim=-1, keepdim=True) + NORM_EPS).sqrt())


def _lengths(offsets: Tensor, total: int) -> Tensor:
    if offsets.dim() != 1 or len(offsets) < 1 or int(offsets[0]) != 0 or int(offsets[-1]) != total:
        raise ArgumentError("offsets", f"[batch + 1] from 0 to {total} (the number of items)", offsets.tolist())
    lengths = offsets.diff()
    if bool((lengths < 0).any()):
        raise ArgumentError("offsets", "non-decreasing values", offsets.tolist())
    return lengths


def _log(weights: Tensor) -> Tensor:
    """Logarithm with a floor, which keeps its gradient finite where a weight underflows to 0."""
    return weights.clamp_min(torch.finfo(weights.dtype).tiny).log()
