"""The SDK's main object: a trained model and its catalogue, answering requests natively."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence, Set

import numpy as np
import numpy.typing as npt
import torch

from lsif_sdk import _core
from lsif_sdk.arguments import as_k, as_threads
from lsif_sdk.artifact import Artifact
from lsif_sdk.catalog import Catalog, native_errors
from lsif_sdk.config import ModelConfig
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.events import (
    EventBatch,
    Events,
    History,
    Now,
    as_users,
    is_flat,
    known_offsets,
    ragged_rows_of,
    request_times,
)
from lsif_sdk.items import Id, ItemTable
from lsif_sdk.ops import ops
from lsif_sdk.recommendations import Encoded, Recommendations, RepeatBonuses

__all__ = ["Recommender"]

_ROWS_PER_BLOCK = 1 << 14


class Recommender:
    """A trained model with its catalogue. Immutable, safe to share between threads; native code runs without the GIL.

    Args:
        artifact: a checked model.
        threads: CPU threads a call may use; None: as many as this process may use (container limits included).
            Results do not depend on it.
    """

    def __init__(self, artifact: Artifact, *, threads: int | None = None) -> None:
        if not isinstance(artifact, Artifact):
            raise ArgumentTypeError("artifact", "an Artifact", artifact)
        self._threads = as_threads(threads)
        self.artifact = artifact
        self.catalog = Catalog.from_checked(artifact.catalog_vectors, artifact.catalog_bias, artifact.items, threads)
        c = self.catalog
        with native_errors():
            self._path = _core.RequestPath(
                self.config.to_dict(),
                [weight.detach().numpy() for weight in artifact.encoder_weights],
                c.vectors.numpy(),
                c.bias.numpy(),
                c.codes.numpy(),
                multi_interest=self.config.scoring == "multi_interest",
                temperature=self.config.temperature,
                threads=self._threads,
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str = "cpu", *, threads: int | None = None) -> Recommender:
        """Loads an artifact directory.

        The weights are memory-mapped, so processes that load the same directory share them; each has its own ids,
        catalogue codes and reordered copy of the layers' matrices.

        Args:
            path: the directory `save` or `lsif train` wrote.
            device: "cpu", the only one so far.
            threads: see the class.

        Raises:
            ArtifactError: the directory is missing, damaged, of another version or foreign.
            ArgumentError: `device` or `threads` is out of range.
        """
        if device != "cpu":
            raise ArgumentError("device", "'cpu' (this build has no other request path)", repr(device))
        return cls(Artifact.load(path), threads=threads)

    def __repr__(self) -> str:
        c = self.config
        return f"Recommender({len(self.items):,} items, {c.num_layers} {c.block} layers, dim={c.dim})"

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes the artifact directory `load` reads; see `Artifact.save`.

        Raises:
            ArtifactError: `path` exists (and `overwrite` is False, or it is not an artifact and nothing else).
        """
        self.artifact.save(path, overwrite=overwrite)

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.artifact.config

    @property
    def items(self) -> ItemTable:
        """Ids, titles and training counts of the catalogue."""
        return self.catalog.items

    def recommend(
        self,
        history: History | Sequence[History],
        k: int = 10,
        *,
        now: Now | None = None,
        exclude_seen: bool = True,
        exclude: Sequence[Id] | Set[Id] | Sequence[Sequence[Id]] | None = None,
    ) -> Recommendations:
        """The k best items for one user or many.

        Events of items the catalogue does not know are left out and counted (`unknown`). A user with no known event
        gets the most popular items of the training data, and `fallback` says so.

        Args:
            history: one user (`Events`, or item ids oldest first) or a sequence of those. [] is one user without
                events and answers one row; a batch of no users is an array of shape [0, 0].
            k: how many items, at least 1 and at most 2**20 or, if that is more, the number of items; users for whom
                fewer are left get fewer (`counts`).
            now: request time, Unix seconds; used by models with `request_time`; None: the time of the newest event.
            exclude_seen: leave out the items of the user's own history. False where people consume again.
            exclude: further item ids to leave out, one list (or set) for all users or one a user; unknown ids are
                ignored.

        Returns:
            Arrays, batch first: items and scores [batch, k], best first and equal scores by row of the catalogue,
            counts, long_share, unknown and fallback [batch]. Iterates over users, and a user over (item, score).

        Raises:
            ArgumentError: a value is out of range.
            ArgumentTypeError: an argument is of the wrong type, or ids are not of the catalogue's kind.
        """
        events = self._events(history)
        ragged = self._excluded_rows(exclude, len(events))
        k = as_k(k, len(self.items))
        if not isinstance(exclude_seen, (bool, np.bool_)):
            raise ArgumentTypeError("exclude_seen", "True or False", exclude_seen)
        with native_errors():
            scores, indices, counts, long_share = self._path.recommend(
                events.items,
                events.times,
                events.actions,
                events.offsets,
                self._now(now, len(events)),
                k,
                exclude_seen,
                *ragged,
                self._threads,
            )
        fallback = events.offsets[:-1] == events.offsets[1:]
        for user in np.flatnonzero(fallback):
            counts[user] = self._most_popular(ragged, int(user), scores[user], indices[user])
        return Recommendations(self.items.take(indices), scores, counts, long_share, events.unknown, fallback)

    def user_vectors(self, history: History | Sequence[History], *, now: Now | None = None) -> npt.NDArray[np.float32]:
        """The fused interest of each user, float32 [batch, dim]; zeros where no event is known.

        Args:
            history: see `recommend`; here, too, [] is one user without events: [1, dim].
            now: see `recommend`.

        Raises:
            ArgumentError: a value is out of range.
            ArgumentTypeError: an argument is of the wrong type.
        """
        return self.encode(history, now=now).fused

    def encode(self, history: History | Sequence[History], *, now: Now | None = None) -> Encoded:
        """Interests, weights and fused vector of each user; takes and raises what `user_vectors` does.

        Returns:
            float32 arrays: fused [batch, dim], interests [batch, num_interests, dim], weights [batch, num_interests].
        """
        events = self._events(history)
        return self.encode_rows(events.items, events.times, events.actions, events.offsets, self._now(now, len(events)))

    def encode_rows(
        self,
        items: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64] | None,
        actions: npt.NDArray[np.int64] | None,
        offsets: npt.NDArray[np.int64],
        now: npt.NDArray[np.int64] | None = None,
    ) -> Encoded:
        """`encode` for events that are catalogue rows already, ragged and sorted by time (docs/model.md, Inputs).

        Raises:
            ArgumentError: a shape, row, action or offset is wrong.
            ArgumentTypeError: not contiguous int64 arrays.
        """
        _check_rows(items=items, times=times, actions=actions, offsets=offsets, now=now)
        with native_errors():
            return Encoded(*self._path.encode(items, times, actions, offsets, now, self._threads))

    def repeat_bonus_rows(
        self,
        items: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64] | None,
        offsets: npt.NDArray[np.int64],
        now: npt.NDArray[np.int64] | None,
        newest: npt.NDArray[np.float32],
    ) -> RepeatBonuses:
        """What a model with `repeats` adds to the scores of each history's own items (docs/model.md, 5).

        Args:
            items: as in `encode_rows`, like `times`, `offsets` and `now`.
            times: see there.
            offsets: see there.
            now: see there.
            newest: the newest state of each user, float32 [batch, dim]: `encode_rows(...).interests[:, -1]`.

        Raises:
            ArgumentError: the model has no `repeats`; or a shape, row or offset is wrong.
            ArgumentTypeError: not contiguous int64 arrays.
        """
        _check_rows(items=items, times=times, offsets=offsets, now=now)
        newest = np.ascontiguousarray(newest)
        with native_errors():
            return RepeatBonuses(*self._path.repeat_bonus(items, times, offsets, now, newest, self._threads))

    def score(
        self,
        history: History | Sequence[History],
        candidates: Sequence[Id] | Sequence[Sequence[Id]],
        *,
        now: Now | None = None,
    ) -> npt.NDArray[np.float32]:
        """Exact scores of given items by the model: float32 [batch, num_candidates].

        For a user with known events they are the scores `recommend` gives the same items. For a user without,
        `recommend` falls back on training counts, and these are what the model makes of no interest: the bias alone.

        Args:
            history: see `recommend`; here, too, [] is one user without events.
            candidates: item ids, one list for all users or one list of the same length a user.
            now: see `recommend`.

        Raises:
            ArgumentError: a candidate is not in the catalogue, or lists differ in length.
            ArgumentTypeError: ids are not of the catalogue's kind.
        """
        events = self._events(history)
        times = self._now(now, len(events))
        encoded = self.encode_rows(events.items, events.times, events.actions, events.offsets, times)
        batch = len(events)
        lists = as_users(candidates, "candidates")  # the same shapes as histories: one list or one a user
        rows = [self.items.known_rows(entry.items, "candidates") for entry in lists]
        width = len(rows[0]) if rows else 0
        if len(rows) == 1:
            rows = rows * batch
        if len(rows) != batch or len({len(row) for row in rows}) > 1:
            raise ArgumentError("candidates", f"one list, or {batch} of the same length", f"{[len(r) for r in rows]}")
        items = torch.from_numpy(np.array(rows, np.int64).reshape(batch, width))
        queries, weights = self._queries(encoded)
        with torch.inference_mode(), native_errors():
            scores: torch.Tensor = ops.score_items(
                queries, weights, self.config.temperature, self.catalog.vectors, self.catalog.bias, items
            )
        result: npt.NDArray[np.float32] = scores.numpy()
        if self.config.repeats:
            newest = encoded.interests[:, -1]
            bonus = self.repeat_bonus_rows(events.items, events.times, events.offsets, times, newest)
            result += bonus.of(items.numpy())
        return result

    def similar_items(self, items: Id | Sequence[Id], k: int = 10) -> Recommendations:
        """The k items whose vectors point most nearly in the direction of each given one (cosine), itself left out.

        The first call builds a second catalogue, of the directions, and keeps it: as much memory as the item vectors
        and their codes take, and about as long as loading takes.

        Args:
            items: one item id or several.
            k: how many, at least 1.

        Returns:
            One row a given item, scores the cosines; long_share, unknown and fallback have no meaning here and are 0.

        Raises:
            ArgumentError: an item is not in the catalogue.
            ArgumentTypeError: ids are not of the catalogue's kind.
        """
        wanted = Events([items] if isinstance(items, (str, int, np.integer)) else items).items
        rows = self.items.known_rows(wanted, "items")
        result = self._directions.top_k(
            self._directions.vectors[rows], k, exclude=rows[:, None], threads=self._threads or None
        )
        batch = len(rows)
        return Recommendations(
            self.items.take(result.indices),
            result.scores,
            result.counts,
            np.zeros(batch, np.float32),
            np.zeros(batch, np.int64),
            np.zeros(batch, np.bool_),
        )

    @functools.cached_property
    def _directions(self) -> Catalog:
        """The catalogue's vectors at length 1 (zero vectors stay zero), for cosine similarity."""
        vectors = torch.empty_like(self.catalog.vectors)
        # In blocks, since the lengths are taken in float64: of the whole catalogue that would be twice its size.
        for begin in range(0, len(vectors), _ROWS_PER_BLOCK):
            block = slice(begin, begin + _ROWS_PER_BLOCK)
            vectors[block] = torch.nn.functional.normalize(self.catalog.vectors[block].double(), dim=1)
        return Catalog.from_checked(vectors, torch.zeros(len(vectors)), self.items, self._threads or None)

    def _events(self, history: History | Sequence[History]) -> EventBatch:
        return EventBatch.from_histories(history, self.items, self.config.num_actions)

    def _queries(self, encoded: Encoded) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.config.scoring == "fused":
            return torch.from_numpy(encoded.fused[:, None]), None
        weights = encoded.weights.copy()
        # Without events all interests are zero; any weight that sums to one gives the bias alone.
        weights[~weights.any(axis=1), -1] = 1.0
        return torch.from_numpy(encoded.interests), torch.from_numpy(weights)

    def _now(self, now: Now | None, batch: int) -> npt.NDArray[np.int64] | None:
        times = None if now is None else request_times(now, batch)  # checked even where the model does not read it
        return times if self.config.request_time else None

    def _excluded_rows(
        self, exclude: Sequence[Id] | Set[Id] | Sequence[Sequence[Id]] | None, batch: int
    ) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]:
        if exclude is None:
            return None, None
        exclude = list(exclude) if isinstance(exclude, Set) else exclude
        lists = as_users(exclude, "exclude")
        for_all = is_flat(exclude) if isinstance(exclude, (list, tuple)) else np.ndim(exclude) == 1
        if not for_all and len(lists) != batch:
            raise ArgumentError("exclude", f"one list of ids, or one a user ({batch})", f"{len(lists)} lists")
        rows, offsets = ragged_rows_of(lists, self.items, "exclude")
        known = rows >= 0
        rows, offsets = rows[known], known_offsets(known, offsets)
        if for_all:
            rows, offsets = np.tile(rows, batch), len(rows) * np.arange(batch + 1)
        return rows, offsets

    def _most_popular(
        self,
        exclude: tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None],
        user: int,
        scores: npt.NDArray[np.float32],
        indices: npt.NDArray[np.int64],
    ) -> int:
        """Fills one user's rows with the most popular items and returns how many there are."""
        rows, offsets = exclude
        order = self.items.by_popularity
        if rows is not None and offsets is not None:
            unwanted = rows[offsets[user] : offsets[user + 1]]
            order = order[: len(scores) + len(unwanted)]
            order = order[~np.isin(order, unwanted)]
        order = order[: len(scores)]
        scores[:] = 0.0
        indices[:] = -1
        scores[: len(order)] = self.items.counts[order]
        indices[: len(order)] = order
        return len(order)


def _check_rows(**arrays: npt.NDArray[np.int64] | None) -> None:
    for name, values in arrays.items():
        plain = isinstance(values, np.ndarray) and values.dtype == np.int64 and values.flags.c_contiguous
        if not plain and (values is not None or name in ("items", "offsets")):
            raise ArgumentTypeError(name, "a contiguous int64 array", values)
