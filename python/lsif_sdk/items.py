"""Maps external item ids (and titles) to catalogue rows and back."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lsif_sdk import _core
from lsif_sdk.arguments import as_array, as_int64, as_integer
from lsif_sdk.bitmaps import FOREVER, REMOVED, Availability, Bitmap, in_bitmap
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ArtifactError, shown
from lsif_sdk.ids import INT_TYPES, STR_TYPES, Id, as_list, id_column, id_list
from lsif_sdk.locks import ForkSafeLock, made_once
from lsif_sdk.order_by_counts import by_counts, reordered
from lsif_sdk.packed_texts import check_texts, int64_tensor, pack_texts, unpack_texts
from lsif_sdk.times import Now, check_recent, request_times

__all__ = ["ItemEdit", "ItemTable"]

_GROWN = 1.125
"""A table this many times as large as its native index gets a new one; until then new ids are in a dictionary."""
_TENSORS = frozenset({"counts", "ids", "ids.bytes", "ids.offsets", "titles.bytes", "titles.offsets", "until"})

_ADDING = ForkSafeLock()


@dataclasses.dataclass(frozen=True)
class ItemEdit:
    """Changes for `ItemTable.edited`, by row; rows past the table's end are new.

    ids: ids of the new rows, in order. titles, counts, until: see `ItemTable`.
    """

    ids: Sequence[Id] = ()
    titles: Mapping[int, str] = dataclasses.field(default_factory=dict)
    counts: Mapping[int, int] = dataclasses.field(default_factory=dict)
    until: Mapping[int, int] = dataclasses.field(default_factory=dict)


class ItemTable:
    """Ids, titles and training counts of the catalogue, one entry per row, in row order. Immutable.

    Args:
        ids: one id per item, all integers or all strings, all different.
        titles: one text per item, or None.
        counts: integers >= 0, [num_items], occurrences in training (for the popularity fallback), or None: all 0.
        until: Unix seconds [num_items] from which each item is no longer recommended (special values for hidden,
            removed and unlimited items are in `lsif_sdk.bitmaps`), or None: all items are unlimited.

    Raises:
        ArgumentError: ids are not unique, lengths differ, or a count or time is invalid.
        ArgumentTypeError: ids are neither all integers nor all strings, or times are not numbers.
    """

    def __init__(
        self,
        ids: Sequence[Id] | npt.NDArray[Any],
        titles: Sequence[str] | None = None,
        counts: Sequence[int] | npt.NDArray[Any] | None = None,
        until: Sequence[int] | npt.NDArray[Any] | None = None,
    ) -> None:
        self.ids = id_column("ids", ids)
        self.has_string_ids = self.ids.dtype == object
        self._id_types = STR_TYPES if self.has_string_ids else INT_TYPES
        size = len(self.ids)
        self.ids.flags.writeable = False
        self.titles = None if titles is None else as_list("titles", titles)
        if self.titles is not None:
            if len(self.titles) != size:
                raise ArgumentError("titles", f"{size} texts, one per item", len(self.titles))
            check_texts("titles", self.titles)
        self.counts = np.zeros(size, np.int64) if counts is None else _as_counts(counts, size)
        self.counts.flags.writeable = False
        ends = None if until is None else as_int64("until", until)
        if ends is not None and len(ends) != size:
            raise ArgumentError("until", f"{size} times, one per item", len(ends))
        self._available = None if ends is None else Availability(ends)
        self._native = _core.IdRows(self.ids)
        if self._native.repeat >= 0:
            raise ArgumentError("ids", "no two equal ids", f"{self.ids.item(self._native.repeat)!r} more than once")
        self._num_native = size
        # Rows of ids that were added by edits. Edited tables share this dictionary, and each table ignores rows past
        # its own end.
        self._later: dict[Id, int] = {}

    def __copy__(self) -> ItemTable:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """For copies that share nothing: only this table's own entries of the shared dictionary."""
        with _ADDING:
            later = dict(itertools.islice(self._later.items(), len(self) - self._num_native))
        return self.__dict__ | {"_later": later}

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Id]:
        return iter(self.ids.tolist())

    def __contains__(self, item: object) -> bool:
        """Whether there is a row for this id. Removed items also keep their row; see `is_available`."""
        return type(item) in self._id_types and int(self.rows([item])[0]) >= 0  # type: ignore[list-item]

    def __repr__(self) -> str:
        return f"ItemTable({len(self):,} items, ids are {self.id_kind})"

    @property
    def id_kind(self) -> str:
        """The type of the ids, in words."""
        return "strings" if self.has_string_ids else "integers"

    def rows(self, ids: Sequence[Id] | npt.NDArray[Any], argument: str = "ids") -> npt.NDArray[np.int64]:
        """Catalogue rows of ids, int64 [num_ids]; -1 for an id that the catalogue does not know.

        Raises:
            ArgumentTypeError: an id is not of the catalogue's kind (integers or strings).
        """
        values = id_list(ids, argument)
        rows = self.rows_of_plain(values)
        if rows is None:
            odd = [place for place, value in enumerate(values) if type(value) not in self._id_types]
            # A missing id turns the others into floats, so it is the one to report.
            missing = (place for place in odd if isinstance(values[place], float) and values[place] != values[place])
            place = next(missing, odd[0])
            where = f"{argument}[{place}]" if len(values) > 1 else argument
            raise ArgumentTypeError(where, f"{self.id_kind}, as the catalogue's ids", values[place])
        return rows

    def rows_of_plain(self, values: Sequence[Any]) -> npt.NDArray[np.int64] | None:
        """`rows`, or None if not all ids are of the catalogue's kind."""
        found = self._native.find(values) if type(values) is list else None
        if found is None:  # perhaps NumPy scalars
            if not self._id_types.issuperset(map(type, values)):
                return None
            values = list(map(str if self.has_string_ids else int, values))
            found = self._native.find(values)
        return found if found is None else self._with_later(found, values)

    def rows_of_lists(self, lists: list[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
        """Rows int64 [total] and offsets int64 [batch + 1] of a list of ids, or of a list of such lists, in one call.

        None if an id is not exactly of the catalogue's type, int or str.
        """
        found = self._native.find_lists(lists)
        if found is None:
            return None
        rows, offsets = found
        if self._num_native < len(self):
            several = len(lists) > 0 and type(lists[0]) is list
            rows = self._with_later(rows, [*itertools.chain.from_iterable(lists)] if several else lists)
        return rows, offsets

    def _with_later(self, rows: npt.NDArray[np.int64], ids: Sequence[Any]) -> npt.NDArray[np.int64]:
        """Fills in the rows of ids that were added by edits."""
        if self._num_native < len(self):
            places = (rows < 0).nonzero()[0]
            if len(places):
                later = [self._later.get(ids[place], -1) for place in places.tolist()]
                rows[places] = [row if row < len(self) else -1 for row in later]
        return rows

    def known_rows(self, ids: Sequence[Id] | npt.NDArray[Any], argument: str = "items") -> npt.NDArray[np.int64]:
        """Like `rows`, but refuses ids that are not in the catalogue.

        Raises:
            ArgumentError: an id is unknown, or its item was removed.
            ArgumentTypeError: an id is not of the catalogue's kind.
        """
        rows = self.rows(ids, argument)
        gone = rows < 0
        if self._available is not None and len(self):
            gone |= self._available.until[rows] == REMOVED  # rows of -1 are counted as gone already
        if bool(gone.any()):
            raise ArgumentError(argument, "an item of the catalogue", shown(ids[int(np.argmax(gone))]))
        return rows

    def row(self, item: Id) -> int:
        """`known_rows` of one id."""
        return int(self.known_rows([item], "item")[0])

    def title(self, row: int) -> str:
        """Title of a row, or its id as text if there are no titles.

        Raises:
            ArgumentError: there is no such row.
            ArgumentTypeError: `row` is not an integer (an item's id, for example).
        """
        if type(row) is not int or not 0 <= row < len(self.ids):
            row = as_integer("row", row, 0, len(self) - 1)
        return self.titles[row] if self.titles is not None else str(self.ids[row])

    def title_of(self, item: Id) -> str:
        """Title of an item, or its id as text if there are no titles.

        Raises:
            ArgumentError: the item is not in the catalogue.
            ArgumentTypeError: the id is not of the catalogue's kind.
        """
        return self.title(self.row(item))

    def fill_most_popular(
        self,
        unwanted: npt.NDArray[np.int64],
        allowed: npt.NDArray[np.uint64] | None,
        scores: npt.NDArray[np.float32],
        rows: npt.NDArray[np.int64],
    ) -> int:
        """Writes the rows of the most popular items, with their counts as scores.

        Args:
            unwanted: rows to leave out.
            allowed: bitmap of the rows that may be taken (`lsif_sdk.bitmaps`); None: all.
            scores: float32 [k], overwritten: 0 where there are no more.
            rows: int64 [k], overwritten: -1 where there are no more.

        Returns:
            The number of items written.
        """
        found = [np.zeros(0, np.int64)]
        begin, length = 0, len(scores) + len(unwanted)
        while begin < len(self) and sum(map(len, found)) < len(scores):
            block = self.by_popularity[begin : begin + length]
            if allowed is not None:
                block = block[in_bitmap(allowed, block)]
            found.append(block[~np.isin(block, unwanted)])
            begin, length = begin + length, 4 * length
        order = np.concatenate(found)[: len(scores)]
        scores[:], rows[:] = 0.0, -1
        scores[: len(order)] = self.counts[order]
        rows[: len(order)] = order
        return len(order)

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Ids of rows, in the same shape; None (string ids) or -1 (integer ids) where a row is -1."""
        if len(self) == 0:
            return np.full(rows.shape, None if self.has_string_ids else -1, dtype=self.ids.dtype)
        found = self.ids[rows]
        found[rows < 0] = None if self.has_string_ids else -1
        return found

    def is_available(self, ids: Sequence[Id] | npt.NDArray[Any], now: Now | None = None) -> npt.NDArray[np.bool_]:
        """Whether items may be recommended: known, neither hidden nor removed, and not expired (`until`).

        Args:
            ids: item ids, of this catalogue or not.
            now: Unix seconds or a date, one for all items or one per item; None = this moment.

        Returns:
            bool [num_ids].

        Raises:
            ArgumentTypeError: ids are not a sequence, or not of the catalogue's kind, or `now` is not a time.
            ArgumentError: `now` is not finite, after the year 5138, or has the wrong number of times.
        """
        rows = self.rows(as_list("ids", ids))
        moment = np.full(len(rows), time.time()) if now is None else request_times(now, len(rows))
        if now is not None:
            check_recent("now", moment)
        known = rows >= 0
        if self.until is not None:
            known[known] = self.until[rows[known]] > moment[known]
        return known

    @property
    def until(self) -> npt.NDArray[np.int64] | None:
        """Unix seconds from which each item is no longer recommended, int64 [num_items]; None: all are unlimited."""
        return None if self._available is None else self._available.until

    def available(self, now: float) -> Bitmap | None:
        """The items that may be recommended at a moment (Unix seconds), read-only; None: all."""
        return None if self._available is None else self._available.bitmap(now)

    def edited(self, edit: ItemEdit) -> ItemTable:
        """A table with these changes; this table does not change.

        The old ids are not indexed again, since both tables share the index. If another table with other new ids was
        edited from this one before, the ids added by earlier edits are copied.

        Raises:
            ArgumentError: new ids are not unique or already in the catalogue, or texts cannot be encoded.
            ArgumentTypeError: new ids are of another kind than the table's.
        """
        added = ItemTable(edit.ids)
        if len(added) and added.has_string_ids != self.has_string_ids:
            raise ArgumentTypeError("ids", f"{self.id_kind}, as the catalogue's ids", edit.ids[0])
        ids = added.ids.tolist()
        size = len(self) + len(ids)
        if (again := self.rows(ids) >= 0).any():
            raise ArgumentError("ids", "ids the catalogue does not have", shown(ids[int(again.argmax())]))
        check_texts("titles", list(edit.titles.values()))
        table = copy.copy(self)
        if ids:
            table.ids = np.concatenate([self.ids, added.ids.astype(self.ids.dtype)])
            table.ids.flags.writeable = False
            if size > self._num_native * _GROWN:
                table._native, table._num_native, table._later = _core.IdRows(table.ids), size, {}
            else:
                table._later = self._later_with(ids)
        if self.titles is not None and (ids or edit.titles):
            table.titles = [*self.titles, *map(str, ids)]
            for row, title in edit.titles.items():
                table.titles[row] = title
        if ids or edit.counts:
            table.counts = _with_values(self.counts, size, 0, edit.counts)
            table.counts.flags.writeable = False
            if (order := table.__dict__.pop("by_popularity", None)) is not None:
                moved = np.array(sorted({*range(len(self), size), *edit.counts}), np.int64)
                table.__dict__["by_popularity"] = reordered(order, table.counts, moved)
        changed = {row: end for row, end in edit.until.items() if end != self.until_of(row)}
        if changed or (ids and self.until is not None):
            until = np.full(len(self), FOREVER) if self.until is None else self.until
            table._available = Availability(_with_values(until, size, FOREVER, changed))
        return table

    def of_rows(self, rows: npt.NDArray[np.int64]) -> ItemTable:
        """A table of these rows, in the given order; this table does not change."""
        titles = None if self.titles is None else [self.titles[row] for row in rows.tolist()]
        until = None if self.until is None else self.until[rows]
        return ItemTable(self.ids[rows], titles, self.counts[rows], until)

    def until_of(self, row: int) -> int:
        """When a row stops being recommended; FOREVER past the last row."""
        return FOREVER if self.until is None or row >= len(self) else int(self.until[row])

    def _later_with(self, ids: list[Id]) -> dict[Id, int]:
        """The dictionary for a table with these ids after this one's: the shared one, unless it has others there."""
        with _ADDING:  # two threads may edit this table at once
            later, known = self._later, len(self) - self._num_native
            if len(later) != known and list(itertools.islice(later, known, None)) != ids:
                later = dict(itertools.islice(later.items(), known))
            later.update(zip(ids, range(len(self), len(self) + len(ids)), strict=True))
        return later

    @made_once
    def by_popularity(self) -> npt.NDArray[np.int64]:
        """All rows, the most frequent in training first, then by row number."""
        return by_counts(self.counts)

    def to_tensors(self) -> dict[str, torch.Tensor]:
        """Plain tensors for safetensors: texts become UTF-8 bytes and offsets."""
        tensors = {"counts": torch.from_numpy(self.counts.copy())}
        if self.until is not None:
            tensors["until"] = torch.from_numpy(self.until.copy())
        if self.has_string_ids:
            tensors.update(pack_texts("ids", self.ids.tolist()))
        else:
            tensors["ids"] = torch.from_numpy(self.ids.copy())
        if self.titles is not None:
            tensors.update(pack_texts("titles", self.titles))
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], num_items: int, source: str) -> ItemTable:
        """The inverse of `to_tensors`.

        Raises:
            ArtifactError: tensors are missing, of another dtype or shape, not valid UTF-8, or ids are not unique.
        """
        try:
            if unknown := sorted(set(tensors) - _TENSORS):
                raise ArgumentError("tensors", f"only {', '.join(sorted(_TENSORS))}", f"unknown {', '.join(unknown)}")
            if "ids" in tensors and ("ids.bytes" in tensors or "ids.offsets" in tensors):
                raise ArgumentError("tensors", "either ids or ids.bytes and ids.offsets", "both")
            if "ids" in tensors:
                ids: Any = int64_tensor(tensors, "ids", num_items).numpy()
            else:
                ids = unpack_texts(tensors, "ids", num_items)
            has_titles = "titles.bytes" in tensors or "titles.offsets" in tensors
            titles = unpack_texts(tensors, "titles", num_items) if has_titles else None
            until = int64_tensor(tensors, "until", num_items).numpy() if "until" in tensors else None
            return cls(ids, titles, int64_tensor(tensors, "counts", num_items).numpy(), until)
        except ArgumentError as error:
            raise ArtifactError(f"{source}: {error}") from error


def _as_counts(counts: Sequence[int] | npt.NDArray[Any], num_items: int) -> npt.NDArray[np.int64]:
    array = as_array("counts", as_list("counts", counts) if not hasattr(counts, "__array__") else counts)
    if array.shape != (num_items,) or (array.dtype.kind not in "iu" and array.size):
        raise ArgumentError("counts", f"integers of shape [{num_items}]", f"{array.dtype} {list(array.shape)}")
    if array.size and not (array.min() >= 0 and array.max() < 2**63):
        raise ArgumentError("counts", "values >= 0 that fit int64", f"{array.min()} to {array.max()}")
    return array.astype(np.int64)


def _with_values(old: npt.NDArray[np.int64], size: int, fill: int, values: Mapping[int, int]) -> npt.NDArray[np.int64]:
    result = np.concatenate([old, np.full(size - len(old), fill, np.int64)])
    result[list(values.keys())] = list(values.values())
    return result
