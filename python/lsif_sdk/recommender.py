"""The SDK's main object: a trained model and its catalogue, answering requests natively."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, Unpack

import numpy as np
import numpy.typing as npt
import torch

from lsif_sdk.artifact import Artifact
from lsif_sdk.attribute_columns import Column
from lsif_sdk.attributes import Attributes, Where
from lsif_sdk.batching import Batching
from lsif_sdk.catalog import Catalog
from lsif_sdk.device import DevicePath, as_device
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.events import Histories, History, IdLists, as_users, check_same_users
from lsif_sdk.explanation import Explanation, explain
from lsif_sdk.ids import Id
from lsif_sdk.item_search import ItemSearch
from lsif_sdk.items import ItemTable
from lsif_sdk.items_alone import items_alone
from lsif_sdk.native_errors import native_errors
from lsif_sdk.native_model import States, unchanging
from lsif_sdk.ops import ops
from lsif_sdk.options import RequestOptions
from lsif_sdk.placed_model import Precision
from lsif_sdk.recommendations import Encoded, Recommendations
from lsif_sdk.request import Options
from lsif_sdk.similarity import carried_over
from lsif_sdk.stats import Stats
from lsif_sdk.times import Now

__all__ = ["Recommender"]


class Recommender(ItemSearch):
    """A trained model with its catalogue. Immutable, safe to share between threads; native code runs without the GIL.

    Args:
        artifact: a checked model.
        threads: CPU threads a call may use; None: as many as this process may use (container limits included).
            Results do not depend on it.
        batching: how `recommend` calls of concurrent callers share searches; True: as `Batching` has it; None or False:
            each searches for itself. Results do not depend on it.
        attributes: what `recommend(where=)` may ask of items, by name: a column with an entry an item, in the order of
            the catalogue or by item id, {"price": {"sku-1": 9.99}}, of numbers, True and False, strings or lists of
            strings (`lsif_sdk.attributes.Attributes`). Of items without an entry nothing is known; of True and False
            all need one.
        precision: "float32", or "bfloat16" for the products in the blocks: faster where the CPU has them, less exact
            everywhere (docs/model.md, 2).
        device: "cpu", or the GPU that answers: "cuda", "cuda:1". `UserState`s, `explain`, `search` and `similar_items`
            stay on the CPU; batching and `recall_target` below 1 are refused (docs/cuda.md).
    """

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        device: str = "cpu",
        *,
        threads: int | None = None,
        batching: Batching | bool | None = None,
        attributes: Mapping[str, Column] | None = None,
        precision: Precision = "float32",
        verify: bool = True,
    ) -> Recommender:
        """Loads an artifact directory.

        Weights and catalogue codes are memory-mapped, so processes that load the same directory share them; each has
        its own ids, reordered copy of the layers' matrices and, if it takes at most 64 MiB, table of what the first
        layer makes of each item (docs/model.md, 2).

        Args:
            path: the directory `save` or `lsif train` wrote.
            device: see the class.
            threads: see the class.
            batching: see the class.
            attributes: see the class.
            precision: see the class.
            verify: compare the files' SHA-256 with those recorded when they were saved. False saves about 1 s a GB, for
                processes that load what another has verified, and lets changes pass that leave the files readable.

        Raises:
            ArtifactError: the directory is missing, damaged, of another version or foreign.
            ArgumentError: `device`, `threads` or `precision` is out of range, or `attributes` do not fit the items.
            ArgumentTypeError: an argument has the wrong type.
        """
        as_device(device)  # before anything is read
        return cls(
            Artifact.load(path, verify=verify),
            threads=threads,
            batching=batching,
            attributes=attributes,
            precision=precision,
            device=device,
        )

    @classmethod
    def from_vectors(
        cls,
        vectors: torch.Tensor | npt.ArrayLike,
        ids: Sequence[Id] | npt.NDArray[Any] | ItemTable | None = None,
        bias: torch.Tensor | npt.ArrayLike | None = None,
        *,
        titles: Sequence[str] | None = None,
        threads: int | None = None,
        attributes: Mapping[str, Column] | None = None,
    ) -> Recommender:
        """Items alone, for users' vectors of an encoder of your own: there is `search`, `similar_items`, `save`, and a
        `LiveRecommender` of it. What takes histories or states is refused.

        Args:
            vectors: of the items, [num_items, dim], at least one item of 1 to 4096 dimensions, real and finite; float32
                is used in place: leave it unchanged. Besides, 16 dim^2 bytes are taken, in memory and in files.
            ids: external ids, one an item, unique, or an `ItemTable`; None: the row numbers.
            bias: [num_items], added to inner products, finite; None: zero.
            titles: one text an item, or None.
            threads: see the class.
            attributes: see the class.

        Raises:
            ArgumentError: a shape is wrong, a value is NaN or infinite, ids are not unique, or `attributes` do not fit.
            ArgumentTypeError: an argument is of the wrong type.
        """
        return cls(items_alone(vectors, ids, bias, titles), threads=threads, attributes=attributes)

    def __repr__(self) -> str:
        c = self.config
        if not self.artifact.has_encoder:
            return f"Recommender({len(self.items):,} items, no encoder, dim={c.dim})"
        return f"Recommender({len(self.items):,} items, {c.num_layers} {c.block} layers, dim={c.dim})"

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes the artifact directory `load` reads, with the catalogue's codes; see `Artifact.save`.

        Raises:
            ArtifactError: `path` exists (and `overwrite` is False, or it is not an artifact and nothing else).
            ArgumentError: no file system has such a path.
            ArgumentTypeError: `path` is no path.
            SettingError: SOURCE_DATE_EPOCH is no number of seconds.
            OSError: the disk is full, say; nothing has changed then.
        """
        self.artifact.save(path, overwrite=overwrite, codes=self.catalog.codes)

    def recommend(
        self,
        history: Histories | None = None,
        k: int = 10,
        *,
        state: States | None = None,
        now: Now | None = None,
        exclude_seen: bool | None = None,
        exclude: IdLists | None = None,
        allow: IdLists | None = None,
        where: Where | Sequence[Where | None] | None = None,
        interest: Literal["long", "short"] | float | None = None,
        diversity: float = 0.0,
        timeout: float | None = None,
        budget_ms: float | None = None,
        recall_target: float = 1.0,
    ) -> Recommendations:
        """The k best items for one user or many.

        Events of items the catalogue does not know are left out and counted (`unknown`). A user with no known event
        gets the most popular items of the training data, and `fallback` says so.

        Args:
            history: one user (`Events`, or item ids oldest first) or a sequence of those. [] is one user without
                events and answers one row; a batch of no users is an array of shape [0, 0].
            k: how many items, at least 1 and at most 2**20 or, if that is more, the number of items (time and memory
                follow k: a server bounds what strangers may ask for); users for whom fewer are left get fewer
                (`counts`).
            state: in place of `history`, what is kept of the user or of each: the answer is that for the whole history
                (docs/user_state.md), at a cost that does not depend on its length; but `exclude_seen` and `repeats`
                see the newest `remember` events alone. On a GPU also users of a `DeviceStates` there.
            now: request time, Unix seconds or a date, for models with `request_time`; None: that of the newest event.
            exclude_seen: leave out the items of the user's own history; None: as in the model's training
                (`train(exclude_seen=)`, False where people consume again), True where that does not say.
            exclude: further item ids to leave out, one list (or set) for all users or a list of them, one a user
                (None: none); unknown ids are ignored.
            allow: item ids that may be recommended, one list (or set) for all users or a list of them, one a user
                (None: all); None: all.
            where: conditions on the `attributes` of items, for all users or a list of them, one a user (None: none):
                {"genre": ["Drama", "War"], "year": 1994, "price": (0, 20)}: any of the values, this number, between;
                {"in_stock": True} of columns of True and False; {"genre": Not("Horror")}: all others. All conditions
                have to hold, and `allow` as well.
            interest: how much of the fused interest is long-term: a share from 0 to 1, "long" (1) or "short" (0), in
                place of what the model finds for the user; None: as the model finds. Within the long-term interests,
                and within the others, weights keep their proportions.
            diversity: 0 to 1, how unlike each other the items shall be: chosen from the best 10 k (at least 100) by
                maximal marginal relevance (`lsif_sdk.diversity.diversify`); scores then need not descend. Of users who
                get the most popular items, for want of known events, nothing is diversified.
            timeout: with batching, seconds the request may wait for its search to begin; None: for ever. Without
                batching nothing waits, and it changes nothing.
            budget_ms: milliseconds for an answer in any case: where the search, as searches have gone lately, would
                come too late, an approximate one takes its place if that would not and the catalogue's codes have an
                order; otherwise, or if it waits too long or finds no place in the queue, the most popular items answer,
                under the same exclusions and filters. `degraded` says which. What has begun is not broken off, but
                for the choice by `diversity`.
            recall_target: share of the exact k best that is enough on average, above 0; 1: all of them. See
                `Catalog.top_k`; tried on users of one event.

        Returns:
            Arrays, batch first: items and scores [batch, k], best first and equal scores by row of the catalogue (past
            a user's count None, of integer ids -1, and 0), counts, long_share, unknown and fallback [batch].
            Iterates over users, and a user over (item, score).

        Raises:
            ArgumentError: a value is out of range, or `state` is of another model.
            ArgumentTypeError: an argument is of the wrong type, or ids are not of the catalogue's kind.
            OverloadedError: with batching, as many requests wait as may.
            DeadlineError: with batching, the request's turn did not come in time.
            ClosedError: with batching, after `close` or in a forked child.
        """
        options = Options(
            k, now, exclude_seen, exclude, allow, where, interest, diversity, timeout, budget_ms, recall_target
        )
        try:
            return self._answer(history, state, options)
        except Exception as error:
            self._metrics.failed(error)
            raise

    async def recommend_async(
        self,
        history: Histories | None = None,
        k: int = 10,
        *,
        state: States | None = None,
        **options: Unpack[RequestOptions],
    ) -> Recommendations:
        """`recommend` for asyncio: takes, answers and raises the same, while the event loop goes on.

        With batching, requests in flight share searches. `timeout` and `budget_ms` count from this call. A request
        whose task is cancelled before its turn is dropped; one whose turn has come is answered, to nobody.

        Raises:
            OverloadedError: `max_queue` and a batch of requests are in flight, with batching or without.
            ClosedError: after `close`, with batching or without.
        """
        call = functools.partial(self.recommend, history, k, state=state)
        return await self._waiting_room.answer(call, options, self._metrics.failed)

    def stats(self) -> Stats:
        """What has been done since loading: counters, histograms of time, and how searches were shared.

        Of a `LiveRecommender`'s snapshots each counts on from the one before.
        """
        return self._metrics.stats(self._host.batching_stats() or {}, self.version, self._waiting_room.in_flight)

    def close(self) -> None:
        """With batching: refuses what waits and what comes, and returns when no search runs. Likewise, with batching or
        without, what `recommend_async` has not begun, whose threads end."""
        self._waiting_room.close()
        self._host.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def succeeded_by(
        self,
        artifact: Artifact,
        catalog: Catalog,
        attributes: Attributes,
        fingerprint: bytes,
        changed: npt.NDArray[np.int64] | None = None,
    ) -> Recommender:
        """The next snapshot of this model, for `LiveRecommender`; this one stays as it is.

        Args:
            artifact: with the items of this one in their rows, and perhaps further ones.
            catalog: of the artifact.
            attributes: of its items.
            fingerprint: what tells the states it makes; those of this one and its forerunners it knows, too.
            changed: rows of this catalogue among which are all whose vectors are others now; None: nobody knows.
        """
        successor = copy.copy(self)
        successor.artifact, successor.catalog, successor._attributes = artifact, catalog, attributes
        if catalog.codes is not self.catalog.codes:
            successor._place(self)
            directions = successor.__dict__.pop("_directions", None)
            if directions is not None:  # by who makes the change, so that no request waits for it
                successor.__dict__["_directions"] = carried_over(
                    directions, self.catalog, catalog, self._threads, changed
                )
        successor.__dict__["fingerprint"] = fingerprint
        successor.older_fingerprints = self.older_fingerprints | {self.fingerprint}
        return successor.following(self)

    def following(self, before: Recommender) -> Recommender:
        """This recommender as what is published after `before`: with the next version, and counting on from there."""
        successor = copy.copy(self)
        successor.version = before.version + 1
        successor._metrics, successor._pace, successor._hurried_pace = (
            before._metrics,
            before._pace,
            before._hurried_pace,
        )
        successor._host.count_on_from(before._host)
        return successor

    def score(
        self,
        history: Histories | None = None,
        candidates: Sequence[Id] | Sequence[Sequence[Id]] | None = None,
        *,
        state: States | None = None,
        now: Now | None = None,
    ) -> npt.NDArray[np.float32]:
        """Exact scores of given items by the model: float32 [batch, num_candidates].

        For a user with known events they are the scores `recommend` gives the same items. For a user without,
        `recommend` falls back on training counts, and these are what the model makes of no interest: the bias alone.

        Args:
            history: see `recommend`; here, too, [] is one user without events.
            candidates: item ids, one list for all users or one list of the same length a user. There has to be one.
            state: in place of `history`; see `recommend`.
            now: see `recommend`.

        Raises:
            ArgumentError: a candidate is not in the catalogue, lists differ in length, or `state` is of another model.
            ArgumentTypeError: an argument is of the wrong type, or ids are not of the catalogue's kind.
        """
        if candidates is None:
            raise ArgumentTypeError("candidates", "a list of item ids", candidates)
        asked = self._users(history, state)
        check_same_users(history, now, candidates=candidates)
        batch = len(asked)
        asked_at = self._now(now, batch)
        users = unchanging(asked, asked_at)
        encoded = self._encoded(users, asked_at)
        lists = as_users(candidates, "candidates", "a list of item ids")
        names = ["candidates"] if len(lists) == 1 else [f"candidates[{user}]" for user in range(len(lists))]
        rows = [self.items.known_rows(entry.items, name) for entry, name in zip(lists, names, strict=True)]
        width = len(rows[0]) if rows else 0
        if len(rows) == 1:
            rows = rows * batch
        if len(rows) != batch or len({len(row) for row in rows}) > 1:
            raise ArgumentError("candidates", f"one list, or {batch} of the same length", f"{[len(r) for r in rows]}")
        items = torch.from_numpy(np.array(rows, np.int64).reshape(batch, width))
        queries, weights = self._queries(encoded)
        result = self._scores_of(queries, weights, items)
        if self.config.repeats:
            newest = encoded.interests[:, -1]
            bonus = self.repeat_bonus_rows(*self._own_events(users), asked_at, newest)
            result += bonus.of(items.numpy())
        self._metrics.called("score")
        return result

    def explain(self, history: History, item: Id, *, now: Now | None = None) -> Explanation:
        """Why an item has its score: the share of each interest, of each past event, and of the item itself.

        Made by the torch module in float64, in milliseconds: for looking at single recommendations.

        Args:
            history: one user's; see `recommend`.
            item: an id of the catalogue.
            now: see `recommend`.

        Returns:
            The parts, which sum to the float32 model's `score(history, [item])` within its rounding.

        Raises:
            ArgumentError: the item is not in the catalogue, or no event of the history is known.
            ArgumentTypeError: an argument is of the wrong type.
        """
        self._check_encoder()
        events = self._events(history)
        if len(events) != 1 or len(events.items) == 0:
            got = f"{len(events)} users" if len(events) != 1 else f"none ({events.unknown[0]} unknown)"
            raise ArgumentError("history", "one user with at least one known event", got)
        asked = self._now(now, 1)
        explanation = explain(self.artifact, events, self.items.row(item), None if asked is None else int(asked[0]))
        self._metrics.called("explain")
        return explanation

    def _scores_of(
        self, queries: torch.Tensor, weights: torch.Tensor | None, items: torch.Tensor
    ) -> npt.NDArray[np.float32]:
        of_items = self.config.temperature, self.catalog.vectors, self.catalog.bias, items
        with torch.inference_mode(), native_errors():
            if isinstance(self._path, DevicePath):
                return self._path.score_items(queries, weights, items)
            scores: npt.NDArray[np.float32] = ops.score_items(queries, weights, *of_items).numpy()
        return scores

    def _queries(self, encoded: Encoded) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.config.scoring == "fused":
            return torch.from_numpy(encoded.fused[:, None]), None
        weights = encoded.weights.copy()
        # Without events all interests are zero; any weight that sums to one gives the bias alone.
        weights[~weights.any(axis=1), -1] = 1.0
        return torch.from_numpy(encoded.interests), torch.from_numpy(weights)
