"""What `Recommender.recommend` is asked beside the users: as it came, and checked."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lsif_sdk.arguments import as_balance, as_k, as_seconds
from lsif_sdk.attributes import Attributes, allowed_bitmaps
from lsif_sdk.bitmaps import Bitmap
from lsif_sdk.diversity import as_diversity, num_candidates
from lsif_sdk.errors import ArgumentTypeError
from lsif_sdk.events import excluded_rows
from lsif_sdk.items import ItemTable

__all__ = ["Options", "Request"]


class Options(NamedTuple):
    """The arguments of `recommend`, as they came."""

    k: Any
    now: Any
    exclude_seen: Any
    exclude: Any
    allow: Any
    where: Any
    interest: Any
    diversity: Any
    timeout: Any


class Request(NamedTuple):
    """The same, checked, of so many users. Ragged: user b owns entries offsets[b] .. offsets[b + 1] - 1.

    k: items wanted; num_candidates: to search for, more where diversity is asked for. excluded: rows int64 and their
    offsets, or two None. allowed: a bitmap a user, or None: all items. balance, timeout: below 0 where not asked for.
    """

    k: int
    num_candidates: int
    exclude_seen: bool
    excluded: tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]
    allowed: list[Bitmap | None] | None
    balance: float
    timeout: float
    diversity: float

    @classmethod
    def checked(cls, options: Options, items: ItemTable, attributes: Attributes, batch: int) -> Request:
        """See `Recommender.recommend` for what is refused."""
        k = as_k(options.k, len(items))
        diversity = as_diversity(options.diversity)
        if not isinstance(options.exclude_seen, (bool, np.bool_)):
            raise ArgumentTypeError("exclude_seen", "True or False", options.exclude_seen)
        return cls(
            k,
            k if diversity == 0 else num_candidates(k, len(items)),
            bool(options.exclude_seen),
            excluded_rows(options.exclude, items, batch),
            allowed_bitmaps(options.allow, options.where, attributes, items, batch, time.time()),
            as_balance(options.interest),
            as_seconds(options.timeout),
            diversity,
        )

    def excluded_by(self, user: int) -> npt.NDArray[np.int64]:
        """Rows the user's answer leaves out."""
        rows, offsets = self.excluded
        return np.zeros(0, np.int64) if rows is None or offsets is None else rows[offsets[user] : offsets[user + 1]]

    def allowed_for(self, user: int) -> Bitmap | None:
        """Rows the user's answer is taken from; None: all."""
        return None if self.allowed is None else self.allowed[user]
