"""The global time split, event by event: known events are before the boundary, targets after it."""

from __future__ import annotations

import dataclasses
import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation_cases import make_log, random_log
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError
from lsif_sdk.evaluation import Popularity, evaluate, leave_one_out, time_split
from lsif_sdk.times import UNKNOWN_TIME


@st.composite
def logs_and_boundaries(draw):
    """Few distinct times, so that events on a boundary and at the same time are common."""
    users = st.lists(st.lists(st.integers(-3, 5), max_size=6), min_size=1, max_size=5)
    times = [sorted(own) for own in draw(users)]
    total = sum(map(len, times))
    items = draw(st.lists(st.integers(0, 4), min_size=total, max_size=total))
    starts = np.cumsum([0, *map(len, times)])
    histories = [items[starts[u] : starts[u + 1]] for u in range(len(times))]
    log = make_log(histories, 5, times=np.array([time for own in times for time in own], dtype=np.int64))
    validation_from = draw(st.integers(-4, 5))
    return log, validation_from, draw(st.integers(validation_from + 1, 7))


def events_of(log, user):
    own = log.user(user)
    return list(zip(own.times.tolist(), own.items.tolist(), own.actions.tolist(), strict=True))


@settings(deadline=None)
@given(logs_and_boundaries())
def test_nothing_is_known_before_its_time(problem):
    log, validation_from, test_from = problem
    if log.items.size == 0:
        with pytest.raises(DataError, match="needs events with times"):
            time_split(log, validation_from, test_from)
        return
    split = time_split(log, validation_from, test_from)
    assert split.log is log
    for user in range(log.num_users):
        events = events_of(log, user)
        train = [event for event in events if event[0] < validation_from]
        known = [event for event in events if event[0] < test_from]
        assert events_of(split.train, user) == train
        assert events_of(split.test_history, user) == known
        between = [event for event in events if validation_from <= event[0] < test_from] if train else []
        later = [event for event in events if event[0] >= test_from] if known else []
        for target, expected in (("validation", between), ("test", later)):
            items, times = split.targets(target)
            got = (times[user], items[user])
            assert got == (expected[0][:2] if expected else (0, -1))
            # The target is the event right after the history: none is skipped, and none is already known.
            if expected:
                assert events[len(events_of(split.history(target), user))] == expected[0]


def test_by_hand_with_ties_on_both_boundaries():
    log = make_log([[0, 1, 2, 3], [4, 0], [1], [], [2, 3]], 5, times=np.array([1, 5, 5, 9, 5, 9, 4, 4, 8]))
    split = time_split(log, 5, 9)
    # Of two events at the boundary, the first in the log is the target; the second is history for the test.
    assert split.validation_items.tolist() == [1, -1, -1, -1, 3]
    assert split.validation_times.tolist() == [5, 0, 0, 0, 8]
    assert split.test_items.tolist() == [3, 0, -1, -1, -1]
    assert split.test_times.tolist() == [9, 9, 0, 0, 0]
    assert [split.train.user(u).items.tolist() for u in range(5)] == [[0], [], [1], [], [2]]
    assert [split.test_history.user(u).items.tolist() for u in range(5)] == [[0, 1, 2], [4], [1], [], [2, 3]]
    assert split.protocol == "time split: trained before 5, tested on each user's first event from 9 on"
    assert split.hash("validation") != split.hash("test")


def test_boundaries_are_quantiles_of_the_times():
    log = make_log([range(50), range(50)], 50)  # times 100 .. 199
    split = time_split(log)
    assert split.train.times.max() < 180 <= split.test_history.times.max() < 190
    assert (split.train.items.size, split.test_history.items.size) == (80, 90)
    exact = make_log([[0] * 10], 1, times=2**61 + np.arange(10))  # beyond what float64 holds
    assert time_split(exact).test_history.times.tolist() == (2**61 + np.arange(9)).tolist()


@pytest.mark.parametrize("histories", [[range(8), range(8)], [range(3)]])
def test_times_that_leave_no_room_are_not_blamed_on_a_moment_nobody_named(histories):
    times = np.full(sum(map(len, histories)), 1_700_000_000)
    times[0] -= 100
    with pytest.raises(DataError, match=r"their times leave no room for a split by time: .* 1700000000, and so"):
        time_split(make_log(histories, 8, times=times))


@pytest.mark.parametrize(
    "moment",
    [
        datetime.date(2012, 11, 1),
        datetime.datetime(2012, 11, 1),
        datetime.datetime(2012, 11, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
        np.datetime64("2012-11-01", "ns"),
        "2012-11-01",
        "2012-11-01T01:00+01:00",
        "1351728000",
        1_351_728_000.9,
    ],
    ids=str,
)
def test_boundaries_may_be_dates(moment):
    log = make_log([range(8), range(8)], 8, times=np.tile(1_351_728_000 + 86_400 * np.arange(-4, 4), 2))
    assert time_split(log, moment, "2012-11-03").validation_from == 1_351_728_000
    assert time_split(log, "2012-10-30", moment).test_from == 1_351_728_000


def test_a_split_says_what_it_is():
    log = make_log([range(50), range(50)], 50)
    split = time_split(log, np.int64(120), np.int64(130))
    assert (split.name, split.validation_from, split.test_from) == ("time", 120, 130)
    assert type(split.test_from) is int
    once = leave_one_out(log)
    assert (once.name, once.protocol, once.test_from) == ("leave_one_out", "leave-one-out", None)
    assert dataclasses.replace(once, name="my_own").protocol == "my_own"


def test_evaluation_asks_the_targets_of_the_split():
    log = random_log(2)
    log = dataclasses.replace(log, times=np.concatenate([np.sort(t) for t in np.split(log.times, log.offsets[1:-1])]))
    split = time_split(log, 200, 250)
    report = evaluate(Popularity.from_log(split.test_history), split, progress=False)
    assert report.user_rows.tolist() == np.flatnonzero(split.test_items >= 0).tolist()
    assert report.protocol == split.protocol != leave_one_out(log).protocol
    assert report.targets_hash == split.hash()


def test_what_cannot_be_split_is_refused():
    log = random_log(1)
    with pytest.raises(DataError, match="needs events with times"):
        time_split(dataclasses.replace(log, times=None))
    with pytest.raises(ArgumentError, match="test_from: expected a time after validation_from = 150, got 150"):
        time_split(log, 150, 150)
    with pytest.raises(ArgumentError, match=r"validation_from: expected a time before \d+, from which on .*, got 2000"):
        time_split(log, 2000)
    with pytest.raises(ArgumentError, match="test_from: expected Unix seconds or ISO dates with hyphens, got 'May'"):
        time_split(log, 150, "May")
    with pytest.raises(ArgumentError, match="validation_from: expected numbers that fit int64, got 999"):
        time_split(log, "9" * 400 + ".5")
    with pytest.raises(ArgumentError, match="validation_from: expected known times, got NaT"):
        time_split(log, np.datetime64("NaT"))
    for odd in (True, b"2012-11-01", ()):
        with pytest.raises((ArgumentError, ArgumentTypeError), match="validation_from: expected"):
            time_split(log, odd)
    for times in (np.array([1, 2, 5, 4]), np.array([1, 2, 5, UNKNOWN_TIME])):
        with pytest.raises(DataError, match="order of time; user u1 has"):
            time_split(make_log([[0, 1], [2, 3]], 4, times=times), 2, 4)
