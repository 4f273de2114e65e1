"""Columns of attributes, as given and as stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lsif_sdk.arguments import as_array, first_repeat, index_of, is_integer, is_missing, is_real
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, shown
from lsif_sdk.ids import Id
from lsif_sdk.items import ItemTable

__all__ = [
    "Column", "Entries", "Numbers", "as_entries", "by_row", "check_order", "further_numbers", "is_flag",
    "is_number", "numbers_behind", "numbers_of", "numbers_with",
]  # fmt: skip

Column = Sequence[Any] | npt.NDArray[Any] | Mapping[Id, Any]
"""One entry per item, in catalogue order or by item id."""
Numbers = npt.NDArray[np.bool_] | npt.NDArray[np.int64] | npt.NDArray[np.float32] | npt.NDArray[np.float64]
Entries = Sequence[Any] | npt.NDArray[Any]

_EXACT = 2**53
"""float64 represents all integers up to this one."""


def by_row(columns: Mapping[str, Column], items: ItemTable) -> Mapping[str, Entries]:
    """Puts columns by item id into catalogue order: None for items without an entry; unknown items are ignored.

    If ids are strings, a pandas column with an index of strings is also a column by item id.

    Raises:
        ArgumentError: no item of a column is in the catalogue, an id comes twice, or a column of booleans lacks an
            item.
        ArgumentTypeError: ids are not of the catalogue's kind.
    """
    if not isinstance(columns, Mapping):
        return columns  # refused by `Attributes`
    result: dict[str, Entries] = {}
    for name, column in columns.items():
        labels = list(column) if isinstance(column, Mapping) else _texts_of_index(column)
        if labels is None or not (isinstance(column, Mapping) or items.has_string_ids):
            result[name] = column  # type: ignore[assignment]
            continue
        values = list(column.values()) if isinstance(column, Mapping) else list(as_entries(name, column))
        result[name] = _placed(f"attributes[{name!r}]", labels, values, items)
    return result


def _placed(argument: str, ids: list[Any], values: list[Any], items: ItemTable) -> list[Any]:
    if len(set(ids)) < len(ids):
        raise ArgumentError(argument, "one entry per item", f"several for {shown(first_repeat(ids))}")
    rows = items.rows(ids, argument).tolist()
    if len(items) and max(rows, default=-1) < 0:
        raise ArgumentError(argument, "items of the catalogue as keys", f"{len(ids)} others")
    entries: list[Any] = [None] * len(items)
    for row, entry in zip(rows, values, strict=True):
        if row >= 0:
            entries[row] = entry
    missing = [row for row, entry in enumerate(entries) if is_missing(entry)] if any(map(is_flag, values)) else []
    if missing:
        expected = "True or False for every item of the catalogue"
        raise ArgumentError(argument, expected, f"none for {shown(items.ids[missing[0]])}")
    return entries


def _texts_of_index(column: Any) -> list[Any] | None:
    index = index_of(column)
    if index is None or index.dtype.kind in "iu" or not all(isinstance(label, str) for label in index):
        return None
    return list(index)


def check_order(name: str, column: Any, ids: Sequence[Any] | None = None) -> None:
    """Refuses a pandas column whose index may mean an order other than that of its entries.

    Args:
        name: name of the attribute.
        column: the column as given.
        ids: the items that the entries are for; None: all of the catalogue.

    Raises:
        ArgumentError: the index is not 0, 1, 2 and so on, and the column is for a whole catalogue, or the index has
            the ids in another order.
    """
    index = index_of(column)
    if index is None or len(index) == 0 or (index.dtype.kind in "iu" and np.array_equal(index, np.arange(len(index)))):
        return
    labels = index.tolist()
    if ids is None or not (labels == list(ids) or set(ids).isdisjoint(map(_hashable, labels))):
        expected = "a column without an index (to_numpy(), if its order is right) or, when loading, by id (to_dict())"
        got = f"one whose index begins with {shown(index[0])}"
        raise ArgumentError(f"attributes[{name!r}]", expected, got)


def _hashable(label: Any) -> Any:
    return label if isinstance(label, (str, int)) else None


def as_entries(name: str, column: Any) -> Entries:
    """A column of any library as an array of numbers or a list.

    Raises:
        ArgumentError: the column is of numbers with two dimensions, or of dates.
        ArgumentTypeError: not a sequence or column.
    """
    argument = f"attributes[{name!r}]"
    if hasattr(column, "__array__"):
        column = as_array(argument, column)
        if column.ndim > 1 and column.dtype.kind in "biuf":
            raise ArgumentError(argument, "one number an item", f"shape {list(column.shape)}")
        if column.dtype.kind in "mM":
            raise ArgumentError(argument, "numbers (dates as numbers, or as strings)", column.dtype)
        if column.ndim and column.dtype.kind not in "bif":
            return list(column.tolist())
    if isinstance(column, np.ndarray) and column.ndim:
        return column
    if isinstance(column, (str, bytes)) or not isinstance(column, Sequence):
        raise ArgumentTypeError(argument, "a sequence, one value per item", column)
    return list(column)


def is_flag(value: object) -> bool:
    """Whether the value is True or False, of Python or NumPy."""
    return isinstance(value, (bool, np.bool_))


def is_number(value: object) -> bool:
    """Whether the value is a finite number that fits 64 bits; integers are compared as integers."""
    if is_integer(value):
        return bool(-(2**63) <= value < 2**63)  # type: ignore[operator]
    return isinstance(value, (float, np.floating)) and bool(np.isfinite(value))


def numbers_of(name: str, column: Entries) -> Numbers | None:
    """The column as bool, int64 or, with fractions or unknown values, float64; None if it is not of numbers.

    float32 stays float32, and conditions are compared at that precision, so that `where` finds 9.99.

    Raises:
        ArgumentError: numbers are mixed with booleans, a boolean is unknown, or floats cannot represent an integer.
    """
    if isinstance(column, np.ndarray) and column.dtype.kind in "bif":
        floats = np.float32 if column.dtype.itemsize < 8 else np.float64
        return column.astype({"b": np.bool_, "i": np.int64, "f": floats}[column.dtype.kind])
    entries = list(column)
    given = [entry for entry in entries if not is_missing(entry)]
    if not given:
        is_of_numbers = any(is_real(entry) for entry in entries)  # NaN
        return np.full(len(entries), np.nan) if is_of_numbers else None
    if is_flag(given[0]):
        _refuse_others(name, entries, is_flag, "True or False for every item, or numbers")
        return np.array(entries, np.bool_)
    if not is_real(given[0]):
        return None
    _refuse_others(name, entries, lambda entry: is_real(entry) or is_missing(entry), "numbers, NaN where unknown")
    if len(given) == len(entries) and all(is_integer(v) and is_number(v) for v in given):
        return np.array(entries, np.int64)
    return _floats(name, entries)


def _floats(name: str, entries: Sequence[Any]) -> npt.NDArray[np.float32] | npt.NDArray[np.float64]:
    plain = [np.nan if is_missing(entry) else entry for entry in entries]
    if any(isinstance(v, np.float32) for v in entries) and all(isinstance(v, np.float32) or v != v for v in plain):
        return np.array(plain, np.float32)
    plain = [float(str(v)) if isinstance(v, (np.float32, np.float16)) else v for v in plain]  # see `numbers_with`
    try:
        floats = np.array(plain, np.float64)
    except OverflowError:
        raise ArgumentError(f"attributes[{name!r}]", "numbers that fit 64 bits", "an integer past any float") from None
    _check_exact(name, [plain[row] for row in np.flatnonzero(np.abs(floats) >= _EXACT).tolist()])
    return floats


def _refuse_others(name: str, entries: Sequence[Any], is_fit: Any, expected: str) -> None:
    if (row := next((row for row, entry in enumerate(entries) if not is_fit(entry)), None)) is not None:
        raise ArgumentError(f"attributes[{name!r}]", expected, f"{shown(entries[row])} at row {row}")


def _check_exact(name: str, integers: Iterable[Any]) -> None:
    """Refuses integers that floats cannot represent, since one id could become another."""
    if (odd := next((v for v in integers if is_integer(v) and int(float(v)) != v), None)) is not None:
        expected = "integers that float64 has, beside fractions or NaN (others as strings, or in a column of integers)"
        raise ArgumentError(f"attributes[{name!r}]", expected, int(odd))


def further_numbers(name: str, old: Numbers, entries: Entries) -> Numbers:
    """New entries for a column that has the numbers `old`.

    Raises:
        ArgumentError: an entry is of another kind.
    """
    new = numbers_of(name, entries)
    if new is None and old.dtype != np.bool_ and all(map(is_missing, entries)):
        new = np.full(len(entries), np.nan)
    if new is None or (new.dtype == np.bool_) != (old.dtype == np.bool_):
        kind = "True or False" if old.dtype == np.bool_ else "numbers"
        is_fit = is_flag if old.dtype == np.bool_ else lambda value: is_real(value) or is_missing(value)
        odd = next((entry for entry in entries if not is_fit(entry)), None)
        one = ", one per item and not in lists" if isinstance(odd, (list, tuple, np.ndarray)) else ""
        raise ArgumentError(f"attributes[{name!r}]", f"{kind}, as the column has{one}", shown(odd))
    if old.dtype != new.dtype:  # integers become floats
        integers = old if new.dtype.kind == "f" else new
        _check_exact(name, integers[(integers >= _EXACT) | (integers <= -_EXACT)].tolist())
    return new


def numbers_with(name: str, old: Numbers, num_items: int, entries: Mapping[int, Any]) -> Numbers:
    """The column for a catalogue that may be longer, with these entries by row; see `further_numbers`."""
    if not entries:
        return old
    new = further_numbers(name, old, list(entries.values()))
    if new.dtype == np.float32 and old.dtype != np.float32:  # by way of text, so that 9.99 does not become 9.989999771
        new = new.astype("U").astype(np.float64)
    if old.dtype == np.float32 and new.dtype == np.int64 and (new.astype(np.float32).astype(np.float64) != new).any():
        odd = new[new.astype(np.float32).astype(np.float64) != new][0]
        raise ArgumentError(f"attributes[{name!r}]", "integers that float32 has, as the column", int(odd))
    numbers = np.zeros(num_items, old.dtype if old.dtype == np.float32 else np.result_type(old, new))
    numbers[: len(old)] = old
    numbers[list(entries)] = new
    return numbers


def numbers_behind(old: Numbers, new: Numbers) -> Numbers:
    """The old numbers, then the new ones in the same dtype, which are 0 if they do not fit it."""
    with np.errstate(invalid="ignore", over="ignore"):
        stored = new.astype(old.dtype)
        is_same = (stored.astype(new.dtype) == new) | (np.isnan(stored) & np.isnan(new))
    return np.concatenate([old, np.where(is_same, stored, old.dtype.type(0))])
