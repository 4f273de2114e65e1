"""Attributes of items, and bitmaps of the items that meet conditions on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lsif_sdk.arguments import as_int64, is_integer
from lsif_sdk.attribute_columns import (
    Column,
    Entries,
    Numbers,
    as_entries,
    check_order,
    further_numbers,
    is_flag,
    is_number,
    numbers_behind,
    numbers_of,
    numbers_with,
)
from lsif_sdk.bitmaps import Bitmap, as_bitmap
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, shown
from lsif_sdk.event_batch import excluded_rows
from lsif_sdk.events import IdLists, as_lists, is_flat, is_one_a_user
from lsif_sdk.items import ItemTable
from lsif_sdk.locks import OfOneProcess
from lsif_sdk.recent import Recent
from lsif_sdk.text_column import TextColumn, texts_of

__all__ = ["Attributes", "Not", "Where", "allowed_bitmaps"]

Where = Mapping[str, Any]
"""Conditions by attribute name, all of which have to hold: a value; a list of values, any of which matches; a tuple
(low, high) of numbers, both inclusive, None for no bound; or `Not` of one of these."""


@dataclasses.dataclass(frozen=True)
class Not:
    """In `where`: all items that do not meet a condition, including those whose attribute is unknown.

        recommender.recommend(history, where={"label": lsif_sdk.Not(["adult", "alcohol"]), "price": (None, 50)})

    Args:
        condition: a value, a list of values, or a tuple (low, high), as without `Not`.
    """

    condition: Any


_MOST_BITMAPS = 128


class Attributes(OfOneProcess):
    """Attributes of the items, by name. Immutable and thread-safe.

    Args:
        columns: for each attribute one entry per item, in catalogue order: numbers (NaN where unknown), booleans,
            strings (None where unknown), or lists of strings (such as genres). None, NaN and the NA of pandas mean the
            same. Only `Recommender`, which knows the ids, takes columns by item id.
        num_items: number of items of the catalogue.

    Raises:
        ArgumentError: a column has another length, or entries of different kinds.
        ArgumentTypeError: not a mapping of names to columns.
    """

    def __init__(self, columns: Mapping[str, Column], num_items: int) -> None:
        if not isinstance(columns, Mapping):
            raise ArgumentTypeError("attributes", "a mapping of names to columns", columns)
        if odd := [name for name in columns if not isinstance(name, str)]:
            raise ArgumentTypeError("attributes", "names that are strings", odd[0])
        self._num_items = num_items
        self._numbers: dict[str, Numbers] = {}
        self._texts: dict[str, TextColumn] = {}
        for name, column in columns.items():
            check_order(name, column)
            entries = as_entries(name, column)
            if len(entries) != num_items:
                raise ArgumentError(f"attributes[{name!r}]", f"{num_items} entries, one per item", len(entries))
            numbers = numbers_of(name, entries)
            if numbers is not None:
                self._numbers[name] = numbers
            else:
                self._texts[name] = TextColumn(name, entries)
        self._bitmaps: Recent[Any, Bitmap] = Recent(_MOST_BITMAPS)

    def columns(self, rows: Sequence[int] | npt.NDArray[Any] | None = None) -> dict[str, list[Any] | Numbers]:
        """The attributes of items as `load(attributes=)` takes them: for each attribute one entry per item.

        Args:
            rows: rows of the items (`ItemTable.rows`); None: all.

        Raises:
            ArgumentError: a row is not in the catalogue.
            ArgumentTypeError: rows are not integers.
        """
        places = np.arange(self._num_items) if rows is None else as_int64("rows", rows)
        if len(odd := places[(places < 0) | (places >= self._num_items)]):
            raise ArgumentError("rows", f"rows in [0, {self._num_items})", int(odd[0]))
        numbers = {name: column[places] for name, column in self._numbers.items()}
        return numbers | {name: column.entries(places) for name, column in self._texts.items()}

    def check(self, name: str, entries: Entries) -> None:
        """Raises the errors that `edited` would raise for these entries of one column."""
        if name in self._numbers:
            further_numbers(name, self._numbers[name], entries)
        else:
            texts_of(name, entries)

    def edited(self, num_items: int, values: Mapping[str, Mapping[int, Any]]) -> Attributes:
        """Attributes of a catalogue that may be longer, with some entries replaced; this object does not change.

        If no items are added, cached bitmaps of conditions on unchanged attributes are kept.

        Args:
            num_items: number of items of that catalogue.
            values: for each attribute the new entries by row; every new row needs one.

        Raises:
            ArgumentError: an attribute does not exist, a new row has no entry, or an entry is of another kind.
        """
        if unknown := sorted(set(values) - set(self.names)):
            raise ArgumentError("attributes", f"attributes among {self.names}", shown(unknown[0]))
        added = range(self._num_items, num_items)
        changed = {name for name, entries in values.items() if entries}
        if not added and not changed:
            return self
        twin = Attributes({}, num_items)
        for name in self.names:
            entries = values.get(name, {})
            if missing := [row for row in added if row not in entries]:
                raise ArgumentError(f"attributes[{name!r}]", "an entry for each new item", f"none for {len(missing)}")
            if name in self._numbers:
                twin._numbers[name] = numbers_with(name, self._numbers[name], num_items, entries)
            else:
                twin._texts[name] = self._texts[name].edited(name, entries)
        if not added:
            for key, bitmap in self._bitmaps.items():
                if changed.isdisjoint(name for name, _ in key):
                    twin._bitmaps.put(key, bitmap)
        return twin

    def with_rows_of(self, later: Attributes) -> Attributes:
        """These attributes, followed by those of the added items of `later`, which was derived from this object.

        Columns keep their dtypes; numbers that do not fit one become 0.
        """
        rows = np.arange(self._num_items, later._num_items)
        if not len(rows):
            return self
        twin = Attributes({}, later._num_items)
        for name, numbers in self._numbers.items():
            twin._numbers[name] = numbers_behind(numbers, later._numbers[name][rows])
        for name, texts in self._texts.items():
            twin._texts[name] = texts.with_rows_of(name, later._texts[name], rows)
        return twin

    def of_rows(self, rows: npt.NDArray[np.int64]) -> Attributes:
        """The attributes of these rows, in this order; conditions may still use values that no item has any more."""
        twin = Attributes({}, len(rows))
        twin._numbers = {name: numbers[rows] for name, numbers in self._numbers.items()}
        twin._texts = {name: texts.of_rows(rows) for name, texts in self._texts.items()}
        return twin

    @property
    def names(self) -> list[str]:
        """Names of the attributes, sorted."""
        return sorted({*self._numbers, *self._texts})

    def bitmap(self, where: Where) -> Bitmap:
        """The items that meet all conditions, as a read-only bitmap. Bitmaps of recent conditions are cached.

        Raises:
            ArgumentError: an attribute or a value does not exist, or a condition does not fit its attribute.
            ArgumentTypeError: not a mapping.
        """
        if not isinstance(where, Mapping):
            raise ArgumentTypeError("where", "a mapping of attributes to conditions", where)
        try:
            key = frozenset((name, _key_of(condition)) for name, condition in where.items())
        except Exception:  # what cannot be hashed is not a condition either, and is refused below
            key = None
        if key is not None and (found := self._bitmaps.get(key)) is not None:
            return found
        holds = np.ones(self._num_items, np.bool_)
        for name, condition in where.items():
            holds &= self._holds(name, condition)
        bitmap = as_bitmap(holds)
        if key is not None:
            self._bitmaps.put(key, bitmap)
        return bitmap

    def _holds(self, name: str, condition: Any) -> npt.NDArray[np.bool_]:
        if isinstance(condition, Not):
            return ~self._holds(name, condition.condition)
        if name in self._numbers:
            return self._number_holds(name, condition)
        if name not in self._texts:
            loaded = f"attributes among {self.names}" if self.names else "attributes given to load(attributes=)"
            raise ArgumentError("where", loaded, shown(name))
        values = [condition] if isinstance(condition, str) else condition
        if not isinstance(values, (list, set, frozenset)) or not values or not all(isinstance(v, str) for v in values):
            raise ArgumentError(f"where[{name!r}]", "a string or a list of at least one", shown(condition))
        if unknown := [value for value in values if value not in self._texts[name]]:
            raise ArgumentError(f"where[{name!r}]", "values that some item has", shown(unknown[0]))
        return self._texts[name].holds(self._num_items, values)

    def _number_holds(self, name: str, condition: Any) -> npt.NDArray[np.bool_]:
        numbers = self._numbers[name]
        if isinstance(condition, tuple):
            if len(condition) != 2 or not all(bound is None or is_number(bound) for bound in condition):
                raise ArgumentError(f"where[{name!r}]", "(low, high), numbers or None", shown(condition))
            holds = ~np.isnan(numbers) if numbers.dtype.kind == "f" else np.ones(len(numbers), np.bool_)
            low, high = condition
            if low is not None and high is not None and low > high:
                raise ArgumentError(f"where[{name!r}]", "(low, high) with low <= high", shown(condition))
            if low is not None:
                holds &= numbers >= _as_stored(low, numbers)
            return holds if high is None else holds & (numbers <= _as_stored(high, numbers))
        values = condition if isinstance(condition, (list, set, frozenset)) else [condition]
        is_fit, one = (is_number, "a number") if numbers.dtype != np.bool_ else (_is_flag_or_number, "True or False")
        if not values or not all(map(is_fit, values)):
            raise ArgumentError(f"where[{name!r}]", f"{one}, a list of at least one, or (low, high)", shown(condition))
        holds = np.zeros(len(numbers), np.bool_)
        for value in values:
            stored = _as_stored(value, numbers)
            if not is_integer(value) or numbers.dtype.kind != "f" or int(stored) == value:
                holds |= numbers == stored
        return holds


def allowed_bitmaps(
    allow: IdLists | None,
    where: Where | Sequence[Where | None] | None,
    attributes: Attributes,
    items: ItemTable,
    batch: int,
    now: float,
) -> list[Bitmap | None] | None:
    """The available rows that each user may get, restricted by ids, conditions, or both; None: all.

    Args:
        allow: item ids for all users, or a list with ids (None: all) per user; unknown ids are ignored.
        where: conditions for all users, or a list with conditions per user.
        attributes: the catalogue's.
        items: the catalogue's.
        batch: number of users.
        now: Unix seconds, for items that expire.

    Raises:
        ArgumentError: the number of lists is not that of users, or a condition is invalid.
        ArgumentTypeError: ids are not of the catalogue's kind, or not conditions.
    """
    available = items.available(now)
    if allow is None and where is None:
        return None if available is None else [available] * batch
    bitmaps: list[Bitmap | None] = [None] * batch
    if where is not None:
        bitmaps = _of_conditions(where, attributes, batch)
    if available is not None:
        bitmaps = _each_with(bitmaps, available)
    if allow is None:
        return bitmaps
    allow = as_lists(allow, "allow")
    for_all = is_flat(allow) and not is_one_a_user(allow)
    rows, offsets = excluded_rows(allow, items, 1 if for_all else batch, "allow")
    assert rows is not None and offsets is not None
    if for_all:
        return _each_with(bitmaps, _bitmap_of(rows, len(items)))
    lists = allow if is_one_a_user(allow) else None
    for user, wanted in enumerate(bitmaps):
        if lists is not None and lists[user] is None:  # the user's conditions alone decide
            continue
        allowed = _bitmap_of(rows[offsets[user] : offsets[user + 1]], len(items))
        bitmaps[user] = allowed if wanted is None else wanted & allowed
    return bitmaps


def _bitmap_of(rows: npt.NDArray[np.int64], num_items: int) -> Bitmap:
    holds = np.zeros(num_items, np.bool_)
    holds[rows] = True
    return as_bitmap(holds)


def _each_with(bitmaps: list[Bitmap | None], other: Bitmap) -> list[Bitmap | None]:
    """Each bitmap (None: all rows) intersected with `other`; users that shared one still do, which searches rely on."""
    made: dict[int, Bitmap] = {}
    for wanted in bitmaps:
        if wanted is not None and id(wanted) not in made:
            made[id(wanted)] = wanted & other
    return [other if wanted is None else made[id(wanted)] for wanted in bitmaps]


def _of_conditions(where: Where | Sequence[Where | None], attributes: Attributes, batch: int) -> list[Bitmap | None]:
    if not isinstance(where, (list, tuple)):
        return [attributes.bitmap(where)] * batch  # type: ignore[arg-type]
    if len(where) != batch:
        raise ArgumentError("where", f"one mapping, or one per user ({batch})", f"{len(where)}")
    return [None if conditions is None else attributes.bitmap(conditions) for conditions in where]


def _as_stored(value: Any, numbers: Numbers) -> Any:
    """A condition's number at the precision of a float column, so that 9.99 equals the float32 value of 9.99."""
    if numbers.dtype.kind != "f":
        return value
    with np.errstate(over="ignore"):
        return numbers.dtype.type(value)


def _key_of(condition: object) -> object:
    """A key that is equal for equal conditions, types included, since 1 is a condition on numbers and True is not."""
    if isinstance(condition, Not):
        return Not, _key_of(condition.condition)
    if isinstance(condition, (tuple, list)):
        return type(condition), tuple((type(value), value) for value in condition)
    if isinstance(condition, (set, frozenset)):
        return set, frozenset((type(value), value) for value in condition)
    return type(condition), condition


def _is_flag_or_number(value: object) -> bool:
    return is_flag(value) or is_number(value)
