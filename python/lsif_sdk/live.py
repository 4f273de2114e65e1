"""A recommender whose catalogue, or model, changes under load."""

from __future__ import annotations

import collections
import contextlib
import os
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

import numpy.typing as npt
import torch

from lsif_sdk.arguments import as_integer
from lsif_sdk.catalog_edit import CatalogEdit, Ids, Items, Until, restored
from lsif_sdk.compaction import compacted
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ClosedError
from lsif_sdk.events import History
from lsif_sdk.ids import Id
from lsif_sdk.item_fit import check_item, vectors_of
from lsif_sdk.locks import OfOneProcess, OwnedLock
from lsif_sdk.options import LoadOptions
from lsif_sdk.recommender import Recommender
from lsif_sdk.stats import Stats

__all__ = ["LiveRecommender"]


class LiveRecommender(OfOneProcess):
    """Publishes snapshots: immutable recommenders, each in place of the one before.

    It has no `recommend` of its own: who answers requests takes `current` for each, and works on that: model, ids and
    catalogue of one moment. Taking it costs nothing and never waits. Changes are checked and built by the thread that
    makes them, one after another, and published by swapping one reference; requests in flight finish on their
    snapshot (docs/serving.md, "A live catalogue").

    User states stay usable when the catalogue changes, but for `replace` and `compact`. A state that a newer snapshot
    made an older one refuses: take the state first, then `current`.

    Args:
        recommender: the first snapshot, of version 0 if it was loaded.
        keep: earlier snapshots that `rollback` can return to. Each holds the vectors it does not share.

    Raises:
        ArgumentError: `keep` is out of range.
        ArgumentTypeError: not a `Recommender`.
    """

    def __init__(self, recommender: Recommender, *, keep: int = 1) -> None:
        if not isinstance(recommender, Recommender):
            raise ArgumentTypeError("recommender", "a Recommender", recommender)
        keep = as_integer("keep", keep, 0, 1 << 20)
        self._current = recommender
        self._before: collections.deque[tuple[Recommender, bool]] = collections.deque(maxlen=keep)
        self._lock = OwnedLock()
        self._closed = False
        self._published = weakref.WeakSet([recommender])

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, keep: int = 1, **options: Unpack[LoadOptions]) -> LiveRecommender:
        """`Recommender.load` with its options, as the first snapshot.

        Raises:
            ArtifactError: see `Recommender.load`.
            ArgumentError: an option or `keep` is out of range.
            ArgumentTypeError: an argument is of the wrong type.
        """
        return cls(Recommender.load(path, **options), keep=keep)

    @property
    def current(self) -> Recommender:
        """The newest snapshot."""
        return self._current

    @property
    def version(self) -> int:
        """Of the newest snapshot; grows by one with each."""
        return self._current.version

    @contextlib.contextmanager
    def edit(self) -> Iterator[CatalogEdit]:
        """Several changes in one snapshot, published when the block ends, or none of them if it raises.

        If everything is as it was (no items, say, or hidden ones hidden), nothing is published.

        with live.edit() as edit:
            edit.upsert(ids, vectors)
            edit.hide(sold_out)

        Raises:
            ArgumentError: in the block of another edit of the same thread.
            ClosedError: after `close`.
        """
        with self._changing():
            edit = CatalogEdit(self._current)
            try:
                yield edit
            finally:
                edit._end()
            if edit.changes_anything:
                self._publish(edit.apply(), is_edit=True)

    def upsert(
        self,
        ids: Ids,
        vectors: torch.Tensor | npt.ArrayLike,
        *,
        bias: torch.Tensor | npt.ArrayLike | None = None,
        titles: Sequence[str] | None = None,
        counts: Sequence[int] | None = None,
        until: Until = None,
        attributes: Mapping[str, Sequence[Any]] | None = None,
    ) -> int:
        """Adds items, and gives known ones other vectors; hidden and removed ones come back, and `until` counts anew
        (`set_attributes` changes attributes alone).

        What the encoder makes of an event is settled when the item's id first comes: the trained embedding, or the
        first vector it was added with. So user states and histories stay what they were.

        Args:
            ids: of the items, each once.
            vectors: float32 [num_ids, dim], in the space of `Recommender.user_vectors`, within +-1e12.
            bias: [num_ids], likewise; None: those of known items stay, new ones get the mean of the catalogue's.
            titles: one an item; None: those of known items stay, new ones have their ids.
            counts: how often items were met, for the popularity fallback; None: those of known items stay, new ones
                have 0 and come last there.
            until: Unix seconds or dates, rounded down to seconds, from which items are no longer recommended, for all
                or one an item; not at all if that is past already; None: for ever.
            attributes: for each attribute one entry an item; None: those of known items stay. New items of a catalogue
                with attributes need all of them.

        Returns:
            The version.

        Raises:
            ArgumentError: a shape is wrong, a value is not finite or out of range, an id comes twice, an attribute is
                missing, or the catalogue has no titles. Nothing has changed then.
            ArgumentTypeError: ids are not of the catalogue's kind, or values no numbers. Likewise.
        """
        with self.edit() as edit:
            edit.upsert(ids, vectors, bias=bias, titles=titles, counts=counts, until=until, attributes=attributes)
        return edit.version

    def set_attributes(self, ids: Ids, attributes: Mapping[str, Sequence[Any]]) -> int:
        """Gives known items other attributes, prices say; vectors, and whether items are recommended, stay as they are.

        Nothing of the size of the catalogue is copied but the columns that change.

        Args:
            ids: a sequence or column of item ids, each once.
            attributes: for each attribute that changes one entry an item; others stay.

        Returns:
            The version.

        Raises:
            ArgumentError: an item is not in the catalogue, or is there twice; or an attribute is not one of the
                catalogue's, or an entry not of its kind. Nothing has changed then.
            ArgumentTypeError: ids are not of the catalogue's kind. Likewise.
        """
        with self.edit() as edit:
            edit.set_attributes(ids, attributes)
        return edit.version

    def hide(self, ids: Items) -> int:
        """Items are not recommended until `show` or `upsert`; they stay candidates of `score` and part of histories.

        Args:
            ids: a sequence, column or set of item ids, each once, or an `ItemTable`.

        Returns:
            The version.

        Raises:
            ArgumentError: an item is not in the catalogue, or is there twice. Nothing has changed then.
            ArgumentTypeError: ids are not of the catalogue's kind. Likewise.
        """
        with self.edit() as edit:
            edit.hide(ids)
        return edit.version

    def show(self, ids: Items, until: Until = None) -> int:
        """Items are recommended, for ever or `until` a moment (as in `upsert`, not for sets if there are several
        moments); otherwise like `hide`.
        """
        with self.edit() as edit:
            edit.show(ids, until)
        return edit.version

    def remove(self, ids: Items) -> int:
        """Items are no longer of the catalogue; histories that hold them still count, and `upsert` brings them back.

        Otherwise like `hide`.
        """
        with self.edit() as edit:
            edit.remove(ids)
        return edit.version

    def fit_item(
        self,
        item: Id,
        met: Sequence[History],
        others: Sequence[History],
        *,
        place: int = 1,
        ridge: float = 100.0,
        others_weight: float = 100.0,
        title: str | None = None,
        until: Until = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> int:
        """Publishes an item whose vector and bias are fitted to users in closed form (`Catalog.fit_item`).

        Args:
            item: the new item, or a known one that gets another vector and bias.
            met: histories of users who met it, up to then. Users without known events are left out, as of `others`.
            others: histories of users as they come, some thousands.
            place: see `Catalog.fit_item`.
            ridge: see there.
            others_weight: see there.
            title: see `CatalogEdit.upsert`.
            until: see there.
            attributes: of this item, by name: a number, a string or a list of strings each, not lists of those.

        Returns:
            The version.

        Raises:
            ArgumentError: a value is out of range, there are no users with known events, or the model's scoring is not
                "fused".
            ArgumentTypeError: an argument is of the wrong type.
        """
        with self.edit() as edit:
            current = self._current
            if current.config.scoring != "fused":
                raise ArgumentError(
                    "scoring", "a model that scores with the fused vector", repr(current.config.scoring)
                )
            check_item(current, item, title, attributes)
            users = {name: vectors_of(current, name, given) for name, given in (("met", met), ("others", others))}
            fitted = current.catalog.fit_item(
                **users, place=place, ridge=ridge, others_weight=others_weight, threads=current.threads or None
            )
            edit.upsert(
                [item],
                fitted.vector[None],
                bias=[fitted.bias],
                titles=None if title is None else [title],
                until=until,
                attributes=None if attributes is None else {name: [entry] for name, entry in attributes.items()},
            )
        return edit.version

    def replace(self, recommender: Recommender) -> int:
        """Publishes another model with its own catalogue, ids and attributes; states of the old one are made anew.

        Nothing of the old catalogue is carried over: what was added, hidden or removed has to be so again. Do that in a
        `LiveRecommender` of the new model before, and hand over its `current`.

        Args:
            recommender: loaded beforehand, so that nobody waits for it. What closes it, with batching the end of its
                `with` block, closes the snapshot.

        Returns:
            The version.

        Raises:
            ArgumentTypeError: not a `Recommender`.
        """
        if not isinstance(recommender, Recommender):
            raise ArgumentTypeError("recommender", "a Recommender", recommender)
        with self._changing():
            return self._publish(recommender.following(self._current), is_edit=False)

    def compact(self) -> int:
        """Publishes the catalogue without the rows that removed items still have, and their memory.

        Otherwise rows are only ever added, in saved snapshots, too. As after `replace`, user states are made anew; and
        items that are gone for good are unknown in histories, which until then they still count in. The codes of all
        rows are made anew, by the calling thread; other changes wait for that, requests do not. Without removed items
        nothing changes.

        Returns:
            The version.

        Raises:
            ArgumentError: no item would be left.
        """
        with self._changing():
            successor = compacted(self._current)
            if successor is self._current:
                return self.version
            return self._publish(successor.following(self._current), is_edit=False)

    def rollback(self) -> int:
        """Publishes what the snapshot before had, under a new version; further calls go further back.

        Items that came since are removed, but stay known to the encoder: states made since stay usable. After `replace`
        and `compact` it is the recommender before as it was, and states are made anew.

        Returns:
            The version.

        Raises:
            ArgumentError: no earlier snapshot is kept.
        """
        with self._changing():
            if not self._before:
                raise ArgumentError("rollback", f"an earlier snapshot (keep={self._before.maxlen})", "none")
            before, was_edited = self._before[-1]
            earlier = restored(self._current, before) if was_edited else before.following(self._current)
            version = self._switch_to(earlier)
            self._before.pop()
            return version

    def stats(self) -> Stats:
        """`Recommender.stats` of all snapshots together; only what is queued is the current one's."""
        return self._current.stats()

    def close(self) -> None:
        """`Recommender.close` of all snapshots; refuses changes from now on. Waits for one that is being made."""
        with self._alone():
            self._closed = True
            for snapshot in list(self._published):
                snapshot.close()

    def __copy__(self) -> NoReturn:
        """Refused: two would publish different snapshots, and share those to go back to."""
        self.__reduce__()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    if not TYPE_CHECKING:  # to whom any name would be an attribute then

        def __getattr__(self, name: str) -> NoReturn:
            current = self.__dict__.get("_current")
            is_there = not name.startswith("_") and hasattr(current, name)
            hint = f": take `current`, and `{name}` of that" if is_there else ""
            raise AttributeError(f"a LiveRecommender has no {name!r}{hint}")

    def __repr__(self) -> str:
        return f"LiveRecommender(version {self.version}: {self._current!r})"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._lock.is_mine:  # and would be waited for by the thread that has it
            raise ArgumentError("edit", "the edit's own methods in its block", "a change of the LiveRecommender")
        with self._lock:
            yield

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with self._alone():
            if self._closed:
                raise ClosedError("the LiveRecommender is closed")
            yield

    def _publish(self, successor: Recommender, *, is_edit: bool) -> int:
        before = self._current
        version = self._switch_to(successor)
        self._before.append((before, is_edit))
        return version

    def _switch_to(self, successor: Recommender) -> int:
        """Makes it the current one; what requests of the snapshot before needed is made here, so that none waits."""
        if "by_popularity" in self._current.items.__dict__:
            _ = successor.items.by_popularity
        if "_path" in self._current.catalog.__dict__:
            _ = successor.catalog._path
        if "_directions" in self._current.__dict__:
            _ = successor._directions._path
        if "fingerprint" in self._current.__dict__:
            _ = successor.fingerprint
        successor.items.available(time.time())
        self._current = successor
        self._published.add(successor)
        return successor.version
