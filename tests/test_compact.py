"""A compacted catalogue: all that it was before, without the rows of removed items."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from live_cases import DIM, HISTORY, TITLES, answers, from_scratch, live_of, vectors_of
from lsif_sdk import Events, LiveRecommender, Not, Recommender, errors
from lsif_sdk.integrations import SQLiteStore, Users
from recommender_cases import IDS, NUM_ITEMS, build

GONE = [IDS[0], IDS[6], IDS[21], "new b"]
PRICES = {"price": [float(row) for row in range(NUM_ITEMS)], "genre": [["War"], ["Drama", "War"]] * (NUM_ITEMS // 2)}


def changed(recommender: Recommender) -> LiveRecommender:
    """A live recommender with items added, hidden and removed, with all their fields."""
    live = LiveRecommender(recommender, keep=3)
    with live.edit() as edit:
        edit.upsert(
            ["new a", "new b", "new c"],
            vectors_of(3),
            counts=[5, 9, 10**6],
            titles=["A", "B", "C"] if recommender.items.titles is not None else None,
            attributes={"price": [100, 200, 300], "genre": ["Comedy", "Noir", ["War"]]}
            if recommender.attributes.names
            else None,
        )
        edit.hide([IDS[3]])
        edit.show([IDS[4]], until=4_000_000_000)
        edit.remove(GONE)
    return live


@pytest.mark.parametrize(
    "changes",
    [{}, {"normalize_items": True}, {"normalize_inputs": True}, {"scoring": "multi_interest"}, {"repeats": True}],
    ids=["plain", "normalized", "normalized inputs", "multi_interest", "repeats"],
)
def test_answers_are_those_of_before(changes: dict[str, Any]) -> None:
    live = changed(build(dim=DIM, titles=TITLES, **changes))
    before = live.current
    assert live.compact() == 2
    rec = live.current
    assert rec.items.ids.tolist() == [item for item in before.items.ids.tolist() if item not in GONE]
    assert len(rec.items) == rec.config.num_items == len(rec.catalog) == NUM_ITEMS + 3 - len(GONE)
    history = Events([IDS[8], "new a", IDS[3]], [100, 200, 300])
    for options in ({}, {"exclude_seen": False}, {"exclude": [IDS[9], *GONE]}, {"allow": [IDS[3], IDS[5], IDS[6]]}):
        assert answers(rec, history, **options) == answers(before, history, **options)
        assert answers(rec, [], **options) == answers(before, [], **options)
    assert all(np.array_equal(*parts) for parts in zip(rec.encode(history), before.encode(history), strict=True))
    similar = rec.similar_items(IDS[4], k=NUM_ITEMS)
    assert np.array_equal(
        similar.items[0][: similar.counts[0]], before.similar_items(IDS[4], k=NUM_ITEMS).items[0][: similar.counts[0]]
    )
    assert [rec.items.title_of(item) for item in ("new c", IDS[4])] == ["C", "Title 4"]
    assert rec.items.is_available([IDS[3], IDS[4], *GONE], now=3e9).tolist() == [False, True] + 4 * [False]
    assert rec.items.is_available([IDS[4]], now=4e9).tolist() == [False]
    assert rec.recommend([IDS[6], IDS[8]]).unknown[0] == 1, "what is gone is unknown now"
    assert answers(rec, history) == answers(from_scratch(rec), history)


def test_settings_and_attributes_stay() -> None:
    artifact = build(dim=DIM).artifact.with_popularity_penalty(0.3)
    live = changed(Recommender(artifact, threads=2, attributes=PRICES, batching=True, precision="bfloat16"))
    before, kept = live.current, live.current.items.until != live.current.items.until.min()
    live.compact()
    rec = live.current
    assert (rec.threads, rec.precision, rec.stats().batching["requests"]) == (2, "bfloat16", 0)
    for where in ({"genre": "War"}, {"genre": ["Comedy"]}, {"price": (3, 150)}, {"genre": Not("War")}):
        assert answers(rec, where=where) == answers(before, where=where)
    assert answers(rec, where={"genre": "Noir"}) == [], "a value that only removed items had"
    assert rec.attributes.columns()["price"].tolist() == before.attributes.columns()["price"][kept].tolist()
    assert np.array_equal(rec.artifact.bias_penalty, before.artifact.bias_penalty.numpy()[kept])
    live.upsert([IDS[6], "newer"], vectors_of(2, seed=5), attributes={"price": [1, 2], "genre": ["Noir", "War"]})
    assert [item for item, _ in answers(live.current, where={"genre": "Noir"})] == [IDS[6]]
    live.close()


def test_nothing_to_do_and_nothing_left() -> None:
    live = live_of()
    live.hide([IDS[1]])
    assert live.compact() == live.version == 1
    live.remove(IDS)
    with pytest.raises(errors.ArgumentError, match="compact: expected at least one item that is not removed, got 40"):
        live.compact()
    assert live.version == 2
    with live.edit(), pytest.raises(errors.ArgumentError, match="edit: expected the edit's own methods"):
        live.compact()
    live.close()
    with pytest.raises(errors.ClosedError):
        live.compact()


def test_a_saved_copy_has_no_rows_of_removed_items(tmp_path) -> None:
    live = changed(build(dim=DIM))
    live.compact()
    live.current.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model")
    assert len(loaded.items) == NUM_ITEMS - 1 and loaded.fingerprint == live.current.fingerprint
    assert answers(loaded) == answers(live.current)


def test_states_are_made_anew_and_rollback_brings_the_rows_back(tmp_path) -> None:
    live = changed(build(dim=DIM))
    before = live.current
    with SQLiteStore(tmp_path / "users.db") as store, Users(live, store) as users:
        users.record("anna", [*HISTORY, IDS[6]])
        state = users.state("anna")
        live.compact()
        with pytest.raises(errors.ArgumentError, match="state: expected a state of this model"):
            live.current.recommend(state=state)
        assert users.state("anna").num_unknown == 1
        assert users.recommend("anna", 5).items.tolist() == live.current.recommend([*HISTORY, IDS[6]], 5).items.tolist()
        live.rollback()
        assert live.version == 3 and answers(live.current) == answers(before)
        assert (
            live.current.recommend(state=state, k=5).items.tolist() == before.recommend(state=state, k=5).items.tolist()
        )


def test_what_was_found_out_about_the_model_is_not_found_out_again() -> None:
    live = changed(build(dim=DIM))
    live.current.new_state([IDS[1]])
    calibration = live.current._calibration
    live.compact()
    assert "fingerprint" in live.current.__dict__, "who makes the change made it, so that no request waits"
    assert live.current._calibration is calibration
    live.replace(build(seed=5, dim=DIM))
    assert "fingerprint" in live.current.__dict__
