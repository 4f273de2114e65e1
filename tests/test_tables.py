"""Tables of other libraries, and columns of ids, times and titles that are less clear than they seem."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from event_log_cases import HEADER, ROWS, SORTED, as_rows, write
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError, MissingExtraError
from lsif_sdk.training import read_events, read_titles


def test_tables_of_polars_are_read(tmp_path: Path) -> None:
    pl = pytest.importorskip("polars", reason="polars is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed, which polars' to_pandas() needs")
    header, *rows = [line.split(",") for line in (HEADER + ROWS).split()]
    frame = pl.DataFrame(rows, schema=header, orient="row").with_columns(pl.exclude("user").cast(pl.Int32))
    day = datetime.datetime(2024, 1, 1, 12)
    dates = pl.Series([day + datetime.timedelta(seconds=second) for second in (50, 30, 40, 30, 50)])
    noon = 1_704_110_400
    for times, shift in (
        (pl.Series([50.0, 30.0, 40.0, 30.0, 50.0], dtype=pl.Float32), 0),
        (dates, noon),
        (dates.cast(pl.Datetime("ms")), noon),
        (dates.dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo"), noon),
        (dates.dt.strftime("%Y-%m-%d %H:%M:%S"), noon),
    ):
        log = read_events(frame.with_columns(timestamp=times), action="action")
        assert as_rows(log) == [(user, item, time + shift, action) for user, item, time, action in SORTED]
    for kind in (pl.Categorical, pl.Enum(["a", "b"]), pl.String):
        assert read_events(frame.cast({"user": kind, "item": pl.String})).user_ids == ["a", "b"]
    assert read_events(frame.cast({"item": pl.String})).item_ids == ["10", "20", "30"]
    days = frame.with_columns(timestamp=dates.cast(pl.Date))
    assert set(read_events(days).times.tolist()) == {noon - 12 * 3600}
    assert as_rows(read_events(frame.to_arrow(), action="action")) == SORTED
    with pytest.raises(DataError, match="DataFrame: column 'item', row 2: an id is missing"):
        read_events(frame.with_columns(item=pl.Series([1, None, 2, 3, 4])))
    with pytest.raises(ArgumentTypeError, match="or another table with to_pandas\\(\\), got LazyFrame"):
        read_events(frame.lazy())
    for source in (frame["item"], frame.to_arrow()["item"]):
        with pytest.raises(ArgumentTypeError, match="events: expected a path, a pandas DataFrame or another table"):
            read_events(source)


@pytest.mark.parametrize(
    ("failure", "error", "message"),
    [
        (ValueError("no such type"), DataError, r"^Odd: its to_pandas\(\) failed: no such type$"),
        (ModuleNotFoundError("pyarrow"), MissingExtraError, r"for Odd.to_pandas\(\) the package 'pyarrow' is needed"),
    ],
)
def test_tables_that_do_not_become_frames_are_refused(failure, error, message):
    class Odd:
        def to_pandas(self):
            raise failure

    with pytest.raises(error, match=message):
        read_events(Odd())


def test_tables_of_arrow_are_read() -> None:
    pa = pytest.importorskip("pyarrow")
    columns = {"user": ["u", "u", "v"], "item": [1, 2, 1], "timestamp": [5, 3, 4]}
    expected = [("u", 2, 3, None), ("u", 1, 5, None), ("v", 1, 4, None)]
    assert as_rows(read_events(pa.table(columns))) == expected
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        assert as_rows(read_events(pa.table(columns | {"user": pa.array(columns["user"]).cast(kind)}))) == expected
    for kind in (pa.timestamp("s"), pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.decimal128(20, 3), pa.float64()):
        seconds = columns["timestamp"]
        exact = [decimal.Decimal(second) for second in seconds] if pa.types.is_decimal(kind) else seconds
        moments = [datetime.datetime.fromtimestamp(second, datetime.UTC) for second in seconds]
        times = pa.array(moments if pa.types.is_temporal(kind) else exact, kind)
        assert as_rows(read_events(pa.table(columns | {"timestamp": times}))) == expected


def test_other_columns_of_arrow_are_times_as_well(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"user": 1, "item": [1, 2, 3]})
    days = pd.Series(pd.to_datetime(["2024-01-03", "2024-01-02", "2024-01-01"]))
    read = read_events(frame.assign(timestamp=days.astype(pd.ArrowDtype(pa.date32()))))
    assert (read.times.tolist(), read.items.tolist()) == ([1704067200, 1704153600, 1704240000], [2, 1, 0])
    decimals = pd.Series([1704067203, 1704067202, 1704067201]).astype(pd.ArrowDtype(pa.decimal128(22, 2)))
    assert read_events(frame.assign(timestamp=decimals)).times.tolist() == [1704067201, 1704067202, 1704067203]
    gap = days.where(days != days[1]).astype(pd.ArrowDtype(pa.timestamp("us", "UTC")))
    with pytest.raises(DataError, match="column 'timestamp', row 2: a time is missing"):
        read_events(frame.assign(timestamp=gap))


@pytest.mark.parametrize(
    ("odd", "unit"),
    [(17 * 10**11, "milliseconds"), (17 * 10**14, "microseconds"), (17 * 10**17, "nanoseconds")],
)
def test_single_times_in_a_finer_unit_are_refused(odd, unit):
    frame = pd.DataFrame({"user": "u", "item": list("abc"), "timestamp": [1_700_000_000, odd, 1_700_000_001]})
    with pytest.raises(
        DataError, match=rf"'timestamp', row 2: expected Unix seconds, got what looks like {unit}: {odd}"
    ):
        read_events(frame)


def test_dates_without_dashes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got what looks like dates without dashes: 20240116"):
        read_events(write(tmp_path / "e.csv", HEADER + "1,2,20240116\n1,3,20231231\n"))
    log = read_events(write(tmp_path / "e.csv", HEADER + "1,2,20240116\n1,3,20240199\n"))  # no dates: a custom clock
    assert log.times.tolist() == [20240116, 20240199]
    flags = pd.Series([True, 5], dtype=object)
    for times in (pd.period_range("2024", periods=2), pd.to_timedelta([1, 2], unit="s"), [True, False], flags):
        with pytest.raises(DataError, match=r"'timestamp'.*: expected Unix seconds or dates, got"):
            read_events(pd.DataFrame({"user": 1, "item": [2, 3], "timestamp": times}))


@pytest.mark.parametrize(
    "ids", [[b"a", b"b"], [True, "x"], [1, True], ["a", [3]], [[1, 2], [3]], [np.array([1]), np.array([2])]]
)
def test_what_is_no_id_is_refused(ids):
    frame = pd.DataFrame({"user": [1, 1], "item": pd.Series(ids, dtype=object), "timestamp": [1, 2]})
    with pytest.raises(DataError, match=r"column 'item'.*: expected integers or text as ids, got (?!'a')"):
        read_events(frame)


@pytest.mark.parametrize(
    ("dtype", "limit"), [("float64", 2**53), ("Float64", 2**53), ("double[pyarrow]", 2**53), ("float32", 2**24)]
)
def test_floats_that_stand_for_several_ids_are_refused(dtype, limit):
    frame = pd.DataFrame({"user": 1, "item": pd.Series([1, limit - 1, 2], dtype=dtype), "timestamp": [1, 2, 3]})
    assert read_events(frame).item_ids.tolist() == [1, 2, limit - 1]
    for odd in (limit, -limit):
        name = dtype.lower().replace("double[pyarrow]", "float64")
        expected = (
            rf"'item', row 2: expected integers or text as ids: {name} cannot tell integers apart from {limit} on"
        )
        with pytest.raises(DataError, match=expected):
            read_events(frame.assign(item=pd.Series([1, odd, 2], dtype=dtype)))
    with pytest.raises(DataError, match=r"'item', row 3: expected integers or text as ids: float64 .*, got inf"):
        read_events(frame.assign(item=pd.Series(["a", 1.0, np.inf], dtype=object)))


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 2**24), ("Float32", 2**24), ("float16", 2**11)])
@pytest.mark.filterwarnings("error")
def test_floats_that_cannot_hold_the_second_are_refused(dtype, limit):
    frame = pd.DataFrame({"user": 1, "item": [1, 2, 3], "timestamp": pd.Series([1, limit - 1, 2], dtype=dtype)})
    assert read_events(frame).times.tolist() == [1, 2, limit - 1]
    expected = f"'timestamp', row 3: .* int64 or float64: {dtype.lower()} cannot hold each second from {limit} on, got"
    with pytest.raises(DataError, match=expected):
        read_events(frame.assign(timestamp=pd.Series([1, 2, 2 * limit], dtype=dtype)))


@pytest.mark.parametrize(
    ("values", "got"),
    [
        ([True, False], "bool"),
        (pd.Series([True, False], dtype="category"), "bool"),
        (pd.Series([2, True], dtype=object), "True"),
        (pd.Series([2, np.True_], dtype=object), "np.True_"),
        ([1 + 0j, 2 + 0j], "complex128"),
        (pd.Series([1, 2 + 0j], dtype=object), "complex128"),
        (pd.to_timedelta([1, 2], unit="s"), "timedelta64"),
        (pd.Series([10**400, 2], dtype=object), "a larger one"),
    ],
)
def test_what_would_become_numbers_in_silence_is_refused(values, got):
    frame = pd.DataFrame({"user": 1, "item": [2, 3], "timestamp": [1, 2], "action": [1, 2]})
    for column in ("action", "timestamp"):
        with pytest.raises(DataError, match=rf"column '{column}'.*: expected .*, got {got}"):
            read_events(frame.assign(**{column: values}), action="action")


def test_dates_are_no_action_types_but_times_of_any_kind_of_column() -> None:
    frame = pd.DataFrame({"user": 1, "item": [2, 3], "timestamp": [1, 2]})
    dates = pd.Series(pd.to_datetime([60, 120], unit="s"))
    for values in (dates, dates.dt.tz_localize("UTC"), dates.astype("category")):
        assert read_events(frame.assign(timestamp=values)).times.tolist() == [60, 120]
        with pytest.raises(DataError, match=r"'action': expected an action type \(a whole number\), got datetime64"):
            read_events(frame.assign(action=values), action="action")
    with pytest.raises(DataError, match=r"'action': expected an action type .*, got period"):
        read_events(frame.assign(action=pd.period_range("2024", periods=2)), action="action")


@pytest.mark.parametrize("separator", ["((", "a{99999999999}"])
def test_a_separator_that_is_no_regular_expression_is_refused(tmp_path, separator):
    for read, text in ((read_events, HEADER + ROWS), (read_titles, "item,title\n7,seven\n")):
        with pytest.raises(ArgumentError, match="separator: expected a character or a regular expression, got"):
            read(write(tmp_path / "e.csv", text), separator=separator)


def test_integers_as_ids_are_all_of_int64(tmp_path: Path) -> None:
    ends = [-(2**63), 2**63 - 1]
    frame = pd.DataFrame({"user": ends, "item": ends, "timestamp": [1, 2]})
    frame.to_csv(tmp_path / "e.csv", index=False)
    for source in (frame, tmp_path / "e.csv"):
        log = read_events(source)
        assert log.item_ids.dtype == log.user_ids.dtype == np.int64
        assert log.item_ids.tolist() == log.user_ids.tolist() == ends


def test_ids_that_utf_8_cannot_encode_are_refused():
    frame = pd.DataFrame({"user": 1, "item": pd.Series(["a", "\udc80", "b"], dtype=object), "timestamp": [1, 2, 3]})
    with pytest.raises(DataError, match=r"'item', row 2: expected ids that UTF-8 can encode, got '\\udc80'"):
        read_events(frame)


def test_titles_may_be_given_by_ids_of_any_kind(tmp_path: Path) -> None:
    log = read_events(pd.DataFrame({"user": 1, "item": [7, 8, 9], "timestamp": [1, 2, 3]}))
    assert log.with_titles({7: "seven", 9: ""}).titles == log.with_titles({"7": "seven"}).titles == ["seven", "8", "9"]
    path = write(tmp_path / "t.csv", "item,title\n7,seven\n8,\n7,\n8,eight\n8,eight\n9,\n")
    assert read_titles(path) == {"7": "seven", "8": "eight", "9": ""}


def test_titles_that_contradict_each_other_or_are_of_no_item_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "item,title\n7,seven\n8,eight\n7,\n8,acht\n")
    with pytest.raises(
        DataError, match=r"^t\.csv: column 'title', row 4: expected one .* 8, got 'acht' after 'eight'$"
    ):
        read_titles(path)
    log = read_events(pd.DataFrame({"user": 1, "item": [7, 8, 9], "timestamp": [1, 2, 3]}))
    with pytest.raises(ArgumentError, match="titles: expected one title per item, got '7' as text and as a number"):
        log.with_titles({7: "seven", "8": "eight", "7": "sept"})
    message = "titles: expected titles of the events' items, such as '7', got only titles of others, such as '07'"
    with pytest.raises(ArgumentError, match=message):
        log.with_titles({"07": "seven", 99: "x"})
    assert log.with_titles({}).titles == ["7", "8", "9"]
