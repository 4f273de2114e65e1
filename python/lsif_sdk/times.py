"""Converts times of many types to Unix seconds."""

from __future__ import annotations

import datetime
import decimal
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lsif_sdk.arguments import as_array, as_column, is_real, whole_numbers
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, shown

__all__ = [
    "LATEST_TIME",
    "SECONDS_PER_DAY",
    "UNKNOWN_TIME",
    "Now",
    "as_seconds",
    "check_recent",
    "first_finer",
    "of_text",
    "request_times",
]

UNKNOWN_TIME = int(np.iinfo(np.int64).min)
"""Represents an unknown time wherever times are int64 Unix seconds."""

SECONDS_PER_DAY = 86400

LATEST_TIME = 10**11
"""Unix seconds, in the year 5138. Later times are taken for a finer unit, where present-day times are expected."""

_FINER_UNITS = {
    "milliseconds": (LATEST_TIME, 10**14),
    "microseconds": (10**14 - 1, 5 * 10**15),
    "nanoseconds": (5 * 10**17, 42 * 10**17),
}
"""Times between these bounds look like this unit: they cover 1985 to 2103 at least. Other times past `LATEST_TIME` are
taken for a clock of the application's own."""

_LAST_YEAR = range(253370764800, 253402300800)
"""The year 9999, whose last day is often used for "never"."""

Now = float | datetime.date | np.datetime64 | Sequence[float] | Sequence[datetime.date] | npt.NDArray[Any]
"""Request time: Unix seconds or a date (UTC if it has no time zone), one for all users or one per user."""

_EXPECTED = "numbers, date, datetime or datetime64"
_DATES = (datetime.date, np.datetime64)  # a datetime is a date, too
_COARSE = frozenset({"Y", "M", "W", "D", "h", "m"})
_SECOND = datetime.timedelta(seconds=1)
_EPOCH = datetime.datetime(1970, 1, 1)
_EPOCH_UTC = _EPOCH.replace(tzinfo=datetime.UTC)


def as_seconds(argument: str, values: Any) -> npt.NDArray[np.int64]:
    """Unix seconds as a new int64 array with one dimension.

    Args:
        argument: for error messages.
        values: Unix seconds, such as `time.time()`; or dates: datetime64 of any unit, `datetime.datetime` (including
            pandas Timestamps), UTC if without time zone, or `datetime.date` (midnight UTC). Rounded down.

    Raises:
        ArgumentError: a number is not finite, a date is NaT, or a time does not fit int64; or floats are too coarse for
            seconds, as float32 is for present-day times.
        ArgumentTypeError: neither numbers nor dates.
    """
    if type(values) is np.ndarray and values.dtype == np.int64 and values.ndim == 1:  # the fast path for servers
        return values.copy()
    array = as_column(argument, values, _EXPECTED)
    if array.dtype.kind == "M":
        return _of_datetime64(argument, array)
    if array.dtype.kind == "O" and any(isinstance(value, _DATES) for value in array):
        return np.array([_of_date(argument, position, value) for position, value in enumerate(array)], np.int64)
    if array.dtype.kind == "O":
        odd = next((place for place, value in enumerate(array.tolist()) if not is_real(value)), None)
        if odd is not None:
            raise ArgumentTypeError(f"{argument}[{odd}]" if len(array) > 1 else argument, _EXPECTED, array[odd])
        plain = [value.item() if isinstance(value, np.generic) else value for value in array.tolist()]
        try:
            array = np.array(plain, np.float64 if any(isinstance(value, float) for value in plain) else object)
        except OverflowError:
            got = shown(next(value for value in plain if abs(value) >= 2**63))
            raise ArgumentError(argument, "finite numbers that fit int64", got) from None
    if array.dtype.kind == "f":
        seconds = _rounded_down(argument, array.astype(np.float64))
        _check_fine(argument, array)
        return seconds
    return whole_numbers(argument, array, _EXPECTED)


def request_times(now: Now, batch: int, argument: str = "now") -> npt.NDArray[np.int64]:
    """Unix seconds int64 [batch], one per user, rounded down.

    Raises:
        ArgumentError: a time is not finite or NaT, or the number of times is wrong.
        ArgumentTypeError: not times.
    """
    if hasattr(now, "__array__"):
        now = np.atleast_1d(as_array(argument, now))
    values = as_seconds(argument, now if isinstance(now, (np.ndarray, list, tuple)) else [now])
    if len(values) not in (1, batch):
        raise ArgumentError(
            argument, "one time" if batch == 1 else f"one time, or {batch} of them", f"{len(values)} times"
        )
    return np.ascontiguousarray(np.broadcast_to(values, batch))


def of_text(argument: str, text: str) -> int:
    """Unix seconds of a text: a number of seconds, or an ISO date with hyphens (UTC if without time zone).

    Raises:
        ArgumentError: anything else.
    """
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        seconds = decimal.Decimal(text)
        if not -(2**63) <= seconds < 2**63:
            raise ArgumentError(argument, "numbers that fit int64", text)
        return math.floor(seconds)
    try:
        if "-" in text:
            return int(as_seconds(argument, [datetime.datetime.fromisoformat(text)])[0])
    except ValueError:
        pass
    raise ArgumentError(argument, "Unix seconds or ISO dates with hyphens", repr(text))


def check_recent(argument: str, times: npt.NDArray[np.int64], expected: str = "") -> None:
    """Refuses times that look like a finer unit than seconds.

    Raises:
        ArgumentError: a time is after `LATEST_TIME`.
    """
    if odd := first_finer(times):
        raise ArgumentError(argument, "Unix seconds" + expected, odd[1])
    latest = int(times.max(initial=UNKNOWN_TIME))
    if latest > LATEST_TIME:
        raise ArgumentError(argument, "Unix seconds before the year 5138" + expected, latest)


def first_finer(times: npt.NDArray[Any]) -> tuple[int, str] | None:
    """Position and description of the first time that looks like a finer unit since 1970; None if there is none."""
    if not times.max(initial=UNKNOWN_TIME) > LATEST_TIME:
        return None
    found = [
        (
            int(odd[0]),
            f"what looks like {unit}: {int(times[odd[0]])}"
            + " (as seconds in the year 9999)" * (int(times[odd[0]]) in _LAST_YEAR),
        )
        for unit, (low, high) in _FINER_UNITS.items()
        if (odd := np.flatnonzero((times > low) & (times < high))).size
    ]
    return min(found, default=None)


def _rounded_down(argument: str, seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    bad = ~((seconds >= -(2.0**63)) & (seconds < 2.0**63))  # NaN is neither
    if bool(bad.any()):
        position = int(np.argmax(bad))
        raise ArgumentError(argument, "finite numbers that fit int64", f"{seconds[position]} at position {position}")
    return np.floor(seconds).astype(np.int64)


def _check_fine(argument: str, seconds: npt.NDArray[np.floating[Any]]) -> None:
    limit = 2 ** (np.finfo(seconds.dtype).nmant + 1)
    if seconds.dtype.itemsize < 8 and bool((np.abs(seconds) >= limit).any()):
        got = f"{seconds.dtype}, which cannot hold each second from {limit} on"
        raise ArgumentError(argument, "Unix seconds made as int64 or float64", got)


def _of_date(argument: str, position: int, date: Any) -> int:
    if not isinstance(date, _DATES):
        raise ArgumentTypeError(f"{argument}[{position}]", "date, datetime or datetime64, as others of them are", date)
    if date != date:  # pandas' NaT is a datetime, too
        raise _not_a_time(argument, position)
    if isinstance(date, np.datetime64):
        return int(_of_datetime64(argument, np.array([date]))[0])
    if not isinstance(date, datetime.datetime):
        date = datetime.datetime.combine(date, datetime.time())
    # Exact, unlike timestamp(): that is a float, and takes a date without time zone for local time.
    return int((date - (_EPOCH if date.utcoffset() is None else _EPOCH_UTC)) // _SECOND)


def _of_datetime64(argument: str, dates: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Checks for overflow, since NumPy lets dates whose seconds do not fit int64 wrap around."""
    unknown = np.isnat(dates)
    if bool(unknown.any()):
        raise _not_a_time(argument, int(np.argmax(unknown)))
    try:
        seconds = dates.astype("datetime64[s]")
    except OverflowError:  # in such fine units a second does not fit int64
        raise ArgumentError(argument, "dates in units of at least a femtosecond", dates.dtype) from None
    if np.datetime_data(dates.dtype)[0] in _COARSE and not np.array_equal(seconds.astype(dates.dtype), dates):
        raise ArgumentError(argument, "dates whose seconds fit int64", "others")
    return seconds.astype(np.int64)


def _not_a_time(argument: str, position: int) -> ArgumentError:
    return ArgumentError(argument, "known times", f"NaT at position {position}")
