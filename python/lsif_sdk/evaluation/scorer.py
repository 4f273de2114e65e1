"""Full-catalogue scores of a recommender: encodes histories natively, scores items as in docs/model.md, section 5."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from lsif_sdk.arguments import as_int64
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError
from lsif_sdk.event_log import EventLog, check_log
from lsif_sdk.ids import rows_by_text
from lsif_sdk.ragged import known_offsets, offsets_of
from lsif_sdk.recommendations import Encoded, RepeatBonuses
from lsif_sdk.recommender import Recommender

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RecommenderScorer", "check_recommender", "gather_events"]


def check_recommender(recommender: object) -> None:
    """Refuses anything but a `Recommender`."""
    if not isinstance(recommender, Recommender):
        raise ArgumentTypeError("recommender", "a Recommender (`current` of a LiveRecommender)", recommender)


class RecommenderScorer:
    """Scores every item of `history` for its users with a recommender.

    As in `recommend`, events of items that the catalogue lacks are ignored, and a user without other events gets
    training counts as scores. Items that the catalogue lacks and hidden, removed or expired items score -infinity: they
    are never recommended and, as a target, a miss.

    Args:
        recommender: a `lsif_sdk.Recommender`.
        history: the histories; scores are in the order of its `item_ids`.
        now: request time per user, Unix seconds int64 [num_users]; None = the time of the newest event.

    Raises:
        ArgumentError: `now` does not have one time per user.
        ArgumentTypeError: an argument is of the wrong type.
        DataError: no item of `history` is in the catalogue.
    """

    def __init__(self, recommender: Recommender, history: EventLog, now: NDArray[np.int64] | None = None) -> None:
        check_recommender(recommender)
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
                user_scores = torch.from_numpy(encoded.fused) @ vectors.T
            else:
                user_scores = _multi_interest(encoded, vectors, config.temperature)
            catalog_scores: NDArray[np.float32] = (user_scores + bias).numpy()
        if bonus is not None:
            catalog_scores[bonus.users, bonus.rows] += bonus.values
        catalog_scores[~known] = self._recommender.items.counts
        result = np.full((len(user_rows), self._rows.size), -np.inf, dtype=np.float32)
        result[:, self._ranked] = catalog_scores[:, self._rows[self._ranked]]
        return result

    def _encode(self, user_rows: NDArray[np.int64]) -> tuple[Encoded, RepeatBonuses | None, NDArray[np.bool_]]:
        """The encoded users, the bonuses of own items, and whether each user has a known event, bool [batch]."""
        history, config = self._history, self._recommender.config
        index, offsets = gather_events(history, user_rows)
        items = self._rows[history.items[index]]
        kept = items >= 0
        offsets = known_offsets(kept, offsets)
        index = index[kept]
        items = items[kept]
        times = history.times[index] if config.use_times and history.times is not None else None
        actions = history.actions[index] if config.num_actions and history.actions is not None else None
        now = None if self._now is None else self._now[user_rows]
        encoded = self._recommender.encode_rows(items, times, actions, offsets, now)
        bonus = None
        if config.repeats:
            bonus = self._recommender.repeat_bonus_rows(items, times, offsets, now, encoded.interests[:, -1])
        return encoded, bonus, np.diff(offsets) > 0

    def item_vectors(self) -> NDArray[np.float32]:
        """Vectors in the order of the history's `item_ids`, float32 [num_items, dim]; zeros for unknown items."""
        vectors: NDArray[np.float32] = self._recommender.catalog.vectors.numpy()
        return np.where(self._rows[:, None] >= 0, vectors[self._rows], 0)

    def long_share(self, user_rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Weight of the long-term interests of the users int64 [batch]: float32 [batch]."""
        encoded, _, _ = self._encode(user_rows)
        share: NDArray[np.float32] = encoded.weights[:, : self._recommender.config.num_long].sum(axis=1)
        return share


def _multi_interest(encoded: Encoded, vectors: torch.Tensor, temperature: float) -> torch.Tensor:
    """tau log sum_j W_j exp(v_j . x / tau), one interest at a time, which takes two score matrices instead of M."""
    log_weights = torch.from_numpy(encoded.weights).log()
    interests = torch.from_numpy(encoded.interests) / temperature
    total = torch.full((len(interests), len(vectors)), -torch.inf)
    for j in range(interests.shape[1]):
        total = torch.logaddexp(total, interests[:, j] @ vectors.T + log_weights[:, j, None])
    return total * temperature


def gather_events(log: EventLog, user_rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions int64 [total] in `log.items` of the users' events, and their offsets int64 [batch + 1]."""
    if len(user_rows) and (user_rows.min() < 0 or user_rows.max() >= log.num_users):
        raise ArgumentError("user_rows", f"rows in [0, {log.num_users})", f"{user_rows.min()} to {user_rows.max()}")
    starts = log.offsets[user_rows]
    lengths = log.offsets[user_rows + 1] - starts
    offsets = offsets_of(lengths)
    return np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1]), offsets
