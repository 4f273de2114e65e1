"""What an application hands over: the events of one user, or of many."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections import deque
from collections.abc import Sequence, Set
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from lsif_sdk.arguments import as_array, as_int64
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.items import Id, ItemTable, id_list
from lsif_sdk.times import as_seconds

__all__ = [
    "LATEST_TIME",
    "MICROSECONDS",
    "UNKNOWN_TIME",
    "EventBatch",
    "Events",
    "History",
    "IdLists",
    "Now",
    "check_flat",
    "check_no_milliseconds",
    "check_recent",
]

UNKNOWN_TIME = int(np.iinfo(np.int64).min)
"""Stands for a time nobody knows, wherever times are int64 Unix seconds."""

LATEST_TIME = 10**11
"""Unix seconds, in the year 5138: where people deal with times of now, later ones are milliseconds."""

MICROSECONDS = 5 * 10**15
"""Since 1970, in the year 2128: later times are neither those nor milliseconds, but of a clock of somebody's own."""


@dataclasses.dataclass(frozen=True, eq=False)
class Events:
    """A user's events, oldest first. Events out of time order are sorted by time (stable), as in training.

    Args:
        items: external item ids.
        times: one an event, as Unix seconds or as dates: a list of `datetime.datetime`, datetime64, or a column of
            another library. They become Unix seconds, rounded down; dates without time zone are UTC. None: unknown.
        actions: action types from 1 to the model's `num_actions`, 0 where unknown; None: all unknown.

    Raises:
        ArgumentError: lengths differ, a time is not finite, a date is NaT, or an action negative or not a whole number.
        ArgumentTypeError: an argument is not a sequence.
    """

    items: Sequence[Id] | npt.NDArray[Any]
    times: Sequence[float] | Sequence[datetime.datetime] | npt.NDArray[Any] | None = None
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
                raise ArgumentError(name, f"{len(self.items)} values, one an item", len(values))
            array = as_seconds(name, values) if name == "times" else as_int64(name, values)
            if len(array) != len(self.items):
                raise ArgumentError(name, f"{len(self.items)} values, one an item", len(array))
            object.__setattr__(self, name, array)
        if self.actions is not None and len(self.actions) and np.min(self.actions) < 0:
            raise ArgumentError("actions", "values >= 0", int(np.min(self.actions)))

    def __len__(self) -> int:
        return len(self.items)


History = Events | Sequence[Id] | npt.NDArray[Any]
"""One user's history: `Events`, or item ids alone, oldest first."""

Now = float | datetime.datetime | np.datetime64 | Sequence[float] | Sequence[datetime.datetime] | npt.NDArray[Any]
"""Request time: Unix seconds or a date (UTC if it has no time zone), one for all users or one a user."""


_SEQUENCES = (list, tuple, deque)
"""What may hold the ids of one user, or the users of a batch, beside arrays and columns."""

IdLists = Sequence[Id] | Set[Id] | Sequence[Sequence[Id] | Set[Id] | None] | npt.NDArray[Any]
"""Item ids: one list or set for all users, or a list of them, one (or None) a user."""


@dataclasses.dataclass(frozen=True, eq=False)
class EventBatch:
    """Histories as the native code takes them: catalogue rows, ragged (docs/model.md, Inputs).

    items, times and actions are int64 [total] (times and actions may be None), offsets int64 [batch + 1], unknown int64
    [batch]: how many events of each user were left out because the catalogue does not know their item.
    """

    items: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64] | None
    actions: npt.NDArray[np.int64] | None
    offsets: npt.NDArray[np.int64]
    unknown: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def from_histories(
        cls,
        histories: History | Sequence[History],
        table: ItemTable,
        num_actions: int,
        argument: str = "history",
    ) -> EventBatch:
        """Maps ids to rows, leaves out unknown items, sorts by time; `argument` is for messages.

        Raises:
            ArgumentError: an action is out of range.
            ArgumentTypeError: not a history, or ids of another kind than the catalogue's.
        """
        plain = _plain_rows(histories, table) if type(histories) is list else None
        times = actions = None
        if plain is not None:
            items, offsets = plain
        else:
            users = as_users(histories, argument)
            items, offsets = ragged_rows_of(users, table, argument, is_batch(histories))
            times = _gather(users, "times", UNKNOWN_TIME)
            actions = _gather(users, "actions", 0) if num_actions > 0 else None
        unknown = np.zeros(len(offsets) - 1, np.int64)
        if items.min(initial=0) < 0:
            known = items >= 0
            items = items[known]
            times = None if times is None else times[known]
            actions = None if actions is None else actions[known]
            left = known_offsets(known, offsets)
            dropped, offsets = offsets - left, left
            unknown = dropped[1:] - dropped[:-1]
        batch = cls(*_sorted_by_time(items, times, actions, offsets), offsets, unknown)
        if batch.actions is not None and batch.actions.max(initial=0) > num_actions:
            odd = int(np.argmax(batch.actions > num_actions))
            place = "actions" if len(batch) == 1 else f"{argument}[{batch.user_of(odd)}].actions"
            raise ArgumentError(place, f"values in [0, {num_actions}]", int(batch.actions[odd]))
        return batch

    def user_of(self, event: int) -> int:
        """Whose an event is, by its position in the batch."""
        return int(np.searchsorted(self.offsets, event, side="right")) - 1


def known_offsets(known: npt.NDArray[np.bool_], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Offsets of what is left of a ragged array where `known` is True."""
    num_known = np.zeros(len(known) + 1, np.int64)
    np.cumsum(known, out=num_known[1:])
    return num_known[offsets]


def as_users(
    histories: History | Sequence[History],
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
        raise ArgumentTypeError(argument, "a column of it, or Events(items, times)", histories)
    if not isinstance(histories, _SEQUENCES) and hasattr(histories, "__array__"):
        histories = as_array(argument, histories)  # a pandas Series, a tensor
        if histories.dtype == object and histories.ndim == 1:  # a column of lists, or of ids that are texts
            histories = histories.tolist()
    if isinstance(histories, np.ndarray) and histories.ndim == 2:
        return [Events(row) for row in histories]
    if is_flat(histories):
        return [Events(histories)]  # type: ignore[arg-type]
    if not isinstance(histories, _SEQUENCES):
        raise ArgumentTypeError(argument, f"{one}, or a list of those, one a user", histories)
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


def ragged_rows_of(
    users: Sequence[Events], table: ItemTable, argument: str, several: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Catalogue rows int64 [total] of all users' items, -1 where unknown, and offsets int64 [batch + 1].

    `several`: whether the caller gave a batch, for messages.

    Raises:
        ArgumentTypeError: an id is not of the catalogue's kind.
    """
    lists = [id_list(user.items, argument) for user in users]
    offsets = _offsets_of(lists)
    if not several:
        return table.rows(lists[0], argument), offsets
    rows = table.rows_of_plain(list(itertools.chain.from_iterable(lists)))
    if rows is None:  # each list alone, for a message that says which
        rows = np.concatenate([table.rows(ids, f"{argument}[{user}]") for user, ids in enumerate(lists)])
    return rows, offsets


def _plain_rows(histories: list[Any], table: ItemTable) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
    """`ragged_rows_of` one list of ids or a list of those, which is asked most, in half the time; None for all else."""
    if not (histories and type(histories[0]) is list):
        lists, ids = [histories], histories
    elif set(map(type, histories)) == {list}:
        lists, ids = histories, [*itertools.chain.from_iterable(histories)]
    else:
        return None
    rows = table.rows_of_plain(ids)
    return None if rows is None else (rows, _offsets_of(lists))


def _offsets_of(lists: Sequence[Sequence[Any]]) -> npt.NDArray[np.int64]:
    return np.array((0, *itertools.accumulate(map(len, lists))), np.int64)


def excluded_rows(
    exclude: IdLists | None,
    table: ItemTable,
    batch: int,
    argument: str = "exclude",
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]:
    """Catalogue rows int64 [total] that each user's answer leaves out, and offsets int64 [batch + 1]; or two None.

    Args:
        exclude: item ids for all users, or a list of them (or a set, or None) for each; unknown ids are ignored.
        table: of the catalogue.
        batch: users.
        argument: for messages.

    Raises:
        ArgumentError: another number of lists than users.
        ArgumentTypeError: not ids of the catalogue's kind.
    """
    if exclude is None:
        return None, None
    given = as_lists(exclude)
    if is_one_a_user(given):
        given = [() if ids is None else list(ids) if isinstance(ids, Set) else ids for ids in given]
    lists = as_users(given, argument, "a list or set of item ids")
    for_all = not is_batch(given)
    if not for_all and len(lists) != batch:
        raise ArgumentError(argument, f"one list of ids, or one a user ({batch})", f"{len(lists)} lists")
    rows, offsets = ragged_rows_of(lists, table, argument, not for_all)
    known = rows >= 0
    rows, offsets = rows[known], known_offsets(known, offsets)
    if for_all:
        rows, offsets = np.tile(rows, batch), len(rows) * np.arange(batch + 1)
    return rows, offsets


def request_times(now: Now, batch: int, argument: str = "now") -> npt.NDArray[np.int64]:
    """Unix seconds int64 [batch], one a user, rounded down.

    Raises:
        ArgumentError: not finite, NaT, or another number of times.
        ArgumentTypeError: not times.
    """
    if hasattr(now, "__array__"):
        now = np.atleast_1d(as_array(argument, now))
    values = as_seconds(argument, now if isinstance(now, (np.ndarray, list, tuple)) else [now])
    if len(values) not in (1, batch):
        raise ArgumentError(
            argument, "one time" if batch == 1 else f"one time, or {batch} of them", f"{len(values)} times"
        )
    return np.ascontiguousarray(np.broadcast_to(values, batch))


def check_no_milliseconds(events: EventBatch) -> None:
    """Refuses times that would be far in the future, one of them beside seconds, too; training asks that of the median.

    Nanoseconds pass: they may be a clock of somebody's own.

    Raises:
        ArgumentError: there is one.
    """
    times = events.times
    if times is None or not times.max(initial=UNKNOWN_TIME) > LATEST_TIME:
        return
    odd = np.flatnonzero((times > LATEST_TIME) & (times < MICROSECONDS))
    if odd.size:
        place = "times" if len(events) == 1 else f"history[{events.user_of(int(odd[0]))}].times"
        raise ArgumentError(place, "Unix seconds", f"what looks like milliseconds: {times[odd[0]]}")


def check_recent(argument: str, times: npt.NDArray[np.int64], expected: str = "") -> None:
    """Refuses times that are milliseconds.

    Raises:
        ArgumentError: a time is after `LATEST_TIME`.
    """
    latest = int(times.max(initial=UNKNOWN_TIME))
    if latest > LATEST_TIME:
        raise ArgumentError(argument, "Unix seconds before the year 5138" + expected, latest)


def as_lists(ids: Any) -> Any:
    """Sets, and columns of objects (of lists, say, one a user), as lists; all else as it is."""
    if isinstance(ids, Set):
        return list(ids)
    if not isinstance(ids, _SEQUENCES) and str(getattr(ids, "dtype", "")) == "object" and np.ndim(ids) == 1:
        return as_array("ids", ids).tolist()
    return ids


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


def _gather(users: list[Events], name: str, missing: int) -> npt.NDArray[np.int64] | None:
    """Times or actions of all events, int64 [total]; None if nobody has any."""
    given = [getattr(user, name) for user in users]
    if len(given) == 1:
        return given[0]  # type: ignore[no-any-return]
    if all(values is None for values in given):
        return None
    parts = [np.zeros(0, np.int64)]
    for user, values in zip(users, given, strict=True):
        parts.append(np.full(len(user), missing, np.int64) if values is None else values)
    return np.concatenate(parts)


def _sorted_by_time(
    items: npt.NDArray[np.int64],
    times: npt.NDArray[np.int64] | None,
    actions: npt.NDArray[np.int64] | None,
    offsets: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]:
    if times is None or times.size < 2:
        return items, times, actions
    falls = times[1:] < times[:-1]  # a difference to UNKNOWN_TIME would not fit int64
    if len(offsets) > 2:
        inner = offsets[1:-1]
        falls[inner[(inner > 0) & (inner < times.size)] - 1] = False
    if not falls.any():
        return items, times, actions
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((times, user))
    return items[order], times[order], None if actions is None else actions[order]
