"""The baselines from a user's own items or from the newest days, against lists made one item at a time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation_cases import make_log, random_log
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.evaluation import OwnItems, Popularity, RecentPopularity, evaluate, leave_one_out
from lsif_sdk.evaluation.metrics import top_k_rows

DAY = 86400
HISTORIES = st.lists(st.lists(st.integers(0, 5), max_size=9), min_size=1, max_size=4)


def slow_order(histories, user, by, num_items):
    """Own items first, then the others in groups of equal popularity, best first."""
    own, everything = histories[user], [item for history in histories for item in history]

    def key(item):
        last = max(position for position, other in enumerate(own) if other == item)
        return (own.count(item), last) if by == "frequency" else (last,)

    groups = [[item] for item in sorted(set(own), key=key, reverse=True)]
    rest = [item for item in range(num_items) if item not in own]
    for count in sorted({everything.count(item) for item in rest}, reverse=True):
        groups.append([item for item in rest if everything.count(item) == count])
    return groups


@settings(deadline=None)
@given(HISTORIES, st.sampled_from(["frequency", "recency"]))
def test_own_items_come_first_and_the_rest_by_popularity(histories, by):
    users = np.arange(len(histories))[::-1]
    scores = OwnItems(make_log(histories, 6), by).scores(users)
    assert scores.shape == (len(histories), 6) and scores.dtype == np.float32
    for row, user in enumerate(users):
        groups = [[i for i in range(6) if scores[row, i] == value] for value in sorted(set(scores[row]), reverse=True)]
        assert groups == slow_order(histories, user, by, 6)


def test_old_events_count_less_with_a_half_life():
    # Item 0 three times long ago, item 1 once, item 2 twice: newest first 1, 2, 2, 3, 0, 0, 0.
    log = make_log([[0, 0, 0, 3, 2, 2, 1]], 5)

    def best(half_life):
        return OwnItems(log, "frequency", half_life).scores(np.array([0]))[0].argsort()[::-1][:4].tolist()

    assert best(None) == best(1e9) == [0, 2, 1, 3]
    # Half-life 2: item 2 counts 2^-.5 + 2^-1 = 1.21, item 1 counts 1, item 0 2^-2 + 2^-2.5 + 2^-3 = .55, item 3 .35.
    assert best(2) == [2, 1, 0, 3]
    assert best(1e-3) == [1, 2, 3, 0]
    with pytest.raises(ArgumentError, match=r"half_life: expected a number in \(0, inf\], got 0"):
        OwnItems(log, "frequency", 0)


def test_own_items_keep_their_order_where_float32_is_coarse():
    # With 600 levels of popularity, the highest is nearer to 1 than half of float32's spacing at 70,000.
    num_items = 70_001
    others = np.repeat(np.arange(num_items - 601, num_items - 1), np.arange(600))
    scores = OwnItems(make_log([others, np.arange(num_items)], num_items), "recency").scores(np.array([1]))
    assert (np.diff(scores[0]) > 0).all()


def test_with_seen_items_left_out_own_items_are_popularity():
    split = leave_one_out(random_log(3))
    own, popular = OwnItems(split.test_history, "frequency"), Popularity.from_log(split.test_history)
    ranks = [evaluate(scorer, split, progress=False).per_user.tolist() for scorer in (own, popular)]
    assert ranks[0] == ranks[1]
    again = [evaluate(scorer, split, exclude_seen=False, progress=False) for scorer in (own, popular)]
    assert again[0].per_user.tolist() != again[1].per_user.tolist()
    with pytest.raises(ArgumentError, match=r"by: expected one of 'frequency', 'recency', got 'luck'"):
        OwnItems(split.train, "luck")
    with pytest.raises(ArgumentTypeError, match=r"by: expected one of 'frequency', 'recency', got ndarray"):
        OwnItems(split.train, np.array(["recency"] * 2))


@pytest.mark.parametrize("newest", [1_600_000_000, 0, -50 * DAY])
def test_recent_popularity_counts_less_than_so_many_days_before_the_newest_event(newest):
    ages = np.array([20 * DAY, 7 * DAY, 7 * DAY - 1, DAY // 2, 0, 0])
    log = make_log([[0, 1, 2, 3], [4, 4]], 6, times=newest - ages)

    def groups(days):
        scores = RecentPopularity.from_log(log, days).scores(np.array([0]))[0]
        return [np.flatnonzero(scores == value).tolist() for value in sorted(set(scores), reverse=True)]

    assert groups(7) == [[4], [2, 3], [0, 1, 5]]  # an event exactly seven days older is left out
    assert groups(0.5) == [[4], [0, 1, 2, 3, 5]]
    assert groups(0.500001) == [[4], [3], [0, 1, 2, 5]]
    assert groups(float("inf")) == [[4], [0, 1, 2, 3], [5]]


def test_recent_popularity_needs_times_and_days():
    log = random_log(0)
    with pytest.raises(ArgumentError, match="history: expected events with times"):
        RecentPopularity.from_log(dataclasses.replace(log, times=None))
    for days in (0, -1, float("nan")):
        with pytest.raises(ArgumentError, match="days"):
            RecentPopularity.from_log(log, days)
    empty = make_log([[], []], 3)
    assert top_k_rows(RecentPopularity.from_log(empty).scores(np.array([0])), 2).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda log: Popularity.from_log(5), "history: expected an EventLog, .* got int 5"),
        (lambda log: RecentPopularity.from_log(None), "history: expected an EventLog, .* got NoneType"),
        (lambda log: OwnItems(None, "recency"), "history: expected an EventLog, .* got NoneType"),
        (lambda log: RecentPopularity.from_log(log, "x"), r"days: expected a number in \(0, inf\], got str 'x'"),
        (lambda log: OwnItems(log, "frequency", "x"), r"half_life: expected a number in \(0, inf\], got str 'x'"),
        (lambda log: Popularity(["a"]), "counts: expected a count >= 0 for each item, got list"),
        (lambda log: Popularity(None), "counts: expected a count >= 0 for each item, got NoneType"),
        (lambda log: Popularity([1.0, float("nan")]), r"counts: expected a count >= 0 for each item, got shape \(2,\)"),
    ],
)
def test_arguments_of_another_type_are_refused_by_name(call, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=f"^{message}"):
        call(random_log(0))
