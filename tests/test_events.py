"""Events of one user: what is accepted and how it is converted, and what is refused with the argument's name."""

from __future__ import annotations

import datetime
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from event_cases import batch_of, rows_of
from lsif_sdk import Events, ItemTable
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.times import UNKNOWN_TIME, of_text

BERLIN = datetime.timezone(datetime.timedelta(hours=1))
PROPERTY = settings(max_examples=30, deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([3, 5], [3, 5]),
        ((3, -5), [3, -5]),
        ([3.0, 5.0], [3, 5]),
        (np.array([np.int64(3), 5], object), [3, 5]),
        (np.array([np.float64(3.5), 5, np.int32(7)][:2], object), [3, 5]),
        (np.array([3, 5], np.uint8), [3, 5]),
        (np.array([3, 5], np.float32), [3, 5]),
        ([2**63 - 1, -(2**63)], [2**63 - 1, -(2**63)]),
        (np.array(["1970-01-01T00:00:07", "2020-01-01"], "M8[ns]"), [7, 1_577_836_800]),
        (np.array(["1970-01-02", "2020-01-01"], "M8[D]"), [86_400, 1_577_836_800]),
        ([np.datetime64("1970-01-02"), np.datetime64("1970-01-01T00:00:09")], [86_400, 9]),
        # Seconds are whole: fractions of a datetime64 are rounded down, also before 1970.
        (np.array(["1970-01-01T00:00:01.9", "1969-12-31T23:59:59.5"], "M8[ms]"), [1, -1]),
        # Without a time zone, they are in UTC.
        ([datetime.datetime(1970, 1, 2), datetime.datetime(2020, 1, 1, 3, tzinfo=BERLIN)], [86_400, 1_577_844_000]),
        (np.array([datetime.datetime(1970, 1, 2), datetime.datetime(1970, 1, 1)]), [86_400, 0]),
        ([datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999), np.datetime64(1999, "ms")], [-1, 1]),
        # Exact where a float of seconds would round up; and dates that cannot be converted to UTC.
        ([datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999)] * 2, [253_402_300_799] * 2),
        ([datetime.datetime.min.replace(tzinfo=BERLIN), datetime.datetime.min], [-62_135_600_400, -62_135_596_800]),
        # A day begins at midnight in UTC.
        ([datetime.date(1970, 1, 2), datetime.date(1969, 12, 31)], [86_400, -86_400]),
        ([datetime.datetime(1970, 1, 1, 0, 1), datetime.date(1970, 1, 2)], [60, 86_400]),
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
    with pytest.raises(ArgumentError, match=r"times: expected finite numbers .* int64, got an integer of 1329 bits"):
        Events([10, 20], [1.5, 10**400])
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
        ([1], ArgumentError, "expected 2 values, one per item, got 1"),
        ([], ArgumentError, "expected 2 values, one per item, got 0"),
        ([1, 2, 3], ArgumentError, "expected 2 values, one per item, got 3"),
        (range(10**12), ArgumentError, "expected 2 values, one per item, got 1000000000000"),
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
    [("times", "numbers, date, datetime or datetime64"), ("actions", "whole numbers")],
    ids=["times", "actions"],
)
def test_odd_times_and_actions_are_refused(name, numbers, values, error, message):
    reals = "whole numbers" if name == "actions" else "finite numbers that fit int64"
    expected = message.replace("{numbers}", numbers).replace("{reals}", reals).removeprefix("expected ")
    with pytest.raises(error, match=rf"^{name}(\[\d\])?: .*{expected}"):
        Events([10, 20], **{name: values})


NOON = datetime.datetime(2020, 1, 1, 12)


@pytest.mark.parametrize(
    ("times", "error", "message"),
    [
        (np.array(["2020-01-01", "NaT"], "M8[s]"), ArgumentError, "times: expected known times, got NaT at position 1"),
        (
            np.array([5, 1.7e9], np.float32),
            ArgumentError,
            "times: expected Unix seconds made as int64 or float64, got float32, which cannot .* 16777216 on",
        ),
        (
            [np.float16(2049)],
            ArgumentError,
            "times: expected .*, got float16, which cannot hold each second from 2048 on",
        ),
        ([NOON, np.datetime64("NaT")], ArgumentError, "times: expected known times, got NaT at position 1"),
        (np.array([1, 2**62], "M8[D]"), ArgumentError, "times: expected dates whose seconds fit int64"),
        (np.array([1, 2**60], "M8[Y]"), ArgumentError, "times: expected dates whose seconds fit int64"),
        ([NOON, np.datetime64(2**60, "Y")], ArgumentError, "times: expected dates whose seconds fit int64"),
        (np.array([1, 2], "M8[as]"), ArgumentError, "times: expected dates in units of at least a femtosecond"),
        ([NOON, 5], ArgumentTypeError, r"times\[1\]: expected date, datetime .* as others of them are, got int"),
        (
            [None, NOON],
            ArgumentTypeError,
            r"times\[0\]: expected date, datetime .* as others of them are, got NoneType",
        ),
        ([NOON.date(), NOON.time()], ArgumentTypeError, r"times\[1\]: expected date, datetime .*, got time"),
        ([NOON.time()] * 2, ArgumentTypeError, r"times\[0\]: expected numbers, date, datetime or datetime64"),
        ([[NOON], [NOON]], ArgumentError, "times: expected one dimension"),
        ([NOON], ArgumentError, "times: expected 2 values, one per item, got 1"),
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
    """Includes extremes: UNKNOWN_TIME is the least int64, and differences to it may not fit an int64."""
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


def test_events_are_sorted_where_the_first_users_have_none():
    table = ItemTable(list(range(12)))
    for empty in ([], [[]], [[], [], []]):
        batch = batch_of([*empty, Events([1, 2], [5, 7]), *empty, Events([3, 4, 5], [1, 3, 2]), *empty], table)
        assert [rows for rows in rows_of(batch) if rows] == [[1, 2], [3, 5, 4]]


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


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("-1.5", -2), ("1.99999999999999999999999", 1), ("9223372036854775807.9", 2**63 - 1), ("-0.0", 0)],
)
def test_fractions_in_text_are_rounded_down_exactly(text, seconds):
    assert of_text("now", text) == seconds
