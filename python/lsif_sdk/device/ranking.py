"""The steps of `recommend` beside encoding and searching.

Formulas and order of sums are those of engine/recommend.cpp, so that results are bit-identical.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lsif_sdk.bitmaps import Bitmap, in_bitmap
from lsif_sdk.device.layout import Ints
from lsif_sdk.errors import ArgumentError
from lsif_sdk.ragged import offsets_of

__all__ = ["OwnRows", "Ranking", "check_found", "long_shares", "merge_own", "rebalanced"]

Floats = npt.NDArray[np.float32]


class Ranking(NamedTuple):
    """The options of a request, in the order of `_core.RequestPath.recommend`."""

    k: int
    exclude_seen: bool
    exclude_items: Ints | None
    exclude_offsets: Ints | None
    allowed: Sequence[Bitmap | None] | None
    balance: float
    timeout: float
    threads: int
    error_share: float

    @property
    def excluded(self) -> list[tuple[Ints, Ints]]:
        """The rows that the request excludes: one ragged part, or none."""
        if self.exclude_items is None or self.exclude_offsets is None:
            return []
        return [(self.exclude_items, self.exclude_offsets)]

    def of(self, users: Ints) -> Ranking:
        """The options for some of the users."""
        allowed = None if self.allowed is None else [self.allowed[user] for user in users]
        if self.exclude_items is None or self.exclude_offsets is None:
            return self._replace(allowed=allowed)
        counts = np.diff(self.exclude_offsets)
        chosen = np.zeros(len(counts), np.bool_)
        chosen[users] = True
        offsets = offsets_of(counts[users])
        return self._replace(
            exclude_items=self.exclude_items[np.repeat(chosen, counts)], exclude_offsets=offsets, allowed=allowed
        )


def rebalanced(interests: Tensor, weights: Tensor, num_long: int, balance: float) -> tuple[Tensor, Tensor]:
    """(fused, weights) with `balance` as the total weight of the long-term interests, and the rest for the others."""
    parts = [(weights[:, :num_long], balance), (weights[:, num_long:], 1 - balance)]
    weights = torch.cat([_scaled(part, wanted) for part, wanted in parts], dim=1)
    fused = _sum(weights.double()[:, j, None] * interests[:, j].double() for j in range(weights.shape[1]))
    return fused.float(), weights


def _scaled(weights: Tensor, wanted: float) -> Tensor:
    """The weights scaled to the sum `wanted`; equal weights if all are zero."""
    count = weights.shape[1]
    if count == 0:
        return weights
    total = _sum(weights[:, j].double() for j in range(count))[:, None]
    return torch.where(total > 0, weights.double() * (wanted / total), wanted / count).float()


def _sum(terms: Any) -> Any:
    """The sum of terms in order, from zero."""
    return sum(terms, start=0.0)


def long_shares(weights: Floats, num_long: int, balance: float) -> Floats:
    """The total weight of the long-term interests, for users with events [batch]."""
    if balance >= 0:
        return np.full(len(weights), balance, np.float32)
    if num_long == 0:
        return np.zeros(len(weights), np.float32)
    total = np.add.accumulate(weights[:, :num_long], axis=1, dtype=np.float64)[:, -1]  # in order
    shares: Floats = np.minimum(total, 1.0).astype(np.float32)  # the sum may exceed 1 by rounding
    return shares


def check_found(found: Mapping[str, npt.NDArray[Any]], users: Ints) -> None:
    """Raises the errors that native code raises before and during a search.

    Raises:
        ArgumentError: a query is not finite, or a score is beyond float32.
    """
    if not found["is_finite"].all():
        user = users[np.argmin(found["is_finite"])]
        raise ArgumentError("queries", "finite numbers", f"NaN or infinity in user {user}")
    finite = np.isfinite(found["scores"])
    if not finite.all():
        place, column = np.argwhere(~finite)[0]
        row = found["indices"][place, column]
        raise ArgumentError("queries", "scores within float32", f"one beyond it for user {users[place]}, row {row}")


class OwnRows(NamedTuple):
    """The distinct rows of users' own histories, ascending, and which may be recommended. Ragged."""

    rows: Ints
    offsets: Ints
    may_be_found: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, own: tuple[Ints, Ints], ranking: Ranking) -> OwnRows:
        """From the own rows of the users, ragged."""
        rows, offsets = own
        may = np.ones(len(rows), np.bool_)
        for user in range(len(offsets) - 1):
            mine = slice(offsets[user], offsets[user + 1])
            for unwanted, ends in ranking.excluded:
                may[mine] &= ~np.isin(rows[mine], unwanted[ends[user] : ends[user + 1]])
            bitmap = None if ranking.allowed is None else ranking.allowed[user]
            if bitmap is not None:
                may[mine] &= in_bitmap(bitmap, rows[mine])
        return cls(rows, offsets, may)

    def table(self) -> Ints:
        """The rows as int64 [batch, n], padded with 0."""
        counts = np.diff(self.offsets)
        table = np.zeros((len(counts), int(counts.max(initial=0))), np.int64)
        table[np.arange(table.shape[1]) < counts[:, None]] = self.rows
        return table


def merge_own(found: Mapping[str, npt.NDArray[Any]], own: OwnRows, bonuses: Floats) -> None:
    """Merges users' own rows, with their bonuses, into the rows that a search found, and keeps the best k."""
    k = found["scores"].shape[1]
    for user in range(len(own.offsets) - 1):
        mine = slice(own.offsets[user], own.offsets[user + 1])
        may, count = own.may_be_found[mine], found["counts"][user]
        own_scores = found["own_scores"][user, : len(may)] + bonuses[mine]
        scores = np.concatenate([found["scores"][user, :count], own_scores[may]])
        rows = np.concatenate([found["indices"][user, :count], own.rows[mine][may]])
        best = np.lexsort((rows, -scores))[:k]
        found["counts"][user] = len(best)
        found["scores"][user, : len(best)] = scores[best]
        found["indices"][user, : len(best)] = rows[best]
