"""`_core.ragged_union`: for each user, the rows that any of several ragged parts has."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsif_sdk import _core

NUM_ITEMS = 12
one_part = st.lists(st.lists(st.integers(0, NUM_ITEMS - 1), max_size=8), min_size=3, max_size=3)


def ragged(lists):
    return np.array([*itertools.chain.from_iterable(lists)], np.int64), np.cumsum([0, *map(len, lists)])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(one_part, min_size=1, max_size=4))
def test_each_user_has_the_rows_of_all_parts_ascending_and_once(parts):
    rows, offsets = _core.ragged_union([ragged(part) for part in parts], NUM_ITEMS)
    assert rows.dtype == offsets.dtype == np.int64 and len(rows) == offsets[-1]
    found = [rows[begin:end].tolist() for begin, end in itertools.pairwise(offsets)]
    assert found == [sorted({row for part in parts for row in part[user]}) for user in range(3)]


def test_nobody_and_nothing():
    for offsets in ([0], [0, 0, 0]):
        rows, ends = _core.ragged_union([(np.zeros(0, np.int64), np.array(offsets))], 0)
        assert (rows.tolist(), ends.tolist()) == ([], offsets)


@pytest.mark.parametrize(
    ("rows", "offsets", "message"),
    [
        ([0, NUM_ITEMS], [0, 2], f"rows: expected .*{NUM_ITEMS}"),
        ([-1], [0, 1], "rows: expected .*-1"),
        ([1, 2], [0, 1], "offsets: expected a last value of 2"),
        ([1, 2], [1, 2], "offsets: expected a first value of 0"),
        ([1, 2], [0, 3, 2], "offsets: expected non-decreasing values"),
        ([1, 2], [], "offsets: expected at least one value"),
        ([[1, 2]], [0, 2], "rows: expected shape"),
        ([1.0, 2.0], [0, 2], "rows: expected dtype int64"),
    ],
)
def test_what_is_no_ragged_part_is_refused(rows, offsets, message):
    with pytest.raises(ValueError, match=message):
        _core.ragged_union([(np.array(rows), np.array(offsets, np.int64))], NUM_ITEMS)


def test_parts_are_of_the_same_users():
    one, other = ragged([[1], [2]]), ragged([[1], [2], [3]])
    with pytest.raises(ValueError, match="offsets: expected shape"):
        _core.ragged_union([one, other], NUM_ITEMS)
    with pytest.raises(ValueError, match="parts: expected at least one, got none"):
        _core.ragged_union([], NUM_ITEMS)
