"""A recommender whose catalogue or model can change while requests are answered."""

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
    """Publishes snapshots: immutable recommenders, each of which replaces the previous one.

    There is no `recommend` here: for each request, take `current`, whose model, ids and catalogue belong together.
    Taking it costs nothing and never waits. The thread that makes a change checks and builds it, one change at a time,
    and publishes it by swapping one reference; requests in flight finish on their snapshot (docs/serving.md, "A live
    catalogue"). A change that raises an error changes nothing.

    User states stay usable when the catalogue changes, except after `replace` and `compact`. An older snapshot refuses
    a state that a newer one made, so get the state first, then `current`.

    Args:
        recommender: the first snapshot; its version is 0 if it was loaded.
        keep: earlier snapshots to keep for `rollback`. Each takes memory for the vectors it does not share.

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
        """Loads the first snapshot by `Recommender.load`, with the same options.

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
        """Version of the newest snapshot; each snapshot increases it by one."""
        return self._current.version

    @contextlib.contextmanager
    def edit(self) -> Iterator[CatalogEdit]:
        """Makes several changes in one snapshot, published when the block ends; if the block raises, none is made.

        If nothing changes (no items are given, or hidden items are hidden again), nothing is published.

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
        """Adds items, and gives known items new vectors; see `set_attributes` to change attributes alone.

        Hidden and removed items become available again, and `until` replaces the earlier one. The encoder's input for
        an item is fixed when its id first appears: the trained embedding, or the first vector it was added with. So
        user states and histories keep their meaning.

        Args:
            ids: ids of the items, each once.
            vectors: float32 [num_ids, dim], in the space of `Recommender.user_vectors`, within +-1e12.
            bias: [num_ids], within +-1e12; None: known items keep theirs, new ones get the mean of the catalogue's.
            titles: one per item; None: known items keep theirs, new ones get their id.
            counts: how often users met each item, for the popularity fallback; None: known items keep theirs, new ones
                get 0 and come last there.
            until: Unix seconds or dates, rounded down to seconds, from which items are no longer recommended (a past
                one: at once); one for all items or one per item; None: no limit.
            attributes: for each attribute one entry per item; None: known items keep theirs. In a catalogue with
                attributes, new items need a value for each.

        Returns:
            The version.

        Raises:
            ArgumentError: a shape is wrong, a value is not finite or out of range, an id comes twice, an attribute is
                missing, or the catalogue has no titles.
            ArgumentTypeError: ids are not of the catalogue's kind, or values are not numbers.
        """
        with self.edit() as edit:
            edit.upsert(ids, vectors, bias=bias, titles=titles, counts=counts, until=until, attributes=attributes)
        return edit.version

    def set_attributes(self, ids: Ids, attributes: Mapping[str, Sequence[Any]]) -> int:
        """Changes attributes of known items, such as prices; vectors and availability do not change.

        Of the data that grows with the catalogue, only the columns that change are copied.

        Args:
            ids: a sequence or column of item ids, each once.
            attributes: for each attribute that changes, one entry per item.

        Returns:
            The version.

        Raises:
            ArgumentError: an item is not in the catalogue or is given twice, the catalogue has no such attribute, or an
                entry is of another kind than its column.
            ArgumentTypeError: ids are not of the catalogue's kind.
        """
        with self.edit() as edit:
            edit.set_attributes(ids, attributes)
        return edit.version

    def hide(self, ids: Items) -> int:
        """Stops recommending items until `show` or `upsert`; `score` and histories can still use them.

        Args:
            ids: a sequence, column or set of item ids, each once, or an `ItemTable`.

        Returns:
            The version.

        Raises:
            ArgumentError: an item is not in the catalogue, or is given twice.
            ArgumentTypeError: ids are not of the catalogue's kind.
        """
        with self.edit() as edit:
            edit.hide(ids)
        return edit.version

    def show(self, ids: Items, until: Until = None) -> int:
        """Recommends items again, without limit or `until` a time; otherwise like `hide`.

        `until` is as in `upsert`, but a set of ids allows only one time for all.
        """
        with self.edit() as edit:
            edit.show(ids, until)
        return edit.version

    def remove(self, ids: Items) -> int:
        """Removes items from the catalogue; events of them still count, and `upsert` brings them back.

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
            item: the new item, or a known one that gets a new vector and bias.
            met: histories of users who met the item, up to then. Here and in `others`, users without known events are
                ignored.
            others: histories of a sample of all users; some thousands are enough.
            place: see `Catalog.fit_item`.
            ridge: see `Catalog.fit_item`.
            others_weight: see `Catalog.fit_item`.
            title: see `upsert`.
            until: see `upsert`.
            attributes: by name, a number, boolean, string or list of strings each (not in a list of one entry).

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
        """Publishes another model with its own catalogue, ids and attributes; user states have to be made anew.

        Nothing of the old catalogue is carried over: items have to be added, hidden or removed again. Do that first, in
        a `LiveRecommender` of the new model, and pass its `current`.

        Args:
            recommender: load it beforehand, so that no request waits. Closing it, also by the end of its `with` block,
                closes the snapshot, too: leave that to `close`.

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
        """Publishes the catalogue without the rows of removed items, which frees their memory.

        Without this, rows are only ever added, also in saved snapshots. As after `replace`, user states have to be made
        anew. Events of the removed items, which counted until now, become unknown. The calling thread rebuilds the
        codes of all rows; other changes wait for it, requests do not. Without removed items nothing changes.

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
        """Publishes the content of the previous snapshot under a new version; further calls go further back.

        Items added since then are removed but stay known to the encoder, so that states made since then stay usable.
        After `replace` or `compact` the previous recommender returns unchanged, and states have to be made anew.

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
            replaced = self._current
            self._switch_to(earlier)
            self._before.pop()
            # Afterwards: what another model needs takes as long as its loading, and a rollback is to be fast.
            _build_what_was_used(earlier, replaced)
            return earlier.version

    def stats(self) -> Stats:
        """`Recommender.stats` of all snapshots together, except `queued`, which is that of the current one."""
        return self._current.stats()

    def close(self) -> None:
        """Closes all snapshots (`Recommender.close`) and refuses later changes; waits for a change in progress."""
        with self._alone():
            self._closed = True
            for snapshot in list(self._published):
                snapshot.close()

    def __copy__(self) -> NoReturn:
        """Refused: two copies would publish different snapshots but share those to roll back to."""
        self.__reduce__()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    if not TYPE_CHECKING:  # with __getattr__, a type checker would accept any attribute

        def __getattr__(self, name: str) -> NoReturn:
            current = self.__dict__.get("_current")
            is_there = not name.startswith("_") and hasattr(current, name)
            hint = f": take `current`, and `{name}` of that" if is_there else ""
            raise AttributeError(f"a LiveRecommender has no {name!r}{hint}")

    def __repr__(self) -> str:
        return f"LiveRecommender(version {self.version}: {self._current!r})"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._lock.is_mine:  # this thread would wait for itself
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
        _build_what_was_used(successor, before)
        self._switch_to(successor)
        self._before.append((before, is_edit))
        return successor.version

    def _switch_to(self, successor: Recommender) -> None:
        self._current = successor
        self._published.add(successor)


def _build_what_was_used(successor: Recommender, before: Recommender) -> None:
    """Builds for a snapshot what requests on another one used, so that its own requests do not wait for that."""
    if "by_popularity" in before.items.__dict__:
        _ = successor.items.by_popularity
    if "_path" in before.catalog.__dict__:
        _ = successor.catalog._path
    if "_directions" in before.__dict__:
        _ = successor._directions._path
    if "fingerprint" in before.__dict__:
        _ = successor.fingerprint
    successor.items.available(time.time())
