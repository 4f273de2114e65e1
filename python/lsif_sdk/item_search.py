"""Searches without a user's history: the best items for a vector, and similar items."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from lsif_sdk.attributes import Where, allowed_bitmaps
from lsif_sdk.catalog import Catalog
from lsif_sdk.event_batch import excluded_rows
from lsif_sdk.events import Events, IdLists
from lsif_sdk.ids import Id
from lsif_sdk.locks import made_once
from lsif_sdk.ranker import Ranker
from lsif_sdk.recommendations import Recommendations
from lsif_sdk.similarity import directions_of, most_similar, nearest

__all__ = ["ItemSearch"]


class ItemSearch(Ranker):
    """Adds to `Ranker` the searches that need no encoder."""

    def search(
        self,
        queries: torch.Tensor | npt.ArrayLike,
        k: int = 10,
        *,
        exclude: IdLists | None = None,
        allow: IdLists | None = None,
        where: Where | Sequence[Where | None] | None = None,
    ) -> Recommendations:
        """Returns the exact k best items, by inner product plus bias, for user vectors of another encoder, for example.

        Leaves out hidden, removed and expired items, as `recommend` does. Runs on the CPU, whatever `device` is.

        Args:
            queries: [batch, dim], or [dim] for one user; real and finite.
            k: see `recommend`.
            exclude: item ids to leave out. `exclude`, `allow` and `where` are for all users or have one entry per user,
                as in `recommend`.
            allow: item ids that may be found; None: all.
            where: conditions on the `attributes` of the items.

        Returns:
            One row per query; long_share, unknown and fallback have no meaning here and are 0.

        Raises:
            ArgumentError: a shape is wrong, a value is not finite or out of range, or a score does not fit float32.
            ArgumentTypeError: ids are not of the catalogue's kind, or an argument is of the wrong type.
        """
        vectors = self.catalog.as_queries(queries)
        batch = len(vectors)
        excluded = excluded_rows(exclude, self.items, batch)
        allowed = allowed_bitmaps(allow, where, self._attributes, self.items, batch, time.time())
        found = nearest(self.catalog, self.items, vectors, k, excluded, allowed, self._threads, self.version)
        self._metrics.called("search")
        return found

    def similar_items(
        self,
        items: Id | Sequence[Id],
        k: int = 10,
        *,
        exclude: IdLists | None = None,
        allow: IdLists | None = None,
        where: Where | Sequence[Where | None] | None = None,
    ) -> Recommendations:
        """Returns the k items with the highest cosine similarity to each given item, without that item itself.

        The first call builds a second catalogue, of unit vectors, and keeps it. This takes as much memory as the item
        vectors and their codes, and about as long as loading. From then on a `LiveRecommender` keeps it up to date.

        Args:
            items: one or more item ids. A hidden item may be given, but is not found.
            k: how many, at least 1.
            exclude: more item ids to leave out. `exclude`, `allow` and `where` are for all given items or have one
                entry per item, as in `recommend`.
            allow: item ids that may be found; None: all.
            where: conditions on the `attributes` of the found items.

        Returns:
            One row per given item, with cosines as scores; long_share, unknown and fallback have no meaning here and
            are 0.

        Raises:
            ArgumentError: an item is not in the catalogue, or a value is out of range.
            ArgumentTypeError: ids are not of the catalogue's kind, or an argument is of the wrong type.
        """
        wanted = Events([items] if isinstance(items, (str, int, np.integer)) else items).items
        rows = self.items.known_rows(wanted, "items")
        batch = len(rows)
        excluded = excluded_rows(exclude, self.items, batch)
        allowed = allowed_bitmaps(allow, where, self._attributes, self.items, batch, time.time())
        found = most_similar(self._directions, self.items, rows, k, excluded, allowed, self._threads, self.version)
        self._metrics.called("similar_items")
        return found

    @made_once
    def _directions(self) -> Catalog:
        with self._building:  # if several threads ask first, one builds
            if "_directions" not in self.__dict__:
                self.__dict__["_directions"] = directions_of(self.catalog, self._threads)
            made: Catalog = self.__dict__["_directions"]
            return made
