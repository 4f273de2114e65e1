"""An attribute column of texts, or lists of texts, indexed for conditions."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lsif_sdk.arguments import is_missing
from lsif_sdk.attribute_columns import Entries
from lsif_sdk.errors import ArgumentError, shown
from lsif_sdk.locks import ForkSafeLock

__all__ = ["TextColumn", "texts_of"]

Int32s = npt.NDArray[np.int32]

_FEW = 1024
"""The least number of changes after which the index is rebuilt."""
_NAMING = ForkSafeLock()


class TextColumn:
    """Which items have which texts. Immutable.

    Texts are numbered, and edited columns share the numbers: so the cost of a change does not depend on how many texts
    there are, and conditions may still use texts that no item has any more. Rows are stored text by text; changes are
    stored separately until there are many.
    """

    def __init__(self, name: str, entries: Entries) -> None:
        self._numbers: dict[str, int] = {}
        self._has_lists = False
        rows, texts = self._pairs(name, np.arange(len(entries)), entries)
        self._sort(rows, texts)

    def edited(self, name: str, entries: Mapping[int, Any]) -> TextColumn:
        """The column with these entries by row, also past the last row; this column does not change.

        Raises:
            ArgumentError: an entry is neither a text nor a list of texts.
        """
        if not entries:
            return self
        twin = object.__new__(TextColumn)
        twin.__dict__.update(self.__dict__)
        places = np.array(list(entries), np.int64)
        rows, texts = twin._pairs(name, places, list(entries.values()))
        kept = ~np.isin(self._later_rows, places)
        twin._later_rows = np.concatenate([self._later_rows[kept], rows])
        twin._later_texts = np.concatenate([self._later_texts[kept], texts])
        places.sort()
        at = np.searchsorted(self._changed, places)
        is_new = np.append(self._changed, -1)[at] != places
        twin._changed = np.insert(self._changed, at[is_new], places[is_new])
        if len(twin._changed) + len(twin._later_rows) > max(_FEW, len(self._rows) // 8):
            twin._sort(*twin._all_pairs())
        return twin

    def with_rows_of(self, name: str, later: TextColumn, rows: npt.NDArray[np.int64]) -> TextColumn:
        """This column, followed by rows of one derived from it; lists of one text become texts if this has no lists."""
        entries = later.entries(rows)
        if later._has_lists and not self._has_lists and all(len(texts) < 2 for texts in entries):
            entries = [texts[0] if texts else None for texts in entries]
        return self.edited(name, dict(zip(rows.tolist(), entries, strict=True)))

    def of_rows(self, rows: npt.NDArray[np.int64]) -> TextColumn:
        """The column of these distinct rows, in this order; texts that none of them has stay known."""
        twin = object.__new__(TextColumn)
        twin.__dict__.update(self.__dict__)
        all_rows, texts = self._all_pairs()
        places = np.full(1 + max(all_rows.max(initial=-1), rows.max(initial=-1)), -1, np.int32)
        places[rows] = np.arange(len(rows))
        kept = places[all_rows] >= 0
        twin._sort(places[all_rows[kept]], texts[kept])
        return twin

    def _sort(self, rows: Int32s, texts: Int32s) -> None:
        order = np.argsort(texts, kind="stable")
        self._rows = rows[order]
        self._begins = np.searchsorted(texts[order], np.arange(len(self._numbers) + 1))
        none = np.zeros(0, np.int32)
        self._changed, self._later_rows, self._later_texts = np.zeros(0, np.int64), none, none

    def _pairs(self, name: str, places: npt.NDArray[np.int64], entries: Entries) -> tuple[Int32s, Int32s]:
        """Rows and the numbers of their texts."""
        lists = texts_of(name, entries)
        self._has_lists = self._has_lists or not all(isinstance(entry, str) or is_missing(entry) for entry in entries)
        counts = np.fromiter(map(len, lists), np.int64, len(lists))
        with _NAMING:
            numbers = self._numbers
            given = [numbers.setdefault(str(text), len(numbers)) for text in itertools.chain.from_iterable(lists)]
            self._num_known = len(numbers)
        return np.repeat(places, counts).astype(np.int32), np.array(given, np.int32)

    def _all_pairs(self) -> tuple[Int32s, Int32s]:
        texts = np.repeat(np.arange(len(self._begins) - 1, dtype=np.int32), np.diff(self._begins))
        kept = ~np.isin(self._rows, self._changed)
        rows = np.concatenate([self._rows[kept], self._later_rows])
        return rows, np.concatenate([texts[kept], self._later_texts])

    def __contains__(self, text: object) -> bool:
        """Whether an item has, or had, this text."""
        return self._numbers.get(text, self._num_known) < self._num_known  # type: ignore[call-overload, no-any-return]

    def holds(self, num_items: int, texts: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Which items have one of these texts, bool [num_items]; the column must know all texts."""
        result = np.zeros(num_items, np.bool_)
        numbers = [self._numbers[text] for text in texts]
        for number in numbers:
            if number + 1 < len(self._begins):
                result[self._rows[self._begins[number] : self._begins[number + 1]]] = True
        if len(self._changed):
            result[self._changed[self._changed < num_items]] = False
            result[self._later_rows[np.isin(self._later_texts, numbers)]] = True
        return result

    def entries(self, rows: npt.NDArray[np.int64]) -> list[Any]:
        """For each row its text or None, or a sorted list of texts if the column has lists."""
        all_rows, all_texts = self._all_pairs()
        wanted = np.flatnonzero(np.isin(all_rows, rows))
        names = list(self._numbers)
        of_row: dict[int, set[str]] = {row: set() for row in rows.tolist()}
        for row, text in zip(all_rows[wanted].tolist(), all_texts[wanted].tolist(), strict=True):
            of_row[row].add(names[text])
        found = [sorted(of_row[row]) for row in rows.tolist()]
        return list(found) if self._has_lists else [texts[0] if texts else None for texts in found]


def texts_of(name: str, entries: Entries) -> list[Collection[str]]:
    """The texts of each entry.

    Raises:
        ArgumentError: an entry is neither a text nor a list of texts.
    """
    result: list[Collection[str]] = []
    for row, entry in enumerate(entries):
        if isinstance(entry, str):
            result.append((entry,))
        elif isinstance(entry, (list, tuple, set, frozenset)) or (isinstance(entry, np.ndarray) and entry.ndim):
            for text in entry:
                if not isinstance(text, str):
                    raise _no_texts(name, entry, row)
            result.append(entry)
        elif is_missing(entry):
            result.append(())
        else:
            raise _no_texts(name, entry, row)
    return result


def _no_texts(name: str, entry: object, row: int) -> ArgumentError:
    expected = "numbers, or strings, or lists of strings, None where unknown, or True and False"
    return ArgumentError(f"attributes[{name!r}]", expected, f"{shown(entry)} at row {row}")
