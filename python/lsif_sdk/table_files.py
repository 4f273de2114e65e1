"""Reads files of events and other tables: CSV and TSV text, and Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lsif_sdk.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_file"]

_SIGNATURES = {
    b"\x1f\x8b": "gzipped data: name it .gz",
    b"PK\x03\x04": "a zip or Excel file: unpack it, or save it as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel file: save it as CSV",
    b"ARROW1\0\0": "an Arrow (Feather) file: save it as Parquet, or hand over a DataFrame",
    b"PAR1\x15": "a Parquet file: name it .parquet",
}


def read_file(path: Path, separator: str | None) -> pd.DataFrame:
    """Reads all columns of a file for `lsif_sdk.tables.read_table`; those of text files have only texts.

    Raises:
        DataError: the file cannot be read, is empty or not UTF-8 text, or a row has more fields than the first line
            names.
        MissingExtraError: pyarrow, for Parquet, is not installed.
    """
    import pandas as pd

    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        if ".parquet" in path.suffixes:
            return pd.read_parquet(io.BytesIO(data))
        if looks := next((kind for start, kind in _SIGNATURES.items() if data.startswith(start)), None):
            raise DataError(f"{path}: expected text, got what looks like {looks}")
        return _read_text(path.name, data, separator)
    except UnicodeDecodeError as error:
        is_utf16 = error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
        found = "UTF-16" if is_utf16 else f"the byte {error.object[error.start]:#04x}"
        raise DataError(f"{path}: expected text in UTF-8, got {found}: save it in UTF-8") from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read: {error}") from error
    except ImportError as error:
        raise MissingExtraError("reading Parquet files", "pyarrow", "train") from error


def _read_text(name: str, data: bytes, separator: str | None) -> pd.DataFrame:
    import pandas as pd

    header = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").readline().rstrip("\n")
    if not header:
        raise DataError(f"{name}: it is empty")
    separator = separator or ("\t" if "\t" in header else ",")

    def parsed(text: io.StringIO | io.BytesIO, skiprows: int, width: int | None) -> pd.DataFrame:
        # Everything is read as text, so that ids keep their spelling and "NA" is an id like any other.
        return pd.read_csv(
            text,
            sep=separator,
            engine="python" if len(separator) > 1 else "c",
            header=None,
            names=None if width is None else range(width),
            skiprows=skiprows,
            dtype=str,
            keep_default_na=False,
            quoting=csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL,
            index_col=False,
            encoding="utf-8-sig",
        )

    columns = [str(column).split(":", 1)[0] for column in parsed(io.StringIO(header), 0, None).iloc[0]]
    with warnings.catch_warnings():
        # pandas would cut off surplus fields with a warning; one extra column catches them for the error below.
        warnings.simplefilter("ignore", pd.errors.ParserWarning)
        frame = parsed(io.BytesIO(data), 1, len(columns) + 1)
    surplus, frame = frame.iloc[:, -1], frame.iloc[:, :-1]
    if rows := np.flatnonzero(surplus.notna() & (surplus != "")).tolist():
        more = f" ({len(rows)} such rows)" if len(rows) > 1 else ""
        expected = f"row {rows[0] + 1}: expected {len(columns)} fields, as the first line has, got also"
        raise DataError(f"{name}: {expected} {surplus.iloc[rows[0]]!r}{more}; quote text that holds the separator")
    return frame.set_axis(columns, axis="columns")
