"""Columns of texts, compared with sets of texts by row, through changes; and what can be read back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from live_cases import HISTORY, TITLES, vectors_of
from lsif_sdk import LiveRecommender, Recommender, errors, text_column
from lsif_sdk.attributes import Attributes
from lsif_sdk.text_column import TextColumn
from recommender_cases import IDS, NUM_ITEMS, build

TEXTS = ["", "a", "b", "ü", "a b"]
ENTRY = st.none() | st.sampled_from(TEXTS) | st.lists(st.sampled_from(TEXTS), max_size=4)


def sets_of(entries: list[object]) -> list[set[str]]:
    return [{entry} if isinstance(entry, str) else set(entry or ()) for entry in entries]  # type: ignore[call-overload]


def agrees(column: TextColumn, sets: list[set[str]], named: set[str]) -> None:
    assert {text for text in [*TEXTS, "nobody's"] if text in column} == named
    for wanted in [*([text] for text in named), sorted(named), sorted(named)[::2]]:
        if wanted:
            holds = column.holds(len(sets), wanted)
            assert holds.tolist() == [not texts.isdisjoint(wanted) for texts in sets]
    read = column.entries(np.arange(len(sets))[::-1])
    assert sets_of(read) == sets[::-1]


@pytest.mark.parametrize("few", [0, 2, 1024])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.lists(ENTRY, max_size=12), edits=st.lists(st.tuples(st.lists(ENTRY, max_size=3), st.data()), max_size=4)
)
def test_changes_are_those_of_sets_by_row(few, entries, edits, monkeypatch):
    monkeypatch.setattr(text_column, "_FEW", few)
    columns, tables = [TextColumn("x", entries)], [sets_of(entries)]
    named = [set().union(*tables[0])]
    for added, data in edits:
        place = data.draw(st.integers(0, len(columns) - 1))
        sets = list(tables[place])
        changed = data.draw(st.dictionaries(st.integers(0, max(len(sets) - 1, 0)), ENTRY, max_size=3)) if sets else {}
        values = {**changed, **dict(enumerate(added, len(sets)))}
        sets += [set()] * len(added)
        for row, texts in zip(values, sets_of(list(values.values())), strict=True):
            sets[row] = texts
        columns.append(columns[place].edited("x", values))
        tables.append(sets)
        # The texts that any column knew when this one was made, unless it is the same column.
        named.append(set().union(*named, *sets_of(list(values.values()))) if values else named[place])
    for column, sets, texts in zip(columns, tables, named, strict=True):
        agrees(column, sets, texts)


def test_a_change_of_one_column_leaves_the_others_as_they_are():
    attributes = Attributes({"seller": ["s1", "s2"], "tags": [["a"], None], "price": [1.0, 2.0]}, 2)
    edited = attributes.edited(2, {"price": {1: 3.0}})
    assert all(edited._texts[name] is attributes._texts[name] for name in ("seller", "tags"))
    assert edited.edited(2, {"tags": {0: ["b"]}})._texts["seller"] is attributes._texts["seller"]


def test_what_is_known_of_items_can_be_read_back():
    given = {
        "seller": ["s1", None, "s2"],
        "tags": [["b", "a"], None, "c"],
        "price": [1.5, None, 2.0],
        "new": [True, False, True],
    }
    attributes = Attributes(given, 3)
    read = attributes.columns()
    assert read["seller"] == ["s1", None, "s2"] and read["tags"] == [["a", "b"], [], ["c"]]
    np.testing.assert_array_equal(read["price"], [1.5, np.nan, 2.0])
    assert np.asarray(read["new"]).tolist() == [True, False, True]
    again = Attributes(read, 3)
    for where in ({"tags": "a"}, {"seller": ["s1", "s2"]}, {"price": (None, 2)}, {"new": False}):
        assert again.bitmap(where).tolist() == attributes.bitmap(where).tolist()
    assert attributes.columns([2, 0])["seller"] == ["s2", "s1"] and attributes.columns([])["tags"] == []
    for rows, message in (
        ([3], r"^rows: expected rows in \[0, 3\), got 3$"),
        ([0, -1], r"^rows: expected rows in \[0, 3\), got -1$"),
        ([1.5], "^rows: expected whole numbers, got 1.5"),
        ([True, False, True], "^rows: expected whole numbers, got bool True"),
        (["a"], "^rows: expected whole numbers, got str 'a'"),
    ):
        with pytest.raises(errors.LsifError, match=message):
            attributes.columns(rows)


def test_what_a_rollback_removed_comes_back_as_what_was_removed_does():
    attributes = {"seller": ["s"] * NUM_ITEMS, "price": np.arange(NUM_ITEMS)}
    live = LiveRecommender(Recommender(build(dim=16, titles=TITLES).artifact, attributes=attributes))
    live.upsert(["x"], vectors_of(1), titles=["X"], counts=[77], attributes={"seller": ["grill"], "price": [9]})
    live.rollback()
    assert live.current.recommend(HISTORY, where={"seller": "grill"}).counts.tolist() == [0]
    live.upsert(["x"], vectors_of(1, 3))
    now = live.current
    assert now.recommend(HISTORY, where={"seller": "grill"})[0].items.tolist() == ["x"]
    row = now.items.row("x")
    assert (now.items.title(row), now.items.counts[row], now.attributes.columns([row])["price"][0]) == ("X", 77, 9)
    with pytest.raises(errors.ArgumentError, match=r"^attributes: expected 'price' of the new item 'y', got none"):
        live.upsert(["y"], vectors_of(1))


def test_a_rollback_leaves_columns_of_the_kind_they_were():
    far = 2**53 + 1
    attributes = {"gtin": [far, *range(1, NUM_ITEMS)], "seller": ["s"] * NUM_ITEMS}
    live = LiveRecommender(Recommender(build(dim=16).artifact, attributes=attributes), keep=3)
    live.set_attributes([IDS[0]], {"gtin": [5]})
    live.upsert(["x"], vectors_of(1), attributes={"gtin": [2.5], "seller": [["b"]]})
    live.rollback()
    live.rollback()
    rows = live.current.items.rows([IDS[0], IDS[1]])
    assert live.current.attributes.columns(rows)["gtin"].tolist() == [far, 1]
    assert live.current.attributes.columns(rows)["seller"] == ["s", "s"]
    live.upsert(["x"], vectors_of(1))  # gets 0 where a column cannot have a missing value
    assert live.current.recommend(HISTORY, where={"seller": "b", "gtin": 0})[0].items.tolist() == ["x"]
    live.upsert(["y"], vectors_of(1), attributes={"gtin": [far], "seller": ["c"]})


def test_a_rollback_that_fails_can_be_tried_again(monkeypatch):
    live = LiveRecommender(build(dim=16))
    live.upsert(["x"], vectors_of(1))
    version = live.version
    with monkeypatch.context() as patch:
        patch.setattr("lsif_sdk.live.restored", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            live.rollback()
    assert live.version == version and live.rollback() == version + 1


def test_a_text_that_a_branch_knows_is_not_known_to_another():
    column = TextColumn("x", ["a", "b"])
    other = column.edited("x", {0: "typo"})
    assert "typo" in other and "typo" not in column
    assert "typo" in column.edited("x", {1: "c"})  # "typo" got its number before "c"
