"""The answers of a `Recommender`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from lsif_sdk.errors import ArgumentError
from lsif_sdk.ids import Id, id_column
from lsif_sdk.ragged import owners_of

__all__ = ["Encoded", "Recommendations", "RepeatBonuses", "UserRecommendations", "nobody_searched"]


class Encoded(NamedTuple):
    """The encoder's output for each history (docs/model.md, 3 and 4). All float32.

    fused: [batch, dim]. interests: [batch, num_interests, dim], the long-term ones first, the newest state last.
    weights: [batch, num_interests], with sum 1 (0 for an empty history).

    For a model with `repeats`, scores also contain the bonuses of `Recommender.repeat_bonus_rows`.
    """

    fused: npt.NDArray[np.float32]
    interests: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]


class RepeatBonuses(NamedTuple):
    """What a model with `repeats` adds to the scores of items of the user's own history (docs/model.md, 5). Ragged.

    rows: catalogue rows, int64 [total], for each user the distinct items of the history, ascending.
    values: float32 [total]. offsets: int64 [batch + 1]; user b has entries offsets[b] .. offsets[b + 1] - 1.
    """

    rows: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.int64]

    @property
    def users(self) -> npt.NDArray[np.int64]:
        """The user, 0 .. batch - 1, of each entry: int64 [total]."""
        return owners_of(self.offsets)

    def of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The bonuses of the given rows for each user, 0 if not in the history: [batch, n] -> float32 [batch, n]."""
        result = np.zeros(rows.shape, np.float32)
        for user, wanted in enumerate(rows):
            own = slice(self.offsets[user], self.offsets[user + 1])
            known = np.isin(wanted, self.rows[own])
            result[user, known] = self.values[own][np.searchsorted(self.rows[own], wanted[known])]
        return result


@dataclasses.dataclass(frozen=True, eq=False)
class UserRecommendations:
    """One user's recommendations, best first. Iterates over (item, score).

    items: external ids. scores: float32, one per item. long_share: share of the long-term interests in the fused one,
    0 to 1. unknown: number of events ignored because the catalogue does not know their item.
    fallback: whether the user got the most popular items, with training counts as scores (see `Recommendations`).
    reason: "", or why there are fewer than k. degraded: "", or how the answer was simplified to keep `budget_ms`.
    """

    items: npt.NDArray[Any]
    scores: npt.NDArray[np.float32]
    long_share: float
    unknown: int
    fallback: bool
    reason: str = ""
    degraded: str = ""

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[tuple[Id, float]]:
        return iter(zip(self.items.tolist(), self.scores.tolist(), strict=True))


@dataclasses.dataclass(frozen=True, eq=False)
class Recommendations:
    """Recommendations for a batch of users, as arrays, batch first. Iterates over users.

    items: ids [batch, k] (None or -1 past counts). scores: float32 [batch, k] (0 past counts). counts: int64 [batch].
    long_share: float32 [batch]. unknown: int64 [batch]. fallback: bool [batch], True for users who got the most popular
    items, for lack of a known event or since `degraded` is "popularity". version: `Recommender.version` of the snapshot
    that answered. degraded: "", or how the answer was simplified to keep `budget_ms`: "approximate" (may miss items),
    "less diverse" (the last items, or all, by score alone), "popularity" (the most popular items), "cached state"
    (`Users`: may lack the newest events).
    """

    items: npt.NDArray[Any]
    scores: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]
    long_share: npt.NDArray[np.float32]
    unknown: npt.NDArray[np.int64]
    fallback: npt.NDArray[np.bool_]
    version: int = 0
    degraded: str = ""

    def __len__(self) -> int:
        return len(self.counts)

    @overload
    def __getitem__(self, user: int) -> UserRecommendations: ...
    @overload
    def __getitem__(self, user: slice) -> list[UserRecommendations]: ...
    def __getitem__(self, user: int | slice) -> UserRecommendations | list[UserRecommendations]:
        if isinstance(user, slice):
            return [self[place] for place in range(*user.indices(len(self)))]
        count = self.counts[user]
        things = "item" if count == 1 else "items"
        too_few = f"only {count} {things} of the catalogue are not seen, excluded, filtered out or unavailable"
        return UserRecommendations(
            self.items[user, :count],
            self.scores[user, :count],
            float(self.long_share[user]),
            int(self.unknown[user]),
            bool(self.fallback[user]),
            too_few if count < self.items.shape[1] else "",
            self.degraded,
        )

    def __iter__(self) -> Iterator[UserRecommendations]:
        return (self[user] for user in range(len(self)))

    def columns(self, users: Sequence[Id] | npt.NDArray[Any] | None = None) -> dict[str, npt.NDArray[Any]]:
        """Columns with one row per recommended item, for a table: `pandas.DataFrame(answer.columns(users))`.

        Args:
            users: the users' ids in batch order, all integers or all strings; None: 0, 1, 2 and so on.

        Returns:
            user, rank (int64, 1 is the best), item and score (float32), each [counts.sum()].

        Raises:
            ArgumentError: the number of users is wrong, or an integer does not fit int64.
            ArgumentTypeError: `users` is not a sequence of ids, or an id is missing.
        """
        names = np.arange(len(self)) if users is None else id_column("users", users)
        if len(names) != len(self):
            raise ArgumentError("users", f"the ids of {len(self)} users, in their order", len(names))
        ranks = np.arange(self.items.shape[1])
        is_filled = ranks < self.counts[:, None]
        return {
            "user": np.repeat(names, self.counts),
            "rank": 1 + np.broadcast_to(ranks, is_filled.shape)[is_filled],
            "item": self.items[is_filled],
            "score": self.scores[is_filled],
        }


def nobody_searched(batch: int, k: int) -> tuple[npt.NDArray[Any], ...]:
    """Empty scores, rows, counts and long shares, for users without a search."""
    return (
        np.zeros((batch, k), np.float32),
        np.full((batch, k), -1, np.int64),
        np.zeros(batch, np.int64),
        np.zeros(batch, np.float32),
    )
