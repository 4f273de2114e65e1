"""Similar items: the nearest available ones by cosine, also when the catalogue changes and in forked children."""

from __future__ import annotations

import signal
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch

from concurrency import run_in_forked_child, run_together
from lsif_sdk import Catalog, ItemTable, LiveRecommender, Recommender, errors, similarity
from recommender_cases import IDS, NUM_ITEMS, build, same

GENRES = [["a", "b"][row % 2] for row in range(NUM_ITEMS)]


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    return Recommender(build().artifact, attributes={"genre": GENRES})


def test_similar_items_are_the_nearest_by_cosine(recommender):
    out = recommender.similar_items(["i4", "i11"], k=3)
    vectors = recommender.catalog.vectors.double().numpy()
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for b, row in enumerate((4, 11)):
        cosines = units @ units[row]
        cosines[row] = -2
        assert out[b].items.tolist() == [IDS[best] for best in np.argsort(-cosines)[:3]]
        np.testing.assert_allclose(out[b].scores, np.sort(cosines)[::-1][:3], rtol=1e-6, atol=1e-7)
    for items in ("i4", ["i4"], ("i4",), np.array(["i4"])):
        assert recommender.similar_items(items, 3)[0].items.tolist() == out[0].items.tolist()
    everything = recommender.similar_items("i4", NUM_ITEMS + 5)
    assert everything.counts.tolist() == [NUM_ITEMS - 1]
    assert sorted(everything[0].items) == sorted(set(IDS) - {"i4"})
    assert not everything.fallback.any()
    assert recommender.similar_items([], 3).items.shape == (0, 3)


def nearest(recommender: Recommender, item: str, may: Any) -> list[Any]:
    """The other items that may be found, ordered by float64 cosine."""
    vectors = recommender.catalog.vectors.double().numpy()
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    ids = list(recommender.items)
    order = np.argsort(-(units @ units[ids.index(item)]))
    return [ids[row] for row in order if ids[row] != item and may(ids[row])]


def test_what_may_be_found_can_be_limited_for_all_and_for_each(recommender):
    for options, may in (
        ({"where": {"genre": "a"}}, lambda item: GENRES[IDS.index(item)] == "a"),
        ({"allow": {"i1", "i2", "i30", "new"}}, lambda item: item in {"i1", "i2", "i30"}),
        ({"exclude": ["i1", "i2", "new"]}, lambda item: item not in {"i1", "i2"}),
        ({"exclude": ["i8"], "where": {"genre": "a"}}, lambda item: item != "i8" and GENRES[IDS.index(item)] == "a"),
    ):
        out = recommender.similar_items(["i4", "i11"], k=NUM_ITEMS, **options)
        assert [out[b].items.tolist() for b in (0, 1)] == [nearest(recommender, item, may) for item in ("i4", "i11")]
    each = recommender.similar_items(["i4", "i11"], k=5, exclude=[["i1"], []], allow=[IDS, ["i1"]], where=[None, {}])
    assert each[0].items.tolist() == nearest(recommender, "i4", lambda item: item != "i1")[:5]
    assert each[1].items.tolist() == ["i1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exclude": [["i1"]]}, r"exclude: expected one list of ids, or one per user \(2\), got 1 lists"),
        ({"where": {"colour": "red"}}, r"where: expected attributes among \['genre'\]"),
        ({"allow": [["i1"]]}, r"allow: expected one list of ids"),
    ],
)
def test_limits_that_make_no_sense_are_refused(recommender, options, message):
    with pytest.raises(errors.ArgumentError, match=message):
        recommender.similar_items(["i4", "i11"], **options)


def test_the_catalogue_is_never_held_in_float64(monkeypatch):
    whole = build().similar_items(IDS, k=NUM_ITEMS)
    monkeypatch.setattr(similarity, "_ROWS_PER_BLOCK", 7)
    assert same(build().similar_items(IDS, k=NUM_ITEMS), whole)
    monkeypatch.setattr(similarity, "_ROWS_PER_BLOCK", 500)
    vectors = np.ones((20_000, 32), np.float32)
    tracemalloc.start()
    try:
        similarity._directions(vectors)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert vectors.nbytes <= peak < 1.5 * vectors.nbytes


def test_lengths_are_taken_in_float64():
    tiny = np.array([[3e-30, 4e-30], [0, 0], [-2e38, 0], [1e-45, 0]], np.float32)
    expected = [[0.6, 0.8], [0, 0], [-1, 0], [1, 0]]
    np.testing.assert_allclose(similarity._directions(tiny), expected, rtol=1e-6)


def changed(live: LiveRecommender) -> None:
    """Makes every kind of change to items in one edit."""
    vectors = np.random.default_rng(live.version).normal(size=(3, 12)).astype(np.float32)
    with live.edit() as edit:
        edit.upsert([IDS[live.version], f"new {live.version}", IDS[39]], vectors)
        edit.upsert(["zero"], np.zeros((1, 12), np.float32))
        turned = live.current.catalog.vectors[30:31].numpy() * np.where(np.arange(12) == live.version, -3, 1)
        edit.upsert([IDS[30]], turned.astype(np.float32))  # changed in one coordinate
        edit.hide([IDS[7 + live.version]])
        edit.remove([IDS[12 + live.version]])


@pytest.mark.parametrize("rows_per_block", [7, 1 << 14])
def test_what_is_carried_over_is_what_a_new_recommender_would_make(rows_per_block, monkeypatch):
    monkeypatch.setattr(similarity, "_ROWS_PER_BLOCK", rows_per_block)
    live = LiveRecommender(build(), keep=5)
    live.current.similar_items("i4")
    monkeypatch.setattr("lsif_sdk.item_search.directions_of", None)  # all directions must not be computed again

    def check() -> None:
        current = live.current
        fresh = similarity.directions_of(current.catalog, 1)
        assert torch.equal(current._directions.vectors, fresh.vectors)
        available = set(current.recommend([], k=2 * NUM_ITEMS).items[0].tolist())
        for item in ("i20", IDS[8]):  # IDS[8] is hidden by then
            found = current.similar_items(item, 2 * NUM_ITEMS)[0]
            assert found.items.tolist() == nearest(current, item, available.__contains__)

    for _ in range(3):
        changed(live)
    current = live.current
    assert torch.equal(current._directions.vectors, similarity.directions_of(current.catalog, 1).vectors)
    live.remove(["zero"])  # its cosines are all ties
    check()
    live.rollback()
    live.rollback()
    live.remove(["zero"])
    check()


def test_nobody_builds_what_nobody_asked_for():
    live = LiveRecommender(build())
    changed(live)
    assert "_directions" not in live.current.__dict__
    live.current.similar_items("i4")
    live.replace(build(seed=2))
    assert "_directions" in live.current.__dict__  # made by `replace`
    assert same(live.current.similar_items("i4"), live.current.similar_items("i4"))


def test_threads_that_ask_first_build_once(monkeypatch):
    made = []
    real = similarity.directions_of
    monkeypatch.setattr("lsif_sdk.item_search.directions_of", lambda *given: made.append(1) or real(*given))
    recommender = build()
    run_together(4, lambda caller: recommender.similar_items("i4"))
    assert len(made) == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_finds_them_although_its_parent_used_torch_threads():
    size = 200_000  # large enough for torch to use several threads
    _ = torch.nn.functional.normalize(torch.ones(size, 8).double(), dim=1)
    rows = np.random.default_rng(0).normal(size=(size, 8)).astype(np.float32)

    def ask() -> None:
        signal.alarm(60)  # ends a child that hangs
        catalog = Catalog.from_vectors(rows, threads=1)
        directions = similarity.directions_of(catalog, 1)
        found = similarity.most_similar(directions, ItemTable(range(size)), np.array([5]), 3, (None, None), None, 1, 0)
        assert 5 not in found.items

    run_in_forked_child(ask)
