"""Recommendations for users whose events are in a store, with their states cached in memory."""

from __future__ import annotations

import collections
import dataclasses
import functools
import time
from typing import Self, Unpack

import numpy as np

from lsif_sdk.arguments import as_duration, as_integer
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, LsifError, StoreError
from lsif_sdk.event_batch import EventBatch
from lsif_sdk.events import Events, History
from lsif_sdk.ids import INT_TYPES, STR_TYPES, Id, id_list
from lsif_sdk.integrations.bounded_calls import BoundedCalls
from lsif_sdk.integrations.history_store import HistoryStore, StoredEvents, as_event_rows, as_user
from lsif_sdk.integrations.served_state import KeptState, ServedState, newest_time, oldest_time
from lsif_sdk.integrations.user_states import UserStates
from lsif_sdk.items import ItemTable
from lsif_sdk.live import LiveRecommender
from lsif_sdk.locks import ForkSafeLock, OfOneProcess
from lsif_sdk.options import RequestOptions
from lsif_sdk.recommendations import Recommendations
from lsif_sdk.recommender import Recommender
from lsif_sdk.times import check_recent
from lsif_sdk.user_state import DEFAULT_REMEMBER, MOST_REMEMBERED, UserState

__all__ = ["Users"]

_METHODS = ("append", "read", "get_state", "put_state", "delete")
_NUM_LOCKS = 256
_NUM_THREADS = 16  # for requests with a budget: the most calls that a slow store may block
_PATIENCE = 3 / 4  # of a budget: on a busy machine, a thread that has waited does not run at once


class Users(OfOneProcess):
    """Records users' events and recommends items: the answers of `Recommender.recommend` for all recorded events.

    The store's events are authoritative; states only save work. One that is missing, damaged, of another model or out
    of date is updated from the events, whoever appended them: many threads, and other processes with their own `Users`,
    may share a store.

    Args:
        recommender: the model. States follow the snapshots of a live recommender: those of another model, and those
            that ignored events of an item that has been added since, are rebuilt when the user is next asked for.
        store: the store of histories. `Users` does not close it.
        max_bytes: memory for states; those of users with few events are packed, see `UserStates`. The state of a user
            with 2**20 events takes 8 MB, or 16 MB with `repeats` and times.
        save_every: write a user's state to the store after this many new events. At most this many events (and those of
            other processes) are read again after a crash or when the state has been dropped from memory.
        remember: see `Recommender.new_state`. For a user with more events, the state is rebuilt from the whole history
            with twice the room, so that `exclude_seen` and `repeats` see all events (up to 2**20).

    Raises:
        ArgumentError: a number is out of range.
        ArgumentTypeError: an argument is of the wrong type, or `store` lacks a method.
    """

    def __init__(
        self,
        recommender: Recommender | LiveRecommender,
        store: HistoryStore,
        *,
        max_bytes: int = 256 << 20,
        save_every: int = 50,
        remember: int = DEFAULT_REMEMBER,
    ) -> None:
        if not isinstance(recommender, (Recommender, LiveRecommender)):
            raise ArgumentTypeError("recommender", "a Recommender or LiveRecommender", recommender)
        if missing := [method for method in _METHODS if not callable(getattr(store, method, None))]:
            raise ArgumentTypeError("store", f"a HistoryStore, SQLiteStore(path) say, which has {missing[0]}", store)
        save_every = as_integer("save_every", save_every, 1, 2**62)
        self._recommender = recommender
        self._remember = as_integer("remember", remember, 1, MOST_REMEMBERED)
        self._empty = self._new_empty(self._snapshot)
        self._store = store
        self._save_every = save_every
        self._states: UserStates[KeptState | ServedState] = UserStates(max_bytes)
        # If several threads find a user's state out of date, only one updates it. Several users share one lock.
        self._locks = tuple(ForkSafeLock() for _ in range(_NUM_LOCKS))
        self._counts: collections.Counter[str] = collections.Counter()
        self._counts_lock = ForkSafeLock()
        self._calls = BoundedCalls(_NUM_THREADS)

    def record(self, user: Id, history: History) -> None:
        """Adds one or more events; when it returns they are durable, and all later requests take them into account.

        Args:
            user: a string or an integer.
            history: the events, as in `Recommender.append`, but in any order of time and with or without times.

        Raises:
            ArgumentError: an action is out of the model's range, a time is after the year 5138, or an id cannot be
                stored. Nothing was recorded.
            ArgumentTypeError: an argument is of the wrong type, or ids are not of the catalogue's kind. Nothing was
                recorded.
            StoreError: the store failed. The events may have been recorded; see `HistoryStore.append`.
        """
        user = as_user(user)
        rows = as_event_rows(history)
        if not rows:
            return
        check_recent("times", np.array([row.time for row in rows], np.int64))  # also of items not known yet
        # Events that the model refuses would make every later request fail.
        snapshot = self._snapshot
        EventBatch.from_histories(history, snapshot.items, snapshot.config.num_actions)
        self._store.append(user, history)  # not under the lock, so that requests need not wait for the disk
        with self._lock(user):
            try:
                self._current(user)
            except LsifError:  # the events are recorded; the next request tries again and reports the error
                self._states.remove(user)

    def recommend(self, user: Id, k: int = 10, **options: Unpack[RequestOptions]) -> Recommendations:
        """The k best items for the user: `Recommender.recommend` for the recorded events, with the same options.

        A user without recorded events gets the most popular items, and `fallback` is True. `budget_ms` includes the
        time of the store. If the store fails or would leave no time for a search, the answer is from the state in
        memory or, without one, the most popular items; `degraded` is then "cached state" or "popularity". A call to the
        store that is too late continues, and later requests use its result.

        Raises:
            ArgumentError: a value is out of range.
            ArgumentTypeError: an argument is of the wrong type.
            StoreError: the store failed.
        """
        user, began = as_user(user), time.perf_counter()
        if given := options.keys() & {"history", "state"}:
            raise ArgumentError(min(given), "no such argument: what is recorded of the user answers", "it")
        budget = as_duration("budget_ms", "milliseconds", options.get("budget_ms"))
        try:
            found = self._found(user, None if budget is None else budget / 1e3)
        except StoreError:
            if budget is None:
                raise
            found = None
        snapshot, current, degraded = self._without_store(user) if found is None else (*found, "")
        if budget is not None:
            options["budget_ms"] = max(0.0, budget - 1e3 * (time.perf_counter() - began))
        if isinstance(current, Events):
            answer = snapshot.recommend(current, k, **options)
        else:
            answer = snapshot.recommend(state=current, k=k, **options)
        worse = degraded and answer.degraded != "popularity"
        return dataclasses.replace(answer, degraded=degraded) if worse else answer

    async def recommend_async(self, user: Id, k: int = 10, **options: Unpack[RequestOptions]) -> Recommendations:
        """`recommend` for asyncio: same arguments, answers and errors, without blocking the event loop.

        It shares the limits and the threads of `Recommender.recommend_async`; the calls to the store also run there.
        `timeout` and `budget_ms` count from this call; only `budget_ms` includes the time of the store.

        Raises:
            OverloadedError: too many requests are in flight.
            DeadlineError: no thread was free in time.
            ClosedError: the recommender is closed.
        """
        snapshot = self._snapshot
        call = functools.partial(self.recommend, user, k)
        return await snapshot._waiting_room.answer(call, options, snapshot._metrics.failed)

    def _found(self, user: Id, budget: float | None) -> tuple[Recommender, UserState | Events] | None:
        """`_current`, or None if it would leave too little of the budget, in seconds, for a search."""
        if budget == 0:
            return None
        lock = self._lock(user)
        if budget is None:
            with lock:
                return self._current(user)
        patience = max(budget / 2, _PATIENCE * budget - 2 * self._snapshot.expected_seconds)
        return self._calls.within(patience, lock, lambda: self._current(user))

    def _without_store(self, user: Id) -> tuple[Recommender, UserState, str]:
        kept, snapshot = self._states.peek(user), self._snapshot
        state = None if kept is None else kept.served().state
        if state is not None and snapshot.knows(state):
            return snapshot, state, "cached state"
        empty = self._empty if snapshot.knows(self._empty.state) else self._new_empty(snapshot)
        return snapshot, empty.state, "popularity"

    def state(self, user: Id) -> UserState:
        """The state of the recorded events, for requests of several users at once.

        Raises:
            ArgumentError: there is no state, since only some times are known (docs/user_state.md); or `user` does not
                fit int64, or UTF-8 cannot encode it.
            ArgumentTypeError: `user` is neither a string nor an integer.
            StoreError: the store failed.
        """
        user = as_user(user)
        with self._lock(user):
            _, current = self._current(user)
        if isinstance(current, Events):
            raise ArgumentError("times", "all of a history known or all unknown", "some of each")
        return current

    def forget(self, user: Id) -> None:
        """Deletes the user's events and state, in memory and in the store.

        Raises:
            ArgumentError: `user` does not fit int64, or UTF-8 cannot encode it.
            ArgumentTypeError: `user` is neither a string nor an integer.
            StoreError: the store failed.
        """
        user = as_user(user)
        with self._lock(user):
            self._store.delete(user)
            self._states.remove(user)

    def flush(self) -> None:
        """Writes to the store the states in memory that are newer than their stored version.

        Raises:
            StoreError: the store failed.
        """
        for user in self._states.users():
            with self._lock(user):
                kept = self._states.peek(user)
                if kept is not None and kept.unsaved:
                    self._states.put(user, self._saved(user, kept.served()).kept())

    def close(self) -> None:
        """Calls `flush`. The store stays open."""
        self.flush()

    def stats(self) -> dict[str, int]:
        """Counters since creation, together with `UserStates.stats`.

        rebuilt: states made from the whole history. refused: states in the store or in memory that are damaged, of
        another model, have a smaller `remember`, or were made before an item of an ignored event was added. saved:
        states written. save_failures: failed writes; they are tried again.
        """
        with self._counts_lock:
            counts = {name: self._counts[name] for name in ("rebuilt", "refused", "saved", "save_failures")}
        return counts | self._states.stats()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Users({self._snapshot!r}, {type(self._store).__name__}, {len(self._states):,} in memory)"

    def _lock(self, user: Id) -> ForkSafeLock:
        return self._locks[hash(user) % _NUM_LOCKS]

    def _count(self, name: str) -> None:
        with self._counts_lock:
            self._counts[name] += 1

    @property
    def _snapshot(self) -> Recommender:
        return self._recommender.current if isinstance(self._recommender, LiveRecommender) else self._recommender

    def _new_empty(self, snapshot: Recommender, num_events: int = 0) -> ServedState:
        """An empty state with room for `num_events` events: `remember` times the least sufficient power of two."""
        remember = self._remember
        while remember < min(num_events, MOST_REMEMBERED):
            remember = min(2 * remember, MOST_REMEMBERED)
        return ServedState(snapshot.new_state([], remember=remember), 0, newest_time(Events([])))

    def _is_good(self, served: ServedState, snapshot: Recommender) -> bool:
        """Whether the snapshot can use the state, and the state ignored no event of an item that is known by now."""
        state = served.state
        is_whole = state.num_unknown == 0 or state.model == snapshot.fingerprint
        return state.remember >= self._remember and is_whole and snapshot.knows(state)

    def _current(self, user: Id) -> tuple[Recommender, UserState | Events]:
        """A snapshot, and the state of all events in the store, or the events themselves if they have no state."""
        kept = self._states.get(user)
        cached = None if kept is None else kept.served()
        snapshot = self._snapshot  # read after the state, so not older than the snapshot that made it
        empty = self._empty
        if not snapshot.knows(empty.state):  # a local copy, since a thread with a newer model may replace it
            self._empty = empty = self._new_empty(snapshot)
        if cached and not self._is_good(cached, snapshot):
            self._count("refused")
            cached = None
        served = cached or self._load(user, snapshot) or empty
        read = self._store.read(user, since=served.sequence)
        if read.after != served.sequence:  # the user was deleted elsewhere, and the whole history has been read
            served = empty
        elif cached and not len(read.events):
            return snapshot, cached.state
        if not served.sequence and len(read.events) > self._remember:
            served = self._new_empty(snapshot, len(read.events))
        grown = self._grow(snapshot, served, read)
        if read.after and (grown is None or _has_forgotten(grown.state)):
            read = self._store.read(user)
            grown = self._grow(snapshot, self._new_empty(snapshot, len(read.events)), read)
        if grown is None or not grown.sequence:  # requests for users without events must not fill the memory
            self._states.remove(user)
        else:
            self._keep(user, grown)
        return snapshot, _of_kind(read.events, snapshot.items) if grown is None else grown.state

    def _load(self, user: Id, snapshot: Recommender) -> ServedState | None:
        """The state in the store, if it is intact and of this model."""
        stored = self._store.get_state(user)
        if stored is None:
            return None
        try:
            served = ServedState.from_stored(stored)
            snapshot.append(served.state, [])  # checks it
        except ArgumentError:
            served = None
        if served is None or not self._is_good(served, snapshot):
            self._count("refused")
            return None
        return served

    def _grow(self, snapshot: Recommender, served: ServedState, read: StoredEvents) -> ServedState | None:
        """The state after more events; None if they do not follow the earlier ones, or only some times are known."""
        events = _of_kind(read.events, snapshot.items)
        if len(events) and oldest_time(events) < served.newest_time:
            return None
        if not served.sequence and len(events):
            self._count("rebuilt")
        try:
            state = snapshot.append(served.state, events)
        except ArgumentError as error:
            if error.argument != "times":
                raise
            return None
        latest = max(served.newest_time, newest_time(events))
        return ServedState(state, read.newest, latest, served.unsaved + len(events))

    def _keep(self, user: Id, served: ServedState) -> None:
        if served.unsaved >= self._save_every:
            try:
                served = self._saved(user, served)
            except StoreError:
                self._count("save_failures")
        self._states.put(user, served.kept())

    def _saved(self, user: Id, served: ServedState) -> ServedState:
        if self._store.put_state(user, served.to_bytes(), served.sequence):
            self._count("saved")
        return dataclasses.replace(served, unsaved=0)


def _has_forgotten(state: UserState) -> bool:
    """Whether `exclude_seen` and `repeats` miss events that a larger state would remember."""
    return state.num_events > state.remember < MOST_REMEMBERED


def _of_kind(events: Events, items: ItemTable) -> Events:
    """The events with ids of the catalogue's kind; others were recorded for a model with the other kind of ids."""
    kinds, ids = STR_TYPES if items.has_string_ids else INT_TYPES, id_list(events.items)
    kept = [place for place, item in enumerate(ids) if type(item) in kinds]
    if len(kept) == len(events):
        return events
    times, actions = (None if values is None else np.asarray(values)[kept] for values in (events.times, events.actions))
    return Events([ids[place] for place in kept], times, actions)
