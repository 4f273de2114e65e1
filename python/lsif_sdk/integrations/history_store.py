"""The protocol of stores of users' events and states, and helpers of its implementations."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from lsif_sdk.arguments import as_integer, is_integer
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, LsifError
from lsif_sdk.events import Events, History, as_users
from lsif_sdk.ids import Id, id_list
from lsif_sdk.times import UNKNOWN_TIME

__all__ = [
    "EventRow",
    "HistoryStore",
    "StoredEvents",
    "StoredState",
    "as_event_rows",
    "as_part",
    "as_state",
    "as_user",
    "events_of",
]


@dataclasses.dataclass(frozen=True, eq=False)
class StoredEvents:
    """The newest part of one user's history, or all of it, in the order in which the events were appended.

    Args:
        events: `times` is None if no time is known, and single unknown times are `UNKNOWN_TIME`; `actions` likewise,
            with 0.
        after: the sequence number of the event before the first of these; 0: these are the whole history.
        newest: the sequence number of the last of these; `after` if there are none.
    """

    events: Events
    after: int
    newest: int


@dataclasses.dataclass(frozen=True)
class StoredState:
    """A user's state as bytes, and the sequence number of the newest event it includes."""

    data: bytes
    sequence: int

    def __repr__(self) -> str:
        size = f"{len(self.data):,} bytes" if isinstance(self.data, bytes) else type(self.data).__name__
        return f"StoredState({size}, sequence {self.sequence})"


class HistoryStore(Protocol):
    """Events and states of users. Many threads and processes may call all methods at once.

    User ids are strings or integers (1 and "1" are different users), item ids those of the catalogue. Every event has a
    sequence number > 0, greater than those of the user's earlier events and never reused, not even after `delete`.

    All methods raise ArgumentError or ArgumentTypeError for an invalid user, event or number, StoreError if the store
    cannot be used, and ClosedError after `close`.
    """

    def append(self, user: Id, history: History) -> int:
        """Adds events, all or none.

        The events are durable when this returns. They may also be durable if it raises StoreError.

        Args:
            user: the user's id.
            history: one or more events of this user, as `Recommender.append` takes them.

        Returns:
            The sequence number of the user's newest event; 0 if there is none.
        """
        ...

    def read(self, user: Id, *, last: int | None = None, since: int = 0) -> StoredEvents:
        """The user's events.

        Args:
            user: the user's id.
            last: only this many of the newest events.
            since: only the events after the one with this sequence number. If the user does not have that event (any
                more), all events; `after` of the result tells. Not together with `last`.
        """
        ...

    def get_state(self, user: Id) -> StoredState | None:
        """The state that `put_state` stored last, or None."""
        ...

    def put_state(self, user: Id, data: bytes, sequence: int) -> bool:
        """Stores a state in place of the user's last one, unless the user has no event `sequence` (any more).

        Args:
            user: the user's id.
            data: the state.
            sequence: the sequence number of the newest event it includes.

        Returns:
            Whether it was stored; False, for example, if the user has been deleted meanwhile.
        """
        ...

    def delete(self, user: Id) -> None:
        """Deletes the user's events and state, if there are any."""
        ...

    def close(self) -> None:
        """Releases files or connections. May be called more than once."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class EventRow(NamedTuple):
    """One event as it is stored."""

    item: Id
    time: int
    action: int


def as_user(user: Any) -> Id:
    """A checked user id, as a plain Python value.

    Raises:
        ArgumentError: an integer does not fit int64, or UTF-8 cannot encode a string.
        ArgumentTypeError: neither a string nor an integer.
    """
    return _as_id("user", user)


def as_event_rows(history: History) -> list[EventRow]:
    """One user's events, checked.

    Raises:
        ArgumentError: events of several users, or an item id with a value that `as_user` refuses.
        ArgumentTypeError: not a history, or an item is neither a string nor an integer.
    """
    users = as_users(history)
    if len(users) != 1:
        raise ArgumentError("history", "events of one user", f"{len(users)} histories")
    events = users[0]
    given = id_list(events.items, "history")
    try:
        items = [_as_id("", item) for item in given]
    except LsifError:  # again, for a message that names the entry
        items = [_as_id(f"history[{place}]", item) for place, item in enumerate(given)]
    times = [UNKNOWN_TIME] * len(items) if events.times is None else np.asarray(events.times).tolist()
    actions = [0] * len(items) if events.actions is None else np.asarray(events.actions).tolist()
    return list(map(EventRow, items, times, actions))


def events_of(rows: Iterable[EventRow]) -> Events:
    """The inverse of `as_event_rows`."""
    items, times, actions = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    has_times = any(time != UNKNOWN_TIME for time in times)
    return Events(items, times if has_times else None, actions if any(actions) else None)


def as_part(last: int | None, since: int) -> tuple[int | None, int]:
    """Checked arguments of `HistoryStore.read`, as plain Python values.

    Raises:
        ArgumentError: a number is out of range, or both are given.
        ArgumentTypeError: not integers.
    """
    last = None if last is None else as_integer("last", last, 1, 2**63 - 1)
    since = as_integer("since", since, 0, 2**63 - 1)
    if last is not None and since:
        raise ArgumentError("last", "None where since is given", last)
    return last, since


def as_state(data: bytes, sequence: int) -> StoredState:
    """Checked arguments of `HistoryStore.put_state`, the number as a plain Python value.

    Raises:
        ArgumentError: the number is negative, or does not fit int64.
        ArgumentTypeError: not bytes, or not an integer.
    """
    if not isinstance(data, bytes):
        raise ArgumentTypeError("data", "bytes", data)
    return StoredState(data, as_integer("sequence", sequence, 0, 2**63 - 1))


def _as_id(argument: str, value: Any) -> Id:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ArgumentError(argument, "a text that UTF-8 can encode", error.reason) from None
        return str(value)
    if not is_integer(value):
        raise ArgumentTypeError(argument, "a string or an integer", value)
    if not -(2**63) <= value < 2**63:
        raise ArgumentError(argument, "an integer that fits int64", f"one of {int(value).bit_length()} bits")
    return int(value)
