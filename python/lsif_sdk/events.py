"""Input from the application: the events of one user or many."""

from __future__ import annotations

import dataclasses
import datetime
from collections import deque
from collections.abc import Sequence, Set
from typing import Any, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

from lsif_sdk.arguments import as_array, as_int64, index_of
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, shown
from lsif_sdk.ids import Id
from lsif_sdk.times import as_seconds

__all__ = [
    "Events",
    "Histories",
    "History",
    "IdLists",
    "as_lists",
    "as_users",
    "check_flat",
    "is_batch",
    "is_flat",
    "is_one_a_user",
]


@dataclasses.dataclass(frozen=True, eq=False)
class Events:
    """A user's events, oldest first.

    Events that are not in time order are sorted by time in whole seconds, in a stable way; training also uses
    fractions of seconds.

    Args:
        items: external item ids.
        times: one per event, as Unix seconds or dates: a list of `datetime.datetime` or `datetime.date`, datetime64, or
            a column of another library. They become Unix seconds, rounded down; dates without a time zone are UTC.
            None: unknown.
        actions: action types from 1 to the model's `num_actions`, 0 where unknown; None: all unknown.

    Raises:
        ArgumentError: lengths differ, a time is not finite, a date is NaT, or an action negative or not a whole number.
        ArgumentTypeError: an argument is not a sequence.
    """

    items: Sequence[Id] | npt.NDArray[Any]
    times: Sequence[float] | Sequence[datetime.date] | npt.NDArray[Any] | None = None
    actions: Sequence[int] | npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.items, deque):  # it may still grow
            object.__setattr__(self, "items", list(self.items))
        elif type(self.items) is not np.ndarray and hasattr(self.items, "__array__"):  # a pandas Series, a tensor
            column = as_array("items", self.items)
            if column.ndim == 1:  # otherwise refused below, with the type that was given
                object.__setattr__(self, "items", column)
        check_flat("items", self.items)
        for name in ("times", "actions"):
            values = getattr(self, name)
            if values is None:
                continue
            # Checked before the copy, since a range may have any length.
            if isinstance(values, range) and len(values) != len(self.items):
                raise ArgumentError(name, f"{len(self.items)} values, one per item", len(values))
            array = as_seconds(name, values) if name == "times" else as_int64(name, values)
            if len(array) != len(self.items):
                raise ArgumentError(name, f"{len(self.items)} values, one per item", len(array))
            object.__setattr__(self, name, array)
        if self.actions is not None and len(self.actions) and np.min(self.actions) < 0:
            raise ArgumentError("actions", "values >= 0", int(np.min(self.actions)))

    def __len__(self) -> int:
        return len(self.items)


class Column(Protocol):
    """Anything NumPy can read as an array: a NumPy array, a tensor, a pandas column."""

    def __array__(self) -> npt.NDArray[Any]: ...


History = Events | Sequence[Id] | Column
"""One user's history: `Events`, or item ids alone, oldest first."""

Histories = Events | Column | Sequence[Id | Events | Sequence[Id] | Column]
"""One user's history, or a list of histories (as one `Sequence`, so that type checkers accept lists of mixed kinds)."""

_SEQUENCES = (list, tuple, deque)
"""The types, beside arrays and columns, that may hold the ids of one user or the users of a batch."""

IdLists = Sequence[Id] | Set[Id] | Sequence[Sequence[Id] | Set[Id] | None] | npt.NDArray[Any]
"""Item ids: one list or set for all users, or a list with one (or None) per user."""


def as_users(
    histories: Histories,
    argument: str = "history",
    one: str = "Events or a sequence of item ids",
) -> list[Events]:
    """One history or many, as a list of `Events`. An empty sequence is one user without events.

    Args:
        histories: see above.
        argument: for error messages.
        one: in error messages, what was expected for one user.
    """
    if isinstance(histories, Events):
        return [histories]
    if hasattr(histories, "columns"):  # a table: its rows would look like users
        raise ArgumentTypeError(argument, f"{one}, a column of it say", histories)
    if not isinstance(histories, Set):  # a set has no order and is refused below
        histories = as_lists(histories, argument)
    if isinstance(histories, np.ndarray) and histories.ndim == 2:
        return [Events(row) for row in histories]
    if is_flat(histories):
        return [Events(histories)]  # type: ignore[arg-type]
    if not isinstance(histories, _SEQUENCES):
        raise ArgumentTypeError(argument, f"{one}, or a list of those, one per user", histories)
    if not _is_history(histories[0]) and type(histories[0]) in (int, str):
        odd = next(place for place, entry in enumerate(histories) if _is_history(entry))
        raise ArgumentTypeError(f"{argument}[{odd}]", "an item id, as the first entry is one", histories[odd])
    users = []
    for position, history in enumerate(histories):
        try:
            users.append(history if isinstance(history, Events) else Events(history))
        except ArgumentTypeError:
            raise ArgumentTypeError(f"{argument}[{position}]", one, history) from None
    return users


def as_lists(ids: Any, argument: str = "ids") -> Any:
    """Converts sets, and columns of dtype object (texts, or a list per user), to lists, and other columns and tensors
    to arrays; returns anything else unchanged. `argument` is the name in error messages."""
    if isinstance(ids, Set):
        return list(ids)
    if isinstance(ids, (*_SEQUENCES, Events)) or hasattr(ids, "columns") or not hasattr(ids, "__array__"):
        return ids
    array = as_array(argument, ids)
    return array.tolist() if array.dtype == object and array.ndim == 1 else array


def check_same_users(history: Any, now: Any, **lists: Any) -> None:
    """Refuses pandas columns with one time or list per user whose index orders the users differently from `history`'s.

    Raises:
        ArgumentError: an index differs.
    """
    users = index_of(history)
    if users is None or not is_batch(history):
        return
    for name, given in {"now": now, **lists}.items():
        others = index_of(given)
        if others is None or len(others) != len(users) or given.index.equals(history.index):
            continue
        if name == "now" or is_one_a_user(as_lists(given, name)):
            expected = (
                f"the users of history in their order ({name}.reindex(history.index), or to_list() if it is right)"
            )
            raise ArgumentError(name, expected, f"an index that begins with {shown(others.tolist()[0])}")


def is_batch(histories: Any) -> bool:
    """Whether this is a list of histories (or lists of ids), even of just one user."""
    histories = as_lists(histories)
    if isinstance(histories, _SEQUENCES):
        return not is_flat(histories)
    return not isinstance(histories, Events) and np.ndim(histories) > 1


def is_one_a_user(lists: Any) -> TypeGuard[Sequence[Any]]:
    """Whether this has a list or set of ids, or None, for each user (rather than ids for all users)."""
    if not isinstance(lists, _SEQUENCES) or not lists:
        return False
    return all(_is_history(entry) or isinstance(entry, (Set, type(None))) for entry in lists)


def is_flat(values: object) -> bool:
    """Whether this is one sequence of ids (rather than of histories)."""
    if isinstance(values, np.ndarray):
        return values.ndim == 1 and (values.dtype != object or not any(map(_is_history, values)))
    if isinstance(values, _SEQUENCES):
        # Every request comes here, so entries are looked at one by one only if one may be a history.
        kinds = {kind for kind in set(map(type, values)) if issubclass(kind, (*_SEQUENCES, Events)) or _is_column(kind)}
        return not kinds or not any(map(_is_history, values))
    return False


def check_flat(argument: str, values: object) -> None:
    """Refuses what is not `is_flat`; of a list, the error names the first entry that is not an id."""
    if is_flat(values):
        return
    if isinstance(values, _SEQUENCES):
        raise ArgumentTypeError(argument, "nothing but ids in the list", next(filter(_is_history, values)))
    raise ArgumentTypeError(argument, "a sequence of item ids", values)


def _is_column(kind: type) -> bool:
    return hasattr(kind, "__array__") and not issubclass(kind, np.generic)


def _is_history(value: Any) -> bool:
    """Whether an entry of a list is a history rather than an id; an array without dimensions is not a history."""
    return isinstance(value, (*_SEQUENCES, Events)) or (_is_column(type(value)) and getattr(value, "ndim", 1) != 0)
