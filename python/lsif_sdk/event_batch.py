"""Events of many users, and items to leave out, as catalogue rows in the form that native code takes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from lsif_sdk.errors import ArgumentError
from lsif_sdk.events import Events, Histories, IdLists, as_lists, as_users, is_batch, is_one_a_user
from lsif_sdk.ids import id_list
from lsif_sdk.items import ItemTable
from lsif_sdk.ragged import known_offsets, owners_of
from lsif_sdk.times import UNKNOWN_TIME, first_finer

__all__ = ["EventBatch", "check_seconds", "excluded_rows", "ragged_rows_of"]


@dataclasses.dataclass(frozen=True, eq=False)
class EventBatch:
    """Histories as native code takes them: catalogue rows, ragged (docs/model.md, Inputs).

    items, times and actions are int64 [total] (times and actions may be None), offsets int64 [batch + 1], unknown int64
    [batch]: how many events of each user were ignored because the catalogue does not know their item.
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
        histories: Histories,
        table: ItemTable,
        num_actions: int,
        argument: str = "history",
    ) -> EventBatch:
        """Maps ids to rows, leaves out unknown items and sorts by time; `argument` is for error messages.

        Raises:
            ArgumentError: an action is out of range.
            ArgumentTypeError: not a history, or ids are not of the catalogue's kind.
        """
        users = _events_of(histories)
        plain = _plain_rows(histories if users is None else [user.items for user in users], table)
        times = actions = None
        if plain is None:
            users = as_users(histories, argument)
            plain = ragged_rows_of(users, table, argument, is_batch(histories))
        items, offsets = plain
        if users is not None:
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
        """The user of an event, given its position in the batch."""
        return int(np.searchsorted(self.offsets, event, side="right")) - 1


def ragged_rows_of(
    users: Sequence[Events], table: ItemTable, argument: str, several: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Catalogue rows int64 [total] of all users' items, -1 where unknown, and offsets int64 [batch + 1].

    `several`: whether the caller gave a batch, for error messages.

    Raises:
        ArgumentTypeError: an id is not of the catalogue's kind.
    """
    lists = [id_list(user.items, argument) for user in users]
    offsets = _offsets_of(lists)
    if not several:
        return table.rows(lists[0], argument), offsets
    rows = table.rows_of_plain(list(itertools.chain.from_iterable(lists)))
    if rows is None:  # each list alone, for a message that names the list
        rows = np.concatenate([table.rows(ids, f"{argument}[{user}]") for user, ids in enumerate(lists)])
    return rows, offsets


def _events_of(histories: Histories) -> list[Events] | None:
    """One `Events`, or a list of only those, as a list; None for anything else."""
    if type(histories) is Events:
        return [histories]
    if type(histories) is list and histories and all(type(history) is Events for history in histories):
        return histories
    return None


def _plain_rows(histories: Any, table: ItemTable) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
    """A faster `ragged_rows_of` for the most common input, one list of ids or a list of those; None for others."""
    if type(histories) is not list:
        return None
    found = table.rows_of_lists(histories)
    if found is not None:
        return found
    several = bool(histories) and type(histories[0]) is list
    if several and set(map(type, histories)) != {list}:
        return None
    lists = histories if several else [histories]
    rows = table.rows_of_plain([*itertools.chain.from_iterable(lists)])  # perhaps NumPy scalars
    return None if rows is None else (rows, _offsets_of(lists))


def _offsets_of(lists: Sequence[Sequence[Any]]) -> npt.NDArray[np.int64]:
    return np.array((0, *itertools.accumulate(map(len, lists))), np.int64)


def excluded_rows(
    exclude: IdLists | None,
    table: ItemTable,
    batch: int,
    argument: str = "exclude",
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]:
    """Catalogue rows int64 [total] to leave out for each user, and offsets int64 [batch + 1]; or two None.

    Args:
        exclude: item ids for all users, or a list with ids (or a set, or None) per user; unknown ids are ignored.
        table: the catalogue's items.
        batch: number of users.
        argument: for error messages.

    Raises:
        ArgumentError: the number of lists is not that of users.
        ArgumentTypeError: ids are not of the catalogue's kind.
    """
    if exclude is None:
        return None, None
    given = as_lists(exclude, argument)
    if is_one_a_user(given):
        given = [() if ids is None else list(ids) if isinstance(ids, Set) else ids for ids in given]
    lists = as_users(given, argument, "a list or set of item ids")
    for_all = not is_batch(given)
    if not for_all and len(lists) != batch:
        raise ArgumentError(argument, f"one list of ids, or one per user ({batch})", f"{len(lists)} lists")
    rows, offsets = ragged_rows_of(lists, table, argument, not for_all)
    known = rows >= 0
    rows, offsets = rows[known], known_offsets(known, offsets)
    if for_all:
        rows, offsets = np.tile(rows, batch), len(rows) * np.arange(batch + 1)
    return rows, offsets


def check_seconds(events: EventBatch) -> None:
    """Refuses times that look like milliseconds or finer units, even a single one among seconds."""
    if events.times is not None and (odd := first_finer(events.times)):
        place = "times" if len(events) == 1 else f"history[{events.user_of(odd[0])}].times"
        raise ArgumentError(place, "Unix seconds", odd[1])


def _gather(users: list[Events], name: str, missing: int) -> npt.NDArray[np.int64] | None:
    """Times or actions of all events, int64 [total]; None if no user has any."""
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
    order = np.lexsort((times, owners_of(offsets)))
    return items[order], times[order], None if actions is None else actions[order]
