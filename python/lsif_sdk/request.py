"""The arguments of `Recommender.recommend` beside the users: as given, and checked."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lsif_sdk.arguments import as_balance, as_duration, as_k, as_number
from lsif_sdk.attributes import Attributes, allowed_bitmaps
from lsif_sdk.bitmaps import Bitmap
from lsif_sdk.calibration import as_recall_target
from lsif_sdk.diversity import num_candidates
from lsif_sdk.errors import ArgumentTypeError
from lsif_sdk.event_batch import excluded_rows
from lsif_sdk.items import ItemTable

__all__ = ["Options", "Request"]


class Options(NamedTuple):
    """The arguments of `recommend`, as given."""

    k: Any
    now: Any
    exclude_seen: Any
    exclude: Any
    allow: Any
    where: Any
    interest: Any
    diversity: Any
    timeout: Any
    budget_ms: Any
    recall_target: Any


class Request(NamedTuple):
    """Checked options of a request. Ragged: user b has entries offsets[b] .. offsets[b + 1] - 1.

    k: number of items wanted. num_candidates: number to search for, larger with diversity. excluded: rows int64 and
    their offsets, or two None. allowed: a bitmap per user, or None: all items. balance: the share of long-term
    interests, or below 0 for the model's. timeout, budget: seconds, or None.
    """

    k: int
    num_candidates: int
    exclude_seen: bool
    excluded: tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]
    allowed: list[Bitmap | None] | None
    balance: float
    timeout: float | None
    budget: float | None
    diversity: float
    recall_target: float

    @classmethod
    def checked(
        cls, options: Options, items: ItemTable, attributes: Attributes, batch: int, excludes_seen: bool
    ) -> Request:
        """Checks `options`; see `Recommender.recommend` for the errors. `excludes_seen` is the model's default."""
        k = as_k(options.k, len(items))
        diversity = float(as_number("diversity", options.diversity, 0, 1))
        budget = as_duration("budget_ms", "milliseconds", options.budget_ms)
        exclude_seen = excludes_seen if options.exclude_seen is None else options.exclude_seen
        if not isinstance(exclude_seen, (bool, np.bool_)):
            raise ArgumentTypeError("exclude_seen", "True, False or None", exclude_seen)
        return cls(
            k,
            k if diversity == 0 else num_candidates(k, len(items)),
            bool(exclude_seen),
            excluded_rows(options.exclude, items, batch),
            allowed_bitmaps(options.allow, options.where, attributes, items, batch, time.time()),
            as_balance(options.interest),
            as_duration("timeout", "seconds", options.timeout),
            None if budget is None else budget / 1e3,
            diversity,
            as_recall_target(options.recall_target),
        )

    def excluded_by(self, user: int) -> npt.NDArray[np.int64]:
        """Rows that are left out of the user's answer."""
        rows, offsets = self.excluded
        return np.zeros(0, np.int64) if rows is None or offsets is None else rows[offsets[user] : offsets[user + 1]]

    def allowed_for(self, user: int) -> Bitmap | None:
        """Rows that the user's answer may contain; None: all."""
        return None if self.allowed is None else self.allowed[user]

    def left(self, spent: float) -> float | None:
        """Remaining seconds of the budget; None without a budget."""
        return None if self.budget is None else self.budget - spent

    def native(self, left: float | None) -> tuple[Any, ...]:
        """The arguments of the native request path; the request may wait no longer than the rest of its budget."""
        waits = [seconds for seconds in (self.timeout, left) if seconds is not None]
        timeout = max(0.0, min(waits)) if waits else -1.0
        return self.num_candidates, self.exclude_seen, *self.excluded, self.allowed, self.balance, timeout
