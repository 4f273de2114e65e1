"""The application's own names of items: external ids (and titles) to catalogue rows and back."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ArtifactError

__all__ = ["Id", "ItemTable", "id_list"]

Id = int | str

_INT_TYPES = frozenset({int, np.int64, np.int32, np.int16, np.int8, np.uint64, np.uint32, np.uint16, np.uint8})
_STR_TYPES = frozenset({str, np.str_})
_TENSORS = frozenset({"counts", "ids", "ids.bytes", "ids.offsets", "titles.bytes", "titles.offsets"})


class ItemTable:
    """Ids, titles and training counts of the catalogue, one entry a row, in row order. Immutable.

    Args:
        ids: one id an item, all integers or all strings, no two equal.
        titles: one text an item, or None.
        counts: integers >= 0, [num_items], occurrences in training (for the popularity fallback), or None: all 0.

    Raises:
        ArgumentError: ids are not unique, lengths differ, or a count is none.
        ArgumentTypeError: ids are neither all integers nor all strings.
    """

    def __init__(
        self,
        ids: Sequence[Id] | npt.NDArray[Any],
        titles: Sequence[str] | None = None,
        counts: Sequence[int] | npt.NDArray[Any] | None = None,
    ) -> None:
        values: list[Id] = _as_list("ids", ids)
        kinds = set(map(type, values))
        if not (kinds <= _INT_TYPES or kinds <= _STR_TYPES):
            odd = next(value for value in values if type(value) not in (_INT_TYPES if int in kinds else _STR_TYPES))
            raise ArgumentTypeError("ids", "all integers or all strings", odd)
        self.has_string_ids = bool(kinds) and kinds <= _STR_TYPES
        self._id_types = _STR_TYPES if self.has_string_ids else _INT_TYPES
        if self.has_string_ids:
            _check_texts("ids", values)
        elif not all(-(2**63) <= value < 2**63 for value in values):  # type: ignore[operator]
            raise ArgumentError("ids", "integers that fit int64", f"{max(values, key=abs)}")  # type: ignore[arg-type]
        self.ids: npt.NDArray[Any] = np.array(values, dtype=object if self.has_string_ids else np.int64)
        self.ids.flags.writeable = False
        if titles is not None and len(titles) != len(values):
            raise ArgumentError("titles", f"{len(values)} texts, one an item", len(titles))
        self.titles = None if titles is None else _as_list("titles", titles)
        if self.titles is not None:
            _check_texts("titles", self.titles)
        self.counts = np.zeros(len(values), np.int64) if counts is None else _as_counts(counts, len(values))
        self.counts.flags.writeable = False
        self._rows: dict[Id, int] = dict(zip(values, range(len(values)), strict=True))
        if len(self._rows) != len(values):
            raise ArgumentError("ids", "no two equal ids", f"{_first_repeat(values)!r} more than once")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def id_kind(self) -> str:
        """What ids are made of, in words."""
        return "strings" if self.has_string_ids else "integers"

    def rows(self, ids: Sequence[Id] | npt.NDArray[Any], argument: str = "ids") -> npt.NDArray[np.int64]:
        """Catalogue rows of ids, int64 [num_ids]; -1 where the catalogue does not know an id.

        Raises:
            ArgumentTypeError: an id is not of the catalogue's kind (integers or strings).
        """
        values = id_list(ids, argument)
        rows = self.rows_of_plain(values)
        if rows is None:
            odd = next(value for value in values if type(value) not in self._id_types)
            raise ArgumentTypeError(argument, f"{self.id_kind}, as the catalogue's ids", odd)
        return rows

    def rows_of_plain(self, values: Sequence[Any]) -> npt.NDArray[np.int64] | None:
        """`rows` of a list of ids of the catalogue's kind; None if it is not one."""
        # On the way of every request: no work an id but one lookup.
        if not self._id_types.issuperset(map(type, values)):
            return None
        return np.fromiter(map(self._rows.get, values, itertools.repeat(-1)), np.int64, len(values))

    def known_rows(self, ids: Sequence[Id] | npt.NDArray[Any], argument: str = "items") -> npt.NDArray[np.int64]:
        """`rows` of ids that the catalogue has to know.

        Raises:
            ArgumentError: an id is not in the catalogue.
            ArgumentTypeError: an id is not of the catalogue's kind.
        """
        rows = self.rows(ids, argument)
        if bool((rows < 0).any()):
            raise ArgumentError(argument, "an item of the catalogue", repr(ids[int(np.argmax(rows < 0))]))
        return rows

    def row(self, item: Id, argument: str = "item") -> int:
        """`known_rows` of one id."""
        return int(self.known_rows([item], argument)[0])

    def title(self, row: int) -> str:
        """Title of a row, or its id where there are no titles."""
        return self.titles[row] if self.titles is not None else str(self.ids[row])

    def fill_most_popular(
        self,
        unwanted: npt.NDArray[np.int64],
        allowed: npt.NDArray[np.uint64] | None,
        scores: npt.NDArray[np.float32],
        rows: npt.NDArray[np.int64],
    ) -> int:
        """Writes the rows of the most popular items but the unwanted, and their counts as scores.

        Args:
            unwanted: rows to leave out.
            allowed: bitmap of the rows that may be taken (`lsif_sdk.attributes`); None: all.
            scores: float32 [k], written: 0 where there are no more.
            rows: int64 [k], written: -1 where there are no more.

        Returns:
            How many there are.
        """
        found = [np.zeros(0, np.int64)]
        begin, length = 0, len(scores) + len(unwanted)
        while begin < len(self) and sum(map(len, found)) < len(scores):
            block = self.by_popularity[begin : begin + length]
            if allowed is not None:
                block = block[(allowed[block // 64] >> (block % 64).astype(np.uint64) & np.uint64(1)).astype(np.bool_)]
            found.append(block[~np.isin(block, unwanted)])
            begin, length = begin + length, 4 * length
        order = np.concatenate(found)[: len(scores)]
        scores[:], rows[:] = 0.0, -1
        scores[: len(order)] = self.counts[order]
        rows[: len(order)] = order
        return len(order)

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Ids of rows, in the rows' shape; None (string ids) or -1 (integer ids) where a row is -1."""
        if len(self) == 0:
            return np.full(rows.shape, None if self.has_string_ids else -1, dtype=self.ids.dtype)
        found = self.ids[rows]
        found[rows < 0] = None if self.has_string_ids else -1
        return found

    @functools.cached_property
    def by_popularity(self) -> npt.NDArray[np.int64]:
        """All rows, most frequent in training first, then by row."""
        return np.argsort(-self.counts, kind="stable").astype(np.int64)

    def to_tensors(self) -> dict[str, torch.Tensor]:
        """Plain tensors for safetensors: texts become UTF-8 bytes and offsets."""
        tensors = {"counts": torch.from_numpy(self.counts.copy())}
        if self.has_string_ids:
            tensors.update(_pack_texts("ids", self.ids.tolist()))
        else:
            tensors["ids"] = torch.from_numpy(self.ids.copy())
        if self.titles is not None:
            tensors.update(_pack_texts("titles", self.titles))
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
                ids: Any = _int64(tensors, "ids", num_items).numpy()
            else:
                ids = _unpack_texts(tensors, "ids", num_items)
            has_titles = "titles.bytes" in tensors or "titles.offsets" in tensors
            titles = _unpack_texts(tensors, "titles", num_items) if has_titles else None
            return cls(ids, titles, _int64(tensors, "counts", num_items).numpy())
        except ArgumentError as error:
            raise ArtifactError(f"{source}: {error}") from error


def id_list(ids: Sequence[Any] | npt.NDArray[Any], argument: str = "ids") -> Sequence[Any]:
    """The ids as a list or tuple of Python values."""
    if not isinstance(ids, np.ndarray):
        return ids
    if ids.dtype.kind in "mM":  # nanoseconds would become integers
        raise ArgumentTypeError(argument, "integers or strings", ids[0] if ids.size else ids)
    return ids.tolist()  # type: ignore[no-any-return]


def _as_list(argument: str, values: Any) -> list[Any]:
    """Values in an order the caller meant: no sets, no generators, not the letters of one text."""
    if hasattr(values, "__array__") and np.ndim(values):
        return list(id_list(np.asarray(values), argument))
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ArgumentTypeError(argument, "a sequence, one value an item", values)
    return list(values)


def _as_counts(counts: Sequence[int] | npt.NDArray[Any], num_items: int) -> npt.NDArray[np.int64]:
    array = np.asarray(_as_list("counts", counts) if not hasattr(counts, "__array__") else counts)
    if array.shape != (num_items,) or (array.dtype.kind not in "iu" and array.size):
        raise ArgumentError("counts", f"integers of shape [{num_items}]", f"{array.dtype} {list(array.shape)}")
    if array.size and not (array.min() >= 0 and array.max() < 2**63):
        raise ArgumentError("counts", "values >= 0 that fit int64", f"{array.min()} to {array.max()}")
    return array.astype(np.int64)


def _check_texts(argument: str, texts: Sequence[Any]) -> None:
    if not all(isinstance(text, str) for text in texts):
        raise ArgumentTypeError(argument, "texts", next(text for text in texts if not isinstance(text, str)))
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(argument, "texts that UTF-8 can encode", f"a lone surrogate: {error.reason}") from None


def _first_repeat(values: list[Id]) -> Id:
    seen: set[Id] = set()
    return next(value for value in values if value in seen or seen.add(value))  # type: ignore[func-returns-value]


def _pack_texts(name: str, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    encoded = [text.encode() for text in texts]
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    data = np.frombuffer(b"".join(encoded), np.uint8)
    return {f"{name}.bytes": torch.from_numpy(data.copy()), f"{name}.offsets": torch.from_numpy(offsets)}


def _int64(tensors: Mapping[str, torch.Tensor], name: str, size: int) -> torch.Tensor:
    if name not in tensors:
        raise ArgumentError(name, "a tensor", "none")
    tensor = tensors[name]
    if tensor.dtype != torch.int64 or list(tensor.shape) != [size]:
        raise ArgumentError(name, f"int64 [{size}]", f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}")
    return tensor


def _unpack_texts(tensors: Mapping[str, torch.Tensor], name: str, size: int) -> list[str]:
    data = tensors.get(f"{name}.bytes")
    if data is None or data.dtype != torch.uint8 or data.dim() != 1:
        raise ArgumentError(f"{name}.bytes", "uint8 with one dimension", "none" if data is None else str(data.dtype))
    offsets = _int64(tensors, f"{name}.offsets", size + 1).numpy()
    if offsets[0] != 0 or offsets[-1] != data.numel() or bool((np.diff(offsets) < 0).any()):
        raise ArgumentError(f"{name}.offsets", f"non-decreasing values from 0 to {data.numel()}", "others")
    raw = data.numpy().tobytes()
    try:
        return [raw[begin:end].decode() for begin, end in itertools.pairwise(offsets.tolist())]
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{name}.bytes", "UTF-8", error.reason) from None
