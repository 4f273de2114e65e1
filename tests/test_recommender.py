"""Recommender: the exact top K of the model's scores, filters and fallbacks."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lsif_sdk import Artifact, Events, Recommender, errors, train
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.recommendations import Encoded
from lsif_sdk.training import TrainConfig
from recommender_cases import HISTORIES, IDS, NUM_ITEMS, build, same


@pytest.fixture(scope="module", params=["fused", "multi_interest"])
def recommender(request) -> Recommender:
    return build(request.param)


def all_scores(recommender: Recommender, histories: Any) -> np.ndarray:
    """docs/model.md, 5, in float64, from the interests that `encode` gives."""
    return all_scores_of(recommender, recommender.encode(histories))


def all_scores_of(recommender: Recommender, encoded: Encoded) -> np.ndarray:
    vectors = recommender.catalog.vectors.double().numpy()
    bias = recommender.catalog.bias.double().numpy()
    if recommender.config.scoring == "fused":
        return encoded.fused.astype(np.float64) @ vectors.T + bias
    tau = recommender.config.temperature
    dots = np.einsum("bmd,nd->bmn", encoded.interests.astype(np.float64), vectors) / tau
    with np.errstate(divide="ignore"):
        logs = np.log(encoded.weights.astype(np.float64))[:, :, None]
    return tau * np.logaddexp.reduce(logs + dots, axis=1) + bias


def test_recommendations_are_the_exact_best_of_the_model(recommender):
    histories = [HISTORIES[0], HISTORIES[1], HISTORIES[3]]
    out = recommender.recommend(histories, k=6)
    scores = all_scores(recommender, histories)
    for b, history in enumerate(histories):
        seen = [IDS.index(item) for item in history if item in IDS]
        scores[b, seen] = -np.inf
        best = np.argsort(-scores[b], kind="stable")[:6]
        assert out[b].items.tolist() == [IDS[row] for row in best]
        np.testing.assert_allclose(out[b].scores, scores[b, best], rtol=2e-7, atol=1e-7)
    assert out.long_share == pytest.approx(recommender.encode(histories).weights[:, :4].sum(axis=1))


@pytest.mark.parametrize("block", ["hstu", "transformer"])
@pytest.mark.parametrize("shape", [{"num_long": 0, "num_short": 0}, {"num_long": 7, "dim": 30}, {"use_times": False}])
def test_every_item_is_ranked_as_the_model_says(recommender, block, shape):
    other = build(recommender.config.scoring, block=block, num_layers=2, **shape)
    rng = np.random.default_rng(2)
    histories = [
        Events([IDS[row] for row in rng.integers(NUM_ITEMS, size=length)], np.sort(rng.integers(10**6, size=length)))
        for length in (1, 2, 6, 30)
    ]
    out = other.recommend(histories, k=NUM_ITEMS, exclude_seen=False)
    expected = all_scores(other, histories)
    assert out.counts.tolist() == [NUM_ITEMS] * len(histories)
    for user, scores in zip(out, expected, strict=True):
        rows = [IDS.index(item) for item in user.items]
        assert sorted(rows) == list(range(NUM_ITEMS))
        np.testing.assert_allclose(user.scores, scores[rows], rtol=2e-7, atol=1e-7)
        assert (np.diff(user.scores) <= 0).all()
        # Except where scores are within rounding of each other, the order is that of float64.
        order = scores[rows]
        assert (np.diff(order) <= 2e-7 * np.abs(order[1:]) + 1e-7).all()


def test_items_with_equal_scores_come_in_row_order(recommender):
    weights = {name: tensor.clone() for name, tensor in recommender.artifact.weights.items()}
    for name in ("item_embedding", "catalog.bias"):
        weights[name][20:30] = weights[name][5]
    twins = Recommender(Artifact(recommender.config, weights, recommender.items))
    out = twins.recommend(["i1", "i2"], k=NUM_ITEMS, exclude_seen=False)[0]
    at = out.items.tolist().index("i5")
    assert out.items[at : at + 11].tolist() == ["i5", *IDS[20:30]]
    assert len(set(out.scores[at : at + 11].tolist())) == 1
    assert twins.recommend(["i1", "i2"], k=at + 4, exclude_seen=False)[0].items[at:].tolist() == [
        "i5", "i20", "i21", "i22",
    ]  # fmt: skip


def test_answers_are_indexed_and_iterated(recommender):
    out = recommender.recommend(HISTORIES, k=3)
    assert [user.items.tolist() for user in out[1:]] == [user.items.tolist() for user in list(out)[1:]]
    assert out[-1].items.tolist() == out[3].items.tolist()
    for position in (4, -5):
        with pytest.raises(IndexError):
            out[position]
    user = out[3]
    assert (user.unknown, user.fallback) == (1, False)
    assert 0 < user.long_share < 1
    assert [type(part) for part in next(iter(user))] == [str, float]
    assert [one.unknown for one in out] == out.unknown.tolist()


def test_answers_as_columns_of_a_table(recommender):
    excluded = [[], [], [], IDS[:38]]  # the last user has two items left, one of them seen
    out = recommender.recommend(HISTORIES, k=3, exclude=excluded)
    columns = out.columns(["ann", "bob", "cy", "dee"])
    expected = [
        (name, rank, item, score)
        for name, user in zip(["ann", "bob", "cy", "dee"], out, strict=True)
        for rank, (item, score) in enumerate(user, start=1)
    ]
    assert list(zip(*(columns[name].tolist() for name in ("user", "rank", "item", "score")), strict=True)) == expected
    assert 9 < len(expected) == out.counts.sum() < 12
    assert [values.dtype.kind for values in columns.values()] == ["O", "i", "O", "f"]
    assert out.columns()["user"].tolist() == np.repeat(range(4), out.counts).tolist()
    empty = recommender.recommend(np.zeros((0, 0), np.int64), k=3).columns()
    assert [len(values) for values in empty.values()] == [0, 0, 0, 0]
    with pytest.raises(errors.ArgumentError, match="users: expected the ids of 4 users, in their order, got 3"):
        out.columns([1, 2, 3])
    for users, message in (
        ("anna", "users: expected a sequence of ids, got str 'anna'"),
        (np.zeros((4, 1), np.int64), "users: expected all integers or all strings, got list"),
        ([7, "ann", 8, 9], "users: expected all integers or all strings, got str 'ann'"),
        (pd.Series([2**53 + 1, None, 3, 4], dtype="Int64"), "users: expected all integers or all strings"),
        ([1.0, 2.0, 3.0, 4.0], "users: expected all integers or all strings, got float 1.0"),
        ([2**63, 1, 2, 3], "users: expected integers that fit int64, got 9223372036854775808"),
    ):
        with pytest.raises(errors.LsifError, match=message):
            out.columns(users)
    assert out.columns(["a\0", "a", "b", "c"])["user"].tolist()[:4] == ["a\0"] * 3 + ["a"]
    assert out.columns(pd.Index([2**53 + 1, 2, 3, 4]))["user"][0] == 2**53 + 1


def test_what_the_encoder_gives_fits_together(recommender):
    config = recommender.config
    encoded = recommender.encode(HISTORIES)
    assert [part.dtype for part in encoded] == [np.float32] * 3
    assert encoded.interests.shape == (4, config.num_interests, config.dim)
    assert encoded.weights.sum(axis=1) == pytest.approx([1, 1, 0, 1])
    fused = np.einsum("bm,bmd->bd", encoded.weights.astype(np.float64), encoded.interests.astype(np.float64))
    np.testing.assert_allclose(encoded.fused, fused, rtol=1e-4, atol=1e-5)
    assert recommender.user_vectors(HISTORIES).tolist() == encoded.fused.tolist()
    rows = np.array([3, 9, 3, 1, 7, 8, 30])
    of_rows = recommender.encode_rows(rows, None, None, np.array([0, 3, 4, 4, 7]))
    assert all(np.array_equal(a, b) for a, b in zip(of_rows, encoded, strict=True))


def test_a_batch_gives_each_user_what_a_call_of_its_own_gives(recommender):
    out = recommender.recommend(HISTORIES, k=5)
    assert len(out) == len(list(out)) == 4
    for user, history in zip(out, HISTORIES, strict=True):
        alone = recommender.recommend(history, k=5)[0]
        assert user.items.tolist() == alone.items.tolist()
        assert user.scores.tolist() == alone.scores.tolist()
        assert list(user) == list(zip(user.items.tolist(), user.scores.tolist(), strict=True))


def test_scores_are_those_of_recommend(recommender):
    out = recommender.recommend(HISTORIES[0], k=4)[0]
    assert recommender.score(HISTORIES[0], out.items.tolist())[0].tolist() == out.scores.tolist()
    both = recommender.score([HISTORIES[0], []], [["i1", "i2"], ["i2", "i1"]])
    assert both.shape == (2, 2)
    assert both[1].tolist() == recommender.catalog.bias[[2, 1]].tolist()
    assert recommender.score([["i1"], ["i2"]], []).shape == (2, 0)
    everything = recommender.recommend(HISTORIES[:2], k=NUM_ITEMS, exclude_seen=False)
    assert recommender.score(HISTORIES[:2], everything.items.tolist()).tolist() == everything.scores.tolist()
    with pytest.raises(errors.ArgumentError, match="candidates: expected an item of the catalogue, got 'new'"):
        recommender.score(["i1"], ["new"])
    with pytest.raises(errors.ArgumentError, match="candidates"):
        recommender.score([["i1"], ["i2"]], [["i1"], ["i1", "i2"]])
    with pytest.raises(errors.ArgumentError, match=r"candidates: expected one list, or 1 of the same length, got \[\]"):
        recommender.score(["i1"], np.zeros((0, 2), int))
    with pytest.raises(errors.ArgumentTypeError, match="candidates: expected a list of item ids, got None"):
        recommender.score(["i1"])
    state = recommender.new_state(HISTORIES[0])
    assert recommender.score(state=state, candidates=out.items.tolist()).shape == (1, 4)
    with pytest.raises(errors.ArgumentError, match="history: expected None where a state is given"):
        recommender.score(["i1"], ["i2"], state=state)
    with pytest.raises(errors.ArgumentTypeError, match="history: expected events, and a state as state="):
        recommender.score(state, ["i2"])


@pytest.mark.parametrize("training", [{}, {"exclude_seen": True}, {"exclude_seen": False}, {"exclude_seen": "no"}])
def test_what_was_seen_is_left_out_as_in_training_unless_told(training):
    rec = Recommender(dataclasses.replace(build().artifact, training=training))
    default = rec.recommend(HISTORIES, k=NUM_ITEMS)
    assert same(default, rec.recommend(HISTORIES, k=NUM_ITEMS, exclude_seen=None))
    assert same(default, rec.recommend(HISTORIES, k=NUM_ITEMS, exclude_seen=training.get("exclude_seen") is not False))
    assert not same(default, rec.recommend(HISTORIES, k=NUM_ITEMS, exclude_seen=training.get("exclude_seen") is False))
    with pytest.raises(errors.ArgumentTypeError, match="exclude_seen: expected True, False or None"):
        rec.recommend(HISTORIES, exclude_seen="no")


def test_seen_and_excluded_items_are_left_out(recommender):
    everything = recommender.recommend(["i3", "i9"], k=NUM_ITEMS, exclude_seen=False)[0].items.tolist()
    assert sorted(everything) == sorted(IDS)
    unseen = recommender.recommend(["i3", "i9"], k=NUM_ITEMS)
    assert unseen.counts.tolist() == [NUM_ITEMS - 2]
    assert unseen[0].items.tolist() == [item for item in everything if item not in ("i3", "i9")]
    assert unseen.items[0, -2:].tolist() == [None, None]
    assert np.isfinite(unseen.scores).all()
    fewer = recommender.recommend(["i3", "i9"], k=5, exclude=["i0", "unheard of", *IDS[10:]])[0]
    assert set(fewer.items) <= set(IDS[1:10]) - {"i3", "i9"}
    own = recommender.recommend([["i3"], ["i3"]], k=NUM_ITEMS, exclude=[["i0"], []])
    assert own.counts.tolist() == [NUM_ITEMS - 2, NUM_ITEMS - 1]
    for nothing in ([], [[]], ["unheard of"]):
        assert same(recommender.recommend(["i3", "i9"], k=NUM_ITEMS, exclude=nothing), unseen)
    shared = recommender.recommend([["i3"], ["i9"]], k=5, exclude=["i0", "i1"])
    assert same(recommender.recommend([["i3"], ["i9"]], k=5, exclude=[["i0", "i1"]] * 2), shared)
    none = recommender.recommend(["i3"], k=5, exclude=IDS)
    assert none.counts.tolist() == [0]
    assert len(none[0]) == 0


def test_users_nobody_knows_get_what_is_popular_and_are_told_so(recommender):
    out = recommender.recommend([[], ["new", "newer"], ["i5"]], k=3, exclude=["i1"])
    assert out.fallback.tolist() == [True, True, False]
    assert [user.fallback for user in out] == [True, True, False]
    assert out.unknown.tolist() == [0, 2, 0]
    for user in (0, 1):
        assert out[user].items.tolist() == ["i0", "i2", "i3"]
        assert out[user].scores.tolist() == [39, 37, 36]
    everything = recommender.recommend([], k=NUM_ITEMS)
    assert everything[0].items.tolist() == IDS
    assert everything.scores.tolist() == [list(range(NUM_ITEMS))[::-1]]
    own = recommender.recommend([[], ["new"], []], k=2, exclude=[["i0", "i2", "?"], [], IDS])
    assert own.items.tolist() == [["i1", "i3"], ["i0", "i1"], [None, None]]
    assert own.counts.tolist() == [2, 2, 0]
    assert own.fallback.all()
    assert out.long_share[:2].tolist() == [0, 0]
    assert recommender.user_vectors([[], ["i5"]])[0].tolist() == [0] * 12


def test_unknown_items_are_left_out_and_counted(recommender):
    with_unknown = recommender.recommend(Events(["i1", "?", "i2"], [10, 20, 30]), k=5)
    without = recommender.recommend(Events(["i1", "i2"], [10, 30]), k=5)
    assert with_unknown.unknown.tolist() == [1]
    assert with_unknown.items.tolist() == without.items.tolist()
    assert with_unknown.scores.tolist() == without.scores.tolist()


def test_events_are_sorted_by_time_and_the_callers_arrays_left_alone(recommender):
    items, times = np.array(["i1", "i2", "i3"]), np.array([300, 100, 100])
    out = recommender.recommend(Events(items, times), k=5)
    expected = recommender.recommend(Events(["i2", "i3", "i1"], [100, 100, 300]), k=5)
    assert out.scores.tolist() == expected.scores.tolist()
    assert times.tolist() == [300, 100, 100]
    assert items.tolist() == ["i1", "i2", "i3"]


def test_saved_and_loaded_it_answers_the_same(recommender, tmp_path):
    recommender.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model", threads=1)
    assert same(loaded.recommend(HISTORIES, k=7), recommender.recommend(HISTORIES, k=7))
    assert same(loaded.similar_items(IDS, k=7), recommender.similar_items(IDS, k=7))
    assert loaded.score(HISTORIES, IDS).tolist() == recommender.score(HISTORIES, IDS).tolist()
    assert loaded.config == recommender.config
    with pytest.raises(errors.ArtifactError, match="exists"):
        loaded.save(tmp_path / "model")
    loaded.save(tmp_path / "model", overwrite=True)
    again = Recommender.load(tmp_path / "model")
    assert same(again.recommend(HISTORIES, k=7), recommender.recommend(HISTORIES, k=7))


def test_what_is_trained_beats_popularity():
    model = {"dim": 24, "num_layers": 1, "window": 20}
    training = TrainConfig(epochs=4, batch_size=8, learning_rate=0.006, dropout=0.1)
    recommender = train(simulated_shop(300, 150), model, training, progress=False)
    ndcg = {name: report["metrics"]["ndcg@10"] for name, report in recommender.artifact.metrics["test"].items()}
    assert ndcg["lsif"] > 2 * ndcg["popularity"]


def test_a_loaded_model_scores_with_the_mapped_weights(recommender, tmp_path):
    recommender.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model")
    assert loaded.catalog.vectors.data_ptr() == loaded.artifact.catalog_vectors.data_ptr()


def test_an_empty_list_is_one_user_without_events(recommender):
    assert len(recommender.recommend([])) == len(recommender.recommend([[]])) == 1
    assert recommender.user_vectors([]).shape == (1, recommender.config.dim)
    assert len(recommender.encode([]).weights) == 1
    assert recommender.score([], IDS[:3]).shape == (1, 3)
    nobody = np.zeros((0, 0), np.int64)
    assert len(recommender.recommend(nobody)) == 0
    assert recommender.user_vectors(nobody).shape == (0, recommender.config.dim)
    assert recommender.score(nobody, IDS[:3]).shape == (0, 3)


def test_scores_of_a_user_without_events_are_the_bias_and_not_the_counts_of_the_fallback(recommender):
    rows = [4, 0, 9]
    bias = recommender.catalog.bias.numpy()[rows]
    np.testing.assert_allclose(recommender.score([], [IDS[row] for row in rows])[0], bias, rtol=1e-6, atol=1e-7)
    assert recommender.recommend([], k=1).scores[0, 0] == recommender.items.counts.max()


def test_answers_compare_by_identity(recommender):
    out = recommender.recommend(HISTORIES, k=3)
    assert out == out
    assert out != recommender.recommend(HISTORIES, k=3)
    assert out[0] != out[1]


def test_weights_may_still_be_parameters(recommender):
    artifact = recommender.artifact
    weights = {
        name: torch.nn.Parameter(tensor.clone(), requires_grad=tensor.is_floating_point())
        for name, tensor in artifact.weights.items()
    }
    parameters = Recommender(dataclasses.replace(artifact, weights=weights))
    assert same(parameters.recommend(HISTORIES), recommender.recommend(HISTORIES))
    assert not parameters.catalog.vectors.requires_grad


def test_ids_to_leave_out_may_be_a_set_or_an_array_and_are_for_all_users(recommender):
    histories = [[str(recommender.items.ids[row])] for row in (0, 1)]
    unwanted = recommender.recommend(histories, 2).items[0].tolist()
    expected = recommender.recommend(histories, 5, exclude=unwanted)
    assert not set(unwanted) & set(expected.items.ravel().tolist())
    for exclude in (set(unwanted), frozenset(unwanted), np.array(unwanted, object), [unwanted, unwanted]):
        found = recommender.recommend(histories, 5, exclude=exclude)
        assert np.array_equal(found.items, expected.items) and np.array_equal(found.scores, expected.scores)


def test_a_history_may_be_anything_that_numpy_reads_as_ids(recommender):
    pandas = pytest.importorskip("pandas")
    ids = [str(recommender.items.ids[row]) for row in (3, 1, 2)]
    expected = recommender.recommend(ids, 3)
    assert np.array_equal(recommender.recommend(pandas.Series(ids, dtype=object), 3).items, expected.items)


def test_what_is_printed_says_what_it_is(recommender):
    assert repr(recommender).startswith("Recommender(") and f"{len(recommender.items):,} items" in repr(recommender)
    assert repr(recommender.catalog) == f"Catalog({len(recommender.items):,} items, dim={recommender.config.dim})"


@pytest.mark.parametrize(
    ("interest", "share"), [("long", 1.0), ("short", 0.0), (0.25, 0.25), (1, 1.0), (np.float32(0), 0.0)]
)
def test_the_balance_can_be_overridden(recommender, interest, share):
    encoded = recommender.encode(HISTORIES[0])
    weights = encoded.weights[0].astype(np.float64)
    num_long = recommender.config.num_long
    weights[:num_long] *= share / weights[:num_long].sum()
    weights[num_long:] *= (1 - share) / weights[num_long:].sum()
    fused = (weights[:, None] * encoded.interests[0]).sum(axis=0)[None]
    expected = all_scores_of(recommender, Encoded(fused, encoded.interests, weights[None]))[0]
    out = recommender.recommend(HISTORIES[0], k=NUM_ITEMS, exclude_seen=False, interest=interest)
    assert out.long_share == [share]  # the requested share, not a rounded one
    rows = [IDS.index(item) for item in out[0].items]
    np.testing.assert_allclose(out[0].scores, expected[rows], rtol=1e-5, atol=1e-5)
    assert np.all(np.diff(expected[rows]) < 1e-5)
    state = recommender.new_state(HISTORIES[0])
    assert recommender.recommend(state=state, interest=interest).long_share == [share]


def test_shares_lie_between_0_and_1():
    mostly_long = build(num_long=4, num_short=0)  # the rest of the weight is only the newest state's
    histories = [[IDS[row] for row in np.random.default_rng(seed).integers(NUM_ITEMS, size=9)] for seed in range(100)]
    for interest in (None, "long", 0.3):
        shares = mostly_long.recommend(histories, interest=interest).long_share
        assert ((shares >= 0) & (shares <= 1)).all()
    weights = mostly_long.encode(histories).weights.astype(np.float64)
    got = mostly_long.recommend(histories).long_share
    np.testing.assert_array_equal(got, np.minimum(weights[:, :4].sum(axis=1), 1).astype(np.float32))


def test_a_balance_that_cannot_be_is_refused(recommender):
    for interest in (-0.1, 1.5, float("nan")):
        with pytest.raises(errors.ArgumentError, match="interest: expected 'long', 'short' or a share from 0 to 1"):
            recommender.recommend(["i1"], interest=interest)
    with pytest.raises(
        errors.ArgumentError, match="interest: expected 'long', 'short' or a share from 0 to 1, got 'both'"
    ):
        recommender.recommend(["i1"], interest="both")
    for interest in (True, [0.5]):
        with pytest.raises(errors.ArgumentTypeError, match="interest: expected 'long', 'short'"):
            recommender.recommend(["i1"], interest=interest)
    short_only = build(num_long=0)
    assert short_only.recommend(["i1"], interest="short").long_share == [0]
    with pytest.raises(errors.ArgumentError, match="interest: expected 0, for this model has no long-term interests"):
        short_only.recommend(["i1"], interest="long")
