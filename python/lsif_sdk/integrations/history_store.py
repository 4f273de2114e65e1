"""The protocol of stores that keep users' events and states, and what its implementations share."""

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
    """A part of one user's history that reaches to its end, in the order the events were appended.

    Args:
        events: times are None where none is known, and `UNKNOWN_TIME` for single ones; actions likewise, with 0.
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
    """Events and states of users. All methods may be called from many threads, and by many processes at once.

    Users are strings or integers (1 and "1" are two users), items as in the catalogue. Every event has a sequence
    number > 0, greater than those of the user's earlier events and never used again, not even after `delete`.

    All methods raise ArgumentError or ArgumentTypeError for what is no user, event or number, StoreError where the
    store cannot be used, and ClosedError after `close`.
    """

    def append(self, user: Id, history: History) -> int:
        """Adds events, all or none. When it returns they are durable; where it raises StoreError they may be, too.

        Args:
            user: whose they are.
            history: one event or several of this user, as `Recommender.append` takes them.

        Returns:
            The sequence number of the user's newest event; 0 if there is none.
        """
        ...

    def read(self, user: Id, *, last: int | None = None, since: int = 0) -> StoredEvents:
        """The user's events.

        Args:
            user: whose.
            last: only the newest ones, at most so many.
            since: only those after the event of this sequence number. If the user has no such event (any more), all:
                `after` of the result tells. Not together with `last`.
        """
        ...

    def get_state(self, user: Id) -> StoredState | None:
        """What `put_state` kept last, if anything."""
        ...

    def put_state(self, user: Id, data: bytes, sequence: int) -> bool:
        """Keeps a state in place of the user's last one, unless the user has no event `sequence` (any more).

        Args:
            user: whose.
            data: the state.
            sequence: the number of the newest event it includes.

        Returns:
            Whether it was kept. It is not when the user has been deleted meanwhile.
        """
        ...

    def delete(self, user: Id) -> None:
        """Forgets the user's events and state. No error if there are none."""
        ...

    def close(self) -> None:
        """Gives up files or connections. May be called twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class EventRow(NamedTuple):
    """One event as stores keep it."""

    item: Id
    time: int
    action: int


def as_user(user: Any) -> Id:
    """A checked user id, as a plain Python value.

    Raises:
        ArgumentError: an integer beyond int64, or a string UTF-8 cannot encode.
        ArgumentTypeError: neither string nor integer.
    """
    return _as_id("user", user)


def as_event_rows(history: History) -> list[EventRow]:
    """One user's events, checked.

    Raises:
        ArgumentError: events of several users, or an item id as `as_user` refuses it.
        ArgumentTypeError: not a history, or an item is neither string nor integer.
    """
    users = as_users(history)
    if len(users) != 1:
        raise ArgumentError("history", "events of one user", f"{len(users)} histories")
    events = users[0]
    given = id_list(events.items, "history")
    try:
        items = [_as_id("", item) for item in given]
    except LsifError:  # once more, for a message that says which
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
    """Checked numbers of the part that `HistoryStore.read` is asked for, as plain Python values.

    Raises:
        ArgumentError: a number out of range, or both.
        ArgumentTypeError: not integers.
    """
    last = None if last is None else as_integer("last", last, 1, 2**63 - 1)
    since = as_integer("since", since, 0, 2**63 - 1)
    if last is not None and since:
        raise ArgumentError("last", "None where since is given", last)
    return last, since


def as_state(data: bytes, sequence: int) -> StoredState:
    """A checked state that `HistoryStore.put_state` is given, its number as a plain Python value.

    Raises:
        ArgumentError: the number is negative, or past int64.
        ArgumentTypeError: not bytes, or no integer.
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
