"""What an application hands over: the events of one user, or of many."""

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
    """A user's events, oldest first. Events out of time order are sorted by time (stable), in
    whole seconds; training sorts by fractions, too.

    Args:
        items: external item ids.
        times: one an event, as Unix seconds or as dates: a list of `datetime.datetime` or `datetime.date`, datetime64,
            or a column of another library. They become Unix seconds, rounded down; dates without time zone are UTC.
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
        if isinstance(self.items, deque):  # which goes on growing
            object.__setattr__(self, "items", list(self.items))
        elif type(self.items) is not np.ndarray and hasattr(self.items, "__array__"):  # a pandas Series, a tensor
            column = as_array("items", self.items)
            if column.ndim == 1:  # a table is refused as what it is
                object.__setattr__(self, "items", column)
        check_flat("items", self.items)
        for name in ("times", "actions"):
            values = getattr(self, name)
            if values is None:
                continue
            # Before they are copied: a range may be of any length.
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
    """What NumPy reads as an array: one of its own, a tensor, a column of pandas."""

    def __array__(self) -> npt.NDArray[Any]: ...


History = Events | Sequence[Id] | Column
"""One user's history: `Events`, or item ids alone, oldest first."""

Histories = Events | Column | Sequence[Id | Events | Sequence[Id] | Column]
"""One user's history, or a list of them. (One `Sequence`, or type checkers would not know a list that mixes kinds.)"""

_SEQUENCES = (list, tuple, deque)
"""What may hold the ids of one user, or the users of a batch, beside arrays and columns."""

IdLists = Sequence[Id] | Set[Id] | Sequence[Sequence[Id] | Set[Id] | None] | npt.NDArray[Any]
"""Item ids: one list or set for all users, or a list of them, one (or None) a user."""


def as_users(
    histories: Histories,
    argument: str = "history",
    one: str = "Events or a sequence of item ids",
) -> list[Events]:
    """One history or many, as a list of `Events`. An empty sequence is one user without events.

    Args:
        histories: see above.
        argument: for messages.
        one: for messages, what stands for one user.
    """
    if isinstance(histories, Events):
        return [histories]
    if hasattr(histories, "columns"):  # whose rows would look like users
        raise ArgumentTypeError(argument, f"{one}, a column of it say", histories)
    if not isinstance(histories, Set):  # which has no order
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
    """Sets, and columns that NumPy has as objects (of lists, one a user, or of texts), as lists; other columns and
    tensors as arrays, all else as it is. `argument` is for messages."""
    if isinstance(ids, Set):
        return list(ids)
    if isinstance(ids, (*_SEQUENCES, Events)) or hasattr(ids, "columns") or not hasattr(ids, "__array__"):
        return ids
    array = as_array(argument, ids)
    return array.tolist() if array.dtype == object and array.ndim == 1 else array


def check_same_users(history: Any, now: Any, **lists: Any) -> None:
    """Refuses pandas columns of times or lists, one a user, whose index says another order of users than `history`'s.

    Raises:
        ArgumentError: one does.
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
    """Whether these are the histories (or lists of ids) of several users, or of one in a list."""
    histories = as_lists(histories)
    if isinstance(histories, _SEQUENCES):
        return not is_flat(histories)
    return not isinstance(histories, Events) and np.ndim(histories) > 1


def is_one_a_user(lists: Any) -> TypeGuard[Sequence[Any]]:
    """Whether these are lists or sets of ids or None, one a user (as against ids for all)."""
    if not isinstance(lists, _SEQUENCES) or not lists:
        return False
    return all(_is_history(entry) or isinstance(entry, (Set, type(None))) for entry in lists)


def is_flat(values: object) -> bool:
    """Whether this is one sequence of ids (as against one of histories)."""
    if isinstance(values, np.ndarray):
        return values.ndim == 1 and (values.dtype != object or not any(map(_is_history, values)))
    if isinstance(values, _SEQUENCES):
        # On the way of every request: a look at each entry only where one may be a history.
        kinds = {kind for kind in set(map(type, values)) if issubclass(kind, (*_SEQUENCES, Events)) or _is_column(kind)}
        return not kinds or not any(map(_is_history, values))
    return False


def check_flat(argument: str, values: object) -> None:
    """Refuses what is not `is_flat`; in a list that has others than ids in it, the first of those is named."""
    if is_flat(values):
        return
    if isinstance(values, _SEQUENCES):
        raise ArgumentTypeError(argument, "nothing but ids in the list", next(filter(_is_history, values)))
    raise ArgumentTypeError(argument, "a sequence of item ids", values)


def _is_column(kind: type) -> bool:
    """Arrays, columns of other libraries, tensors."""
    return hasattr(kind, "__array__") and not issubclass(kind, np.generic)


def _is_history(value: Any) -> bool:
    """Whether an entry of a list is a history, and not an id: an array without dimensions is none."""
    return isinstance(value, (*_SEQUENCES, Events)) or (_is_column(type(value)) and getattr(value, "ndim", 1) != 0)
