"""Attributes of a changing catalogue: columns by row or by item id, for new items, or changed alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from live_cases import DIM, answers, vectors_of
from lsif_sdk import LiveRecommender, Recommender, errors
from recommender_cases import IDS, NUM_ITEMS, build


def test_attributes_of_new_items() -> None:
    columns = {"genre": [["War"] if row % 2 else ["Drama"] for row in range(NUM_ITEMS)], "year": list(range(NUM_ITEMS))}
    live = LiveRecommender(Recommender(build(dim=DIM).artifact, attributes=columns))
    with pytest.raises(errors.ArgumentError, match="attributes: expected 'year' of the new item 'new', got none"):
        live.upsert(["new"], vectors_of(1), attributes={"genre": [["War"]]})
    with live.edit() as edit, pytest.raises(errors.ArgumentError, match=r"attributes\['year'\]: expected numbers"):
        edit.upsert(["new"], vectors_of(1), attributes={"genre": [["War"]], "year": ["1990"]})
    assert live.version == 0
    with pytest.raises(errors.ArgumentError, match="attributes: expected attributes among"):
        live.upsert(["new"], vectors_of(1), attributes={"colour": ["red"]})
    live.upsert(["new", IDS[1]], vectors_of(2), attributes={"genre": [["Comedy", "War"], "Drama"], "year": [5000, 1]})
    for where, expected in (
        ({"genre": "Comedy"}, {"new"}),
        ({"genre": "War"}, {"new", *IDS[3::2]}),
        ({"genre": "Drama"}, {IDS[1], *IDS[::2]}),
        ({"year": (4999, None)}, {"new"}),
    ):
        assert {item for item, _ in answers(live.current, [], where=where)} == expected
    live.upsert([IDS[1]], vectors_of(1))  # keeps its attributes
    assert IDS[1] in {item for item, _ in answers(live.current, [], where={"genre": "Drama"})}
    live.rollback()
    live.hide([IDS[2]])
    assert IDS[2] not in {item for item, _ in answers(live.current, [], where={"genre": "Drama"})}


def test_attributes_change_alone() -> None:
    live = LiveRecommender(
        Recommender(build(dim=DIM).artifact, attributes={"price": {i: 1.0 for i in IDS[:-1]}}), keep=2
    )
    assert IDS[-1] not in {item for item, _ in answers(live.current, [], where={"price": (None, None)})}
    live.hide([IDS[2]])
    live.show([IDS[3]], until=2_000_000_000)
    before = live.current
    assert live.set_attributes([IDS[2], IDS[3], IDS[-1]], {"price": [5.0, 5.0, np.float32(9.99)]}) == before.version + 1
    assert {item for item, _ in answers(live.current, [], where={"price": (2, None)})} == {IDS[3], IDS[-1]}
    assert {item for item, _ in answers(live.current, [], where={"price": 9.99})} == {IDS[-1]}
    assert live.current.items.until.tolist() == before.items.until.tolist()
    assert live.current.catalog.vectors is before.catalog.vectors
    assert live.current.fingerprint == before.fingerprint
    with live.edit() as edit:
        edit.upsert(["new"], vectors_of(1), attributes={"price": [1]})
        edit.set_attributes(["new", IDS[0]], {"price": pd.Series([7, 7], index=[5, 9])})
    assert {item for item, _ in answers(live.current, [], where={"price": 7})} == {"new", IDS[0]}
    live.rollback()
    assert not answers(live.current, [], where={"price": 7})
    for call, message in (
        (lambda: live.set_attributes(["none"], {"price": [1]}), "ids: expected items of the catalogue, got 'none'"),
        (lambda: live.set_attributes([IDS[0]], {"colour": [1]}), r"attributes: expected attributes among \['price'\]"),
        (lambda: live.set_attributes([IDS[0]], {"price": [1, 2]}), "expected 1 entries, one per item, got 2"),
        (lambda: live.set_attributes([IDS[0]], {"price": ["dear"]}), r"attributes\['price'\]: expected numbers"),
        (lambda: live.set_attributes({IDS[0]}, {"price": [1]}), "ids: expected a sequence of item ids"),
        (lambda: live.set_attributes([IDS[0]], None), "attributes: expected a mapping of names to columns"),
        (
            lambda: live.set_attributes(IDS[:2], {"price": pd.Series([1.0, 2.0], index=IDS[1::-1])}),
            "expected a column without an index",
        ),
    ):
        version = live.version
        with pytest.raises(errors.LsifError, match=message):
            call()
        assert live.version == version
    assert live.set_attributes([], {"price": []}) == live.version == version


def test_columns_by_item_id() -> None:
    artifact = build(dim=DIM).artifact
    rec = Recommender(artifact, attributes={"price": {"other": 3.0, IDS[7]: 4.0}, "genre": {IDS[1]: ["War"]}})
    assert [item for item, _ in answers(rec, [], where={"price": (None, None)})] == [IDS[7]]
    assert [item for item, _ in answers(rec, [], where={"genre": "War"})] == [IDS[1]]
    with pytest.raises(errors.ArgumentError, match=r"attributes\['price'\]: expected items of the catalogue as keys"):
        Recommender(artifact, attributes={"price": {"other": 3.0}})
    with pytest.raises(errors.ArgumentTypeError, match=r"attributes\['price'\].*strings"):
        Recommender(artifact, attributes={"price": {7: 3.0}})
    with pytest.raises(errors.ArgumentError, match="expected True or False for every item of the catalogue, got none"):
        Recommender(artifact, attributes={"in_stock": dict.fromkeys(IDS[:-1], True)})
    with pytest.raises(errors.ArgumentError, match="for every item of the catalogue, got none for 'i0'"):
        Recommender(artifact, attributes={"in_stock": dict.fromkeys(IDS[1:], True)})
    by_index = pd.Series({"other": 3.0, IDS[7]: 4.0})
    rec = Recommender(artifact, attributes={"price": by_index})
    assert [item for item, _ in answers(rec, [], where={"price": (None, None)})] == [IDS[7]]
    with pytest.raises(errors.ArgumentError, match=f"expected one entry per item, got several for '{IDS[7]}'"):
        Recommender(artifact, attributes={"price": pd.concat([by_index, by_index.iloc[1:]])})


def test_a_default_index_is_no_ids() -> None:
    """A table's column with a default index is read row by row, whatever the ids are."""
    live = LiveRecommender(
        Recommender(build(dim=DIM, ids=range(NUM_ITEMS)).artifact, attributes={"price": [0.0] * NUM_ITEMS})
    )
    live.set_attributes([1, 0], {"price": pd.Series([5.0, 6.0])})
    assert [item for item, _ in answers(live.current, [], where={"price": 5})] == [1]
    live.set_attributes([], {"price": pd.Series([], dtype=object)})
    for index in ([0, 1], [7, 8]):
        live.set_attributes(index, {"price": pd.Series([7.0, 8.0], index=index)})
    assert {item for item, _ in answers(live.current, [], where={"price": 7})} == {0, 7}
    with pytest.raises(errors.ArgumentError, match="expected a column without an index"):
        live.set_attributes([8, 7], {"price": pd.Series([7.0, 8.0], index=[7, 8])})
    with pytest.raises(
        errors.ArgumentError, match="expected a column without an index"
    ):  # the index is ambiguous: ids, or row numbers of a sorted table
        Recommender(
            build(dim=DIM, ids=range(NUM_ITEMS)).artifact, attributes={"price": pd.Series(range(NUM_ITEMS))[::-1]}
        )
