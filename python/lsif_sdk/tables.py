"""Reads CSV, TSV and Parquet files and DataFrames into checked columns; errors name the first bad row."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lsif_sdk.arguments import first_repeat
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError, MissingExtraError
from lsif_sdk.table_files import read_file
from lsif_sdk.times import first_finer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Ids", "Source", "Table", "read_table"]

Source: TypeAlias = "str | os.PathLike[str] | pd.DataFrame | Mapping[str, Any] | HasToPandas"
Ids: TypeAlias = "NDArray[np.int64] | list[str]"

_TIME_LIMIT = 2**62
_BOOLS = {bool, np.bool_}
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_ADDRESS = re.compile("[A-Za-z][A-Za-z0-9+.-]+:/")


class HasToPandas(Protocol):
    """A table of another library, such as a polars DataFrame or a pyarrow Table."""

    def to_pandas(self) -> pd.DataFrame: ...


class Table:
    """Columns of one source, which are checked when they are read.

    Args:
        name: name of the source, for error messages.
        frame: its columns, under their plain names.
        typed: whether the columns have deliberate types; False for text files, where everything is text.
    """

    def __init__(self, name: str, frame: pd.DataFrame, typed: bool) -> None:
        self.name, self._frame, self._typed = name, frame, typed

    def __len__(self) -> int:
        return len(self._frame)

    def ids(self, column: str) -> tuple[NDArray[np.int64], Ids]:
        """Positions int64 [num_rows] in the sorted distinct ids, and these: int64 if all are integers, else strings.

        In text files "7" is an integer; in a DataFrame or a Parquet file it stays text. "007" is text everywhere, so
        that different ids stay different.

        Raises:
            DataError: an id is missing, neither an integer nor text, a float too large to identify one integer, or text
                that UTF-8 cannot encode.
        """
        column_values = self._frame[column]
        self._refuse(column, column_values.isna(), "an id is missing")
        self._refuse_bools(column, column_values, "integers or text as ids")
        if column_values.dtype.kind in "bc" and self._typed:
            raise DataError(
                f"{self.name}: column {column!r}: expected integers or text as ids, got {column_values.dtype}"
            )
        codes, values = self._distinct(column)
        texts = [str(int(value)) if isinstance(value, float) and value.is_integer() else str(value) for value in values]
        self._refuse_some(column, codes, [text == "" for text in texts], "an id is missing")
        self._refuse_some(column, codes, map(_LONE_SURROGATE.search, texts), "expected ids that UTF-8 can encode")
        names = self._names(column, values, texts)
        kind = np.int64 if names and isinstance(names[0], int) else object
        sorted_names, position = np.unique(np.array(names, kind), return_inverse=True)
        rows = position.reshape(-1).astype(np.int64)[codes]
        return rows, sorted_names if kind is np.int64 else sorted_names.tolist()

    def _distinct(self, column: str) -> tuple[NDArray[np.int64], list[Any]]:
        """Positions in the distinct values of a column of ids, and these; refuses values that cannot be ids."""
        column_values = self._frame[column]
        try:
            codes, distinct = column_values.factorize()
        except TypeError:
            odd_row = next(row for row, value in enumerate(column_values) if not isinstance(value, Hashable))
            got = f"{column_values.iloc[odd_row]!r} in row {odd_row + 1}"
            raise DataError(f"{self.name}: column {column!r}: expected integers or text as ids, got {got}") from None
        values = distinct.tolist()
        if odd := [value for value in values if isinstance(value, (bytes, tuple))]:
            raise DataError(f"{self.name}: column {column!r}: expected integers or text as ids, got {odd[0]!r}")
        dtype, limit = _float_limit(column_values)
        too_large = [isinstance(value, float) and not abs(value) < limit for value in values]
        expected = f"expected integers or text as ids: {dtype} cannot tell integers apart from {limit} on"
        self._refuse_some(column, codes, too_large, expected)
        return codes, values

    def _names(self, column: str, values: list[Any], texts: list[str]) -> Sequence[Any]:
        if not (self._typed and any(isinstance(value, str) for value in values)):
            return _as_integers(texts) or texts
        if len(set(texts)) < len(texts):
            raise DataError(f"{self.name}: column {column!r}: {first_repeat(texts)} is there as text and as a number")
        return texts

    def text(self, column: str) -> list[str]:
        """Text [num_rows]; missing values are empty."""
        values = self._frame[column]
        return ["" if missing else str(value) for value, missing in zip(values, values.isna(), strict=True)]

    def times(self, column: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Unix seconds int64 [num_rows], rounded down, and the same times with fractions, to sort by.

        The column has numbers or dates (UTC if without time zone): a datetime column, or ISO 8601 text if no value is a
        number.

        Raises:
            DataError: a value is missing, neither a number nor a date, not within +-2**62, looks like milliseconds or
                finer, or is of a float type too coarse for seconds; or all values look like dates without dashes.
        """
        import pandas as pd

        values = self._frame[column]
        if isinstance(values.dtype, (pd.ArrowDtype, pd.CategoricalDtype)) and _kind_of(values).kind == "M":
            values = pd.to_datetime(values.astype(object), utc=True)  # Arrow dates, with or without a time
        is_zoned = isinstance(values.dtype, pd.DatetimeTZDtype)
        if is_zoned or values.dtype.kind == "M":
            self._refuse(column, values.isna(), "a time is missing")
            return _of_dates(values.dt.tz_convert("UTC").dt.tz_localize(None) if is_zoned else values)
        numbers = self._numeric(column, "Unix seconds or dates")
        if bool(numbers.isna().all()):
            dates = pd.to_datetime(values, format="ISO8601", utc=True, errors="coerce")
            self._refuse(column, dates.isna(), "expected Unix seconds or ISO dates (2024-01-31 17:05:00)")
            return _of_dates(dates.dt.tz_localize(None))
        seconds = self._int64(column, numbers, "Unix seconds")
        if odd := first_finer(seconds):
            raise DataError(f"{self.name}: column {column!r}, row {odd[0] + 1}: expected Unix seconds, got {odd[1]}")
        if _are_compact_dates(seconds):
            got = f"what looks like dates without dashes: {seconds[0]}"
            raise DataError(
                f"{self.name}: column {column!r}: expected Unix seconds or ISO dates (2024-01-31), got {got}"
            )
        dtype, limit = _float_limit(values)
        if dtype != "float64":
            lost = f"expected Unix seconds made as int64 or float64: {dtype} cannot hold each second from {limit} on"
            self._refuse(column, np.abs(seconds) >= limit, lost)
        return seconds, seconds if numbers.dtype.kind in "iu" else numbers.to_numpy(dtype=np.float64)

    def action_types(self, column: str) -> NDArray[np.int64]:
        """Action types int64 [num_rows], >= 0; 0 = unknown.

        Raises:
            DataError: a value is missing, not a whole number or negative.
        """
        expected = "an action type (a whole number)"
        actions = self._int64(column, self._numeric(column, expected), expected, whole=True)
        self._refuse(column, actions < 0, "an action type is negative")
        return actions

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Numbers float64 [num_rows], possibly infinite; integers from 2**53 on are rounded.

        Raises:
            DataError: a value is missing, NaN, not a number, or an integer too large for float64.
        """
        numbers = self._numeric(column, "numbers")
        self._refuse(column, numbers.isna(), "expected a number")
        return numbers.to_numpy(dtype=np.float64)

    def _numeric(self, column: str, expected: str) -> pd.Series[Any]:
        """Numbers of a column, NaN for others; refuses True, dates and 2j, which pandas would convert silently."""
        import pandas as pd

        values = self._frame[column]
        self._refuse_bools(column, values, expected)
        try:
            numbers = pd.to_numeric(values, errors="coerce")
        except OverflowError:
            expected = "expected numbers that float64 can hold, got a larger one"
            raise DataError(f"{self.name}: column {column!r}: {expected}") from None
        for dtype in (_kind_of(values), numbers.dtype):
            if dtype.kind in "bcmM" or isinstance(dtype, pd.PeriodDtype):
                raise DataError(f"{self.name}: column {column!r}: expected {expected}, got {dtype}")
        return numbers

    def _int64(self, column: str, numbers: pd.Series[Any], expected: str, whole: bool = False) -> NDArray[np.int64]:
        """A column's numbers, checked to be within +-2**62, and rounded down, or checked to be `whole`."""
        if numbers.dtype == np.float16:  # in float16, 2**62 would be infinite and warn
            numbers = numbers.astype(np.float32)
        fits = numbers.between(-_TIME_LIMIT, _TIME_LIMIT, inclusive="neither")
        self._refuse(column, ~fits.to_numpy(dtype=np.bool_, na_value=False), f"expected {expected}")
        if numbers.dtype.kind in "iu":
            return numbers.to_numpy(dtype=np.int64)
        floats = numbers.to_numpy(dtype=np.float64)
        if whole:
            self._refuse(column, np.floor(floats) != floats, f"expected {expected}")
        return np.asarray(np.floor(floats), dtype=np.int64)

    def _refuse_bools(self, column: str, values: pd.Series[Any], expected: str) -> None:
        """Refuses booleans in a column of objects, where True would silently become 1."""
        if self._typed and values.dtype == object and not _BOOLS.isdisjoint(map(type, values)):
            self._refuse(column, [type(value) in _BOOLS for value in values], f"expected {expected}")

    def _refuse_some(self, column: str, codes: NDArray[np.int64], bad: Iterable[object], reason: str) -> None:
        """`_refuse`, with `bad` for each distinct value; `codes` are the rows' positions in these."""
        if odd := [code for code, is_bad in enumerate(bad) if is_bad]:
            self._refuse(column, np.isin(codes, odd), reason)

    def _refuse(self, column: str, bad: Sequence[bool] | NDArray[np.bool_] | pd.Series[bool], reason: str) -> None:
        rows = np.flatnonzero(np.asarray(bad))
        if rows.size:
            value = self._frame[column].iloc[rows[0]]
            value = value.item() if isinstance(value, np.number) else value
            more = f" ({rows.size} such rows)" if rows.size > 1 else ""
            raise DataError(f"{self.name}: column {column!r}, row {rows[0] + 1}: {reason}, got {value!r}{more}")


def _kind_of(values: pd.Series[Any]) -> Any:
    """The dtype of a column, or of its categories if it is categorical."""
    return getattr(values.dtype, "categories", values).dtype


def _of_dates(dates: pd.Series[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    exact = dates.to_numpy()
    return np.asarray(exact, dtype="datetime64[s]").astype(np.int64), exact.astype(np.int64)


def _float_limit(values: pd.Series[Any]) -> tuple[str, int]:
    """A column's float type (float64 if it has other values), and the limit below which it represents all integers."""
    dtype = np.dtype(f"f{getattr(values.dtype, 'itemsize', 8)}" if values.dtype.kind == "f" else np.float64)
    return dtype.name, 2 ** (np.finfo(dtype).nmant + 1)


def _are_compact_dates(values: NDArray[np.int64]) -> bool:
    """Whether all look like dates of 1900 to 2100, such as 20240131; as Unix seconds they would be in August 1970."""
    if not values.size or values.min() < 19000101 or values.max() > 21001231:
        return False
    month, day = values // 100 % 100, values % 100
    plausible = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    return bool(plausible.all())


def read_table(
    source: Source, columns: Mapping[str, str], separator: str | None = None, argument: str | None = None
) -> Table:
    """Reads the named columns of a source.

    Args:
        source: a DataFrame, a table with `to_pandas()`, a dict of columns, or the path of a Parquet (.parquet) or text
            file, gzipped if it ends in .gz. The first line of a text file names the columns; a ":type" suffix of a name
            (RecBole's files) is dropped.
        columns: names of the columns to read, by the option that sets each, for error messages.
        separator: separator of a text file, a regular expression if it is longer than one character; None = tab if the
            first line has one, otherwise comma.
        argument: for error messages, if there are several sources.

    Raises:
        DataError: the source cannot be read, lacks a column, has two columns of one name, or has no rows; or a row of a
            text file has more fields than the first line names.
        ArgumentError: `separator` is empty, or not a regular expression.
        ArgumentTypeError: `source` is neither a path nor a table, or `separator` is not a string.
        MissingExtraError: pandas (or pyarrow, for Parquet and polars tables) is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError("reading events", "pandas", "train") from error
    if separator is not None and not isinstance(separator, str):
        raise ArgumentTypeError("separator", "a string, or None", separator)
    if separator == "":
        raise ArgumentError("separator", "a character, or None to go by the first line", "''")
    if separator is not None and len(separator) > 1:
        try:
            re.compile(separator)
        except (re.error, OverflowError):
            raise ArgumentError("separator", "a character or a regular expression", repr(separator)) from None
    if isinstance(source, pd.DataFrame):
        name, frame, typed = "DataFrame", source, True
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if _ADDRESS.match(os.fspath(source)) and not path.exists():
            raise DataError(f"{os.fspath(source)}: expected the path of a file, got an address: download it first")
        name, frame, typed = path.name, read_file(path, separator), ".parquet" in path.suffixes
    else:
        name, frame, typed = type(source).__name__, _to_pandas(source, argument or "events"), True
    if argument is not None:
        name = f"{argument} ({name})"
    names = list(frame.columns)
    for option, column in columns.items():
        if column not in names:
            known = [str(other) for other in names]
            advice = f"{option} names another"
            if len(names) == 1 and re.search(r"[;|\t ]", known[0]):
                advice += ", or separator= (--separator) does not fit"
            raise DataError(f"{name}: no column {column!r}; it has {known}; {advice}")
    if repeated := [column for column in columns.values() if names.count(column) > 1]:
        raise DataError(f"{name}: {names.count(repeated[0])} columns are called {repeated[0]!r}")
    if len(frame) == 0:
        raise DataError(f"{name}: it has no rows")
    return Table(name, frame, typed)


def _to_pandas(source: object, argument: str) -> pd.DataFrame:
    import pandas as pd

    if isinstance(source, Mapping) and source and all(isinstance(name, str) for name in source):
        return pd.DataFrame(_checked_columns(source, argument))
    try:
        frame = source.to_pandas() if hasattr(source, "to_pandas") else None
    except ImportError as error:
        raise MissingExtraError(f"{type(source).__name__}.to_pandas()", "pyarrow", "train") from error
    except Exception as error:
        raise DataError(f"{type(source).__name__}: its to_pandas() failed: {error}") from error
    if not isinstance(frame, pd.DataFrame):
        raise ArgumentTypeError(argument, "a path, a pandas DataFrame or another table with to_pandas()", source)
    return frame


def _checked_columns(columns: Mapping[str, Any], argument: str) -> dict[str, Any]:
    """Checked lists and arrays of the same length; refuses pandas columns, which pandas would align by index."""
    lengths = {}
    for name, column in columns.items():
        if not isinstance(column, (list, tuple, np.ndarray)) or np.ndim(column) != 1:
            raise ArgumentTypeError(f"{argument}[{name!r}]", "a list or an array with one dimension", column)
        lengths[name] = len(column)
    if len(set(lengths.values())) > 1:
        raise ArgumentError(
            argument, "columns of one length", ", ".join(f"{n} of {name!r}" for name, n in lengths.items())
        )
    return dict(columns)


def _as_integers(texts: list[str]) -> list[int] | None:
    """The ids as integers, or None if one is not an integer in its usual spelling."""
    try:
        numbers = [int(text) for text in texts]
    except ValueError:
        return None
    fit = all(-(2**63) <= number < 2**63 for number in numbers)
    return numbers if fit and list(map(str, numbers)) == texts else None
