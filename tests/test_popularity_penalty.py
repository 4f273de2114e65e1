"""`Artifact.with_popularity_penalty`: biases by its formula, and the answers of the model with these biases."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import lsif_sdk
import recommender_cases
from artifact_cases import build
from lsif_sdk import Artifact, LiveRecommender, Recommender
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ArtifactError
from lsif_sdk.items import ItemTable


@pytest.fixture(scope="module")
def shop():
    return lsif_sdk.train(simulated_shop(200, 60), {"dim": 16}, {"epochs": 3}, progress=False)


def test_biases_move_by_the_log_of_the_counts_around_their_mean():
    artifact = build()
    before, weights = artifact.catalog_bias.clone(), artifact.weights
    penalised = artifact.with_popularity_penalty(0.3)
    logs = np.log([5, 4, 3, 2, 1])
    expected = before.numpy().astype(np.float64) - 0.3 * np.append(logs - logs.mean(), 0)  # the last has no events
    np.testing.assert_allclose(penalised.catalog_bias.numpy(), expected, rtol=2**-23, atol=1e-9)
    assert penalised.catalog_bias[5] == before[5]
    assert torch.equal(artifact.catalog_bias, before), "the artifact it was asked of stays as it was"
    assert {name for name in weights if penalised.weights[name] is not weights[name]} == {"catalog.bias"}
    np.testing.assert_allclose(penalised.bias_penalty.numpy(), 0.3 * np.append(logs - logs.mean(), 0), rtol=2**-23)
    assert artifact.bias_penalty is None
    assert penalised.items is artifact.items and penalised.config == artifact.config


def test_penalties_add_up_and_are_recorded(tmp_path):
    twice = build().with_popularity_penalty(0.1).with_popularity_penalty(np.float32(0.5))
    assert twice.training == {"source": "test", "popularity_penalty": 0.6}
    torch.testing.assert_close(twice.catalog_bias, build().with_popularity_penalty(0.6).catalog_bias)
    torch.testing.assert_close(twice.bias_penalty, build().with_popularity_penalty(0.6).bias_penalty)
    twice.save(tmp_path / "model")
    assert Artifact.load(tmp_path / "model").training["popularity_penalty"] == 0.6
    assert twice.metrics == {}, "those of other answers"
    artifact = build()
    assert artifact.with_popularity_penalty(0) is artifact


def test_answers_are_those_of_the_new_biases_and_less_popular(shop, tmp_path):
    shop.save(tmp_path / "model")  # with codes of the old biases, which a copy must not use
    penalised = Recommender(Artifact.load(tmp_path / "model").with_popularity_penalty(2.0))
    history = shop.items.ids[[3, 14, 15]].tolist()
    counts, met = shop.items.counts, shop.items.counts > 0
    every = shop.items.ids.tolist()
    logs = np.log(np.maximum(counts, 1))
    shift = np.where(met, logs - logs[met].mean(), 0)
    scores = shop.score(history, every)[0] - 2.0 * shift
    np.testing.assert_allclose(penalised.score(history, every)[0], scores, rtol=1e-5, atol=1e-5)
    answer = penalised.recommend(history, k=10, exclude_seen=False)
    np.testing.assert_allclose(answer.scores[0], np.sort(scores)[::-1][:10], rtol=1e-5, atol=1e-5)

    def popularity(recommender):
        items = recommender.recommend(history, k=10).items[0]
        return np.log(counts[recommender.items.rows(list(items))]).mean()

    assert popularity(penalised) < popularity(shop) - 0.1


def test_states_of_the_model_before_are_states_of_the_copy(shop):
    penalised = Recommender(shop.artifact.with_popularity_penalty(0.5))
    history = shop.items.ids[[3, 14, 15]].tolist()
    state = shop.new_state(history)
    assert penalised.recommend(state=state, k=5).items.tolist() == penalised.recommend(history, k=5).items.tolist()


def test_users_without_events_get_the_most_popular_items_still(shop):
    penalised = Recommender(shop.artifact.with_popularity_penalty(0.5))
    assert penalised.recommend([], k=5).items.tolist() == shop.recommend([], k=5).items.tolist()


@pytest.mark.parametrize("penalty", ["0.1", None, True, [0.1], 1j], ids=repr)
def test_what_is_no_number_is_refused(penalty):
    with pytest.raises(ArgumentTypeError, match=r"penalty: expected a number in \[0, 1000000\]"):
        build().with_popularity_penalty(penalty)


def test_counts_may_be_large():
    artifact = build()
    items = ItemTable(artifact.items.ids.tolist(), counts=[2**62, 2**40, 1, 1, 1, 0])
    bias = artifact.edited(artifact.weights, items).with_popularity_penalty(1e6).catalog_bias.numpy()
    logs = np.log(2) * np.array([62, 40, 0, 0, 0])
    expected = artifact.catalog_bias.numpy()[:5] - 1e6 * (logs - logs.mean())
    np.testing.assert_allclose(bias[:5], expected, rtol=1e-6)


def test_weights_of_a_training_may_still_have_gradients():
    artifact = build()
    trainable = torch.nn.Parameter(artifact.catalog_bias.clone())
    with_gradient = artifact.edited(dict(artifact.weights) | {"catalog.bias": trainable}, artifact.items)
    expected = artifact.with_popularity_penalty(0.3).catalog_bias
    once = with_gradient.with_popularity_penalty(0.3)
    assert torch.equal(once.catalog_bias, expected)
    trainable = {
        name: torch.nn.Parameter(weight) for name, weight in once.weights.items() if weight.is_floating_point()
    }
    twice = dataclasses.replace(once, weights={**once.weights, **trainable}).with_popularity_penalty(0.2)
    assert torch.allclose(twice.catalog_bias, artifact.with_popularity_penalty(0.5).catalog_bias, atol=1e-6)


@pytest.mark.parametrize("before", ["0.1", None, [0.1], float("inf"), True], ids=repr)
def test_a_penalty_on_record_that_is_no_number_is_refused(before):
    odd = dataclasses.replace(build(), training={"popularity_penalty": before})
    with pytest.raises(ArtifactError, match="training: popularity_penalty: expected a number"):
        odd.with_popularity_penalty(0.1)


def test_a_live_catalogue_goes_back_to_the_model_before(shop, tmp_path):
    attributes = {"even": [row % 2 == 0 for row in range(len(shop.items))]}
    shop.save(tmp_path / "model")
    rec = Recommender.load(tmp_path / "model", attributes=attributes, batching=True, threads=1)
    history, answer = shop.items.ids[[3, 14, 15]].tolist(), {"k": 5, "where": {"even": True}}
    with LiveRecommender(rec, keep=2) as live:
        first = live.current.recommend(history, **answer)
        live.upsert(["new-1"], np.zeros((1, 16)), attributes={"even": [False]})
        live.replace(Recommender(rec.artifact.with_popularity_penalty(0.5)))
        assert live.current.artifact.training["popularity_penalty"] == 0.5
        live.rollback()
        assert "popularity_penalty" not in live.current.artifact.training
        assert "new-1" in live.current.items.ids
        assert live.current.stats().batching and live.current.threads == 1
        assert live.current.recommend(history, **answer).items.tolist() == first.items.tolist()
        live.rollback()
        assert live.current.recommend(history, **answer).items.tolist() == first.items.tolist()
        assert live.version == 4


@pytest.mark.parametrize("scoring", ["fused", "multi_interest"])
@pytest.mark.parametrize("normalize", [False, True], ids=["one table", "vectors of their own"])
def test_every_kind_of_model_scores_with_the_new_biases(scoring, normalize):
    rec = recommender_cases.build(scoring=scoring, repeats=True, normalize_inputs=normalize, normalize_items=False)
    counts = np.arange(len(rec.items))
    items = ItemTable(rec.items.ids.tolist(), counts=counts)
    artifact = rec.artifact.edited(rec.artifact.weights, items)
    history, every = ["i1", "i2", "i1"], rec.items.ids.tolist()
    shift = np.where(counts > 0, np.log(np.maximum(counts, 1)) - np.log(counts[1:]).mean(), 0)
    penalised = Recommender(artifact.with_popularity_penalty(0.7))
    scores = penalised.score(history, every)[0]
    assert penalised.explain(history, every[3]).score == pytest.approx(scores[3], rel=1e-5)
    np.testing.assert_allclose(scores, rec.score(history, every)[0] - 0.7 * shift, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("penalty", [-0.1, float("nan"), float("inf"), np.nextafter(1e6, 2e6), -1], ids=repr)
def test_numbers_out_of_range_are_refused(penalty):
    with pytest.raises(ArgumentError, match=r"penalty: expected a number in \[0, 1000000\]"):
        build().with_popularity_penalty(penalty)


def test_an_artifact_without_counts_is_refused():
    artifact = build()
    without = artifact.edited(artifact.weights, ItemTable(artifact.items.ids.tolist()))
    with pytest.raises(ArgumentError, match="penalty: expected items with training counts"):
        without.with_popularity_penalty(0.1)
