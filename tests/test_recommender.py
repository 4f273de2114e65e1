"""Recommender: the exact top K of what the model says, filters, fallbacks, and what is refused."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pytest
import torch

from lsif_sdk import Artifact, Events, ItemTable, ModelConfig, Recommender, errors, train
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.model import InterestFusionModel
from lsif_sdk.training import TrainConfig

NUM_ITEMS = 40
IDS = [f"i{row}" for row in range(NUM_ITEMS)]
HISTORIES: list[Any] = [["i3", "i9", "i3"], ["i1"], [], ["i7", "new", "i8", "i30"]]


def build(scoring: str = "fused", **fields: Any) -> Recommender:
    torch.manual_seed(1)
    shape = {"dim": 12, "num_layers": 1, "window": 5, "ffn_dim": 8} | fields
    config = ModelConfig(num_items=NUM_ITEMS, scoring=scoring, temperature=0.7, **shape)
    model = InterestFusionModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    counts = np.arange(NUM_ITEMS)[::-1].copy()
    return Recommender(Artifact(config, model.export_weights(), ItemTable(IDS, None, counts)))


@pytest.fixture(scope="module", params=["fused", "multi_interest"])
def recommender(request) -> Recommender:
    return build(request.param)


def all_scores(recommender: Recommender, histories: Any) -> np.ndarray:
    """docs/model.md, 5, in float64 on the interests `encode` gives."""
    encoded = recommender.encode(histories)
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
    with pytest.raises(errors.ArgumentError, match="candidates: expected an item of the catalogue, got 'new'"):
        recommender.score(["i1"], ["new"])
    with pytest.raises(errors.ArgumentError, match="candidates"):
        recommender.score([["i1"], ["i2"]], [["i1"], ["i1", "i2"]])


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
    none = recommender.recommend(["i3"], k=5, exclude=IDS)
    assert none.counts.tolist() == [0]
    assert len(none[0]) == 0


def test_users_nobody_knows_get_what_is_popular_and_are_told_so(recommender):
    out = recommender.recommend([[], ["new", "newer"], ["i5"]], k=3, exclude=["i1"])
    assert out.fallback.tolist() == [True, True, False]
    assert [user.fallback for user in out] == ["popularity", "popularity", ""]
    assert out.unknown.tolist() == [0, 2, 0]
    for user in (0, 1):
        assert out[user].items.tolist() == ["i0", "i2", "i3"]
        assert out[user].scores.tolist() == [39, 37, 36]
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


def test_request_time_takes_seconds_and_dates():
    recommender = build(request_time=True)
    history = Events(["i1", "i2"], [1_600_000_000, 1_600_086_400])
    later = 1_600_700_000
    vector = recommender.user_vectors(history, now=later)
    date = datetime.datetime.fromtimestamp(later, datetime.timezone.utc)
    for now in (float(later) + 0.5, np.array([later]), [later], date, np.datetime64(later, "s")):
        assert recommender.user_vectors(history, now=now).tolist() == vector.tolist()
    assert recommender.user_vectors(history).tolist() != vector.tolist()
    for bad, expected in [
        ([1, 2, 3], "now: expected one time, or one a user"),
        (float("nan"), "now: expected whole numbers"),
        (datetime.datetime(2020, 1, 1), "now: expected a date with a time zone"),
    ]:
        with pytest.raises(errors.ArgumentError, match=expected):
            recommender.user_vectors(history, now=bad)


def test_similar_items_are_the_nearest_by_cosine(recommender):
    out = recommender.similar_items(["i4", "i11"], k=3)
    vectors = recommender.catalog.vectors.double().numpy()
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for b, row in enumerate((4, 11)):
        cosines = units @ units[row]
        cosines[row] = -2
        assert out[b].items.tolist() == [IDS[best] for best in np.argsort(-cosines)[:3]]
    assert recommender.similar_items("i4", 3)[0].items.tolist() == out[0].items.tolist()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda r: r.recommend(["i1"], k=0), errors.ArgumentError, "k: expected an integer .*, got 0"),
        (lambda r: r.recommend(["i1"], k=-1), errors.ArgumentError, "k: expected an integer .*, got -1"),
        (lambda r: r.recommend(["i1"], k=1.5), errors.ArgumentTypeError, "k: expected an integer, got float"),
        (lambda r: r.recommend(["i1"], k=True), errors.ArgumentTypeError, "k: expected an integer, got bool"),
        (lambda r: r.recommend([1, 2]), errors.ArgumentTypeError, "history: expected strings"),
        (lambda r: r.recommend("i1"), errors.ArgumentTypeError, "history: expected .* got str"),
        (lambda r: r.recommend({"i1": 1}), errors.ArgumentTypeError, "history: expected .* got dict"),
        (lambda r: r.recommend(iter(["i1"])), errors.ArgumentTypeError, "history: expected"),
        (lambda r: r.recommend(["i1"], exclude=[1]), errors.ArgumentTypeError, "exclude: expected strings"),
        (lambda r: r.recommend(["i1"], exclude=[["i1"], ["i2"]]), errors.ArgumentError, "exclude: expected one list"),
        (lambda r: r.recommend(["i1"], exclude_seen="no"), errors.ArgumentTypeError, "exclude_seen: expected True"),
        (lambda r: r.similar_items("new"), errors.ArgumentError, "items: expected an item of the catalogue"),
        (lambda r: Events(["i1"], [1, 2]), errors.ArgumentError, "times: expected 1 values"),
        (lambda r: Events(["i1"], [float("nan")]), errors.ArgumentError, "times: expected whole numbers"),
        (lambda r: Events(["i1"], [0.5]), errors.ArgumentError, "times: expected whole numbers"),
        (lambda r: Events(["i1"], np.array(["NaT"], "datetime64[s]")), errors.ArgumentError, "times: expected known"),
        (lambda r: Events("i1"), errors.ArgumentTypeError, "items: expected a sequence"),
        (lambda r: Recommender(r.artifact, threads=0), errors.ArgumentError, "threads: expected an integer .*, got 0"),
        (lambda r: Recommender.load("/x", device="cuda"), errors.ArgumentError, "device: expected 'cpu'"),
        (lambda r: Recommender.load("/nowhere/at/all"), errors.ArtifactError, "no such directory"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(recommender, call, kind, message):
    with pytest.raises(kind, match=message):
        call(recommender)


def test_actions_are_used_and_checked():
    recommender = build(num_actions=2)
    plain, one = (recommender.user_vectors(Events(["i1", "i2"], actions=actions)) for actions in (None, [1, 2]))
    assert plain.tolist() != one.tolist()
    assert recommender.user_vectors(Events(["i1", "i2"], actions=[0, 0])).tolist() == plain.tolist()
    with pytest.raises(errors.ArgumentError, match=r"actions: expected values in \[0, 2\], got 3"):
        recommender.user_vectors(Events(["i1", "i2"], actions=[1, 3]))


def test_saved_and_loaded_it_answers_the_same(recommender, tmp_path):
    recommender.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model", threads=1)
    a, b = (one.recommend(HISTORIES, k=7) for one in (recommender, loaded))
    assert a.items.tolist() == b.items.tolist()
    assert a.scores.tolist() == b.scores.tolist()


def test_what_is_trained_beats_popularity():
    recommender = train(
        simulated_shop(400, 150), {"dim": 32}, TrainConfig(epochs=8, batch_size=8, learning_rate=0.003), progress=False
    )
    ndcg = {name: report["metrics"]["ndcg@10"] for name, report in recommender.artifact.metrics["test"].items()}
    assert ndcg["lsif"] > 1.3 * ndcg["popularity"]
