"""External ids: integers or text, in lists, arrays or tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lsif_sdk.arguments import as_array
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, shown
from lsif_sdk.packed_texts import check_texts

__all__ = ["INT_TYPES", "STR_TYPES", "Id", "as_list", "id_column", "id_list", "rows_by_text"]

Id = int | str

INT_TYPES = frozenset({int, np.int64, np.int32, np.int16, np.int8, np.uint64, np.uint32, np.uint16, np.uint8})
STR_TYPES = frozenset({str, np.str_})


def id_list(ids: Sequence[Any] | npt.NDArray[Any], argument: str = "ids") -> Sequence[Any]:
    """The ids as a list or tuple of Python values."""
    if not isinstance(ids, np.ndarray):
        return ids
    if ids.dtype.kind in "mM":  # nanoseconds would become integers
        raise ArgumentTypeError(argument, "integers or strings", ids[0] if ids.size else ids)
    return ids.tolist()  # type: ignore[no-any-return]


def as_list(argument: str, values: Any) -> list[Any]:
    """A sequence or array as a list; refuses sets and generators, which have no order, and a single text."""
    if hasattr(values, "__array__") and as_array(argument, values).ndim:
        return list(id_list(as_array(argument, values), argument))
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ArgumentTypeError(argument, "a sequence, one value per item", values)
    return list(values)


def id_column(argument: str, ids: Any) -> npt.NDArray[Any]:
    """A sequence of ids as an array: int64, or objects that are texts.

    Raises:
        ArgumentError: an integer does not fit int64, or UTF-8 cannot encode a text.
        ArgumentTypeError: not a sequence, or neither all integers nor all strings.
    """
    if not hasattr(ids, "__array__") and (isinstance(ids, str) or not isinstance(ids, Sequence)):
        raise ArgumentTypeError(argument, "a sequence of ids", ids)
    values = as_list(argument, ids)
    kinds = set(map(type, values))
    if not (kinds <= INT_TYPES or kinds <= STR_TYPES):
        odd = next(value for value in values if type(value) not in (INT_TYPES if int in kinds else STR_TYPES))
        raise ArgumentTypeError(argument, "all integers or all strings", odd)
    if kinds and kinds <= STR_TYPES:
        check_texts(argument, values)
        return np.array(list(map(str, values)) if np.str_ in kinds else values, object)
    if not all(-(2**63) <= value < 2**63 for value in values):
        raise ArgumentError(argument, "integers that fit int64", shown(max(values, key=abs)))
    return np.array(values, np.int64)


def rows_by_text(known: Iterable[Any], ids: Iterable[Any]) -> npt.NDArray[np.int64]:
    """Positions of `ids` in `known` compared as text (7 equals "7"), int64 [num_ids]; -1 for missing ones."""
    rows = {str(item): row for row, item in enumerate(known)}
    return np.array([rows.get(str(item), -1) for item in ids], np.int64)
