"""`Artifact.with_popularity_penalty`: biases by its formula, and answers of the model with those."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lsif_sdk
from artifact_cases import build
from lsif_sdk import Artifact, Recommender
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
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
    assert penalised.items is artifact.items and penalised.config == artifact.config


def test_penalties_add_up_and_are_recorded(tmp_path):
    twice = build().with_popularity_penalty(0.1).with_popularity_penalty(np.float32(0.5))
    assert twice.training == {"source": "test", "popularity_penalty": 0.6}
    torch.testing.assert_close(twice.catalog_bias, build().with_popularity_penalty(0.6).catalog_bias)
    twice.save(tmp_path / "model")
    assert Artifact.load(tmp_path / "model").training["popularity_penalty"] == 0.6
    assert torch.equal(build().with_popularity_penalty(0).catalog_bias, build().catalog_bias)


def test_answers_are_those_of_the_new_biases_and_less_popular(shop, tmp_path):
    shop.save(tmp_path / "model")  # with codes, which a copy must not search by
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
    with pytest.raises(ArgumentTypeError, match="penalty: expected a number from 0 to 1e6"):
        build().with_popularity_penalty(penalty)


@pytest.mark.parametrize("penalty", [-0.1, float("nan"), float("inf"), 1e7, -1], ids=repr)
def test_numbers_out_of_range_are_refused(penalty):
    with pytest.raises(ArgumentError, match="penalty: expected a number from 0 to 1e6"):
        build().with_popularity_penalty(penalty)


def test_an_artifact_without_counts_is_refused():
    artifact = build()
    without = artifact.edited(artifact.weights, ItemTable(artifact.items.ids.tolist()))
    with pytest.raises(ArgumentError, match="penalty: expected items with training counts"):
        without.with_popularity_penalty(0.1)
