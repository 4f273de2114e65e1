"""User events: what is accepted and what it becomes, and what is refused with the argument's name."""

from __future__ import annotations

import datetime
import itertools
import random
import re
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lsif_sdk import Events, ItemTable
from lsif_sdk.arguments import as_int64
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, LsifError
from lsif_sdk.events import (
    UNKNOWN_TIME,
    EventBatch,
    as_users,
    check_no_milliseconds,
    excluded_rows,
    request_times,
)

NUMBERS = ItemTable([10, 20, 30])
TEXTS = ItemTable(["a", "b", "数"])
BERLIN = datetime.timezone(datetime.timedelta(hours=1))
PROPERTY = settings(max_examples=30, deadline=None, derandomize=True)


def batch_of(histories: Any, table: ItemTable = NUMBERS, num_actions: int = 4) -> EventBatch:
    return EventBatch.from_histories(histories, table, num_actions)


def rows_of(batch: EventBatch, name: str = "items") -> list[list[int]]:
    """One list a user."""
    values = getattr(batch, name)
    return [values[batch.offsets[b] : batch.offsets[b + 1]].tolist() for b in range(len(batch))]


# Events


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([3, 5], [3, 5]),
        ((3, -5), [3, -5]),
        ([3.0, 5.0], [3, 5]),
        (np.array([3, 5], np.uint8), [3, 5]),
        (np.array([3, 5], np.float32), [3, 5]),
        ([2**63 - 1, -(2**63)], [2**63 - 1, -(2**63)]),
        (np.array(["1970-01-01T00:00:07", "2020-01-01"], "M8[ns]"), [7, 1_577_836_800]),
        (np.array(["1970-01-02", "2020-01-01"], "M8[D]"), [86_400, 1_577_836_800]),
        ([np.datetime64("1970-01-02"), np.datetime64("1970-01-01T00:00:09")], [86_400, 9]),
        # Seconds are whole: what a datetime64 has of a fraction is cut off, downwards before 1970 as after.
        (np.array(["1970-01-01T00:00:01.9", "1969-12-31T23:59:59.5"], "M8[ms]"), [1, -1]),
        # In UTC, where they have no time zone.
        ([datetime.datetime(1970, 1, 2), datetime.datetime(2020, 1, 1, 3, tzinfo=BERLIN)], [86_400, 1_577_844_000]),
        (np.array([datetime.datetime(1970, 1, 2), datetime.datetime(1970, 1, 1)]), [86_400, 0]),
        ([datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999), np.datetime64(1999, "ms")], [-1, 1]),
        # Exactly, where a float of seconds would be rounded up; and dates that cannot be moved to UTC.
        ([datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999)] * 2, [253_402_300_799] * 2),
        ([datetime.datetime.min.replace(tzinfo=BERLIN), datetime.datetime.min], [-62_135_600_400, -62_135_596_800]),
        (np.zeros(2, ">i8"), [0, 0]),
    ],
    ids=str,
)
def test_times_become_whole_seconds(times, expected):
    user = Events([10, 20], times)
    assert user.times.dtype == np.int64
    assert user.times.tolist() == expected


def test_fractions_of_a_second_are_rounded_down_and_an_action_has_none():
    for times in ([1.0, 2.5], [1, 2.999], np.array([1.25, 2.75]), np.array([1.5, 2.5], np.float32)):
        assert Events([10, 20], times).times.tolist() == [1, 2]
    assert Events([10], [-0.5]).times.tolist() == [-1]
    assert Events([10, 20], np.array([1, 2.5], object)).times.tolist() == [1, 2]
    assert Events([10], [time.time()]).times.dtype == np.int64
    with pytest.raises(ArgumentError, match=r"actions: expected whole numbers, got 2\.5 at position 1"):
        Events([10, 20], actions=[1.0, 2.5])


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([1.0, float("nan")], ArgumentError, "expected {reals}, got nan at position 1"),
        ([1, float("nan")], ArgumentError, "expected {reals}, got nan at position 1"),
        ([float("-inf"), 1], ArgumentError, "expected {reals}, got -inf at position 0"),
        ([1.0, 2.0**63], ArgumentError, "expected {reals}"),
        ([2**63, 2**63], ArgumentError, "expected numbers that fit int64, got 9223372036854775808"),
        (np.array([1, 2**63], np.uint64), ArgumentError, "expected numbers that fit int64"),
        ([True, False], ArgumentTypeError, "got bool"),
        ([1, None], ArgumentTypeError, "got NoneType"),
        (["1", "2"], ArgumentTypeError, "got str"),
        ([1j, 2], ArgumentTypeError, "got complex"),
        (np.array([1, 2], "m8[s]"), ArgumentTypeError, "got timedelta"),
        (np.array([1, 2], "m8[ns]"), ArgumentTypeError, "got timedelta64"),
        ([[1, 2]], ArgumentError, r"expected one dimension, got shape \[1, 2\]"),
        ([[1], [2, 3]], ArgumentError, "expected one dimension, got rows of different lengths"),
        (7, ArgumentTypeError, "expected a sequence of {numbers}, got int"),
        ("12", ArgumentTypeError, "expected a sequence of {numbers}, got str"),
        (b"12", ArgumentTypeError, "expected a sequence of {numbers}, got bytes"),
        ({1: 2}, ArgumentTypeError, "expected a sequence of {numbers}, got dict"),
        (iter([1, 2]), ArgumentTypeError, "expected a sequence of {numbers}, got list_iterator"),
        ([True, 1], ArgumentTypeError, "expected {numbers}, got bool"),
        ([1.0, np.False_], ArgumentTypeError, "expected {numbers}, got bool"),
        ([1], ArgumentError, "expected 2 values, one an item, got 1"),
        ([], ArgumentError, "expected 2 values, one an item, got 0"),
        ([1, 2, 3], ArgumentError, "expected 2 values, one an item, got 3"),
        (range(10**12), ArgumentError, "expected 2 values, one an item, got 1000000000000"),
        ([range(10**12)], ArgumentError, "expected one dimension, got ranges"),
        (
            torch.zeros(2, requires_grad=True),
            ArgumentTypeError,
            "expected one dimension, as NumPy reads it, got Tensor",
        ),
        (torch.zeros(2, dtype=torch.bfloat16), ArgumentTypeError, "as NumPy reads it, got Tensor"),
        (torch.empty(2, device="meta"), ArgumentTypeError, "as NumPy reads it, got Tensor"),
        ([2**200, 1], ArgumentError, "expected numbers that fit int64, got an integer of 201 bits"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("name", "numbers"),
    [("times", "numbers, datetime or datetime64"), ("actions", "whole numbers")],
    ids=["times", "actions"],
)
def test_odd_times_and_actions_are_refused(name, numbers, values, error, message):
    reals = "whole numbers" if name == "actions" else "finite numbers that fit int64"
    expected = message.replace("{numbers}", numbers).replace("{reals}", reals).removeprefix("expected ")
    with pytest.raises(error, match=f"^{name}: .*{expected}"):
        Events([10, 20], **{name: values})


NOON = datetime.datetime(2020, 1, 1, 12)


@pytest.mark.parametrize(
    ("times", "error", "message"),
    [
        (np.array(["2020-01-01", "NaT"], "M8[s]"), ArgumentError, "times: expected known times, got NaT at position 1"),
        ([NOON, np.datetime64("NaT")], ArgumentError, "times: expected known times, got NaT at position 1"),
        (np.array([1, 2**62], "M8[D]"), ArgumentError, "times: expected dates whose seconds fit int64"),
        (np.array([1, 2**60], "M8[Y]"), ArgumentError, "times: expected dates whose seconds fit int64"),
        ([NOON, np.datetime64(2**60, "Y")], ArgumentError, "times: expected dates whose seconds fit int64"),
        (np.array([1, 2], "M8[as]"), ArgumentError, "times: expected dates in units of at least a femtosecond"),
        ([NOON, 5], ArgumentTypeError, r"times\[1\]: expected datetime .* as others of them are, got int"),
        ([None, NOON], ArgumentTypeError, r"times\[0\]: expected datetime .* as others of them are, got NoneType"),
        ([NOON, NOON.date()], ArgumentTypeError, r"times\[1\]: expected datetime .* as others of them are, got date"),
        ([NOON.date()] * 2, ArgumentTypeError, "times: expected numbers, datetime or datetime64"),
        ([[NOON], [NOON]], ArgumentError, "times: expected one dimension"),
        ([NOON], ArgumentError, "times: expected 2 values, one an item, got 1"),
    ],
    ids=str,
)
def test_odd_dates_are_refused(times, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Events([10, 20], times)


def test_dates_are_no_actions():
    for dates in ([NOON, NOON], np.array([1, 2], "M8[s]")):
        with pytest.raises(ArgumentTypeError, match="actions: expected whole numbers, got "):
            Events([10, 20], None, dates)


def test_items_of_events_are_a_sequence():
    for items in ("ab", {1}, {1: 2}, 5, None, iter([1]), np.array([[1]])):
        with pytest.raises(ArgumentTypeError, match=r"^items: expected a sequence of item ids"):
            Events(items)
    with pytest.raises(ArgumentTypeError, match=r"^items: expected nothing but ids in the list, got tuple"):
        Events([1, (2,), [3]])
    assert len(Events([])) == 0
    assert len(Events(np.array(["a", "b"]))) == 2


@PROPERTY
@given(st.lists(st.sampled_from([-(2**63), -7, 0, 3, 4, 2**63 - 1]), max_size=12), st.booleans())
def test_events_are_sorted_by_time_and_ties_keep_their_order(times, unsorted_neighbour):
    """Extremes included: UNKNOWN_TIME is the least int64, and no difference to it fits one."""
    table = ItemTable(list(range(12)))
    items = list(range(len(times)))
    actions = [item % 5 for item in items]
    # Whether a user is sorted must not depend on who else is in the batch.
    others = [Events([3, 1], [9, 8]), Events([2, 2], [8, 9])] if unsorted_neighbour else []
    batch = batch_of([Events(items, times, actions), *others], table)
    order = sorted(items, key=lambda item: times[item])
    assert rows_of(batch)[0] == order
    assert rows_of(batch, "times")[0] == [times[item] for item in order]
    assert rows_of(batch, "actions")[0] == [actions[item] for item in order]
    assert rows_of(batch)[1:] == ([[1, 3], [2, 2]] if unsorted_neighbour else [])


def test_unknown_items_are_left_out_with_their_times_and_actions():
    batch = batch_of([Events([99, 10, 98, 30], [1, 9, 3, 5], [1, 2, 9, 4]), Events([77], [5], [1]), Events([20])])
    assert rows_of(batch) == [[2, 0], [], [1]]
    assert rows_of(batch, "times") == [[5, 9], [], [UNKNOWN_TIME]]
    assert rows_of(batch, "actions") == [[4, 2], [], [0]]
    assert batch.unknown.tolist() == [2, 1, 0]
    assert batch.offsets.tolist() == [0, 2, 2, 3]
    for name in ("items", "times", "actions", "offsets", "unknown"):
        assert getattr(batch, name).dtype == np.int64


def test_actions_are_in_range():
    user = Events([10, 20, 30], None, [0, 4, 1])
    assert rows_of(batch_of(user, num_actions=4), "actions") == [[0, 4, 1]]
    assert batch_of(user, num_actions=4).times is None
    assert batch_of(user, num_actions=0).actions is None
    with pytest.raises(ArgumentError, match=r"actions: expected values in \[0, 3\], got 4"):
        batch_of(user, num_actions=3)
    with pytest.raises(ArgumentError, match="actions: expected values >= 0, got -1"):
        Events([20], None, [-1])


# Histories


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
        (Events([10, 20]), [[0, 1]]),
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
        (np.array([[1], [2, 3]], object), "history"),
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


@pytest.mark.parametrize("odd", [True, 10.0, None, "10", float("nan")], ids=repr)
def test_odd_ids_in_histories_are_refused(odd):
    for history in ([10, odd], [[10], [odd]], Events([odd]), [{"x": 1}] if odd is None else [odd, 10]):
        with pytest.raises(ArgumentTypeError, match="history: expected integers"):
            batch_of(history)


@pytest.mark.parametrize("kind", ["M8[ns]", "m8[ns]", "M8[s]"])
def test_times_are_no_ids(kind):
    """Nanoseconds become plain integers when NumPy makes a list of them."""
    for call in (batch_of, NUMBERS.rows, TEXTS.rows, NUMBERS.known_rows, ItemTable):
        with pytest.raises(ArgumentTypeError, match="expected"):
            call(np.array([10, 20], kind))


def test_integers_are_no_ids_of_a_catalogue_of_strings():
    with pytest.raises(ArgumentTypeError, match="history: expected strings, as the catalogue's ids, got int"):
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
    """Only errors of the SDK, whatever the value: no IndexError, no StopIteration, no bare ValueError of numpy."""
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
                assert re.match(r"[a-z]+(\[\d+\])?: expected ", str(error)), value
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
    with pytest.raises(ArgumentTypeError, match=r"history: expected a column of it, or Events\(items, times\)"):
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
            ArgumentTypeError, match=r"^history: expected integers, as the catalogue's ids, got Tensor$"
        ):
            EventBatch.from_histories(odd, table, 0)


@pytest.mark.parametrize("shape_of", [lambda ids: ids, lambda ids: [ids], lambda ids: [[11], ids]])
def test_masked_ids_are_refused(shape_of):
    ids = np.ma.masked_array([11, 12], mask=[False, True])
    with pytest.raises(ArgumentTypeError, match=r"got MaskedArray$"):
        EventBatch.from_histories(shape_of(ids), ItemTable(np.arange(10, 18)), 0)


def test_times_in_milliseconds_are_refused():
    seconds = Events([10, 20], [1_700_000_000, 10**11 + 1])  # one odd time
    for times in ([1_700_000_000_000, 1_700_000_001_000], [10**11 + 1, 10**12]):
        with pytest.raises(ArgumentError, match="times: expected Unix seconds, got what looks like milliseconds: 1"):
            check_no_milliseconds(batch_of([seconds, Events([10, 20], times)]))
    for history in ([seconds, []], Events([10, 20], [2**62, 2**62 + 1]), [10], []):  # a clock of somebody's own
        check_no_milliseconds(batch_of(history))
