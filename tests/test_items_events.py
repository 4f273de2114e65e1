"""Item ids and user events: what is accepted and what it becomes, and what is refused with the argument's name."""

from __future__ import annotations

import datetime
import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lsif_sdk import Events, ItemTable
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ArtifactError, LsifError
from lsif_sdk.events import UNKNOWN_TIME, EventBatch, as_int64, as_users

NUMBERS = ItemTable([10, 20, 30])
TEXTS = ItemTable(["a", "b", "数"])
PROPERTY = settings(max_examples=30, deadline=None, derandomize=True)


def batch_of(histories: Any, table: ItemTable = NUMBERS, num_actions: int = 4) -> EventBatch:
    return EventBatch.from_histories(histories, table, num_actions)


def rows_of(batch: EventBatch, name: str = "items") -> list[list[int]]:
    """One list a user."""
    values = getattr(batch, name)
    return [values[batch.offsets[b] : batch.offsets[b + 1]].tolist() for b in range(len(batch))]


# Ids


@pytest.mark.parametrize(
    "ids",
    [
        [7, -1, 2**63 - 1, -(2**63)],
        (7, -1, 0, 3),
        np.array([7, 1, 2, 3], np.uint8),
        np.array([7, -1, 2, 3], np.int32),
        [np.int64(7), 1, np.uint16(2), 3],
    ],
    ids=["list", "tuple", "uint8", "int32", "mixed widths"],
)
def test_integer_ids(ids):
    table = ItemTable(ids)
    expected = [int(value) for value in ids]
    assert not table.has_string_ids
    assert table.id_kind == "integers"
    assert table.ids.dtype == np.int64
    assert table.ids.tolist() == expected
    for kind in (list, np.array):
        assert table.rows(kind(expected[::-1])) == ([3, 2, 1, 0], 0)
    assert table.row(np.int64(expected[2])) == 2


@pytest.mark.parametrize("ids", [["a", "", "数"], ("a", "", "数"), np.array(["a", "", "数"])])
def test_string_ids(ids):
    table = ItemTable(ids)
    assert table.has_string_ids
    assert table.id_kind == "strings"
    assert table.ids.tolist() == ["a", "", "数"]
    assert table.rows(np.array(["数", "a"])) == ([2, 0], 0)
    assert table.row("") == 1


@pytest.mark.parametrize(
    "ids",
    [
        [True, False],
        np.array([True, False]),
        [1, True],
        [1.0, 2.0],
        np.array([1.0, 2.0]),
        [1, float("nan")],
        [None, None],
        [1, None],
        ["a", None],
        [1, "a"],
        ["a", 1],
        np.array([1, "a"], object),
        [b"a"],
        [(1,)],
        np.array([[1, 2]]),
    ],
    ids=str,
)
def test_ids_of_no_one_kind_are_refused(ids):
    with pytest.raises(ArgumentTypeError, match="ids: expected all integers or all strings"):
        ItemTable(ids)


@pytest.mark.parametrize(
    "ids",
    ["abc", {1, 2}, {1: 2}, iter([1]), 5, None, np.int64(5), np.str_("abc"), np.array(5)],
    ids=lambda ids: type(ids).__name__,
)
def test_ids_that_are_no_sequence_are_refused(ids):
    with pytest.raises(ArgumentTypeError, match="ids: expected a sequence"):
        ItemTable(ids)


@pytest.mark.parametrize("ids", [[2**63], [-(2**63) - 1], np.array([2**64 - 1], np.uint64)])
def test_integers_past_int64_are_refused(ids):
    with pytest.raises(ArgumentError, match="ids: expected integers that fit int64"):
        ItemTable(ids)


def test_texts_without_utf8_are_refused():
    with pytest.raises(ArgumentError, match=r"ids: .*surrogate"):
        ItemTable(["a", "\ud800"])
    with pytest.raises(ArgumentError, match=r"titles: .*surrogate"):
        ItemTable(["a"], ["\ud800"])


@pytest.mark.parametrize(("ids", "repeat"), [([3, 1, 2, 1, 3], "1"), (["b", "a", "b"], "'b'")])
def test_repeated_ids_are_refused_by_name(ids, repeat):
    with pytest.raises(ArgumentError, match=re.escape(f"ids: expected no two equal ids, got {repeat} more than once")):
        ItemTable(ids)


def test_titles_and_counts_match_the_ids():
    table = ItemTable([5, 6], ("five", "six"), np.array([2, 9], np.int32))
    assert table.titles == ["five", "six"]
    assert table.counts.dtype == np.int64
    assert [table.title(row) for row in (0, 1)] == ["five", "six"]
    assert ItemTable([5, 6]).title(1) == "6"
    assert ItemTable([5, 6]).counts.tolist() == [0, 0]
    with pytest.raises(ArgumentError, match="titles: expected 2 texts, one an item, got 1"):
        ItemTable([5, 6], ["five"])
    with pytest.raises(ArgumentTypeError, match="titles: expected texts, got int"):
        ItemTable([5, 6], ["five", 6])
    with pytest.raises(ArgumentTypeError, match="titles: expected a sequence"):
        ItemTable([5, 6], "56")
    for counts in (np.array([1]), np.array([[1, 2]]), np.array([1.0, 2.0]), np.array([True, False])):
        with pytest.raises(ArgumentError, match=r"counts: expected integers of shape \[2\]"):
            ItemTable([5, 6], None, counts)
    with pytest.raises(ArgumentError, match="counts: expected values >= 0, got -3"):
        ItemTable([5, 6], None, np.array([1, -3]))


def test_unknown_ids_are_counted_or_refused():
    assert NUMBERS.rows([30, 99, 10, 30, -1]) == ([2, 0, 2], 2)
    assert NUMBERS.rows([]) == ([], 0)
    assert NUMBERS.known(np.array([30, 99])).tolist() == [True, False]
    assert TEXTS.rows(["数", "z"]) == ([2], 1)
    with pytest.raises(ArgumentError, match="item: expected an item of the catalogue, got 99"):
        NUMBERS.row(99)
    with pytest.raises(ArgumentError, match="seed: expected an item of the catalogue, got 'z'"):
        TEXTS.row("z", "seed")


@pytest.mark.parametrize("odd", [True, 10.0, None, "10", b"10", float("nan"), np.float32(10), np.bool_(True)], ids=repr)
def test_ids_of_another_kind_than_the_catalogue_are_refused(odd):
    with pytest.raises(ArgumentTypeError, match=f"exclude: expected integers, .*got {type(odd).__name__}"):
        NUMBERS.rows([10, odd], "exclude")
    with pytest.raises(ArgumentTypeError, match="item: expected integers"):
        NUMBERS.row(odd)
    if not isinstance(odd, str):
        with pytest.raises(ArgumentTypeError, match="exclude: expected strings"):
            TEXTS.rows(["a", odd], "exclude")


def test_take_marks_absent_rows():
    rows = np.array([[2, -1], [0, 1]])
    assert NUMBERS.take(rows).tolist() == [[30, -1], [10, 20]]
    assert TEXTS.take(rows).tolist() == [["数", None], ["a", "b"]]
    assert rows.tolist() == [[2, -1], [0, 1]]


def test_popularity_breaks_ties_by_row():
    assert ItemTable([4, 5, 6, 7], None, np.array([1, 3, 1, 3])).by_popularity.tolist() == [1, 3, 0, 2]


def test_a_table_keeps_no_hold_on_the_callers_arrays():
    ids, counts, titles = np.array([1, 2]), np.array([3, 4]), ["x", "y"]
    table = ItemTable(ids, titles, counts)
    ids[0], counts[0], titles[0] = 9, 9, "z"
    assert (table.ids.tolist(), table.counts.tolist(), table.titles) == ([1, 2], [3, 4], ["x", "y"])
    with pytest.raises(ValueError, match="read-only"):
        table.ids[0] = 9
    with pytest.raises(ValueError, match="read-only"):
        table.counts[0] = 9


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@PROPERTY
@given(st.data())
def test_tables_survive_tensors(data):
    element = data.draw(st.sampled_from([texts, st.integers(-(2**63), 2**63 - 1)]))
    ids = data.draw(st.lists(element, min_size=1, max_size=8, unique=True))
    titles = data.draw(st.none() | st.lists(texts, min_size=len(ids), max_size=len(ids)))
    counts = data.draw(st.lists(st.integers(0, 2**40), min_size=len(ids), max_size=len(ids)))
    table = ItemTable(ids, titles, np.array(counts))
    again = ItemTable.from_tensors(table.to_tensors(), len(ids), "items")
    assert again.ids.tolist() == ids
    assert again.titles == titles
    assert again.counts.tolist() == counts
    assert again.rows(ids) == (list(range(len(ids))), 0)


def test_tensors_that_disagree_are_refused():
    tensors = TEXTS.to_tensors()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"ids.offsets": torch.tensor([0, 1, 1])}, r"ids\.offsets: expected int64 \[4\]"),
        ({"ids.offsets": torch.tensor([0, 2, 1, 5])}, r"ids\.offsets: expected non-decreasing"),
        ({"ids.offsets": torch.tensor([1, 1, 2, 5])}, r"ids\.offsets: expected non-decreasing values from 0 to 5"),
        ({"ids.offsets": torch.tensor([0, 1, 2, 4])}, r"ids\.offsets: expected non-decreasing values from 0 to 5"),
        ({"ids.offsets": torch.tensor([0, 1, 3, 5])}, r"ids\.bytes: expected UTF-8"),
        ({"ids.bytes": tensors["ids.bytes"].to(torch.int32)}, r"ids\.bytes: expected uint8"),
        ({"counts": torch.tensor([0, 0, -1])}, "counts: expected values >= 0, got -1"),
        ({"counts": torch.zeros(3)}, r"counts: expected int64 \[3\], got float32"),
        ({"titles.offsets": torch.zeros(4, dtype=torch.int64)}, r"titles\.bytes: .*none"),
        ({"colours": torch.zeros(3)}, "unknown colours"),
    ]
    for change, expected in wrong:
        with pytest.raises(
            ArtifactError, match=f"^folder/items: {expected}" if "unknown" not in expected else expected
        ):
            ItemTable.from_tensors({**tensors, **change}, 3, "folder/items")


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
    ],
    ids=str,
)
def test_times_become_whole_seconds(times, expected):
    user = Events([10, 20], times)
    assert user.times.dtype == np.int64
    assert user.times.tolist() == expected


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([1.0, float("nan")], ArgumentError, "expected whole numbers, got nan at position 1"),
        ([1, float("nan")], ArgumentError, "expected whole numbers, got nan at position 1"),
        ([float("-inf"), 1], ArgumentError, "expected whole numbers, got -inf at position 0"),
        ([1.0, 2.5], ArgumentError, r"expected whole numbers, got 2\.5 at position 1"),
        ([1.0, 2.0**63], ArgumentError, "expected whole numbers"),
        ([2**63, 2**63], ArgumentError, "expected numbers that fit int64, got 9223372036854775808"),
        (np.array([1, 2**63], np.uint64), ArgumentError, "expected numbers that fit int64"),
        (np.array(["2020-01-01", "NaT"], "M8[s]"), ArgumentError, "expected known times, got NaT"),
        ([True, False], ArgumentTypeError, "got bool"),
        ([1, None], ArgumentTypeError, "got NoneType"),
        (["1", "2"], ArgumentTypeError, "got str"),
        ([1j, 2], ArgumentTypeError, "got complex"),
        (np.array([1, 2], "m8[s]"), ArgumentTypeError, "got timedelta"),
        (np.array([1, 2], "m8[ns]"), ArgumentTypeError, "got timedelta64"),
        ([[1, 2]], ArgumentError, r"expected one dimension, got shape \[1, 2\]"),
        ([[1], [2, 3]], ArgumentError, "expected one dimension, got rows of different lengths"),
        (7, ArgumentError, "expected one dimension"),
        ("12", ArgumentError, "expected one dimension"),
        ({1: 2}, ArgumentError, "expected one dimension"),
        (iter([1, 2]), ArgumentError, "expected one dimension"),
        ([1], ArgumentError, "expected 2 values, one an item, got 1"),
        ([], ArgumentError, "expected 2 values, one an item, got 0"),
        ([1, 2, 3], ArgumentError, "expected 2 values, one an item, got 3"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["times", "actions"])
def test_odd_times_and_actions_are_refused(name, values, error, message):
    with pytest.raises(error, match=f"^{name}: .*{message.removeprefix('expected ')}"):
        Events([10, 20], **{name: values})


def test_items_of_events_are_a_sequence():
    for items in ("ab", {1}, {1: 2}, 5, None, iter([1]), [[1]], np.array([[1]])):
        with pytest.raises(ArgumentTypeError, match=r"^items: expected a sequence of item ids"):
            Events(items)
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
    with pytest.raises(ArgumentError, match=r"actions: expected values in \[0, 4\], got -1"):
        batch_of([Events([10]), Events([20], None, [-1])])


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


def test_integers_are_no_ids_of_a_catalogue_of_strings():
    with pytest.raises(ArgumentTypeError, match="history: expected strings, as the catalogue's ids, got int"):
        batch_of([1, 2], TEXTS)


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
