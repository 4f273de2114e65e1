"""Snapshots: each equals a recommender made from scratch; readers and user states outlive them."""

from __future__ import annotations

import datetime
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from live_cases import DIM, HISTORY, TITLES, answers, from_scratch, live_of, vectors_of
from lsif_sdk import Events, ItemTable, LiveRecommender, Recommender, errors
from lsif_sdk.explanation_view import as_text
from lsif_sdk.ops import ops
from recommender_cases import IDS, NUM_ITEMS, build


@pytest.mark.parametrize(
    "changes",
    [{}, {"normalize_items": True}, {"normalize_inputs": True}, {"scoring": "multi_interest"}, {"repeats": True}],
    ids=["plain", "normalized", "normalized inputs", "multi_interest", "repeats"],
)
def test_a_snapshot_is_what_a_new_recommender_of_its_items_would_be(changes: dict[str, Any]) -> None:
    live = live_of(**changes)
    live.upsert(["new a", "new b"], vectors_of(2), counts=[5, 10**6])
    with live.edit() as edit:
        edit.upsert([IDS[0], "new b", "new c"], vectors_of(3, seed=1), bias=[0.5, 0.25, -1.0], titles=["x", "y", "z"])
        edit.hide([IDS[5]])
        edit.remove([IDS[6]])
    expected = from_scratch(live.current)
    history = Events([IDS[6], "new a", "new c", IDS[8]], [100, 200, 300, 400])
    for options in ({}, {"exclude_seen": False}, {"exclude": [IDS[9], "new a"]}, {"allow": [IDS[5], IDS[6], "new b"]}):
        assert answers(live.current, history, **options) == answers(expected, history, **options)
        assert answers(live.current, [], **options) == answers(expected, [], **options)
    for got, wanted in zip(live.current.encode(history), expected.encode(history), strict=True):
        assert np.array_equal(got, wanted)
    candidates = [IDS[0], IDS[5], "new a", "new b", "new c"]
    scores = live.current.score(history, candidates)
    assert np.array_equal(scores, expected.score(history, candidates))
    assert live.current.explain(history, "new b").score == pytest.approx(float(scores[0, 3]), abs=1e-4)
    assert live.current.recommend([], k=1).items[0, 0] == "new b"  # the most popular item
    similar = live.current.similar_items(["new b"], k=NUM_ITEMS)
    assert np.array_equal(similar.items, expected.similar_items(["new b"], k=NUM_ITEMS).items)
    assert not {IDS[5], IDS[6], "new b"} & set(similar.items[0])


def test_codes_and_fingerprint_of_a_snapshot() -> None:
    live = live_of()
    first = live.current
    live.hide([IDS[1]])
    assert live.current.catalog.codes is first.catalog.codes  # nothing is coded again
    assert live.current.fingerprint == first.fingerprint
    live.upsert(["new"], vectors_of(1))
    c = live.current.catalog
    assert torch.equal(c.codes[64:], ops.code_catalog(c.vectors, c.bias, 1)[64:])
    assert live.current.fingerprint != first.fingerprint
    other = LiveRecommender(first)
    other.upsert(["new"], vectors_of(1, seed=9))
    assert other.current.fingerprint not in {live.current.fingerprint, first.fingerprint}


def test_the_same_items_make_the_same_snapshot_in_however_many_edits() -> None:
    names, vectors = ["a", "b", "c"], vectors_of(3)
    at_once, one_by_one, otherwise = live_of(), live_of(), live_of()
    at_once.upsert(names, vectors)
    for row, name in enumerate(names):
        one_by_one.upsert([name], vectors[row : row + 1])
    otherwise.upsert(names[::-1], vectors[::-1].copy())
    assert at_once.current.fingerprint == one_by_one.current.fingerprint != otherwise.current.fingerprint
    state = one_by_one.current.new_state(names)
    expected, found = (live.current.recommend(state=state) for live in (one_by_one, at_once))
    assert np.array_equal(found.items, expected.items) and np.array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("size", [1e12, -1e12])
@pytest.mark.parametrize("shape", [{}, {"block": "transformer"}, {"scoring": "multi_interest"}])
def test_the_largest_values_leave_all_answers_finite(size: float, shape: dict[str, Any]) -> None:
    live = LiveRecommender(build(dim=DIM, **shape))
    live.upsert(["large"], np.where(np.arange(DIM) % 2, size, -size)[None], bias=[size])
    for history in (["i1"], ["large"], ["large", "i2", "large"]):
        state = live.current.new_state(history)
        assert np.isfinite(live.current.recommend(history).scores).all()
        assert np.isfinite(live.current.recommend(state=state).scores).all()
        assert np.isfinite(live.current.score(history, ["large", "i1"])).all()


def test_an_edit_that_fails_changes_nothing() -> None:
    live = live_of()
    first = live.current
    with pytest.raises(ZeroDivisionError), live.edit() as edit:
        edit.upsert(["new"], vectors_of(1))
        raise ZeroDivisionError
    with pytest.raises(errors.ArgumentError, match="vectors: expected shape"):
        live.upsert(["new", "newer"], vectors_of(1))
    assert live.current is first
    with pytest.raises(errors.ArgumentError):
        live.current.score(HISTORY, ["new"])


def test_an_edit_that_leaves_everything_as_it_was_publishes_nothing() -> None:
    live = live_of()
    live.show([IDS[2]], until=2_000_000_000)
    live.hide([IDS[1]])
    first, before = live.current, live.current.version
    with live.edit() as nothing:
        pass
    with live.edit() as undone:
        undone.hide([IDS[0]])
        undone.show([IDS[0]])
    versions = [
        nothing.version,
        undone.version,
        live.hide([]),
        live.hide([IDS[1]]),
        live.show([IDS[0]]),
        live.show([IDS[2]], until=2_000_000_000),
        live.remove([]),
        live.upsert([], vectors_of(0)),
    ]
    assert versions == [before] * len(versions)
    assert live.current is first
    live.rollback()  # undoes the last change
    assert IDS[1] in [item for item, _ in answers(live.current)]
    before = live.version
    assert live.show([IDS[2]], until=2_000_000_001) == live.version == before + 1
    assert live.upsert([IDS[0]], first.catalog.vectors[:1]) == before + 2  # vectors are not compared


def test_readers_finish_on_their_snapshot() -> None:
    live = live_of()
    reader = live.current
    before = answers(reader)
    live.upsert(["new", IDS[0]], vectors_of(2) * 100)
    live.remove([IDS[10]])
    assert answers(reader) == before
    assert reader.recommend([IDS[3], "new"]).unknown[0] == 1
    assert live.current.recommend([IDS[3], "new"]).unknown[0] == 0
    assert [r.recommend(HISTORY).version for r in (reader, live.current)] == [0, 2]
    assert live.stats().version == 2
    assert live.stats().requests == 6  # of both snapshots


def test_states_outlive_snapshots_of_their_model() -> None:
    live = live_of()
    old = live.current.new_state(HISTORY)
    live.upsert(["new"], vectors_of(1))
    grown = live.current.append(old, ["new", IDS[2]])
    whole = live.current.encode([*HISTORY, "new", IDS[2]])
    np.testing.assert_allclose(live.current.encode(state=grown).fused, whole.fused, atol=1e-4)
    assert "new" not in live.current.recommend(state=grown, k=NUM_ITEMS).items
    live.upsert([IDS[2], "newer"], vectors_of(2, seed=5))  # does not change the encoder's input for IDS[2]
    np.testing.assert_allclose(live.current.encode(state=grown).fused, whole.fused, atol=1e-4)
    np.testing.assert_allclose(live.current.encode([*HISTORY, "new", IDS[2]]).fused, whole.fused, atol=1e-6)
    live.rollback()
    live.rollback()
    assert "new" not in live.current.recommend([], k=2 * NUM_ITEMS).items
    np.testing.assert_allclose(live.current.encode(state=grown).fused, whole.fused, atol=1e-4)


def test_a_state_of_a_newer_snapshot_or_another_model_is_refused() -> None:
    live = live_of()
    reader = live.current
    live.upsert(["new"], vectors_of(1))
    state = live.current.new_state(["new"])
    with pytest.raises(errors.ArgumentError, match=r"state: expected a state of this model, got .* later snapshot"):
        reader.recommend(state=state)
    assert not reader.knows(state)
    live.replace(build(dim=DIM, seed=5))
    with pytest.raises(errors.ArgumentError, match="state: expected a state of this model"):
        live.current.recommend(state=state)


def test_rollback_and_rows_that_came_since() -> None:
    live = live_of()
    before = answers(live.current)
    live.upsert(["a", IDS[0]], vectors_of(2) * 50, titles=["A", "other"])
    after = answers(live.current)
    assert after != before
    assert live.rollback() == 2
    assert answers(live.current) == before
    assert live.current.items.title_of(IDS[0]) == TITLES[0]
    with pytest.raises(errors.ArgumentError, match="candidates: expected an item of the catalogue, got 'a'"):
        live.current.score(HISTORY, ["a"])
    live.upsert(["b"], vectors_of(1, seed=3) * 50)  # does not take the row of "a"
    assert live.current.recommend(["a", "b"]).unknown[0] == 0
    assert {"b"} == {item for item, _ in answers(live.current, [])} - set(IDS)
    live.upsert(["a"], vectors_of(1) * 50)
    assert {"a", "b"} == {item for item, _ in answers(live.current, [])} - set(IDS)
    expected = from_scratch(live.current)
    assert answers(live.current) == answers(expected)


def test_rollback_of_a_hide_takes_over_vectors_and_codes() -> None:
    live = live_of()
    before = answers(live.current)
    codes = live.current.catalog.codes
    live.hide([IDS[0], IDS[5]])
    assert answers(live.current) != before
    live.rollback()
    assert answers(live.current) == before
    assert live.current.catalog.codes is codes
    assert live.current.recommend(HISTORY).version == 2


def test_rollback_of_another_model_and_without_snapshots() -> None:
    first, second = build(dim=DIM), build(dim=DIM, seed=5)
    live = LiveRecommender(first)
    live.replace(second)
    assert live.version == 1
    assert answers(live.current) == answers(second)
    assert live.rollback() == 2
    assert answers(live.current) == answers(first)
    with pytest.raises(errors.ArgumentError, match=r"rollback: expected an earlier snapshot \(keep=1\), got none"):
        live.rollback()


def test_items_expire_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    live = live_of()
    moment = [1000.0]
    monkeypatch.setattr(time, "time", lambda: moment[0])
    live.show(IDS[:3], until=[1010, 1020, 1005])
    live.upsert(["new"], vectors_of(1), until=1020)
    shown, asked = {}, np.array([*IDS, "new", "unknown"])
    for moment[0] in (1000.0, 1004.9, 1005.0, 1010.0, 1019.5, 1020.0, 1004.0):
        items = {item for item, _ in answers(live.current, [])}
        shown[moment[0]] = items & {*IDS[:3], "new"}
        assert items == set(asked[live.current.items.is_available(asked)])
        assert items == set(asked[live.current.items.is_available(asked, moment[0])])
    every = {*IDS[:3], "new"}
    assert shown == {
        1000.0: every, 1004.9: every, 1005.0: every - {IDS[2]}, 1010.0: every - {IDS[2], IDS[0]},
        1019.5: {IDS[1], "new"}, 1020.0: set(), 1004.0: every,
    }  # fmt: skip
    live.show([IDS[0]])
    moment[0] = 1e12
    assert IDS[0] in live.current.recommend([], k=NUM_ITEMS).items


def test_whether_an_item_is_available() -> None:
    live = live_of()
    assert live.current.items.is_available([IDS[0], "unknown"]).tolist() == [True, False]
    assert live.current.items.is_available([]).tolist() == []
    live.hide([IDS[0]])
    live.remove([IDS[1]])
    live.show([IDS[2], IDS[3]], until=[1000, 2000])
    items, asked = live.current.items, [*IDS[:5], "unknown"]
    assert items.is_available(asked, 1000).tolist() == [False, False, False, True, True, False]
    assert items.is_available(asked, [999.9, 5, 999.9, 2000, 5, 5]).tolist() == [False, False, True, False, True, False]
    assert items.is_available(IDS[2:4], datetime.datetime(1970, 1, 1)).tolist() == [True, True]
    with pytest.raises(errors.ArgumentError, match="now: expected one time, or 2 of them, got 3 times"):
        items.is_available(asked[:2], [1, 2, 3])
    with pytest.raises(errors.ArgumentError, match="now: expected Unix seconds, got what looks like milliseconds"):
        items.is_available(asked, 1_900_000_000_000)
    with pytest.raises(errors.ArgumentTypeError, match="ids: expected strings"):
        items.is_available([7])
    for odd in (IDS[0], {IDS[0]}, (item for item in IDS)):
        with pytest.raises(errors.ArgumentTypeError, match="ids: expected a sequence, one value per item"):
            items.is_available(odd)  # type: ignore[arg-type]


def test_hidden_removed_and_back() -> None:
    live = live_of()
    live.hide([IDS[0]])
    live.remove([IDS[1]])
    assert not {IDS[0], IDS[1]} & {item for item, _ in answers(live.current)}
    assert np.isfinite(live.current.score(HISTORY, [IDS[0]])).all()
    assert live.current.recommend([IDS[1]]).unknown[0] == 0
    for refused in (lambda: live.show([IDS[1]]), lambda: live.hide(["never"]), lambda: live.remove([IDS[1]])):
        with pytest.raises(errors.ArgumentError, match="ids: expected items of the catalogue"):
            refused()
    live.show([IDS[0]])
    live.upsert([IDS[1]], live.current.catalog.vectors[1:2])
    assert answers(live.current) == answers(build(dim=DIM))


def test_a_new_item_without_a_bias_has_the_mean_one() -> None:
    live = live_of()
    mean = live.current.catalog.bias.numpy().mean(dtype=np.float64)
    assert abs(mean) > 1e-3
    live.upsert(["new"], vectors_of(1))
    assert live.current.catalog.bias[-1] == np.float32(mean)


def test_the_same_vector_under_another_id_is_another_model() -> None:
    first, second = live_of(), live_of()
    first.upsert(["a", "b"], vectors_of(2))
    second.upsert(["a", "c"], vectors_of(2))
    assert first.current.fingerprint != second.current.fingerprint
    assert not second.current.knows(first.current.new_state(["b"]))


def test_users_of_a_fitted_item_are_histories() -> None:
    live = live_of()
    column = pd.Series(IDS[:2])
    for met, others in (
        ([IDS[0], IDS[1]], [[IDS[2]]]),
        (column, [[IDS[2]]]),
        ([[IDS[0]]], [IDS[1]]),
        ([[IDS[0]]], Events([IDS[1]])),
    ):
        with pytest.raises(errors.ArgumentTypeError, match="expected a list of histories, one per user"):
            live.fit_item("new", met, others)


def test_fit_item_makes_an_item_its_users_get() -> None:
    live = live_of()
    rng = np.random.default_rng(2)
    histories = [[IDS[row] for row in rng.integers(NUM_ITEMS, size=8)] for _ in range(60)]
    met, others = histories[:5], histories[5:]
    live.fit_item("new", met, others, ridge=0.01, others_weight=0.1, title="New")
    ranks = [
        list(live.current.recommend(h, k=NUM_ITEMS + 1, exclude_seen=False).items[0]).index("new") for h in histories
    ]
    assert np.mean(ranks[:5]) < np.mean(ranks[5:])
    multi = live_of(scoring="multi_interest")
    with pytest.raises(errors.ArgumentError, match="scoring: expected a model that scores with the fused vector"):
        multi.fit_item("new", met, others)


@pytest.mark.parametrize("none", [[], [[]], [["new"]], [[], ["new", "newer"]]])
def test_an_item_is_fitted_to_users_with_known_events(none: Any) -> None:
    live = live_of()
    for lists in ((none, [[IDS[1]]]), ([[IDS[1]]], none)):
        argument = "met" if lists[0] is none else "others"
        with pytest.raises(errors.ArgumentError, match=f"^{argument}: expected histories with known events"):
            live.fit_item("junk", *lists)
    assert live.version == 0 and live.current.items.rows(["junk"]) == [-1]
    met, others = [[IDS[1]], [IDS[2], IDS[9]]], [[IDS[row]] for row in range(10, 30)]
    live.fit_item("fitted", [*met, *none], [*none, *others])
    twin = live_of()
    twin.fit_item("fitted", met, others)
    assert np.array_equal(live.current.catalog.vectors[-1], twin.current.catalog.vectors[-1])
    assert live.current.catalog.bias[-1] == twin.current.catalog.bias[-1]


def test_a_saved_snapshot_is_the_same_when_loaded(tmp_path) -> None:
    live = live_of()
    live.upsert(["new", IDS[0]], vectors_of(2), titles=["New", "Other"])
    live.hide([IDS[4]])
    live.show([IDS[5]], until=2**36)
    live.current.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model")
    assert answers(loaded) == answers(live.current)
    assert np.array_equal(loaded.items.until, live.current.items.until)
    assert not loaded.knows(live.current.new_state(["new"]))  # documented: a loaded model is another model


def test_items_to_hide_come_in_any_container() -> None:
    ids = [IDS[3], IDS[7]]
    for given in (tuple(ids), set(ids), np.array(ids, object), pd.Series(ids), ItemTable(ids)):
        live = live_of()
        live.hide(given)
        assert not set(ids) & {item for item, _ in answers(live.current, [])}
        live.show(given)
        live.remove(given)
        assert live.version == 3
        with pytest.raises(errors.ArgumentError, match="ids: expected items of the catalogue"):
            live.hide(ids)
    for until in ([1, 2], np.array([1, 2]), pd.Series([1, 2]), torch.tensor([1, 2])):
        with pytest.raises(errors.ArgumentTypeError, match="ids: expected a sequence of item ids, in the order of"):
            live_of().show(set(ids), until=until)
    assert live_of().show(set(ids), until=[2_000_000_000] * 2) == 1


def test_a_removed_item_of_a_history_is_called_by_its_title_in_an_explanation() -> None:
    live = live_of()
    live.remove([IDS[3]])
    rec = live.current
    assert TITLES[3] in as_text(rec.explain([IDS[3], IDS[7]], IDS[8]), rec.items)
