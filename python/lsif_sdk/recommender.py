"""The SDK's main class: a trained model and its catalogue, which answer requests in native code."""

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
    """A trained model with its catalogue. Immutable and thread-safe; native code runs without the GIL.

    Args:
        artifact: a checked model.
        threads: how many CPU threads a call may use; None: as many as this process may use (container limits included).
            Results do not depend on it.
        batching: how concurrent `recommend` calls share searches. True: with the defaults of `Batching`; None or False:
            each call searches for itself. Results do not depend on it.
        attributes: item attributes for `recommend(where=)`, by name: columns with one entry per item, in catalogue
            order or by item id, as in {"price": {"sku-1": 9.99}}. Entries are numbers, booleans, strings or lists of
            strings (`lsif_sdk.attributes.Attributes`). Missing entries are unknown; a column of booleans needs an
            entry for every item.
        precision: "float32", or "bfloat16" for the products in the blocks: faster on CPUs with bfloat16 instructions,
            less exact on all (docs/model.md, 2).
        device: "cpu", or the GPU that answers: "cuda", "cuda:1". `UserState`s, `explain`, `search` and `similar_items`
            stay on the CPU; batching and a `recall_target` below 1 are refused (docs/cuda.md).
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

        Weights and catalogue codes are memory-mapped, so processes that load the same directory share them. Each
        process has its own copy of the ids, a reordered copy of the layers' matrices and, if it takes at most 64 MiB,
        a table of what the first layer computes for each item (docs/model.md, 2).

        Args:
            path: a directory that `save` or `lsif train` wrote.
            device: see the class.
            threads: see the class.
            batching: see the class.
            attributes: see the class.
            precision: see the class.
            verify: compare the files' SHA-256 with those recorded when they were saved. False saves about 1 s per GB,
                for processes that load what another has verified, but misses changes that leave the files readable.

        Raises:
            ArtifactError: the directory is missing, damaged, of another version or not an artifact.
            ArgumentError: `device`, `threads` or `precision` is out of range, or `attributes` do not fit the items.
            ArgumentTypeError: an argument has the wrong type.
        """
        as_device(device)  # fail before anything is read
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
        """Makes a recommender of items alone, for user vectors from your own encoder.

        `search`, `similar_items`, `save` and a `LiveRecommender` of it work; methods that take histories or states
        are refused.

        Args:
            vectors: the item vectors, [num_items, dim], at least one item of 1 to 4096 dimensions, real and finite.
                float32 is used in place: do not change it. In addition 16 dim^2 bytes are needed, in memory and files.
            ids: unique external ids, one per item, or an `ItemTable`; None: the row numbers.
            bias: [num_items], finite, added to the inner products; None: zero.
            titles: one text per item, or None.
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
        """Writes the artifact directory that `load` reads, with the catalogue's codes; see `Artifact.save`.

        Raises:
            ArtifactError: `path` exists, and `overwrite` is False or there is something other than an artifact.
            ArgumentError: no file system allows such a path.
            ArgumentTypeError: `path` is not a path.
            SettingError: SOURCE_DATE_EPOCH is not a number of seconds.
            OSError: for example the disk is full. Nothing has changed then.
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
        """Returns the k best items for one user or many.

        Events of items that the catalogue does not know are ignored and counted (`unknown`). A user with no known event
        gets the most popular items of the training data, and `fallback` is True.

        Args:
            history: one user (`Events`, or item ids, oldest first) or a sequence of users. [] is one user without
                events and gets one row; a batch of no users is an array of shape [0, 0].
            k: how many items: at least 1, at most 2**20 or the number of items, whichever is larger. Time and memory
                grow with k, so a server should limit it. Users with fewer items left get fewer (`counts`).
            state: the state of the user, or one per user, in place of `history`. The answer is the one for the whole
                history (docs/user_state.md), at a cost independent of its length, but `exclude_seen` and `repeats`
                see only the newest `remember` events. On a GPU, also users of a `DeviceStates` on that GPU.
            now: request time, Unix seconds or a date, for models with `request_time`; None: that of the newest event.
            exclude_seen: leave out the items of the user's own history. None: as the model was trained
                (`train(exclude_seen=)`, False where people consume items again), or True if the model does not say.
            exclude: more item ids to leave out: one list (or set) for all users, or a list with one per user
                (None: none). Unknown ids are ignored.
            allow: item ids that may be recommended: one list (or set) for all users, or a list with one per user
                (None: all); None: all.
            where: conditions on the `attributes` of items, for all users or a list with one per user (None: none).
                {"genre": ["Drama", "War"], "year": 1994, "price": (0, 20)} means one of the values, exactly this number
                and between the bounds; {"in_stock": True} is for columns of booleans; {"genre": Not("Horror")} means
                all others. An item has to meet all conditions, and `allow` as well.
            interest: the share of the long-term interests in the fused interest: a number from 0 to 1, "long" (1) or
                "short" (0), in place of the share that the model computes for the user; None: the model's. The weights
                keep their proportions within the long-term interests and within the others.
            diversity: 0 to 1, how different from each other the items should be. They are chosen from the best 10 k
                (at least 100) by maximal marginal relevance (`lsif_sdk.diversity.diversify`), so scores may not
                descend. The most popular items, for users without known events, are not diversified.
            timeout: with batching, seconds the request may wait for its search to begin; None: no limit. Without
                batching it has no effect.
            budget_ms: milliseconds within which an answer is due. If an exact search would be too late, judging by
                recent searches, an approximate one answers, provided it would be in time and the catalogue's codes are
                ordered. If not, or if the request waits too long or the queue is full, the most popular items answer,
                under the same exclusions and filters. `degraded` says which. Work that has begun is not interrupted,
                except the choice by `diversity`.
            recall_target: the share of the exact k best that is enough on average, above 0; 1: all of them. See
                `Catalog.top_k`; here it is calibrated on users with one event.

        Returns:
            Arrays, batch first: items and scores [batch, k], best first, equal scores in catalogue order (past a
            user's count, items are None, or -1 for integer ids, and scores 0); counts, long_share, unknown and
            fallback [batch]. Iterating yields users; iterating over a user yields (item, score).

        Raises:
            ArgumentError: a value is out of range, or `state` is of another model.
            ArgumentTypeError: an argument is of the wrong type, or ids are not of the catalogue's kind.
            OverloadedError: with batching, the queue is full.
            DeadlineError: with batching, the search did not begin within `timeout`.
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
        """`recommend` for asyncio: same arguments, answers and errors, without blocking the event loop.

        With batching, requests in flight share searches. `timeout` and `budget_ms` count from this call. If its task is
        cancelled, a request that still waits is dropped; one that has begun is completed and its answer discarded.

        Raises:
            OverloadedError: `max_queue` requests plus one batch are already in flight, with batching or without.
            ClosedError: after `close`, with batching or without.
        """
        call = functools.partial(self.recommend, history, k, state=state)
        return await self._waiting_room.answer(call, options, self._metrics.failed)

    def stats(self) -> Stats:
        """Statistics since loading: counters, time histograms, and how searches were shared.

        Each snapshot of a `LiveRecommender` continues the counts of the previous one.
        """
        return self._metrics.stats(self._host.batching_stats() or {}, self.version, self._waiting_room.in_flight)

    def close(self) -> None:
        """Refuses waiting and later requests with batching, and returns when no search runs any more.

        With or without batching, refuses `recommend_async` requests that have not begun, and ends their threads.
        """
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
        """The next snapshot of this model, for `LiveRecommender`; this recommender does not change.

        Args:
            artifact: has the items of this one in the same rows, and perhaps more.
            catalog: that of the artifact.
            attributes: those of its items.
            fingerprint: identifies states that the snapshot makes; it also accepts those of this and earlier snapshots.
            changed: rows of this catalogue that include all whose vectors have changed; None: not known.
        """
        successor = copy.copy(self)
        successor.artifact, successor.catalog, successor._attributes = artifact, catalog, attributes
        if catalog.codes is not self.catalog.codes:
            successor._place(self)
            directions = successor.__dict__.pop("_directions", None)
            if directions is not None:  # built in the thread that makes the change, so that no request waits for it
                successor.__dict__["_directions"] = carried_over(
                    directions, self.catalog, catalog, self._threads, changed
                )
        successor.__dict__["fingerprint"] = fingerprint
        successor.older_fingerprints = self.older_fingerprints | {self.fingerprint}
        return successor.following(self)

    def following(self, before: Recommender) -> Recommender:
        """This recommender as the snapshot published after `before`: with the next version, continuing its counts."""
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
        """Returns the model's exact scores of given items: float32 [batch, num_candidates].

        For a user with known events they equal the scores that `recommend` gives these items. For a user without known
        events `recommend` returns training counts as scores, while this returns the items' biases alone.

        Args:
            history: see `recommend`; [] is one user without events here too.
            candidates: item ids: one list for all users, or a list per user, all of the same length. Required.
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
        """Explains an item's score: the share of each interest, of each past event, and of the item itself.

        Computed by the torch module in float64, in milliseconds; meant for inspecting single recommendations.

        Args:
            history: the events of one user; see `recommend`.
            item: an id of the catalogue.
            now: see `recommend`.

        Returns:
            The parts, which sum to `score(history, [item])` of the float32 model, within its rounding.

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
        # Without events all interests are zero; any weights that sum to one give the bias alone.
        weights[~weights.any(axis=1), -1] = 1.0
        return torch.from_numpy(encoded.interests), torch.from_numpy(weights)
