"""EventLog: the events of all users, in order, as flat arrays; and functions that read one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsif_sdk.arguments import as_array, as_integer, first_repeat, is_missing
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError
from lsif_sdk.events import Events
from lsif_sdk.packed_texts import check_texts
from lsif_sdk.ragged import known_offsets, offsets_of, owners_of
from lsif_sdk.tables import Ids, Source, read_table

__all__ = ["EventLog", "UserEvents", "as_log", "check_log", "read_events", "read_titles", "refuse_columns"]


class UserEvents(NamedTuple):
    """Events of one user, oldest first.

    Attributes:
        items: item rows int64 [length].
        times: Unix seconds int64 [length], or None.
        actions: action types int64 [length], or None.
    """

    items: NDArray[np.int64]
    times: NDArray[np.int64] | None
    actions: NDArray[np.int64] | None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class EventLog:
    """Events of all users, oldest first for each user; user u has events offsets[u] .. offsets[u + 1] - 1.

    Args:
        user_ids: external ids [num_users], int64 or strings.
        item_ids: external ids [num_items], int64 or strings; an item's position is its row.
        offsets: int64 [num_users + 1], from 0 to the number of events, non-decreasing.
        items: item rows int64 [total].
        times: Unix seconds int64 [total], or None.
        actions: action types int64 [total] >= 0 (0 = unknown), or None.
        titles: titles of the items, [num_items], or None.

    Raises:
        ArgumentError: an array is not int64, shapes do not fit together, an item row is out of range or an action type
            is negative.
        ArgumentTypeError: an argument that should be a numpy array is not one.
    """

    user_ids: Ids
    item_ids: Ids
    offsets: NDArray[np.int64]
    items: NDArray[np.int64]
    times: NDArray[np.int64] | None = None
    actions: NDArray[np.int64] | None = None
    titles: list[str] | None = None

    def __post_init__(self) -> None:
        for name in ("offsets", "items", "times", "actions"):
            self._check_array(name, optional=name in ("times", "actions"))
        total, num_items = len(self.items), len(self.item_ids)
        shape = (len(self.user_ids) + 1,)
        ends_fit = self.offsets.shape == shape and self.offsets[0] == 0 and self.offsets[-1] == total
        if not ends_fit or (np.diff(self.offsets) < 0).any():
            got = f"shape {self.offsets.shape}, first values {self.offsets[:5]}"
            raise ArgumentError("offsets", f"shape {shape} rising from 0 to {total}", got)
        if total and (self.items.min() < 0 or self.items.max() >= num_items):
            raise ArgumentError("items", f"rows in [0, {num_items})", f"{self.items.min()} .. {self.items.max()}")
        for name, length in (("times", total), ("actions", total), ("titles", num_items)):
            values = getattr(self, name)
            if values is not None and len(values) != length:
                raise ArgumentError(name, f"{length} values", len(values))
        if self.actions is not None and self.actions.min(initial=0) < 0:
            raise ArgumentError("actions", "action types >= 0", int(self.actions.min()))

    def _check_array(self, name: str, optional: bool) -> None:
        values = getattr(self, name)
        if optional and values is None:
            return
        if not isinstance(values, np.ndarray):
            raise ArgumentTypeError(name, "a numpy array of int64" + " or None" * optional, values)
        if values.dtype != np.int64 or values.ndim != 1:
            raise ArgumentError(name, "int64 with one dimension", f"{values.dtype} of shape {values.shape}")

    @property
    def num_users(self) -> int:
        """Number of users, including those without events."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """Number of items, including those without events."""
        return len(self.item_ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of events of each user, int64 [num_users]."""
        return np.diff(self.offsets)

    @property
    def users(self) -> NDArray[np.int64]:
        """The row of each event's user, int64 [total]."""
        return owners_of(self.offsets)

    def user(self, row: int) -> UserEvents:
        """The events of the user in this row (views, not copies).

        Raises:
            ArgumentError: there is no such row.
            ArgumentTypeError: `row` is not an integer (a user's id, for example).
        """
        row = as_integer("row", row, 0, self.num_users - 1)
        part = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return UserEvents(self.items[part], *(None if c is None else c[part] for c in (self.times, self.actions)))

    def history(self, row: int) -> Events:
        """The events of the user in this row with external item ids, as `Recommender.recommend` takes them.

        Args:
            row: the user's row, not the id; `user_ids` has the ids in row order.

        Raises:
            ArgumentError: there is no such row.
            ArgumentTypeError: `row` is not an integer (a user's id, for example).
        """
        events = self.user(row)
        ids = self.item_ids
        items = ids[events.items] if isinstance(ids, np.ndarray) else [ids[item] for item in events.items.tolist()]
        return Events(items, events.times, events.actions)

    def select(self, keep: NDArray[np.bool_]) -> EventLog:
        """The log with only the events where `keep` (bool [total]) is true; users, items and titles stay.

        Raises:
            ArgumentError: `keep` has another shape or dtype.
            ArgumentTypeError: `keep` is not an array.
        """
        keep = as_array("keep", keep, "an array of bool")
        if keep.shape != self.items.shape or keep.dtype != np.bool_:
            raise ArgumentError("keep", f"bool of shape {self.items.shape}", f"{keep.dtype} of shape {keep.shape}")
        return dataclasses.replace(
            self,
            offsets=known_offsets(keep, self.offsets),
            items=self.items[keep],
            times=None if self.times is None else self.times[keep],
            actions=None if self.actions is None else self.actions[keep],
        )

    def __repr__(self) -> str:
        return f"EventLog({len(self.items):,} events of {self.num_users:,} users and {self.num_items:,} items)"

    def with_titles(self, titles: Mapping[str, str] | Mapping[int, str]) -> EventLog:
        """The log with titles, given by item id or by the id as text; an item without a title gets its id as title.

        Raises:
            ArgumentError: an id is given both as text and as a number, no title is of an item of the events, or a title
                cannot be encoded.
            ArgumentTypeError: `titles` is not a mapping, or a title is not a text.
        """
        if not isinstance(titles, Mapping):
            raise ArgumentTypeError("titles", "a mapping of item ids to titles, read_titles(...) say", titles)
        if len(set(map(str, titles))) < len(titles):
            twice = first_repeat(list(map(str, titles)))
            raise ArgumentError("titles", "one title per item", f"{twice!r} as text and as a number")
        given = {str(item): title for item, title in titles.items() if not is_missing(title)}
        check_texts("titles", list(given.values()))
        if given and self.num_items and given.keys().isdisjoint(map(str, self.item_ids)):
            expected = f"titles of the events' items, such as {str(self.item_ids[0])!r}"
            raise ArgumentError("titles", expected, f"only titles of others, such as {next(iter(given))!r}")
        return dataclasses.replace(self, titles=[given.get(str(item), "") or str(item) for item in self.item_ids])

    def given_titles(self) -> list[str]:
        """The titles; "" for an item whose title is its id, which describes nothing."""
        titles = self.titles or [""] * self.num_items
        return ["" if title == str(item) else title for item, title in zip(self.item_ids, titles, strict=True)]


def read_events(
    source: Source,
    *,
    user: str = "user",
    item: str = "item",
    timestamp: str | None = "timestamp",
    action: str | None = None,
    separator: str | None = None,
) -> EventLog:
    """Reads events and sorts each user's events by timestamp with its fraction, then by order in the source.

    Ids are integers or text. In a DataFrame or Parquet file, a text column stays text; in a CSV or TSV file, ids become
    integers if all of them are integers. Users and items get row numbers in sorted order of their ids, independent of
    the order of the events. Row numbers in error messages count from 1, without the header and blank lines.

    Args:
        source: a pandas DataFrame, a table with `to_pandas()` (such as a polars DataFrame or a pyarrow Table), a dict
            of lists or arrays, or the path of a CSV, TSV or Parquet file, gzipped if it ends in .gz. Text files have a
            header; a ":type" suffix of a column name is dropped ("user_id:token" is the column "user_id").
        user: column of user ids.
        item: column of item ids.
        timestamp: column of times: Unix seconds (fractions are rounded down), or dates, as datetime or ISO 8601 text
            ("2024-01-31 17:05:00"; UTC if it has no time zone); None = no times, events are in the order of the source.
        action: column of action types, whole numbers from 1 (0 = unknown); None = there are none.
        separator: separator of the columns of a text file, a regular expression if it is longer than one character;
            None = tab if the header has one, otherwise comma.

    Raises:
        DataError: the source cannot be read, is empty, lacks a column, or a row has no id or no valid number.
        ArgumentError: `separator` is empty, or two arguments name the same column.
        ArgumentTypeError: `source` is neither a path nor a table, `separator` is not a string, or `user` or `item` is
            None.
        MissingExtraError: pandas (or pyarrow, for Parquet and polars tables) is not installed.
    """
    columns = {"user": user, "item": item, "timestamp": timestamp, "action": action}
    for option in ("user", "item"):
        if columns[option] is None:
            raise ArgumentTypeError(option, "the name of a column", None)
    for option in ("item", "timestamp", "action"):
        if columns[option] is not None and columns[option] in [*columns.values()][: [*columns].index(option)]:
            raise ArgumentError(option, "a column of its own", repr(columns[option]))
    named = {f"{option}= (--{option})": column for option, column in columns.items() if column is not None}
    table = read_table(source, named, separator)
    users, user_ids = table.ids(user)
    items, item_ids = table.ids(item)
    times, exact = (None, None) if timestamp is None else table.times(timestamp)
    actions = None if action is None else table.action_types(action)
    order = np.argsort(users, kind="stable") if exact is None else np.lexsort((exact, users))
    return EventLog(
        user_ids=user_ids,
        item_ids=item_ids,
        offsets=offsets_of(np.bincount(users, minlength=len(user_ids))),
        items=items[order],
        times=None if times is None else times[order],
        actions=None if actions is None else actions[order],
    )


def check_log(argument: str, log: object) -> None:
    """Refuses anything but an `EventLog`."""
    if not isinstance(log, EventLog):
        raise ArgumentTypeError(argument, "an EventLog, of lsif_sdk.training.read_events say", log)


def as_log(events: EventLog | Source, **columns: Any) -> EventLog:
    """The events by `read_events`, unless they are an `EventLog` already."""
    if not isinstance(events, EventLog):
        return read_events(events, **columns)
    refuse_columns(events, columns)
    return events


def refuse_columns(events: object, columns: Mapping[str, str | None]) -> None:
    """Refuses column options that differ from the defaults of `read_events`, for events that are read already.

    Raises:
        ArgumentError: an option differs.
    """
    defaults = read_events.__kwdefaults__ or {}
    for option, column in columns.items():
        if column != defaults[option]:
            expected = f"nothing beside events that have been read ({type(events).__name__})"
            raise ArgumentError(option, expected, repr(column))


def read_titles(
    source: Source, *, item: str = "item", title: str = "title", separator: str | None = None
) -> dict[str, str]:
    """Reads item titles for `EventLog.with_titles`: {item id as text: title}, "" for an item without a title.

    Args:
        source: see `read_events`.
        item: column of item ids.
        title: column of titles.
        separator: see `read_events`.

    Raises:
        DataError: the source cannot be read, is empty, lacks a column, a row has no id, or an item has two titles.
        ArgumentError: `separator` is empty.
        ArgumentTypeError: `source` is neither a path nor a table, or `separator` is not a string.
    """
    table = read_table(source, {"item= (--title-item)": item, "title= (--title-column)": title}, separator)
    rows, ids = table.ids(item)
    titles = [""] * len(ids)
    for place, (row, text) in enumerate(zip(rows.tolist(), table.text(title), strict=True)):
        if text and titles[row] not in ("", text):
            got = f"{text!r} after {titles[row]!r}"
            raise DataError(
                f"{table.name}: column {title!r}, row {place + 1}: expected one title for {ids[row]}, got {got}"
            )
        titles[row] = text or titles[row]
    return dict(zip(map(str, ids), titles, strict=True))
