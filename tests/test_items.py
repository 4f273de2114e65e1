"""Item ids, titles and counts: what is accepted and how it is converted, and refusals with the argument's name."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lsif_sdk import ItemTable
from lsif_sdk.bitmaps import FOREVER
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ArtifactError
from lsif_sdk.items import ItemEdit

NUMBERS = ItemTable([10, 20, 30])
TEXTS = ItemTable(["a", "b", "数"])
PROPERTY = settings(max_examples=30, deadline=None, derandomize=True)


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
        assert table.rows(kind(expected[::-1])).tolist() == [3, 2, 1, 0]
    assert table.row(np.int64(expected[2])) == 2


def test_whether_an_id_is_in_the_table():
    assert 10 in NUMBERS and np.int64(20) in NUMBERS and 11 not in NUMBERS and "10" not in NUMBERS
    assert "数" in TEXTS and "x" not in TEXTS and 1 not in TEXTS and None not in TEXTS and ["a"] not in TEXTS
    edited = TEXTS.edited(ItemEdit(["new"]))
    assert "new" in edited and "new" not in TEXTS


@pytest.mark.parametrize("ids", [["a", "", "数"], ("a", "", "数"), np.array(["a", "", "数"])])
def test_string_ids(ids):
    table = ItemTable(ids)
    assert table.has_string_ids
    assert table.id_kind == "strings"
    assert table.ids.tolist() == ["a", "", "数"]
    assert table.rows(np.array(["数", "a"])).tolist() == [2, 0]
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


@pytest.mark.parametrize("argument", ["ids", "titles", "counts"])
@pytest.mark.parametrize(
    "odd", [5, np.array(5), torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2).to_sparse()], ids=str
)
def test_what_is_no_sequence_or_no_array_is_refused_by_name(argument, odd):
    with pytest.raises((ArgumentTypeError, ArgumentError), match=f"^{argument}: expected"):
        ItemTable(**{"ids": [1, 2], argument: odd})


@pytest.mark.parametrize("ids", [[2**63], [-(2**63) - 1], np.array([2**64 - 1], np.uint64), [10**5000]], ids=len)
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
    assert ItemTable([5, 6]).title(1) == ItemTable([5, 6]).title(np.int64(1)) == "6"
    assert ItemTable([5, 6]).counts.tolist() == [0, 0]
    with pytest.raises(ArgumentError, match="titles: expected 2 texts, one per item, got 1"):
        ItemTable([5, 6], ["five"])
    with pytest.raises(ArgumentTypeError, match="titles: expected texts, got int"):
        ItemTable([5, 6], ["five", 6])
    with pytest.raises(ArgumentTypeError, match="titles: expected a sequence"):
        ItemTable([5, 6], "56")
    for counts in (np.array([1]), np.array([[1, 2]]), np.array([1.0, 2.0]), np.array([True, False]), [1, 2.5], [1]):
        with pytest.raises(ArgumentError, match=r"counts: expected integers of shape \[2\]"):
            ItemTable([5, 6], None, counts)
    for counts in ([1, -3], np.array([1, 2**63], np.uint64)):
        with pytest.raises(ArgumentError, match="counts: expected values >= 0 that fit int64, got"):
            ItemTable([5, 6], None, counts)
    for counts in ("12", {1: 2}, 5, iter([1, 2])):
        with pytest.raises(ArgumentTypeError, match="counts: expected a sequence"):
            ItemTable([5, 6], None, counts)


def test_times_when_items_end_are_copied_and_checked():
    times = np.array([100, FOREVER])
    table = ItemTable([5, 6], until=times)
    times[0] = 200
    assert table.until.tolist() == ItemTable([5, 6], until=[100, FOREVER]).until.tolist() == [100, FOREVER]
    assert not table.until.flags.writeable
    for until in ([1], [1, 2**63], [1, 2.5], [[1, 2]], "12", 5, [1, True], [1, None]):
        with pytest.raises((ArgumentError, ArgumentTypeError), match="until: expected "):
            ItemTable([5, 6], until=until)


@pytest.mark.parametrize("counts", [[2, 9], (2, 9), np.array([2, 9], np.uint64), torch.tensor([2, 9])], ids=repr)
def test_counts_are_any_integers(counts):
    assert ItemTable([5, 6], None, counts).counts.tolist() == [2, 9]
    assert ItemTable([], None, []).counts.shape == (0,)


@pytest.mark.parametrize("titles", [None, ["five", "six"]])
@pytest.mark.parametrize("row", [-1, 2, None, "five", 1.0, True])
def test_only_rows_have_titles(row, titles):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=r"^row: expected an integer in \[0, 1\], got "):
        ItemTable([5, 6], titles).title(row)


def test_unknown_ids_are_counted_or_refused():
    with pytest.raises(ArgumentError, match="got an integer of 16610 bits"):
        ItemTable([1]).known_rows([10**5000])
    for ids in ([30, 99, 10, 30, -1], np.array([30, 99, 10, 30, -1]), (30, 99, 10, 30, np.int32(-1))):
        assert NUMBERS.rows(ids).tolist() == [2, -1, 0, 2, -1]
    assert NUMBERS.rows([]).dtype == NUMBERS.rows([10]).dtype == np.int64
    assert NUMBERS.rows([]).shape == (0,)
    assert TEXTS.rows(["数", "z"]).tolist() == [2, -1]
    assert TEXTS.known_rows(("数", "b")).tolist() == [2, 1]
    with pytest.raises(ArgumentError, match="items: expected an item of the catalogue, got 'z'"):
        TEXTS.known_rows(["a", "z", "y"])
    with pytest.raises(ArgumentError, match="item: expected an item of the catalogue, got 99"):
        NUMBERS.row(99)
    with pytest.raises(ArgumentError, match="seed: expected an item of the catalogue, got 'z'"):
        TEXTS.known_rows(["z"], "seed")


@pytest.mark.parametrize("odd", [True, 10.0, None, "10", b"10", float("nan"), np.float32(10), np.bool_(True)], ids=repr)
def test_ids_of_another_kind_than_the_catalogue_are_refused(odd):
    with pytest.raises(ArgumentTypeError, match=rf"^exclude\[1\]: expected integers, .*got {type(odd).__name__}"):
        NUMBERS.rows([10, odd], "exclude")
    with pytest.raises(ArgumentTypeError, match="item: expected integers"):
        NUMBERS.row(odd)
    if not isinstance(odd, str):
        with pytest.raises(ArgumentTypeError, match=r"^exclude\[1\]: expected strings"):
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
    assert again.rows(ids).tolist() == list(range(len(ids)))


def test_tensors_that_disagree_are_refused():
    tensors = TEXTS.to_tensors()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"ids.offsets": torch.tensor([0, 1, 1])}, r"ids\.offsets: expected int64 \[4\]"),
        ({"ids.offsets": torch.tensor([0, 2, 1, 5])}, r"ids\.offsets: expected non-decreasing"),
        ({"ids.offsets": torch.tensor([1, 1, 2, 5])}, r"ids\.offsets: expected non-decreasing values from 0 to 5"),
        ({"ids.offsets": torch.tensor([0, 1, 2, 4])}, r"ids\.offsets: expected non-decreasing values from 0 to 5"),
        ({"ids.offsets": torch.tensor([0, 1, 3, 5])}, r"ids\.bytes: expected UTF-8"),
        ({"ids.bytes": tensors["ids.bytes"].to(torch.int32)}, r"ids\.bytes: expected uint8"),
        ({"counts": torch.tensor([0, 0, -1])}, "counts: expected values >= 0 that fit int64, got -1"),
        ({"ids": torch.arange(3)}, r"tensors: expected either ids or ids\.bytes and ids\.offsets, got both"),
        ({"counts": torch.zeros(3)}, r"counts: expected int64 \[3\], got float32"),
        ({"titles.offsets": torch.zeros(4, dtype=torch.int64)}, r"titles\.bytes: .*none"),
        ({"colours": torch.zeros(3)}, "unknown colours"),
    ]
    for change, expected in wrong:
        with pytest.raises(
            ArtifactError, match=f"^folder/items: {expected}" if "unknown" not in expected else expected
        ):
            ItemTable.from_tensors({**tensors, **change}, 3, "folder/items")


@PROPERTY
@given(
    st.lists(st.integers(-9, 9), min_size=1, max_size=12, unique=True),
    st.sampled_from([0, 5, 2**63 - 10, -(2**63) + 9]),
    st.lists(st.integers(-(2**63) - 20, 2**63 + 20) | st.integers(-25, 25), max_size=12),
)
def test_ids_that_lie_close_together_are_found_as_others_are(ids, base, asked):
    ids = [value + base for value in ids]
    asked = [*asked, *ids, *(base + value for value in asked)]
    table = ItemTable(ids)
    expected = [ids.index(value) if value in ids else -1 for value in asked]
    assert table.rows(asked).tolist() == expected
    grown = table.edited(ItemEdit(ids=[base + 30 if base < 2**62 else 7]))
    assert grown.rows(asked + grown.ids[-1:].tolist()).tolist() == [
        *(row if value != grown.ids[-1] else len(ids) for row, value in zip(expected, asked, strict=True)),
        len(ids),
    ]


def test_a_missing_id_is_named_not_the_floats_it_makes_of_others():
    pandas = pytest.importorskip("pandas")
    ids = pandas.Series([10, None], dtype="Int64")
    with pytest.raises(ArgumentTypeError, match=r"ids\[1\]: expected integers, as the catalogue's ids, got "):
        ItemTable([10, 20]).rows(np.asarray(ids, np.float64))
    for odd in (pandas.NA, None, np.array([1, 2]), torch.zeros(2)):
        with pytest.raises(ArgumentTypeError, match=r"ids\[1\]: expected strings, as the catalogue's ids, got "):
            TEXTS.rows(["a", odd])
