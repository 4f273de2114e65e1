"""Checks of arguments that several modules share; errors name the argument."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lsif_sdk.errors import ArgumentError, ArgumentTypeError, shown

__all__ = [
    "FLOAT32_MAX", "FLOAT32_TINY", "MAX_K", "MAX_THREADS", "as_array", "as_balance", "as_choice", "as_column",
    "as_duration", "as_flag", "as_int64", "as_integer", "as_k", "as_ks", "as_number", "as_seed", "as_threads",
    "first_repeat", "index_of", "is_integer", "is_missing", "is_real", "whole_numbers",
]  # fmt: skip

MAX_K = 2**20
"""The largest k; for a larger catalogue, its number of items."""
MAX_THREADS = 4096
_AGES = 1e12  # seconds
_SHARES = {"long": 1.0, "short": 0.0}
FLOAT32_TINY, FLOAT32_MAX = 2.0**-126, (2.0 - 2.0**-23) * 2.0**127


def is_integer(value: object) -> bool:
    """Whether it is an integer of Python or NumPy; not a boolean, nor timedelta64 (although that is an np.integer)."""
    if type(value) is int:  # the fast path for requests
        return True
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))


def is_missing(value: object) -> bool:
    """Whether it is None, NaN, or a missing value of pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def is_real(value: object) -> bool:
    """Whether it is a real number, including NaN and infinities."""
    return type(value) is float or isinstance(value, (float, np.floating)) or is_integer(value)


def first_repeat(values: Iterable[Any]) -> Any:
    """The first value that repeats an earlier one; there must be one."""
    seen: set[Any] = set()
    return next(value for value in values if value in seen or seen.add(value))  # type: ignore[func-returns-value]


def index_of(column: Any) -> npt.NDArray[Any] | None:
    """The index of a pandas column or frame; None for other objects."""
    index = getattr(column, "index", None)
    return None if not hasattr(column, "__array__") or index is None or callable(index) else np.asarray(index)


def as_array(argument: str, values: Any, expected: str = "an array") -> npt.NDArray[Any]:
    """`numpy.asarray`, with errors for lists of different lengths and for tensors of other types or devices.

    Raises:
        ArgumentError: rows have different lengths.
        ArgumentTypeError: NumPy does not have the type, cannot read the values, or they are masked.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise ArgumentTypeError(argument, f"{expected} without a mask", values)
    try:
        return np.asarray(values)
    except MemoryError:
        raise
    except ValueError:
        raise ArgumentError(argument, expected, "rows of different lengths") from None
    except Exception as error:
        raise ArgumentTypeError(argument, f"{expected}, as NumPy reads it", values) from error


def as_k(k: int, num_items: int = 0) -> int:
    """A checked number of results; it is limited, since memory for all k is allocated even in a smaller catalogue."""
    return as_integer("k", k, 1, max(MAX_K, num_items))


def as_ks(k: int | Sequence[int]) -> tuple[int, ...]:
    """Checked numbers of results, in the given order: one integer, or a sequence of different ones.

    Raises:
        ArgumentError: a number is out of range or comes twice, or there is none.
        ArgumentTypeError: neither an integer nor a sequence of integers.
    """
    if is_integer(k):
        return (as_k(k),)  # type: ignore[arg-type]
    expected = "an integer, or different ones in a sequence"
    values: Any = k
    if hasattr(k, "__array__") and not isinstance(k, np.generic):
        values = as_array("k", k, expected).tolist()
        if not isinstance(values, list):
            raise ArgumentError("k", expected, "an array without a dimension")
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise ArgumentTypeError("k", expected, k)
    ks = tuple(map(as_k, values))
    if not ks:
        raise ArgumentError("k", expected, "none")
    if len(set(ks)) < len(ks):
        raise ArgumentError("k", expected, f"{first_repeat(ks)} twice")
    return ks


def as_threads(threads: int | None) -> int:
    """A checked number of threads; 0 stands for the default."""
    if threads is None:
        return 0
    if not is_integer(threads):
        raise ArgumentTypeError("threads", "an integer or None", threads)
    if not 1 <= threads <= MAX_THREADS:
        raise ArgumentError("threads", f"an integer in [1, {MAX_THREADS}]", shown(int(threads)))
    return int(threads)


def as_column(argument: str, values: Any, expected: str) -> npt.NDArray[Any]:
    """A sequence, or an array of any library, as a one-dimensional array; `expected` describes values in messages."""
    if not hasattr(values, "__array__"):
        if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
            raise ArgumentTypeError(argument, f"a sequence of {expected}", values)
        kinds = set(map(type, values))
        if not kinds.isdisjoint({bool, np.bool_}):  # among numbers, NumPy would turn them into numbers
            raise ArgumentTypeError(argument, expected, True)
        if range in kinds:  # NumPy would turn each into a row
            raise ArgumentError(argument, "one dimension", "ranges")
    array = as_array(argument, values, "one dimension")
    if array.ndim != 1:
        raise ArgumentError(argument, "one dimension", f"shape {list(array.shape)}")
    return array


def as_int64(argument: str, values: Any) -> npt.NDArray[np.int64]:
    """Whole numbers as a new one-dimensional int64 array."""
    return whole_numbers(argument, as_column(argument, values, "whole numbers"), "whole numbers")


def whole_numbers(argument: str, array: npt.NDArray[Any], expected: str) -> npt.NDArray[np.int64]:
    """A column's values as a new int64 array; `expected` describes values in error messages."""
    if array.dtype.kind == "i":
        return array.astype(np.int64)
    if array.dtype.kind in "uO" and all(type(value) is int for value in array.tolist()):
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
    # `tolist` turns nanoseconds into int, so that no odd value may be found.
    odd = next((value for value in array.tolist() if type(value) is not int), array[0])
    raise ArgumentTypeError(argument, expected, odd)


def as_balance(interest: str | float | None) -> float:
    """A checked share of the long-term interests; -1 stands for the model's own."""
    if interest is None:
        return -1.0
    if isinstance(interest, str) and interest in _SHARES:
        return _SHARES[interest]
    if not (is_real(interest) or isinstance(interest, str)):
        raise ArgumentTypeError("interest", "'long', 'short', a share from 0 to 1, or None", interest)
    if isinstance(interest, str) or not 0 <= interest <= 1:
        raise ArgumentError("interest", "'long', 'short' or a share from 0 to 1", shown(interest))
    return float(interest)


def as_duration(argument: str, unit: str, value: float | None) -> float | None:
    """A checked duration >= 0, in any unit; None for no limit."""
    if value is None:
        return None
    if not is_real(value):
        raise ArgumentTypeError(argument, f"{unit}, or None", value)
    if not value >= 0:
        raise ArgumentError(argument, f"{unit} >= 0, or None", value)
    return _AGES if is_integer(value) and value > _AGES else float(value)  # an integer may be too large for a float


def as_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """One of the choices, checked.

    Raises:
        ArgumentError: another text.
        ArgumentTypeError: not a text.
    """
    expected = f"one of {', '.join(map(repr, choices))}"
    if not isinstance(value, str):
        raise ArgumentTypeError(name, expected, value)
    if value not in choices:
        raise ArgumentError(name, expected, shown(value))
    return value


def as_flag(name: str, value: object) -> bool:
    """A checked boolean of Python or NumPy; 0 and 1 are refused."""
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentTypeError(name, "True or False", value)
    return bool(value)


def as_integer(name: str, value: object, low: int, high: int) -> int:
    """A checked integer in [low, high], of Python or NumPy.

    Raises:
        ArgumentError: out of range.
        ArgumentTypeError: not an integer.
    """
    if is_integer(value) and low <= value <= high:  # type: ignore[operator]
        return int(value)  # type: ignore[call-overload, no-any-return]
    expected = f"an integer in [{low}, {high}]"
    if not is_integer(value):
        raise ArgumentTypeError(name, expected, value)
    raise ArgumentError(name, expected, shown(value))


def as_seed(seed: object) -> int:
    """A checked random seed; refuses None, with which results would differ each time."""
    return as_integer("seed", seed, 0, 2**63 - 1)


def as_number(name: str, value: object, low: float, high: float, brackets: str = "[]") -> float:
    """A checked number in an interval, whose ends are included if the bracket is square; an integer stays an integer.

    Raises:
        ArgumentError: outside the interval, or NaN.
        ArgumentTypeError: not a real number.
    """
    real = is_real(value)
    # An integer is compared exactly, however large it is.
    at_an_end = real and ((value == low and brackets[0] == "[") or (value == high and brackets[1] == "]"))
    if not (at_an_end or (real and low < value < high)):  # type: ignore[operator]
        expected = f"a number in {brackets[0]}{low:.8g}, {high:.8g}{brackets[1]}"
        if not real:
            raise ArgumentTypeError(name, expected, value)
        raise ArgumentError(name, expected, shown(value))
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        raise ArgumentError(name, "a number that float64 has", shown(value)) from None
    return int(value) if is_integer(value) else number  # type: ignore[call-overload]
