"""Full-catalogue scores of a recommender: histories through its native path, items by docs/model.md, section 5."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
import torch

from lsif_sdk.arguments import as_int64
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError
from lsif_sdk.event_log import EventLog, check_log
from lsif_sdk.ids import rows_by_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lsif_sdk.config import ModelConfig

__all__ = ["HistoryEncoder", "RecommenderScorer", "check_encoder", "gather_events"]


class _Encoded(Protocol):
    """User vectors of a batch, float32: fused [batch, dim], interests [batch, M, dim], weights [batch, M]."""

    @property
    def fused(self) -> NDArray[np.float32]: ...
    @property
    def interests(self) -> NDArray[np.float32]: ...
    @property
    def weights(self) -> NDArray[np.float32]: ...


class _Bonus(Protocol):
    """Ragged: rows int64 and values float32 [total], and the user of each, int64 [total]."""

    @property
    def rows(self) -> NDArray[np.int64]: ...
    @property
    def values(self) -> NDArray[np.float32]: ...
    @property
    def users(self) -> NDArray[np.int64]: ...


class _Catalog(Protocol):
    """Float32 vectors [num_items, dim] and bias [num_items]."""

    @property
    def vectors(self) -> torch.Tensor: ...
    @property
    def bias(self) -> torch.Tensor: ...


class _Items(Protocol):
    """External ids, training counts and ends of availability [num_items], in the order of the catalogue's rows."""

    @property
    def ids(self) -> Sequence[Any] | NDArray[Any]: ...
    @property
    def counts(self) -> NDArray[np.int64]: ...
    @property
    def until(self) -> NDArray[np.int64] | None: ...


@runtime_checkable
class HistoryEncoder(Protocol):
    """The part of `lsif_sdk.Recommender` that evaluation needs."""

    @property
    def config(self) -> ModelConfig:
        """Hyper-parameters; `scoring`, `temperature` and the inputs the model reads are used here."""
        ...

    @property
    def catalog(self) -> _Catalog:
        """The vectors and biases it ranks by."""
        ...

    @property
    def items(self) -> _Items:
        """The items it ranks."""
        ...

    def encode_rows(
        self,
        items: NDArray[np.int64],
        times: NDArray[np.int64] | None,
        actions: NDArray[np.int64] | None,
        offsets: NDArray[np.int64],
        now: NDArray[np.int64] | None,
    ) -> _Encoded:
        """Encodes a ragged batch of histories given as catalogue rows; shapes as in docs/model.md, Inputs."""
        ...


class _RepeatEncoder(HistoryEncoder, Protocol):
    """What evaluation needs beyond that if `config.repeats`."""

    def repeat_bonus_rows(
        self,
        items: NDArray[np.int64],
        times: NDArray[np.int64] | None,
        offsets: NDArray[np.int64],
        now: NDArray[np.int64] | None,
        newest: NDArray[np.float32],
    ) -> _Bonus: ...


def check_encoder(recommender: object) -> None:
    """Refuses what is no `HistoryEncoder`.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not isinstance(recommender, HistoryEncoder):
        raise ArgumentTypeError("recommender", "a Recommender (`current` of a LiveRecommender)", recommender)


class RecommenderScorer:
    """Scores every item of `history` for its users with a recommender.

    Events with an item the catalogue lacks are skipped, as `recommend` does, and such an item scores -infinity: it is
    never recommended and, as a target, a miss. So is one that is hidden, removed or expired. A user of whom nothing is
    left is scored by training counts, as `recommend` does, too.

    Args:
        recommender: a `lsif_sdk.Recommender`.
        history: the histories; scores are in the order of its `item_ids`.
        now: request time per user, Unix seconds int64 [num_users]; None = the time of the newest event.

    Raises:
        ArgumentError: `now` has not one time a user.
        ArgumentTypeError: an argument is of the wrong type.
        DataError: no item of `history` is in the catalogue.
    """

    def __init__(self, recommender: HistoryEncoder, history: EventLog, now: NDArray[np.int64] | None = None) -> None:
        check_encoder(recommender)
        check_log("history", history)
        if now is not None and len(now := as_int64("now", now)) != history.num_users:
            raise ArgumentError("now", f"one time for each of {history.num_users} users", len(now))
        self._rows = rows_by_text(recommender.items.ids, history.item_ids)
        until = recommender.items.until
        self._ranked = self._rows >= 0
        if not self._ranked.any():
            raise DataError(f"none of the {self._rows.size} items of the events is in the recommender's catalogue")
        if until is not None:
            self._ranked &= until[self._rows] > time.time()
        self._recommender = recommender
        self._history = history
        self._now = now

    def scores(self, user_rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores float32 [batch, num_items] for the users int64 [batch]."""
        encoded, bonus, known = self._encode(user_rows)
        vectors, bias = self._recommender.catalog.vectors, self._recommender.catalog.bias
        config = self._recommender.config
        with torch.inference_mode():
            if config.scoring == "fused":
                user_scores = torch.from_numpy(encoded.fused).to(vectors.device) @ vectors.T
            else:
                user_scores = _multi_interest(encoded, vectors, config.temperature)
            catalog_scores: NDArray[np.float32] = (user_scores + bias).cpu().numpy()
        if bonus is not None:
            catalog_scores[bonus.users, bonus.rows] += bonus.values
        catalog_scores[~known] = self._recommender.items.counts
        result = np.full((len(user_rows), self._rows.size), -np.inf, dtype=np.float32)
        result[:, self._ranked] = catalog_scores[:, self._rows[self._ranked]]
        return result

    def _encode(self, user_rows: NDArray[np.int64]) -> tuple[_Encoded, _Bonus | None, NDArray[np.bool_]]:
        """The user vectors, the bonus of own items, and whether each user has any known event, bool [batch]."""
        history, config = self._history, self._recommender.config
        index, offsets = gather_events(history, user_rows)
        items = self._rows[history.items[index]]
        kept = items >= 0
        offsets = np.concatenate([[0], np.cumsum(kept)])[offsets]
        index = index[kept]
        items = items[kept]
        times = history.times[index] if config.use_times and history.times is not None else None
        actions = history.actions[index] if config.num_actions and history.actions is not None else None
        now = None if self._now is None else self._now[user_rows]
        encoded = self._recommender.encode_rows(items, times, actions, offsets, now)
        bonus = None
        if config.repeats:
            encoder = cast(_RepeatEncoder, self._recommender)
            bonus = encoder.repeat_bonus_rows(items, times, offsets, now, encoded.interests[:, -1])
        return encoded, bonus, np.diff(offsets) > 0

    def item_vectors(self) -> NDArray[np.float32]:
        """Vectors in the order of the history's `item_ids`, float32 [num_items, dim]; zeros for unknown items."""
        vectors: NDArray[np.float32] = self._recommender.catalog.vectors.cpu().numpy()
        return np.where(self._rows[:, None] >= 0, vectors[self._rows], 0)

    def long_share(self, user_rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Weight of the long-term interests of the users int64 [batch]: float32 [batch]."""
        encoded, _, _ = self._encode(user_rows)
        share: NDArray[np.float32] = encoded.weights[:, : self._recommender.config.num_long].sum(axis=1)
        return share


def _multi_interest(encoded: _Encoded, vectors: torch.Tensor, temperature: float) -> torch.Tensor:
    """tau log sum_j W_j exp(v_j . x / tau), one interest at a time to hold two score matrices instead of M."""
    log_weights = torch.from_numpy(encoded.weights).to(vectors.device).log()
    interests = torch.from_numpy(encoded.interests).to(vectors.device) / temperature
    total = torch.full((len(interests), len(vectors)), -torch.inf, device=vectors.device)
    for j in range(interests.shape[1]):
        total = torch.logaddexp(total, interests[:, j] @ vectors.T + log_weights[:, j, None])
    return total * temperature


def gather_events(log: EventLog, user_rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions int64 [total] in `log.items` of the events of some users, and their offsets int64 [batch + 1]."""
    if len(user_rows) and (user_rows.min() < 0 or user_rows.max() >= log.num_users):
        raise ArgumentError("user_rows", f"rows in [0, {log.num_users})", f"{user_rows.min()} to {user_rows.max()}")
    starts = log.offsets[user_rows]
    lengths = log.offsets[user_rows + 1] - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1]), offsets
