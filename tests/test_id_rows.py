"""`_core.IdRows`, rows by the application's ids, against a dictionary; and how `ItemTable` uses it."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsif_sdk import ItemTable, _core
from lsif_sdk.errors import ArgumentError
from lsif_sdk.event_batch import EventBatch
from lsif_sdk.items import ItemEdit

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True)
INT64 = st.integers(-(2**63), 2**63 - 1)
texts = st.text(max_size=5)  # with one, two or four bytes per character


def column(ids: list[Any]) -> np.ndarray[Any, Any]:
    array = np.empty(len(ids), object if ids and isinstance(ids[0], str) else np.int64)
    array[:] = ids
    return array


def expected(ids: list[Any], asked: list[Any]) -> list[int]:
    rows = dict(zip(ids, range(len(ids)), strict=True))
    return [rows.get(value, -1) for value in asked]


def fresh(text: str) -> str:
    """An equal string that is another object, like a string from a request."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@PROPERTY
@given(st.lists(texts, max_size=200, unique=True), st.lists(texts | st.sampled_from(["\ud800", ""]), max_size=150))
def test_texts(ids, asked):
    ids = ids or ["a"]
    asked = [*asked, *map(fresh, ids), *(text[:-1] for text in ids), *(text + "\0" for text in ids), *ids]
    assert _core.IdRows(column(ids)).find(asked).tolist() == expected(ids, asked)


@PROPERTY
@given(
    st.lists(st.integers(-300, 300), min_size=1, max_size=200, unique=True),
    st.sampled_from([0, 2**63 - 301, -(2**63) + 300]),
    st.sampled_from([1, 3, 2**40]),
    st.lists(INT64 | st.integers(-(2**70), 2**70), max_size=150),
)
def test_numbers_close_together_and_far_apart(ids, base, stride, asked):
    ids = [base + stride * value for value in ids if -(2**63) <= base + stride * value < 2**63]
    asked = [*asked, *ids, *(value + 1 for value in ids)]
    assert _core.IdRows(column(ids)).find(asked).tolist() == expected(ids, asked)


@PROPERTY
@given(
    st.lists(st.integers(0, 40), max_size=60),
    st.sampled_from([int, str, lambda number: number * 2**40, lambda number: 2**63 - 1 - number]),
)
def test_the_first_row_whose_id_came_before(numbers, kind):
    ids = list(map(kind, numbers)) or [kind(0)]
    again = [row for row, item in enumerate(ids) if item in ids[:row]]
    assert _core.IdRows(column(ids)).repeat == (again[0] if again else -1)
    if again:
        with pytest.raises(
            ArgumentError, match=f"^ids: expected no two equal ids, got {ids[again[0]]!r} more than once$"
        ):
            ItemTable(ids)


@pytest.mark.parametrize("item", ["", 2**40])
def test_a_million_equal_ids_are_refused_while_one_waits(item):
    """Not after minutes, although each belongs behind all others with its hash."""
    ids = [item] * 1_000_000 + ([0] if item else [])
    with pytest.raises(ArgumentError, match=r"^ids: expected no two equal ids"):
        ItemTable(ids)
    assert _core.IdRows(column(ids)).find([item]).tolist() == [0]


@pytest.mark.parametrize("ids", [[0, 7], [0, 8], [0, 2**62], [-(2**63), 2**63 - 1], [5], []])
def test_what_lies_close_together_and_what_does_not(ids):
    asked = [*ids, 1, -1, 6, 8, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1]
    assert _core.IdRows(column(ids)).find(asked).tolist() == expected(ids, asked)


def number_of(hash_: int) -> int:
    """The number that has this hash (SplitMix64's finaliser)."""

    def unshift(x: int, bits: int) -> int:
        y = x
        for _ in range(64 // bits):
            y = x ^ (y >> bits)
        return y

    x = unshift(hash_, 31) * pow(0x94D049BB133111EB, -1, 2**64) % 2**64
    x = unshift(x, 27) * pow(0xBF58476D1CE4E5B9, -1, 2**64) % 2**64
    x = unshift(x, 30)
    return x - 2**64 if x >= 2**63 else x


def test_numbers_of_one_slot_and_one_tag_are_told_apart():
    """All are in the last of 8 slots, so they wrap to the first; hashes differ only in bits between slot and tag."""
    alike = [number_of(7 << 32 | part << 8 | 7) for part in range(6)]
    assert len(set(alike)) == 6
    table = _core.IdRows(column(alike[:4]))
    assert table.find(alike).tolist() == [0, 1, 2, 3, -1, -1]


def test_texts_of_one_slot_and_one_tag_are_told_apart():
    """Pairs among many strings whose hashes agree in the slot (of two slots) and in the tag."""
    first: dict[int, str] = {}
    pairs = []
    for number in range(600_000):
        text = f"k{number}"
        alike = first.setdefault(hash(text) & (0xFFFFFFFF00000001), text)
        if alike is not text:
            pairs.append((alike, text))
    assert pairs  # 21 are expected
    for a, b in pairs:
        assert _core.IdRows(column([a])).find([fresh(b), fresh(a)]).tolist() == [-1, 0]
        assert _core.IdRows(column([a, b])).find([fresh(b), fresh(a), a + "0"]).tolist() == [1, 0, -1]


class Name(str):
    pass


@pytest.mark.parametrize("odd", [True, np.int64(1), 1.0, None, (1,), "1", np.str_("1"), Name("1"), b"1"])
def test_what_is_not_exactly_of_the_type_is_left_to_others(odd):
    numbers, words = _core.IdRows(column([1, 2])), _core.IdRows(column(["1", "2"]))
    assert numbers.find([1, odd]) is None and numbers.find_lists([[1], [odd]]) is None
    assert (words.find(["1", odd]) is None) == (type(odd) is not str)


def test_lists():
    table = _core.IdRows(column(["a", "b"]))
    for lists, rows, offsets in (
        ([], [], [0, 0]),
        ([[]], [], [0, 0]),
        ([[], []], [], [0, 0, 0]),
        (["b", "x"], [1, -1], [0, 2]),
        ([["b", "x"], [], ["a"]], [1, -1, 0], [0, 2, 2, 3]),
        ([["a"] * 200, ["b"] * 65], [0] * 200 + [1] * 65, [0, 200, 265]),
    ):
        found = table.find_lists(lists)
        assert [part.tolist() for part in found] == [rows, offsets]
        assert all(part.dtype == np.int64 for part in found)
    for odd in ([["a"], "b"], ["b", ["a"]], [["a"], None], [("a",)], [["a"], ("b",)]):
        assert table.find_lists(odd) is None


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array(["a", 1], object), "ids: expected strings"),
        (np.array([np.str_("a")], object), "ids: expected strings"),
        (np.array([1.0]), "ids: expected dtype int64"),
        (np.array([[1]]), "ids: expected one dimension"),
        (np.arange(4)[::2], "ids: expected a C-contiguous array"),
        (np.array(["a", "b", "c"], object)[::2], "ids: expected a C-contiguous array"),
    ],
)
def test_what_is_no_column_of_ids_is_refused(ids, message):
    with pytest.raises(ValueError, match=message):
        _core.IdRows(ids)


@PROPERTY
@given(st.lists(texts, min_size=2, max_size=40, unique=True), st.data())
def test_tables_grown_from_one_know_their_own_ids(ids, data):
    size = data.draw(st.integers(1, len(ids) - 1))
    first = ItemTable(ids[:size])
    second = first.edited(ItemEdit(ids=ids[size:]))
    other = first.edited(ItemEdit(ids=["\0 other"]))
    asked = [*map(fresh, ids), "\0 other", "\0 nowhere"]
    for table, known in ((first, ids[:size]), (second, ids), (other, [*ids[:size], "\0 other"])):
        assert table.rows(asked).tolist() == expected(known, asked)
        assert table.rows(tuple(asked)).tolist() == expected(known, asked)
        rows, offsets = table.rows_of_lists([asked, [], asked[:3]])
        assert rows.tolist() == expected(known, asked + asked[:3])
        assert offsets.tolist() == [0, len(asked), len(asked), len(asked) + 3]
        assert table.rows_of_lists(asked)[0].tolist() == expected(known, asked)


def test_numpy_texts_become_plain_ones():
    table = ItemTable([np.str_("a"), "b"])
    assert [type(value) for value in table.ids] == [str, str]
    assert table.rows(["a", np.str_("b"), "c"]).tolist() == [0, 1, -1]


@pytest.mark.parametrize("ids", [["a", "b"], [1, 2], [1, 2**40]])
def test_a_copy_knows_its_ids(ids):
    assert copy.deepcopy(ItemTable(ids)).rows([*ids[::-1]]).tolist() == [1, 0]


def test_another_process_whose_hashes_are_others_knows_the_ids():
    ask = "import pickle, sys; print(pickle.load(sys.stdin.buffer).find(['b', 'c', 'a']).tolist())"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", ask],
            input=pickle.dumps(_core.IdRows(column(["a", "b"]))),
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=120,
        )
        assert done.stdout.strip() == b"[1, -1, 0]"


def test_an_array_written_to_afterwards_is_no_danger():
    ids = column(["a", "b"])
    table = _core.IdRows(ids)
    ids[0], ids[1] = 12345, None
    assert table.find([fresh("a"), "b"]).tolist() == [-1, -1]


@pytest.mark.parametrize("kind", [np.int64, np.str_])
def test_numpy_values_in_lists_are_read_as_plain_ones_are(kind):
    table = ItemTable([str(row) for row in range(20)] if kind is np.str_ else range(20))
    lists = [[kind(3), kind(25)], [], [kind(19)]]
    batch = EventBatch.from_histories(lists, table, 0)
    assert (batch.items.tolist(), batch.offsets.tolist(), batch.unknown.tolist()) == ([3, 19], [0, 1, 1, 2], [1, 0, 0])
    assert EventBatch.from_histories(lists[0], table, 0).items.tolist() == [3]


def test_a_table_that_grew_much_has_native_rows_of_its_own():
    table = ItemTable([f"a{row}" for row in range(80)])
    little = table.edited(ItemEdit(ids=["b"]))
    much = little.edited(ItemEdit(ids=[f"c{row}" for row in range(20)]))
    assert little._native is table._native is not much._native
    for grown in (little, much):
        ids = [*map(fresh, grown.ids), "nowhere"]
        assert grown.rows(ids).tolist() == expected(grown.ids.tolist(), ids)


def test_copies_of_a_table_that_others_grew_from_have_its_own_ids_alone():
    first = ItemTable([f"a{row}" for row in range(80)])
    second = first.edited(ItemEdit(ids=["b"]))
    third = second.edited(ItemEdit(ids=["c"]))
    for table, later in ((first, []), (second, ["b"]), (third, ["b", "c"])):
        for twin in (copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
            assert (
                list(twin._later) == later
                and twin.rows(["a7", "b", "c"]).tolist() == table.rows(["a7", "b", "c"]).tolist()
            )
    assert copy.copy(first)._later is first._later
