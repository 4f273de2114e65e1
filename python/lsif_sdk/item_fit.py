"""Checks the arguments of `LiveRecommender.fit_item`, and encodes its users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lsif_sdk.arguments import as_array, as_integer
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, shown
from lsif_sdk.event_batch import EventBatch
from lsif_sdk.events import Events, History, is_flat
from lsif_sdk.ids import Id
from lsif_sdk.packed_texts import check_texts
from lsif_sdk.recommender import Recommender

__all__ = ["check_item", "vectors_of"]


def check_item(recommender: Recommender, item: Id, title: str | None, attributes: Mapping[str, Any] | None) -> None:
    """Refuses what `CatalogEdit.upsert` would refuse, with errors that use the argument names of `fit_item`.

    Raises:
        ArgumentError: an id cannot be stored, a text cannot be encoded, or the catalogue has no titles.
        ArgumentTypeError: an argument is of the wrong type.
    """
    items = recommender.items
    items.rows([item], "item")
    if items.has_string_ids:
        check_texts("item", [item])
    else:
        as_integer("item", item, -(2**63), 2**63 - 1)
    if title is not None:
        check_texts("title", [title])
        if items.titles is None:
            raise ArgumentError("title", "None, since the catalogue has no titles", shown(title))
    if attributes is not None and not isinstance(attributes, Mapping):
        raise ArgumentTypeError("attributes", "a mapping of names to entries, one each", attributes)


def vectors_of(recommender: Recommender, argument: str, histories: Sequence[History]) -> npt.NDArray[np.float32]:
    """The fused interests of the users with known events, float32 [num_known, dim].

    Raises:
        ArgumentError: there are no such users.
        ArgumentTypeError: not a list of histories.
    """
    plain = as_array(argument, histories).tolist() if hasattr(histories, "__array__") else histories
    is_one = isinstance(plain, Events) or (is_flat(plain) and len(plain))
    if is_one or not isinstance(plain, Sequence):
        raise ArgumentTypeError(argument, "a list of histories, one per user, not one history", histories)
    batch = EventBatch.from_histories(histories, recommender.items, recommender.config.num_actions, argument)
    known = np.diff(batch.offsets) > 0
    if not known.any():
        got = f"{len(known)} without" if len(histories) else "no histories"
        raise ArgumentError(argument, "histories with known events, of at least one user", got)
    encoded = recommender.encode_rows(batch.items, batch.times, batch.actions, batch.offsets)
    return encoded.fused[known]
