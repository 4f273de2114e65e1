"""Item vectors learned from descriptions: formula, export, and items that no event has told of."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lsif_sdk import Events, Recommender
from lsif_sdk.config import ModelConfig
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.errors import ArgumentError, ArtifactError
from lsif_sdk.evaluation import evaluate, leave_one_out
from lsif_sdk.model import InterestFusionModel
from lsif_sdk.model.item_content import ItemContent
from lsif_sdk.training import losses, train

CONFIG = ModelConfig(num_items=5, dim=4, num_layers=1, num_heads=2, num_time_boundaries=8)


@pytest.fixture
def model():
    torch.manual_seed(0)
    content = ItemContent(torch.randn(5, 3), torch.tensor([True, True, False, True, True]), CONFIG.dim, 0.5)
    model = InterestFusionModel(CONFIG, 0.0, content)
    torch.nn.init.normal_(model.catalog.bias)
    return model


def test_rows_are_the_own_ones_of_trained_items_plus_the_adapted_description(model):
    adapter = model.content.adapter
    expected = model.content.features.double() @ adapter.weight.double().t() + adapter.bias.double()
    own = torch.cat([model.item_embedding, model.catalog.bias[:, None]], dim=1).double()
    expected[model.content.trained] += own[model.content.trained]
    vectors, bias = model.eval().catalog_rows()
    rows = torch.cat([vectors, bias[:, None]], dim=1).double()
    # Three products and two sums in float32, each of numbers below 4.
    torch.testing.assert_close(rows, expected, rtol=0, atol=4 * 6 * 2**-24)
    assert torch.equal(model.item_vectors(), vectors)


def test_own_vector_and_bias_are_dropped_together_and_in_training_only(model):
    alone = model.content.adapter(model.content.features)
    model.train()
    drawn = [model.catalog_rows() for _ in range(400)]
    dropped = torch.stack([(vectors == alone[:, :-1]).all(dim=1) for vectors, _ in drawn])
    assert torch.equal(dropped, torch.stack([bias == alone[:, -1] for _, bias in drawn]))
    share = dropped[:, model.content.trained].float().mean().item()
    assert abs(share - 0.5) < 5 * 0.5 / (1600**0.5)
    assert not bool((model.eval().item_vectors() == alone[:, :-1]).all(dim=1)[model.content.trained].any())


def test_only_the_sum_is_exported_and_it_scores_the_same(model):
    model.eval()
    weights = model.export_weights()
    assert not any(name.startswith("content") for name in weights)
    assert torch.equal(weights["item_embedding"], model.item_vectors())
    assert torch.equal(weights["catalog.bias"], model.catalog_rows().bias)
    served = InterestFusionModel.from_weights(CONFIG, weights).eval()
    events = {"items": torch.tensor([0, 2, 4]), "offsets": torch.tensor([0, 3])}
    torch.testing.assert_close(served.scores(served.encode(**events)), model.scores(model.encode(**events)))


def test_items_without_events_are_found_by_their_description():
    log = simulated_shop(300, 60, seed=2)
    words = sorted({word for title in log.titles for word in title.split()[:-1]})  # the last one is a number
    features = np.array([[word in title.split() for word in words] for title in log.titles], np.float32)
    cold = np.random.default_rng(0).random(log.num_items) < 0.15
    known = log.select(~cold[log.items])
    settings = {"epochs": 12, "patience": 12}
    shape = {"dim": 16, "num_layers": 1, "num_heads": 2}
    split = leave_one_out(log)
    history = split.test_history.select(~cold[split.test_history.items])
    targets = np.where(cold[split.test_items] & (split.test_items >= 0), split.test_items, -1)
    targets[history.lengths == 0] = -1
    of_cold = dataclasses.replace(split, test_history=history, test_items=targets)
    recall = {
        name: evaluate(train(known, shape, settings, features=rows, progress=False), of_cold, progress=False)
        for name, rows in (("ids", None), ("titles", features))
    }
    assert recall["titles"].num_users > 20
    assert recall["titles"].metrics["hr@10"] > recall["ids"].metrics["hr@10"] + 0.2


def test_features_that_do_not_describe_the_items_are_refused():
    log = simulated_shop(20, 10)
    for bad, message in (
        (np.ones((9, 2), np.float32), r"features: expected floats of shape \[10, feature_dim\]"),
        (np.ones((10, 2), np.int64), "features: expected floats"),
        (np.ones(10, np.float32), "features: expected floats"),
        (np.full((10, 2), np.nan, np.float32), "features: expected finite numbers"),
    ):
        with pytest.raises(ArgumentError, match=message):
            train(log, {"dim": 8}, {"epochs": 1}, features=bad, progress=False)


def test_a_model_with_descriptions_is_served_like_any_other(tmp_path):
    log = simulated_shop(40, 12)
    features = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    recommender = train(log, {"dim": 8, "num_layers": 1}, {"epochs": 1}, features=features, progress=False)
    recommender.save(tmp_path / "model")
    history = Events([log.item_ids[0], log.item_ids[3]])
    loaded = Recommender.load(tmp_path / "model")
    assert np.array_equal(loaded.recommend(history).items, recommender.recommend(history).items)


def test_weights_are_exported_whole_in_the_middle_of_training(model):
    expected = model.eval().export_weights()
    model.train()
    found = model.export_weights()
    assert model.training and model.content.training
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("loss", ["softmax", "binary"])
def test_items_without_events_are_no_negatives(model, loss, monkeypatch):
    monkeypatch.setattr(losses, "FULL_SOFTMAX_ITEMS", 0)  # draws negatives for both
    drawn = losses.NextEventLoss(model, np.array([4, 3, 0, 2, 1]), 4000, 0.0, loss)._draw()
    assert sorted(drawn.unique().tolist()) == [0, 1, 3, 4]


def test_label_smoothing_is_refused_beside_items_left_out():
    log = simulated_shop(40, 12)
    features = np.ones((12, 2), np.float32)
    with pytest.raises(ArgumentError, match="label_smoothing: expected 0 with features"):
        train(log, {"dim": 8}, {"epochs": 1, "label_smoothing": 0.1}, features=features, progress=False)


def test_training_does_not_go_on_with_other_descriptions_or_another_fusion(tmp_path):
    log = simulated_shop(40, 12)
    features = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    settings = {"epochs": 1, "averaging": 0.5}
    options = {"checkpoint_dir": tmp_path, "resume": True, "progress": False}
    train(log, {"dim": 8}, settings, features=features, **options)
    train(log, {"dim": 8}, settings | {"epochs": 2}, features=features, **options)
    with pytest.raises(ArtifactError, match=r"belongs to another run; other values of .*\bbuffers\b"):
        train(log, {"dim": 8}, settings | {"epochs": 3}, features=features + 1, **options)
    with pytest.raises(ArtifactError, match=r"belongs to another run; other values of .*\bmodules\b"):
        train(log, {"dim": 8}, settings | {"epochs": 3}, **options)
