"""lsif_sdk.event_log: what is read, in which order, and what is refused with which message."""

from __future__ import annotations

import dataclasses
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

from evaluation_cases import make_log
from event_log_cases import HEADER, ROWS, SORTED, as_rows, write
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError
from lsif_sdk.training import EventLog, read_events, read_titles


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


@pytest.mark.parametrize("ids", ["text", "integers"])
def test_a_users_history_has_the_items_own_ids(tmp_path: Path, ids: str) -> None:
    rows = ROWS if ids == "integers" else ROWS.replace(",10,", ",ten,")
    log = read_events(write(tmp_path / "e.csv", HEADER + rows), action="action")
    for row in range(log.num_users):
        history, events = log.history(row), log.user(row)
        assert list(history.items) == [log.item_ids[item] for item in events.items]
        assert isinstance(next(iter(history.items)), str if ids == "text" else np.int64)
        np.testing.assert_array_equal(history.times, events.times)
        np.testing.assert_array_equal(history.actions, events.actions)
    assert read_events(tmp_path / "e.csv", timestamp=None).history(0).times is None


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda log: log.user(-1), r"row: expected an integer in \[0, 1\], got -1"),
        (lambda log: log.user(2), r"row: expected an integer in \[0, 1\], got 2"),
        (lambda log: log.user("u1"), r"row: expected an integer in \[0, 1\], got str 'u1'"),
        (lambda log: log.user(None), "row: expected an integer"),
        (lambda log: log.history(2), r"row: expected an integer in \[0, 1\], got 2"),
        (lambda log: log.select([1, 0, 1]), "keep: expected bool of shape"),
        (lambda log: log.select("all"), "keep: expected bool of shape"),
        (lambda log: log.with_titles("t.csv"), r"titles: expected a mapping .*read_titles\(\.\.\.\) say, got str"),
        (lambda log: log.with_titles(["A", "B"]), "titles: expected a mapping"),
        (lambda log: log.with_titles(pd.DataFrame({"item": ["i0"], "title": ["A"]})), "titles: expected a mapping"),
        (lambda log: log.with_titles({"i0": 5}), "titles: expected texts, got int 5"),
        (lambda log: log.with_titles({"i0": "\ud800"}), "titles: expected texts that UTF-8 can encode"),
    ],
)
def test_what_a_log_cannot_answer_is_refused_by_name(call, message: str) -> None:
    log = make_log([[0, 1], [1]], 2)
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        call(log)


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
    many = [*range(100_000), "99999"]  # took minutes when each id was counted separately
    with pytest.raises(DataError, match="column 'item': 99999 is there as text and as a number"):
        read_events(pd.DataFrame({"user": 1, "item": many}), timestamp=None)
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


def test_a_missing_title_is_none_and_a_column_may_select() -> None:
    log = make_log([[0, 1], [1]], 2)
    names = [str(item) for item in log.item_ids]
    for missing in (None, float("nan"), pd.NA):
        titled = log.with_titles(pd.Series({names[0]: "First", names[1]: missing}, dtype=object).to_dict())
        assert titled.titles == ["First", names[1]]
    keep = np.array([True, False, True])
    assert log.select(pd.Series(keep)).items.tolist() == log.select(keep).items.tolist()
