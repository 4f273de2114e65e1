"""`Recommender.search` for vectors from elsewhere, and `Recommender.from_vectors` without an encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lsif_sdk import Artifact, ItemTable, LiveRecommender, Recommender, train
from lsif_sdk.cli import main
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from recommender_cases import IDS, build, same

DIM = 12
RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((40, DIM)).astype(np.float32)
BIAS = RNG.standard_normal(40).astype(np.float32)
USERS = RNG.standard_normal((5, DIM)).astype(np.float32)
COLUMNS = {"kind": ["odd" if row % 2 else "even" for row in range(40)]}


def alone(**others):
    return Recommender.from_vectors(VECTORS, IDS, BIAS, **others)


def slow(users, k, allowed=lambda user, row: True, vectors=VECTORS, bias=BIAS):
    """Ids of the best items, by float64 scores."""
    scores = users.astype(np.float64) @ vectors.T.astype(np.float64) + bias
    orders = [sorted(range(len(vectors)), key=lambda row: (-scores[user, row], row)) for user in range(len(users))]
    return [[IDS[row] for row in order if allowed(user, row)][:k] for user, order in enumerate(orders)]


def found(out):
    return [user.items.tolist() for user in out]


def test_the_best_items_of_a_vector_are_found_by_their_ids():
    rec = alone()
    out = rec.search(USERS, 7)
    assert found(out) == slow(USERS, 7)
    assert rec.catalog.vectors.data_ptr() == VECTORS.ctypes.data and alone(threads=1).threads == 1
    np.testing.assert_allclose(out.scores[0, 0], np.max(USERS[0] @ VECTORS.T + BIAS), rtol=1e-6)
    assert (out.counts.tolist(), out.fallback.any(), out.unknown.any()) == ([7] * 5, False, False)
    for one in (USERS[1], USERS[1:2], torch.from_numpy(USERS[1]), USERS[1].tolist(), USERS[1].astype(np.float64)):
        assert same(rec.search(one, 7), rec.search(USERS[1:2], 7))
    assert found(rec.search(np.zeros((0, DIM)), 3)) == []
    assert found(Recommender.from_vectors(VECTORS).search(USERS[:1], 3)) == [
        [IDS.index(item) for item in slow(USERS[:1], 3, bias=0)[0]]
    ]


def test_a_models_own_users_find_what_they_are_recommended():
    rec = build()
    histories = [["i3", "i9"], ["i1"], ["i7", "i8", "i30"]]
    out = rec.recommend(histories, 6, exclude_seen=False)
    by_vectors = rec.search(rec.user_vectors(histories), 6)
    np.testing.assert_array_equal(by_vectors.items, out.items)
    np.testing.assert_array_equal(by_vectors.scores, out.scores)


def test_filters_are_those_of_recommend():
    rec = alone(attributes=COLUMNS)
    best = slow(USERS, 2)
    out = rec.search(USERS, 4, exclude=[{items[0]} for items in best], where={"kind": "odd"}, allow=IDS[5:])
    assert found(out) == slow(USERS, 4, lambda user, row: row % 2 == 1 and row >= 5 and IDS[row] != best[user][0])
    out = rec.search(USERS[:2], 40, where=[{"kind": "even"}, None], exclude=["i2", "nobody"])
    assert out.counts.tolist() == [19, 39] and "not seen, excluded, filtered out" in out[0].reason


def test_a_live_catalogue_of_vectors_changes(tmp_path):
    live = LiveRecommender(alone(attributes=COLUMNS))
    user = USERS[0]
    first, second = slow(USERS[:1], 2)[0]
    live.hide([first])
    assert live.current.search(user, 1)[0].items.tolist() == [second]
    live.upsert(["new"], user[None] * 10, attributes={"kind": ["odd"]})
    out = live.current.search(user, 2)
    assert out[0].items.tolist() == ["new", second] and out.version == live.version == 2
    live.remove(["new", second])
    assert found(live.current.search(USERS, 9)) == slow(USERS, 9, lambda _, row: IDS[row] not in (first, second))
    live.current.save(tmp_path / "index")
    again = Recommender.load(tmp_path / "index", threads=1)
    assert same(again.search(USERS, 9), Recommender(live.current.artifact).search(USERS, 9))
    assert not again.artifact.has_encoder and repr(again) == "Recommender(41 items, no encoder, dim=12)"
    assert Artifact.load(tmp_path / "index").training == {"encoder": "none"}
    assert found(again.similar_items("i7", 3)) == found(live.current.similar_items("i7", 3))


def test_what_there_is_of_items_is_kept():
    table = ItemTable(IDS, [f"Thing {name}" for name in IDS])
    assert Recommender.from_vectors(VECTORS, table).items.title_of("i7") == "Thing i7"
    assert Recommender.from_vectors(VECTORS, IDS, titles=IDS[::-1]).items.title_of("i0") == "i39"


def test_there_is_no_model_to_start_from_or_to_look_at(tmp_path, capsys):
    alone().save(tmp_path / "index")
    with pytest.raises(ArgumentError, match="start: expected a model with an encoder, got items alone"):
        train(simulated_shop(20, 10), start=tmp_path / "index")
    assert main(["inspect", str(tmp_path / "index")]) == 0
    assert "encoder: none" in capsys.readouterr().out


@pytest.mark.parametrize(
    "call",
    [
        lambda rec: rec.recommend(["i1"]),
        lambda rec: rec.recommend([]),
        lambda rec: rec.score(["i1"], ["i2"]),
        lambda rec: rec.encode(["i1"]),
        lambda rec: rec.user_vectors([["i1"]]),
        lambda rec: rec.new_state(),
        lambda rec: rec.explain(["i1"], "i2"),
        lambda rec: rec.recommend(state=build().new_state(["i1"])),
        lambda rec: rec.score(state=[], candidates=[["i1"]]),
        lambda rec: rec.append([], []),
        lambda rec: rec.join_states(1, 2),
        lambda rec: rec.calibrate(0.9),
        lambda rec: rec.encode_rows(np.zeros(1, np.int64), None, None, np.array([0, 1])),
    ],
)
def test_without_an_encoder_histories_are_refused(call):
    with pytest.raises(ArgumentError, match=r"(history|state|older|recall_target): expected a model with an encoder"):
        call(alone())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: alone().search(USERS[:, :5]), ArgumentError, r"queries: expected shape \[batch, 12\], got \[5, 5\]"),
        (lambda: alone().search(np.full(DIM, np.nan)), ArgumentError, "queries: expected finite"),
        (lambda: alone().search("i1"), ArgumentTypeError, "queries: expected"),
        (lambda: alone().search(["i1"]), (ArgumentError, ArgumentTypeError), "queries: expected"),
        (lambda: alone().search(USERS, 0), ArgumentError, "k: expected an integer"),
        (lambda: alone().search(USERS, exclude=[5]), ArgumentTypeError, "exclude: expected strings"),
        (lambda: alone().search(USERS, where={"price": 3}), ArgumentError, "where: expected"),
        (lambda: Recommender.from_vectors(VECTORS, IDS[:3]), ArgumentError, "ids: expected 40 ids, one per row, got 3"),
        (lambda: Recommender.from_vectors(VECTORS, ["a"] * 40), ArgumentError, "ids: expected no two equal ids"),
        (lambda: Recommender.from_vectors(VECTORS, IDS, BIAS[:3]), ArgumentError, r"bias: expected shape \[40\]"),
        (lambda: Recommender.from_vectors(VECTORS[0]), ArgumentError, "vectors: expected"),
        (lambda: Recommender.from_vectors(VECTORS[:, :0]), ArgumentError, "vectors: expected at least one dimension"),
        (lambda: Recommender.from_vectors(VECTORS[:0]), ArgumentError, "vectors: expected an item or more"),
        (lambda: Recommender.from_vectors(np.ones((1, 5000), np.float32)), ArgumentError, "of 1 to 4096 dimensions"),
        (lambda: alone().search(USERS * np.float32(1e38)), ArgumentError, "queries: expected scores within float32"),
        (lambda: Recommender.from_vectors(VECTORS, ItemTable(IDS), titles=IDS), ArgumentError, "titles: expected None"),
        (lambda: Recommender.from_vectors(VECTORS * np.nan), ArgumentError, "vectors: expected finite"),
        (lambda: Recommender.from_vectors(VECTORS, titles=["a"]), ArgumentError, "titles: expected 40 texts"),
    ],
)
def test_bad_arguments_are_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()
