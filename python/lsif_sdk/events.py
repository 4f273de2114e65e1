"""What an application hands over: the events of one user, or of many."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.items import Id, ItemTable

__all__ = ["UNKNOWN_TIME", "EventBatch", "Events", "History"]

UNKNOWN_TIME = int(np.iinfo(np.int64).min)
"""Stands for a time nobody knows, wherever times are int64 Unix seconds."""


@dataclasses.dataclass(frozen=True)
class Events:
    """A user's events, oldest first. Events out of time order are sorted by time (stable), as in training.

    Args:
        items: external item ids.
        times: Unix seconds, one an event (integers, whole floats or datetime64); None: unknown.
        actions: action types from 1 to the model's `num_actions`, 0 where unknown; None: all unknown.

    Raises:
        ArgumentError: lengths differ, or a time or action is not a whole number.
        ArgumentTypeError: an argument is not a sequence.
    """

    items: Sequence[Id] | npt.NDArray[Any]
    times: Sequence[int] | npt.NDArray[Any] | None = None
    actions: Sequence[int] | npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if not _is_flat(self.items):
            raise ArgumentTypeError("items", "a sequence of item ids", self.items)
        for name in ("times", "actions"):
            values = getattr(self, name)
            if values is None:
                continue
            array = as_int64(name, values)
            if len(array) != len(self.items):
                raise ArgumentError(name, f"{len(self.items)} values, one an item", len(array))
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.items)


History = Events | Sequence[Id] | npt.NDArray[Any]
"""One user's history: `Events`, or item ids alone, oldest first."""


@dataclasses.dataclass(frozen=True)
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
    def from_histories(cls, histories: History | Sequence[History], table: ItemTable, num_actions: int) -> EventBatch:
        """Maps ids to rows, leaves out unknown items, sorts by time.

        Raises:
            ArgumentError: an action is out of range.
            ArgumentTypeError: not a history, or ids of another kind than the catalogue's.
        """
        users = as_users(histories)
        rows, unknown = [], np.zeros(len(users), np.int64)
        for b, user in enumerate(users):
            known, unknown[b] = table.rows(user.items, "history")
            rows.append(known)
        offsets = np.zeros(len(users) + 1, np.int64)
        np.cumsum([len(known) for known in rows], out=offsets[1:])
        items = np.array([row for known in rows for row in known], np.int64)
        has_times = any(user.times is not None for user in users)
        has_actions = num_actions > 0 and any(user.actions is not None for user in users)
        if not (has_times or has_actions):
            return cls(items, None, None, offsets, unknown)
        kept = [_known_mask(user, table, int(count)) for user, count in zip(users, unknown, strict=True)]
        times = _gather(users, kept, "times", UNKNOWN_TIME) if has_times else None
        actions = _gather(users, kept, "actions", 0) if has_actions else None
        if actions is not None and actions.size and not (actions.min() >= 0 and actions.max() <= num_actions):
            odd = actions[(actions < 0) | (actions > num_actions)][0]
            raise ArgumentError("actions", f"values in [0, {num_actions}]", odd)
        return cls(*_sorted_by_time(items, times, actions, offsets), offsets, unknown)


def as_users(histories: History | Sequence[History], argument: str = "history") -> list[Events]:
    """One history or many, as a list of `Events`. An empty sequence is one user without events."""
    if isinstance(histories, Events):
        return [histories]
    if isinstance(histories, np.ndarray) and histories.ndim == 2:
        return [Events(row) for row in histories]
    if _is_flat(histories):
        return [Events(histories)]  # type: ignore[arg-type]
    if not isinstance(histories, (list, tuple)):
        raise ArgumentTypeError(argument, "Events, a sequence of item ids, or a sequence of those", histories)
    users = []
    for position, history in enumerate(histories):
        if not isinstance(history, Events):
            if not _is_flat(history):
                raise ArgumentTypeError(f"{argument}[{position}]", "Events or a sequence of item ids", history)
            history = Events(history)
        users.append(history)
    return users


def as_int64(argument: str, values: Any) -> npt.NDArray[np.int64]:
    """Whole numbers, or datetime64 as Unix seconds, as a new int64 array with one dimension."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise ArgumentError(argument, "one dimension", "rows of different lengths") from None
    if array.ndim != 1:
        raise ArgumentError(argument, "one dimension", f"shape {list(array.shape)}")
    if array.dtype.kind == "M":
        if bool(np.isnat(array).any()):
            raise ArgumentError(argument, "known times", "NaT")
        return array.astype("datetime64[s]").astype(np.int64)
    if array.dtype.kind in "iuO" and all(type(value) is int for value in array.tolist()):
        try:
            return np.array(array.tolist(), np.int64)
        except OverflowError:
            raise ArgumentError(argument, "numbers that fit int64", max(array.tolist(), key=abs)) from None
    if array.dtype.kind == "f" or array.size == 0:
        floats = array.astype(np.float64)
        bad = ~(np.isfinite(floats) & (np.floor(floats) == floats) & (np.abs(floats) < 2.0**63))
        if bool(bad.any()):
            raise ArgumentError(argument, "whole numbers", f"{floats[bad][0]} at position {int(np.argmax(bad))}")
        return floats.astype(np.int64)
    # Durations in nanoseconds become int in a list, so that there may be no odd value to show.
    odd = next((value for value in array.tolist() if type(value) is not int), array[0])
    raise ArgumentTypeError(argument, "whole numbers or datetime64", odd)


def _is_flat(values: object) -> bool:
    """Whether this is one sequence of ids (as against one of histories)."""
    if isinstance(values, np.ndarray):
        return values.ndim == 1 and (values.dtype != object or all(isinstance(v, (int, str)) for v in values))
    if isinstance(values, (list, tuple)):
        return not any(isinstance(v, (list, tuple, np.ndarray, Events)) for v in values)
    return False


def _known_mask(user: Events, table: ItemTable, unknown: int) -> npt.NDArray[np.bool_] | None:
    return None if unknown == 0 else table.known(user.items)


def _gather(
    users: list[Events], kept: list[npt.NDArray[np.bool_] | None], name: str, missing: int
) -> npt.NDArray[np.int64]:
    parts = [np.zeros(0, np.int64)]
    for user, mask in zip(users, kept, strict=True):
        values = getattr(user, name)
        if values is None:
            values = np.full(len(user), missing, np.int64)
        parts.append(values if mask is None else values[mask])
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
    inner = offsets[1:-1]
    falls[inner[(inner > 0) & (inner < times.size)] - 1] = False
    if not falls.any():
        return items, times, actions
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((times, user))
    return items[order], times[order], None if actions is None else actions[order]
