"""Attributes of items, and conditions on them as bitmaps of the catalogue."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lsif_sdk.arguments import is_integer, is_real
from lsif_sdk.bitmaps import Bitmap, as_bitmap
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, shown
from lsif_sdk.event_batch import excluded_rows
from lsif_sdk.events import IdLists, as_lists, is_flat, is_one_a_user
from lsif_sdk.ids import as_list
from lsif_sdk.items import ItemTable
from lsif_sdk.locks import ForkSafeLock, OfOneProcess

__all__ = ["Attributes", "Where", "allowed_bitmaps"]

Where = Mapping[str, Any]
"""Conditions by attribute, all of which have to hold: a value, a list of values of which one has to, or a tuple
(low, high) of numbers between which the attribute lies, both included, None for no bound."""

_Numbers = npt.NDArray[np.bool_] | npt.NDArray[np.int64] | npt.NDArray[np.float64]
_MOST_CACHED = 128
_EXACT = 2**53
"""Up to which float64 has all integers."""


class Attributes(OfOneProcess):
    """What is known of the items, by name. Immutable, safe to share between threads.

    Args:
        columns: for each attribute one entry an item, in the order of the catalogue: numbers (NaN where unknown), True
            and False, strings (None where unknown), or lists of strings (genres, say).
        num_items: items of the catalogue.

    Raises:
        ArgumentError: a column has another length, or entries of different kinds.
        ArgumentTypeError: not a mapping of names to columns.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]], num_items: int) -> None:
        if not isinstance(columns, Mapping) or not all(isinstance(name, str) for name in columns):
            raise ArgumentTypeError("attributes", "a mapping of names to columns", columns)
        self._num_items = num_items
        self._numbers: dict[str, _Numbers] = {}
        self._rows: dict[str, dict[str, npt.NDArray[np.int64]]] = {}
        for name, column in columns.items():
            if not isinstance(column, np.ndarray) or column.ndim == 0:
                column = as_list(f"attributes[{name!r}]", column)
            if isinstance(column, np.ndarray) and column.ndim > 1 and column.dtype.kind in "biuf":
                raise ArgumentError(f"attributes[{name!r}]", "one number an item", f"shape {list(column.shape)}")
            if len(column) != num_items:
                raise ArgumentError(f"attributes[{name!r}]", f"{num_items} entries, one an item", len(column))
            numbers = _numbers(name, column)
            if numbers is None and (row := _missing_number(column)) is not None:
                raise ArgumentError(f"attributes[{name!r}]", "numbers, NaN where unknown", f"None at row {row}")
            if numbers is not None:
                self._numbers[name] = numbers
            else:
                self._rows[name] = _rows_by_value(name, column)
        self._cache: collections.OrderedDict[Any, Bitmap] = collections.OrderedDict()
        self._lock = ForkSafeLock()

    def blank(self, name: str) -> Any:
        """An entry that the attribute's column may have, for an item nobody will ask for."""
        return self._numbers[name].dtype.type(0) if name in self._numbers else None

    def check(self, name: str, entries: Sequence[Any]) -> None:
        """Refuses further entries of a column, as `edited` would if there were no others.

        Raises:
            ArgumentError: one is of another kind.
        """
        if name in self._numbers:
            _further_numbers(name, self._numbers[name], entries)
        else:
            _rows_by_value(name, entries)

    def edited(self, num_items: int, values: Mapping[str, Mapping[int, Any]]) -> Attributes:
        """Attributes of a longer catalogue, with some entries replaced; these stay as they are.

        Bitmaps of conditions on attributes that stay as they are stay, too.

        Args:
            num_items: of that catalogue.
            values: for each attribute entries by row, as in the columns; all new rows have to have one.

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
                twin._numbers[name] = _numbers_with(name, self._numbers[name], num_items, entries)
            else:
                twin._rows[name] = _rows_with(name, self._rows[name], entries)
        if not added:
            with self._lock:
                kept = {key: bitmap for key, bitmap in self._cache.items() if changed.isdisjoint(n for n, _ in key)}
            twin._cache.update(kept)
        return twin

    @property
    def names(self) -> list[str]:
        """Of the attributes, sorted."""
        return sorted({*self._numbers, *self._rows})

    def bitmap(self, where: Where) -> Bitmap:
        """The items for which all conditions hold; read-only. The most recent conditions are kept.

        Raises:
            ArgumentError: an attribute or a value does not exist, or a condition does not fit its attribute.
            ArgumentTypeError: not a mapping.
        """
        if not isinstance(where, Mapping):
            raise ArgumentTypeError("where", "a mapping of attributes to conditions", where)
        try:
            key = tuple(sorted((str(name), repr(condition)) for name, condition in where.items()))
        except Exception:  # of what nobody can print
            raise ArgumentError("where", "conditions on attributes", shown(where)) from None
        with self._lock:
            if (found := self._cache.get(key)) is not None:
                self._cache.move_to_end(key)
                return found
        holds = np.ones(self._num_items, np.bool_)
        for name, condition in where.items():
            holds &= self._holds(name, condition)
        bitmap = as_bitmap(holds)
        with self._lock:
            self._cache[key] = bitmap
            if len(self._cache) > _MOST_CACHED:
                self._cache.popitem(last=False)
        return bitmap

    def _holds(self, name: str, condition: Any) -> npt.NDArray[np.bool_]:
        if name in self._numbers:
            return self._number_holds(name, condition)
        if name not in self._rows:
            loaded = f"attributes among {self.names}" if self.names else "attributes given to load(attributes=)"
            raise ArgumentError("where", loaded, shown(name))
        values = [condition] if isinstance(condition, str) else condition
        if not isinstance(values, (list, set, frozenset)) or not values or not all(isinstance(v, str) for v in values):
            raise ArgumentError(f"where[{name!r}]", "a string or a list of at least one", shown(condition))
        holds = np.zeros(self._num_items, np.bool_)
        for value in values:
            if value not in self._rows[name]:
                raise ArgumentError(f"where[{name!r}]", "values that some item has", shown(value))
            holds[self._rows[name][value]] = True
        return holds

    def _number_holds(self, name: str, condition: Any) -> npt.NDArray[np.bool_]:
        numbers = self._numbers[name]
        if isinstance(condition, tuple):
            if len(condition) != 2 or not all(bound is None or _is_number(bound) for bound in condition):
                raise ArgumentError(f"where[{name!r}]", "(low, high), numbers or None", shown(condition))
            holds = ~np.isnan(numbers) if numbers.dtype.kind == "f" else np.ones(len(numbers), np.bool_)
            low, high = condition
            if low is not None and high is not None and low > high:
                raise ArgumentError(f"where[{name!r}]", "(low, high) with low <= high", shown(condition))
            if low is not None:
                holds &= numbers >= low
            return holds if high is None else holds & (numbers <= high)
        values = condition if isinstance(condition, (list, set, frozenset)) else [condition]
        is_fit = _is_flag_or_number if numbers.dtype == np.bool_ else _is_number
        if not values or not all(map(is_fit, values)):
            raise ArgumentError(
                f"where[{name!r}]", "a number, a list of at least one, or (low, high)", shown(condition)
            )
        holds = np.zeros(len(numbers), np.bool_)
        for value in values:
            if numbers.dtype.kind != "f" or int(float(value)) == value or not is_integer(value):
                holds |= numbers == value
        return holds


def allowed_bitmaps(
    allow: IdLists | None,
    where: Where | Sequence[Where | None] | None,
    attributes: Attributes,
    items: ItemTable,
    batch: int,
    now: float,
) -> list[Bitmap | None] | None:
    """The rows each user may get: of those there are now, by ids, conditions, or both; None: all.

    Args:
        allow: item ids for all users, or a list of them (None: all) for each; unknown ids are ignored.
        where: conditions for all users, or a list of them for each.
        attributes: of the catalogue.
        items: of the catalogue.
        batch: users.
        now: Unix seconds, for items that are not recommended for ever.

    Raises:
        ArgumentError: another number of lists than users, or a condition that makes no sense.
        ArgumentTypeError: not ids of the catalogue's kind, or not conditions.
    """
    available = items.available(now)
    if allow is None and where is None:
        return None if available is None else [available] * batch
    bitmaps: list[Bitmap | None] = [None] * batch
    if where is not None:
        bitmaps = _of_conditions(where, attributes, batch)
    if available is not None:
        bitmaps = [available if wanted is None else wanted & available for wanted in bitmaps]
    if allow is None:
        return bitmaps
    allow = as_lists(allow)
    for_all = is_flat(allow) and not is_one_a_user(allow)
    rows, offsets = excluded_rows(allow, items, 1 if for_all else batch, "allow")
    assert rows is not None and offsets is not None
    lists = allow if is_one_a_user(allow) else None
    for user, wanted in enumerate(bitmaps):
        if lists is not None and lists[user] is None:  # all that the user's conditions let pass
            continue
        if user == 0 or not for_all:
            holds = np.zeros(len(items), np.bool_)
            holds[rows[offsets[user] : offsets[user + 1]]] = True
            allowed = as_bitmap(holds)
        bitmaps[user] = allowed if wanted is None else wanted & allowed
    return bitmaps


def _of_conditions(where: Where | Sequence[Where | None], attributes: Attributes, batch: int) -> list[Bitmap | None]:
    if not isinstance(where, (list, tuple)):
        return [attributes.bitmap(where)] * batch  # type: ignore[arg-type]
    if len(where) != batch:
        raise ArgumentError("where", f"one mapping, or one a user ({batch})", f"{len(where)}")
    return [None if conditions is None else attributes.bitmap(conditions) for conditions in where]


def _is_flag(value: object) -> bool:
    return isinstance(value, (bool, np.bool_))


def _is_flag_or_number(value: object) -> bool:
    return _is_flag(value) or _is_number(value)


def _is_number(value: object) -> bool:
    """Whether it is a finite number that fits 64 bits; integers are compared as such, not as floats."""
    if is_integer(value):
        return bool(-(2**63) <= value < 2**63)  # type: ignore[operator]
    return isinstance(value, (float, np.floating)) and bool(np.isfinite(value))


def _numbers(name: str, column: Sequence[Any] | npt.NDArray[Any]) -> _Numbers | None:
    """The column as bool, int64 or, if it has fractions or unknown values, float64; None if it is not of numbers."""
    if isinstance(column, np.ndarray) and column.dtype.kind in "bif":
        return column.astype({"b": np.bool_, "i": np.int64, "f": np.float64}[column.dtype.kind])
    values = list(column)
    if values and all(map(_is_flag, values)):
        return np.array(values, np.bool_)
    if values and all(is_integer(v) and _is_number(v) for v in values):
        return np.array(values, np.int64)
    if values and all(map(is_real, values)):
        with contextlib.suppress(OverflowError):  # an integer past any float
            floats = np.array(values, np.float64)
            _check_exact(name, [values[row] for row in np.flatnonzero(np.abs(floats) >= _EXACT).tolist()])
            return floats
    return None


def _check_exact(name: str, integers: Iterable[Any]) -> None:
    """Refuses integers that are other numbers as floats: one id for another, say."""
    if (odd := next((v for v in integers if is_integer(v) and int(float(v)) != v), None)) is not None:
        expected = "integers that float64 has, beside fractions or NaN (others as strings, or in a column of integers)"
        raise ArgumentError(f"attributes[{name!r}]", expected, int(odd))


def _missing_number(column: Sequence[Any] | npt.NDArray[Any]) -> int | None:
    """The row of the first None in what is a column of numbers otherwise."""
    values = list(column)
    given = [value for value in values if value is not None]
    is_missing = len(given) < len(values) and given and all(_is_flag(v) or is_real(v) for v in given)
    return values.index(None) if is_missing else None


def _rows_by_value(name: str, column: Sequence[Any] | npt.NDArray[Any]) -> dict[str, npt.NDArray[np.int64]]:
    rows: dict[str, list[int]] = collections.defaultdict(list)
    for row, entry in enumerate(column):
        values = [] if entry is None else [entry] if isinstance(entry, str) else entry
        several = isinstance(values, (list, tuple, set, frozenset)) or (isinstance(values, np.ndarray) and values.ndim)
        if not several or not all(isinstance(v, str) for v in values):
            expected = "numbers, or strings, or lists of strings, None where unknown"
            raise ArgumentError(f"attributes[{name!r}]", expected, f"{shown(entry)} at row {row}")
        for value in set(values):
            rows[str(value)].append(row)
    return {value: np.array(of_value, np.int64) for value, of_value in rows.items()}


def _further_numbers(name: str, old: _Numbers, entries: Sequence[Any]) -> _Numbers:
    new = _numbers(name, entries)
    if new is None or (new.dtype == np.bool_) != (old.dtype == np.bool_):
        kind = "True or False" if old.dtype == np.bool_ else "numbers"
        odd = next((v for v in entries if not (_is_flag if old.dtype == np.bool_ else is_real)(v)), None)
        raise ArgumentError(f"attributes[{name!r}]", f"{kind}, as the column has", shown(odd))
    if old.dtype != new.dtype:  # integers become floats
        integers = old if new.dtype.kind == "f" else new
        _check_exact(name, integers[(integers >= _EXACT) | (integers <= -_EXACT)].tolist())
    return new


def _numbers_with(name: str, old: _Numbers, num_items: int, entries: Mapping[int, Any]) -> _Numbers:
    if not entries:
        return old
    new = _further_numbers(name, old, list(entries.values()))
    numbers = np.zeros(num_items, np.result_type(old, new))
    numbers[: len(old)] = old
    numbers[list(entries)] = new
    return numbers


def _rows_with(
    name: str, old: Mapping[str, npt.NDArray[np.int64]], entries: Mapping[int, Any]
) -> dict[str, npt.NDArray[np.int64]]:
    places = np.array(list(entries), np.int64)
    new = _rows_by_value(name, list(entries.values()))
    kept = {value: rows[~np.isin(rows, places)] if len(places) else rows for value, rows in old.items()}
    gained = {value: places[of_value] for value, of_value in new.items()}
    none = np.zeros(0, np.int64)
    # A value no item has any longer stays a value that conditions may name.
    return {value: np.concatenate([kept.get(value, none), gained.get(value, none)]) for value in kept | gained}
