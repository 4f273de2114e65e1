"""lsif_sdk.training.data: what is read, in which order, and what is refused with which words."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import gzip
import importlib.util
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError, MissingExtraError
from lsif_sdk.training import EventLog, read_events, read_titles

HEADER = "user,item,timestamp,action\n"
ROWS = "b,20,50,1\na,10,30,2\nb,30,40,1\na,30,30,3\nb,10,50,2\n"


def write(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def as_rows(log: EventLog) -> list[tuple[object, object, int | None, int | None]]:
    rows = []
    for row in range(log.num_users):
        items, times, actions = log.user(row)
        for i, item in enumerate(items):
            time = None if times is None else int(times[i])
            rows.append((log.user_ids[row], log.item_ids[item], time, None if actions is None else int(actions[i])))
    return rows


SORTED = [("a", 10, 30, 2), ("a", 30, 30, 3), ("b", 30, 40, 1), ("b", 20, 50, 1), ("b", 10, 50, 2)]


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.tsv", "e.tsv.gz", "e.inter", "e.parquet", "frame"])
def test_every_source_gives_the_same_log(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame(
        [(row.split(",")[0], *map(int, row.split(",")[1:])) for row in ROWS.split()],
        columns=["user", "item", "timestamp", "action"],
    )
    source: Path | pd.DataFrame = frame
    if name.endswith("parquet"):
        frame.to_parquet(tmp_path / name)
        source = tmp_path / name
    elif name.endswith(".inter"):
        header = "user:token\titem:token\ttimestamp:float\taction:float\n"
        source = write(tmp_path / name, header + ROWS.replace(",", "\t"))
    elif name != "frame":
        text = HEADER + ROWS
        source = write(tmp_path / name, text.replace(",", "\t") if ".tsv" in name else text)
    before = frame.copy()
    log = read_events(source, action="action")
    assert as_rows(log) == SORTED
    assert list(log.item_ids) == [10, 20, 30]
    assert log.items.dtype == log.offsets.dtype == log.times.dtype == log.actions.dtype == np.int64
    pd.testing.assert_frame_equal(frame, before)


def test_columns_are_options_and_may_be_absent(tmp_path: Path) -> None:
    path = write(tmp_path / "e.csv", "who;what\n2;x\n1;y\n2;y\n")
    log = read_events(path, user="who", item="what", timestamp=None, separator=";")
    assert as_rows(log) == [(1, "y", None, None), (2, "x", None, None), (2, "y", None, None)]


@pytest.mark.parametrize(("text", "separator"), [("::", "::"), ("  ", r"\s+"), (" , ", r"\s*,\s*")])
@pytest.mark.filterwarnings("error")
def test_a_separator_of_several_characters_is_a_regular_expression(tmp_path: Path, text: str, separator: str) -> None:
    path = write(tmp_path / "e.dat", (HEADER + ROWS).replace(",", text))
    assert as_rows(read_events(path, action="action", separator=separator)) == SORTED


def test_what_is_no_separator_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "e.csv", HEADER + ROWS)
    with pytest.raises(ArgumentError, match="separator: expected a character, or None to go by the first line, got ''"):
        read_events(path, separator="")
    with pytest.raises(ArgumentTypeError, match="separator: expected a string, or None, got int"):
        read_events(path, separator=7)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="separator: expected a string"):
        read_titles(path, title="user", separator=b",")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["007", "7"], ["007", "7"]),
        (["10", "9"], [9, 10]),
        (["10", "9", "NA"], ["10", "9", "NA"]),
        (["-1", "+1"], ["+1", "-1"]),
        (["1.5", "1"], ["1", "1.5"]),
    ],
)
def test_ids_keep_their_spelling(tmp_path: Path, ids: list[str], expected: list[object]) -> None:
    text = "user,item,timestamp\n" + "".join(f"1,{item},5\n" for item in ids)
    log = read_events(write(tmp_path / "e.csv", text))
    assert list(log.item_ids) == expected
    assert [str(log.item_ids[row]) for row in log.items] == ids


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 6), st.integers(0, 3)), min_size=1, max_size=30))
def test_sort_is_stable_and_loses_nothing(events: list[tuple[int, int, int]]) -> None:
    log = read_events(pd.DataFrame(events, columns=["user", "item", "timestamp"]))
    expected = [
        (user, item, time, None)
        for chosen in sorted({user for user, _, _ in events})
        for user, item, time in sorted((e for e in events if e[0] == chosen), key=lambda event: event[2])
    ]
    assert as_rows(log) == expected
    assert log.num_items == len({item for _, item, _ in events})


def test_timestamps_are_whole_unix_seconds() -> None:
    frame = pd.DataFrame({"user": [1, 1, 1], "item": [1, 2, 3], "timestamp": [2.9, -0.5, 10.0]})
    assert read_events(frame).times.tolist() == [-1, 2, 10]
    moments = ["2020-01-01 00:00:01.75", "2020-01-01 00:00:00", "2020-01-02 00:00:00"]
    for dates in (pd.to_datetime(moments, format="ISO8601"), pd.to_datetime(moments, format="ISO8601", utc=True)):
        log = read_events(frame.assign(timestamp=dates))
        assert log.times.tolist() == [1577836800, 1577836801, 1577923200]
    shifted = pd.to_datetime(moments, format="ISO8601").tz_localize("Etc/GMT-1")
    assert read_events(frame.assign(timestamp=shifted)).times[0] == 1577836800 - 3600
    objects = pd.to_datetime(moments, format="ISO8601").astype(object)
    for values in (moments, [f"{moment}Z" for moment in moments], objects):
        assert read_events(frame.assign(timestamp=values)).times.tolist() == [1577836800, 1577836801, 1577923200]
    large = read_events(frame.assign(timestamp=[2**53 + 1, 2**53 + 2, 2**53 + 3]))
    assert large.times.tolist() == [2**53 + 1, 2**53 + 2, 2**53 + 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user,item\n1,2\n", ["e.csv: no column 'timestamp'; it has ['user', 'item']", "(--timestamp)"]),
        (HEADER, ["e.csv", "no rows"]),
        ("", ["e.csv", "empty"]),
        (HEADER + "1,2,3,1\n1,2,later,1\n1,2,soon,1\n", ["'timestamp'", "row 2", "later", "2 such rows"]),
        (HEADER + "1,2,3,1\n1,2,,1\n", ["'timestamp'", "row 2"]),
        (HEADER + "1,2,nan,1\n", ["'timestamp'", "row 1", "nan"]),
        (HEADER + "1,2,2020-01-01,1\n1,2,01.02.2020,1\n", ["row 2: expected Unix seconds or ISO dates", "01.02.2020"]),
        (HEADER + "1,2,2020-01-01,1\n1,2,2020-02-30,1\n1,2,,1\n", ["row 2: expected", "2020-02-30", "2 such rows"]),
        (HEADER + "1,2,7,1\n1,2,2020-01-01,1\n", ["row 2: expected Unix seconds, got '2020-01-01'"]),
        (HEADER + "1,2,inf,1\n", ["'timestamp'", "row 1", "inf"]),
        (HEADER + "1,2,1e30,1\n", ["'timestamp'", "row 1", "1e30"]),
        (HEADER + "1,2,3,1\n,2,3,1\n", ["'user'", "row 2", "missing"]),
        (HEADER + "1,,3,1\n", ["'item'", "row 1", "missing"]),
        (HEADER + "1,2,3,-4\n", ["'action'", "row 1", "negative", "-4"]),
        (HEADER + "1,2,3,buy\n", ["'action'", "row 1", "buy"]),
        (HEADER + "1,2,3,1\n1,2,3,1.7\n", ["'action'", "row 2", "whole", "1.7"]),
        (HEADER + "1,2,18446744073709551615,1\n", ["'timestamp'", "row 1", "18446744073709551615"]),
        (HEADER + "1,2,3,1\n1,2,-9223372036854775808,1\n", ["'timestamp'", "row 2", "-9223372036854775808"]),
        (HEADER + f"1,2,{2**62},1\n", ["'timestamp'", "row 1"]),
        (HEADER + f"1,2,{-(2**62)},1\n", ["'timestamp'", "row 1"]),
        (HEADER + "1,2,3,1\n1,2,3,1,9,9\n", ["e.csv"]),
        (HEADER + "1,2,3,1,9\n1,2,3,1\n1,2,3,1,8\n", ["row 1", "4 fields", "'9'", "2 such rows"]),
        (HEADER + "1,2,3,1\n\n1,2,3,1,9\n", ["row 2", "4 fields", "'9'"]),
        ("user:token,item:token,item:float,timestamp\n1,2,7,3\n", ["2 columns", "'item'"]),
        (HEADER + "1,2,3,1\n1,2\n", ["'timestamp'", "row 2"]),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(DataError) as error:
        read_events(write(tmp_path / "e.csv", text), action="action" if "action" in text else None)
    for word in words:
        assert word in str(error.value)


def test_dates_of_a_text_file(tmp_path: Path) -> None:
    rows = ["2020-01-01", "2020-01-01T02:00:00+01:00", "2020-01-01 00:30", "1969-12-31 23:59:59.5"]
    text = "".join(f"1,{item},{date},1\n" for item, date in enumerate(rows))
    log = read_events(write(tmp_path / "e.csv", HEADER + text))
    assert log.items.tolist() == [3, 0, 2, 1]
    assert log.times.tolist() == [-1, 1577836800, 1577838600, 1577840400]


@pytest.mark.parametrize("seconds", [2**62 - 1, 1 - 2**62])
def test_large_times_are_exact(tmp_path: Path, seconds: int) -> None:
    assert read_events(write(tmp_path / "e.csv", f"user,item,timestamp\n1,2,{seconds}\n")).times.tolist() == [seconds]


def test_a_comma_in_an_unquoted_title_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "item,title\n1,Good, the Bad\n")
    with pytest.raises(DataError, match=r"t\.csv: row 1: expected 2 fields.* the Bad"):
        read_titles(path)
    assert read_titles(write(path, 'item,title\n1,"Good, the Bad"\n')) == {"1": "Good, the Bad"}


def test_separators_at_the_ends_of_lines_and_columns_nobody_asked_for_are_no_error(tmp_path: Path) -> None:
    path = write(tmp_path / "e.csv", "\ufeffuser,item,,x:a,x:b\r\n1,2,,,4,\r\n1,3,,,4,\r\n")
    assert as_rows(read_events(path, timestamp=None)) == [(1, 2, None, None), (1, 3, None, None)]


def test_missing_values_in_a_frame_are_refused() -> None:
    frame = pd.DataFrame({"user": [1.0, None], "item": ["a", "b"], "timestamp": [1, 2]})
    with pytest.raises(DataError, match=r"'user', row 2"):
        read_events(frame)
    dates = pd.Series(pd.to_datetime(["2020-01-01", None]))
    with pytest.raises(DataError, match=r"'timestamp', row 2"):
        read_events(frame.assign(user=1, timestamp=dates))
    with pytest.raises(DataError, match=r"'timestamp', row 2"):
        read_events(frame.assign(user=1, timestamp=pd.array([1, None], dtype="Int64")))
    with pytest.raises(DataError, match="2 columns are called 'item'"):
        read_events(pd.DataFrame([[1, 2, 3, 4]], columns=["user", "item", "item", "timestamp"]))
    assert list(read_events(frame.assign(user=[3.0, 2.0])).user_ids) == [2, 3]


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    whole = gzip.compress((HEADER + ROWS * 1000).encode())
    broken = {
        "cut.csv.gz": whole[: len(whole) // 2],
        "not.csv.gz": b"user,item\n",
        "bad.parquet": b"PAR1 no",
        "bin.csv": b"\xff\xfe\x00",
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name):
            read_events(tmp_path / name)
    with pytest.raises(DataError, match=r"absent\.csv"):
        read_events(tmp_path / "absent.csv")
    with pytest.raises(
        ArgumentTypeError, match=r"^events: expected a path, a pandas DataFrame or another table .*, got int"
    ):
        read_events(12)  # type: ignore[arg-type]
    latin = "user,item,timestamp\njos\u00e9,a,1\n".encode("latin-1")
    tabs = latin.replace(b",", b"\t")
    for name, data in {"latin.csv": latin, "latin.csv.gz": gzip.compress(latin), "latin.tsv": tabs}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=rf"{name}: expected text in UTF-8, got the byte 0xe9"):
            read_events(tmp_path / name)
    (tmp_path / "excel.txt").write_text("user\titem\ttimestamp\n1\t2\t3\n", encoding="utf-16")
    with pytest.raises(DataError, match=r"excel\.txt: expected text in UTF-8, got UTF-16: save it in UTF-8"):
        read_events(tmp_path / "excel.txt")


def test_files_that_are_no_text_are_told_by_their_content(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": [1], "item": [2], "timestamp": [3]})
    frame.to_parquet(tmp_path / "parquet.csv")
    frame.to_feather(tmp_path / "events.feather")
    (tmp_path / "gzip.csv").write_bytes(gzip.compress((HEADER + ROWS).encode()))
    with zipfile.ZipFile(tmp_path / "events.xlsx", "w") as archive:
        archive.writestr("events.csv", HEADER + ROWS)
    for name, looks in (
        ("parquet.csv", "a Parquet file: name it .parquet"),
        ("events.feather", "an Arrow .Feather. file: save it as Parquet"),
        ("gzip.csv", "gzipped data: name it .gz"),
        ("events.xlsx", "a zip or Excel file: unpack it, or save it as CSV"),
    ):
        with pytest.raises(DataError, match=f"{name}: expected text, got what looks like {looks}"):
            read_events(tmp_path / name)
    path = write(tmp_path / "e.csv", "PAR1,item,timestamp\n1,2,3\n")
    assert as_rows(read_events(path, user="PAR1")) == [(1, 2, 3, None)]


@pytest.mark.parametrize("address", ["https://x/y.csv", Path("https://x/y.csv"), "s3://x/y.parquet", "file:///y.csv"])
def test_addresses_are_no_paths(address):
    with pytest.raises(DataError, match=r"y\.(csv|parquet): expected the path of a file, got an address: download it"):
        read_events(address)


def test_movielens_100k_as_its_readme_describes_it() -> None:
    root = Path(os.environ.get("LSIF_DATA_DIR", Path(__file__).parents[1] / "../shared/data")) / "ml-100k"
    if not root.exists():
        pytest.skip("MovieLens-100K is not there; set LSIF_DATA_DIR")
    log = read_events(root / "ml-100k.inter.gz", user="user_id", item="item_id")
    assert (log.num_users, log.num_items, len(log.items)) == (943, 1682, 100_000)
    assert (log.lengths.min(), np.median(log.lengths), log.lengths.max()) == (20, 65, 737)
    assert (log.times.min(), log.times.max()) == (874724710, 893286638)
    within = np.setdiff1d(np.arange(1, 100_000), log.offsets)
    assert (log.times[within] >= log.times[within - 1]).all()
    titled = log.with_titles(read_titles(root / "ml-100k.item.gz", item="item_id", title="movie_title"))
    assert titled.titles[:2] == ["Toy Story", "GoldenEye"]


def test_titles(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", 'item:token\tname:token_seq\n10\tTen "X\n20\t\n99\tOther\n')
    titles = read_titles(path, item="item", title="name")
    assert titles == {"10": 'Ten "X', "20": "", "99": "Other"}
    log = read_events(write(tmp_path / "e.csv", HEADER + ROWS)).with_titles(titles)
    assert log.titles == ['Ten "X', "20", "30"]
    assert log.given_titles() == ['Ten "X', "", ""]
    assert dataclasses.replace(log, titles=None).given_titles() == ["", "", ""]


def test_select_keeps_users_items_and_order(tmp_path: Path) -> None:
    log = read_events(write(tmp_path / "e.csv", HEADER + ROWS), action="action")
    kept = log.select(np.array([True, False, False, False, True]))
    assert as_rows(kept) == [SORTED[0], SORTED[4]]
    assert kept.num_users == 2
    assert kept.num_items == 3
    assert kept.lengths.tolist() == [1, 1]
    assert as_rows(log.select(np.zeros(5, dtype=bool))) == []
    with pytest.raises(ArgumentError, match="keep"):
        log.select(np.array([True]))


def test_event_log_refuses_what_does_not_fit() -> None:
    good = {"user_ids": ["u"], "item_ids": ["a", "b"], "offsets": np.array([0, 2]), "items": np.array([0, 1])}
    EventLog(**good)
    for change, word in (
        ({"offsets": np.array([0, 3])}, "offsets"),
        ({"items": np.array([0, 2])}, "items"),
        ({"times": np.array([1])}, "times"),
        ({"titles": ["a"]}, "titles"),
        ({"items": np.array([0, 1], np.int32)}, "items: expected int64 with one dimension, got int32"),
        ({"offsets": np.array([0, 2], np.uint64)}, "offsets: expected int64"),
        ({"times": np.array([1.0, 2.0])}, "times: expected int64"),
        ({"times": np.array([[1, 2]])}, "times: expected int64"),
        ({"actions": np.array([0, -1])}, "actions: expected action types >= 0, got -1"),
    ):
        with pytest.raises(ArgumentError, match=word):
            EventLog(**{**good, **change})
    with pytest.raises(ArgumentTypeError, match="items: expected a numpy array of int64, got list"):
        EventLog(**{**good, "items": [0, 1]})
    with pytest.raises(ArgumentTypeError, match="times: expected a numpy array of int64 or None, got list"):
        EventLog(**{**good, "times": [1, 2]})


def test_fractions_of_a_second_decide_the_order():
    seconds = [10.9, 10.7, 10.5, 10.1, 9.0]
    frame = pd.DataFrame({"user": "u", "item": list("wxyza"), "timestamp": seconds})
    dates = pd.to_datetime(frame["timestamp"], unit="s")
    texts = dates.dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    for times in (
        seconds,
        dates,
        dates.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"),
        texts,
        [str(s) for s in seconds],
    ):
        log = read_events(frame.assign(timestamp=times))
        assert [log.item_ids[row] for row in log.items] == list("azyxw")
        assert log.times.tolist() == [9, 10, 10, 10, 10]


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
        (ModuleNotFoundError("pyarrow"), MissingExtraError, r"Odd.to_pandas\(\) needs the package 'pyarrow'"),
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
    log = read_events(write(tmp_path / "e.csv", HEADER + "1,2,20240116\n1,3,20240199\n"))  # a clock of somebody's own
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
    with pytest.raises(ArgumentError, match="titles: expected one title an item, got '7' as text and as a number"):
        log.with_titles({7: "seven", "8": "eight", "7": "sept"})
    message = "titles: expected titles of the events' items, such as '7', got only titles of others, such as '07'"
    with pytest.raises(ArgumentError, match=message):
        log.with_titles({"07": "seven", 99: "x"})
    assert log.with_titles({}).titles == ["7", "8", "9"]


def test_times_in_milliseconds_are_refused():
    frame = pd.DataFrame({"user": [1, 1], "item": [1, 2], "timestamp": [1_700_000_000_000, 1_700_000_100_000]})
    with pytest.raises(
        DataError, match="row 1: expected Unix seconds, got what looks like milliseconds: 1700000000000"
    ):
        read_events(frame)


def test_a_column_of_text_stays_text_and_that_of_a_text_file_does_not(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": ["7", "7", "8"], "item": ["10", "9", "10"], "timestamp": [1, 2, 3]})
    for log in (read_events(frame), read_events(frame.astype({"user": "string", "item": "category"}))):
        assert (log.user_ids, log.item_ids) == (["7", "8"], ["10", "9"])
        assert log.items.tolist() == [0, 1, 0]
    frame.to_csv(tmp_path / "events.csv", index=False)
    log = read_events(tmp_path / "events.csv")
    assert [list(log.user_ids), list(log.item_ids)] == [[7, 8], [9, 10]]
    mixed = frame.assign(item=["10", 9, 10.0], user=[7, "007", "a"])
    assert read_events(mixed.iloc[:2]).item_ids == ["10", "9"]
    assert read_events(mixed.assign(item=1)).user_ids == ["007", "7", "a"]
    with pytest.raises(DataError, match="column 'item': 10 is there as text and as a number"):
        read_events(mixed)
    numbers = read_events(frame.astype({"item": int}))
    assert (list(numbers.item_ids), numbers.user_ids) == ([9, 10], ["7", "8"])
    if importlib.util.find_spec("pyarrow"):
        frame.to_parquet(tmp_path / "events.parquet")
        assert read_events(tmp_path / "events.parquet").item_ids == ["10", "9"]


def test_a_column_stands_for_one_thing():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"user": [1, 1], "item": [2, 3], "timestamp": [4, 5], 0: [1, 1], 1: [7, 8]})
    assert read_events(frame, user=0, item=1).item_ids.tolist() == [7, 8]
    for names, message in (
        ({"item": "user"}, "item: expected a column of its own, got 'user'"),
        ({"timestamp": "item"}, "timestamp: expected a column of its own, got 'item'"),
        ({"action": "timestamp"}, "action: expected a column of its own, got 'timestamp'"),
    ):
        with pytest.raises(ArgumentError, match=message):
            read_events(frame, **names)
    for option in ("user", "item"):
        with pytest.raises(ArgumentTypeError, match=f"{option}: expected the name of a column, got None"):
            read_events(frame, **{option: None})
