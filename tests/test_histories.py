"""Histories of one user or many: their possible forms, and what is refused, with its position."""

from __future__ import annotations

import datetime
import itertools
import random
import re
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch

from event_cases import NUMBERS, TEXTS, batch_of, rows_of
from lsif_sdk import Events, ItemTable
from lsif_sdk.arguments import as_int64
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, LsifError
from lsif_sdk.event_batch import EventBatch, check_seconds, excluded_rows
from lsif_sdk.events import as_users
from lsif_sdk.times import request_times


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([10, 30, 10], [[0, 2, 0]]),
        ((10, 30), [[0, 2]]),
        (np.array([10, 30]), [[0, 2]]),
        (np.array([10, 30], np.int32), [[0, 2]]),
        (np.array([10, 30], object), [[0, 2]]),
        (np.array([[10, 20], [30, 10]]), [[0, 1], [2, 0]]),
        ([[10, 20], [], [30]], [[0, 1], [], [2]]),
        (([10], (20,), np.array([30]), Events([10])), [[0], [1], [2], [0]]),
        (np.array([[10], [20, 30]], object), [[0], [1, 2]]),
        (Events([10, 20]), [[0, 1]]),
        (deque([10, 20], maxlen=5), [[0, 1]]),
        (Events(deque([10]), [5]), [[0]]),
        ([deque([10]), deque(), [20]], [[0], [], [1]]),
        (deque([[10], [20, 30]]), [[0], [1, 2]]),
        (deque(), [[]]),
        ([Events([10]), Events([20, 30])], [[0], [1, 2]]),
        ([], [[]]),
        ([[]], [[]]),
        ([[], []], [[], []]),
        (np.zeros(0, np.int64), [[]]),
        (np.zeros((2, 0), np.int64), [[], []]),
    ],
    ids=str,
)
def test_forms_of_histories(history, expected):
    batch = batch_of(history)
    assert rows_of(batch) == expected
    assert len(batch) == len(expected)
    assert batch.unknown.tolist() == [0] * len(expected)


def test_string_histories():
    assert rows_of(batch_of(["a", "数"], TEXTS)) == [[0, 2]]
    assert rows_of(batch_of(np.array([["a", "b"], ["b", "z"]]), TEXTS)) == [[0, 1], [1]]
    assert rows_of(batch_of([["a"], ["数", "b"]], TEXTS)) == [[0], [2, 1]]


@pytest.mark.parametrize(
    ("history", "name"),
    [
        ((item for item in [10]), "history"),
        ("10", "history"),
        (b"10", "history"),
        ({10: 1}, "history"),
        ({10}, "history"),
        (10, "history"),
        (None, "history"),
        (np.array(10), "history"),
        (np.zeros((1, 1, 1), np.int64), "history"),
        ([[10], 20], r"history\[1\]"),
        ([[10], "20"], r"history\[1\]"),
        ([[10], {20: 1}], r"history\[1\]"),
        ([[10], [20], None], r"history\[2\]"),
        ([[[10]]], r"history\[0\]"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_other_forms_are_refused(history, name):
    with pytest.raises(ArgumentTypeError, match=f"^{name}: expected Events"):
        as_users(history)


@pytest.mark.parametrize("odd", [True, 10.0, None, "10", float("nan"), {"x": 1}], ids=repr)
def test_odd_ids_in_histories_are_refused_by_their_place(odd):
    for history, place in (
        ([10, odd], "[1]"),
        ([odd, 10], "[0]"),
        ([odd], ""),
        (Events([10, 20, odd]), "[2]"),
        ([[10], [odd]], "[1]"),
        ([[10, odd]], "[0][1]"),
        ([[10], [], [20, odd, 30]], "[2][1]"),
        ([Events([10, 20], [1, 2]), deque([10, odd])], "[1][1]"),
        (np.array([10, odd], object), "[1]"),
        ([[10], np.array([20, odd], object)], "[1][1]"),
        (Events(np.array([20, odd], object)), "[1]"),
    ):
        expected = f"history{place}: expected integers, as the catalogue's ids, got {type(odd).__name__}"
        with pytest.raises(ArgumentTypeError, match=f"^{re.escape(expected)}( {re.escape(repr(odd))})?$"):
            batch_of(history)


def test_a_list_among_ids_is_refused_by_its_place():
    for odd in ([20], (20,), np.array([20])):
        with pytest.raises(
            ArgumentTypeError, match=r"^history\[1\]: expected an item id, as the first entry is one, got"
        ):
            as_users([10, odd, 30])


def test_odd_ids_in_exclusions_are_refused_by_their_place():
    for exclude, place in ((["10"], ""), ([10, "10"], "[1]"), ([[10], None, [20, "10"]], "[2][1]")):
        with pytest.raises(ArgumentTypeError, match=f"^{re.escape('exclude' + place)}: expected integers"):
            excluded_rows(exclude, NUMBERS, 3)
    for exclude, place in ((7, ""), ([[10], 7, []], "[1]")):
        with pytest.raises(ArgumentTypeError, match=f"^{re.escape('exclude' + place)}: expected a list or set of item"):
            excluded_rows(exclude, NUMBERS, 3)


@pytest.mark.parametrize("kind", ["M8[ns]", "m8[ns]", "M8[s]"])
def test_times_are_no_ids(kind):
    """Nanoseconds become plain integers when NumPy makes a list of them."""
    for call in (batch_of, NUMBERS.rows, TEXTS.rows, NUMBERS.known_rows, ItemTable):
        with pytest.raises(ArgumentTypeError, match="expected"):
            call(np.array([10, 20], kind))


def test_integers_are_no_ids_of_a_catalogue_of_strings():
    with pytest.raises(ArgumentTypeError, match=r"^history\[0\]: expected strings, as the catalogue's ids, got int"):
        batch_of([1, 2], TEXTS)


def test_what_gives_no_array_away_is_refused_by_name():
    class Broken:
        def __array__(self, *arguments: Any, **options: Any) -> Any:
            raise ArithmeticError

    for call, name in (
        (lambda: Events(Broken()), "items"),
        (lambda: Events([10], Broken()), "times"),
        (lambda: request_times(Broken(), 1), "now"),
        (lambda: as_users(Broken()), "history"),
        (lambda: as_users([[10], Broken()]), r"history\[1\]"),
    ):
        with pytest.raises(ArgumentTypeError, match=f"^{name}: expected "):
            call()


def test_the_callers_arrays_are_unchanged():
    arrays = [np.array([30, 99, 10, 20]), np.array([9, 1, 8, 3]), np.array([1, 0, 2, 4])]
    copies = [array.copy() for array in arrays]
    user = Events(*arrays)
    first = batch_of([user, user])
    assert rows_of(first) == [[1, 0, 2]] * 2
    for array, copy in zip(arrays, copies, strict=True):
        assert np.array_equal(array, copy)
    arrays[1][:] = 0  # Events took a copy of the times
    assert rows_of(batch_of(user), "times") == [[3, 8, 9]]
    first.items[:] = -1
    first.times[:] = -1
    assert rows_of(batch_of(user)) == [[1, 0, 2]]
    assert rows_of(batch_of(user), "times") == [[3, 8, 9]]


def test_read_only_arrays_are_enough():
    arrays = [np.array([30, 10]), np.array([9, 1]), np.array([1, 0])]
    for array in arrays:
        array.flags.writeable = False
    assert rows_of(batch_of(Events(*arrays))) == [[0, 2]]
    assert rows_of(batch_of(arrays[0])) == [[2, 0]]


def random_value(rng: random.Random, depth: int) -> Any:
    if depth and rng.random() < 0.6:
        values = [random_value(rng, depth - 1) for _ in range(rng.randrange(4))]
        return {0: values} if rng.random() < 0.1 else values
    odd = [None, True, 10, 2**70, -(2**63), 0.5, float("nan"), 1e300, "a", "\ud800", b"x", 1j, {1}, object()]
    return rng.choice([*odd, np.datetime64("NaT"), np.timedelta64(3, "ns"), datetime.datetime(2020, 1, 1), np.zeros(2)])


def test_whatever_comes_is_taken_or_refused_on_purpose():
    """Whatever the value, only errors of the SDK: no IndexError, no StopIteration, no bare ValueError of numpy."""
    rng = random.Random(0)
    num_taken = num_refused = 0
    for _ in range(400):
        value = random_value(rng, 3)
        calls = (
            lambda v=value: batch_of(v),
            lambda v=value: as_int64("times", v),
            lambda v=value: ItemTable(v),
            lambda v=value: Events([10], v),
        )
        for call in calls:
            try:
                call()
                num_taken += 1
            except LsifError as error:
                num_refused += 1
                assert re.match(r"[a-z]+(\[\d+\]){0,2}: expected ", str(error)), value
    assert num_taken > 50
    assert num_refused > 500


def test_events_compare_by_identity():
    events = Events(["a", "b"], [1, 2])
    assert events == events
    assert events != Events(["a", "b"], [1, 2])
    assert len({events, events}) == 1


def test_dates_of_pandas_are_times():
    pandas = pytest.importorskip("pandas")
    texts = ["2020-01-01T00:00:00.999999999", "1969-12-31T23:59:59.5"]
    naive = pandas.Series([pandas.Timestamp(text) for text in texts])
    berlin = naive.dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin")
    for dates in (naive, berlin, list(naive), list(berlin), pandas.DatetimeIndex(naive), berlin.astype(object)):
        assert Events([10, 20], dates).times.tolist() == [1_577_836_800, -1]
        assert request_times(dates, 2).tolist() == [1_577_836_800, -1]
        assert request_times(dates[0], 2).tolist() == [1_577_836_800] * 2
        unknown = [*dates[:1], pandas.NaT]
        for odd in (unknown, pandas.Series(unknown)):
            with pytest.raises(ArgumentError, match="times: expected known times, got NaT at position 1"):
                Events([10, 20], odd)
    with pytest.raises(ArgumentError, match="now: expected known times, got NaT at position 0"):
        request_times(pandas.NaT, 1)


def test_columns_of_other_libraries_are_histories_and_tables_are_not():
    pandas = pytest.importorskip("pandas")
    events = Events(pandas.Series(["b", "a"]), times=pandas.Series([20, 10]))
    assert list(events.items) == ["b", "a"] and list(events.times) == [20, 10]
    with pytest.raises(
        ArgumentTypeError, match="history: expected Events or a sequence of item ids, a column of it say, got DataFrame"
    ):
        as_users(pandas.DataFrame({"item": ["a", "b"]}))


@pytest.mark.parametrize("texts", [False, True])
def test_a_batch_may_be_of_lists_arrays_columns_and_tensors(texts):
    pandas = pytest.importorskip("pandas")
    table = ItemTable(list("abcdefgh")) if texts else ItemTable(np.arange(10, 18))
    lists = [["b", "c"], [], ["h", "?", "a"]] if texts else [[11, 12], [], [17, 99, 10]]
    kinds = [list, tuple, np.array, pandas.Series, Events] + ([] if texts else [torch.tensor])
    for first, second in itertools.product(kinds, kinds):
        histories = [first(lists[0]), lists[1], second(lists[2])]
        got = EventBatch.from_histories(histories, table, 0)
        assert got.items.tolist() == [1, 2, 7, 0] and got.offsets.tolist() == [0, 2, 2, 4]
        assert got.unknown.tolist() == [0, 0, 1] and got.times is None and got.actions is None
        rows, offsets = excluded_rows([first(lists[0]), None, second(lists[2])], table, 3)
        assert rows.tolist() == [1, 2, 7, 0] and offsets.tolist() == [0, 2, 2, 4]


def test_numbers_of_numpy_are_ids_and_tensors_without_dimensions_are_not():
    table = ItemTable(np.arange(10, 18))
    one = EventBatch.from_histories(list(np.array([11, 12])), table, 0)
    assert one.items.tolist() == [1, 2] and len(one) == 1
    for odd in (list(torch.tensor([11, 12])), [11, torch.tensor(12)], Events(list(torch.tensor([11, 12])))):
        with pytest.raises(
            ArgumentTypeError, match=r"^history\[[01]\]: expected integers, as the catalogue's ids, got Tensor$"
        ):
            EventBatch.from_histories(odd, table, 0)


@pytest.mark.parametrize("shape_of", [lambda ids: ids, lambda ids: [ids], lambda ids: [[11], ids]])
def test_masked_ids_are_refused(shape_of):
    ids = np.ma.masked_array([11, 12], mask=[False, True])
    with pytest.raises(ArgumentTypeError, match=r"got MaskedArray$"):
        EventBatch.from_histories(shape_of(ids), ItemTable(np.arange(10, 18)), 0)


def test_times_in_finer_units_are_refused():
    seconds = Events([10, 20], [1_700_000_000, 10**11])
    for times in ([1_700_000_000_000, 1_700_000_001_000], [10**11 + 1, 10**12], [1_700_000_000, 1_700_000_001_000]):
        odd = min(time for time in times if time > 10**11)
        message = f"times: expected Unix seconds, got what looks like milliseconds: {odd}$"
        with pytest.raises(ArgumentError, match=rf"^history\[2\]\.{message}"):
            check_seconds(batch_of([seconds, [], Events([10, 20], times), seconds]))
        with pytest.raises(ArgumentError, match=f"^{message}"):
            check_seconds(batch_of(Events([10, 20], times)))
    for time, unit in (
        (10**14 - 1, "milliseconds"),
        (10**14, "microseconds"),
        (1_700_000_000 * 10**6, "microseconds"),
        (5 * 10**15 - 1, "microseconds"),
        (1_700_000_000 * 10**9, "nanoseconds"),
        (5 * 10**17 + 1, "nanoseconds"),
        (42 * 10**17 - 1, "nanoseconds"),
    ):
        with pytest.raises(ArgumentError, match=f"^times: .*, got what looks like {unit}: {time}$"):
            check_seconds(batch_of(Events([10, 20], [1_700_000_000, time])))
    for history in (
        [seconds, []],
        Events([10, 20], [2**62, 2**62 + 1]),
        Events([10], [10**16]),
        [10],
        [],
    ):  # a clock of the application's own
        check_seconds(batch_of(history))
