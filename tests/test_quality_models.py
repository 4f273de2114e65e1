"""The models in our quality tables: each is what its name says, and sees no more data than it should."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest
import torch

from evaluation_cases import make_log
from lsif_sdk.config import ModelConfig
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.evaluation import Popularity, evaluate, leave_one_out
from lsif_sdk.model import InterestFusionModel
from lsif_sdk.model.times import UNKNOWN_TIME
from lsif_sdk.training import TrainConfig, fit

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "bench" / "quality"))
import neural

CONFIG = ModelConfig(num_items=30, dim=8, num_layers=1, num_heads=2, num_time_boundaries=16, window=5)
ENCODER_ONLY = ModelConfig(num_items=30, dim=8, num_layers=1, num_heads=2, use_times=False, num_long=0, num_short=0)
BUILDS = {
    "gru4rec": (neural.gru4rec, ENCODER_ONLY),
    "lstm": (neural.lstm, ENCODER_ONLY),
    "gate": (neural.with_fusion(neural.GateFusion), CONFIG),
    "mean": (neural.with_fusion(neural.MeanFusion), CONFIG),
    "long-only": (neural.with_fusion(neural.MaskedFusion), CONFIG),
}


def built(name: str) -> InterestFusionModel:
    build, config = BUILDS[name]
    torch.manual_seed(0)
    model = build(config, 0.0).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


@pytest.mark.parametrize("name", BUILDS)
def test_training_sees_what_serving_sees_and_nothing_later(name):
    model = built(name)
    items, times = torch.randint(30, (1, 9)), torch.arange(9)[None] * 5000 + 10**9
    everywhere = model(items, times, lengths=torch.tensor([9]))
    for end in range(1, 10):
        prefix = model.encode(items[0, :end], times[0, :end], offsets=torch.tensor([0, end]))
        torch.testing.assert_close(prefix.fused[0], everywhere.fused[0, end - 1])


@pytest.mark.parametrize("name", ["gate", "mean", "long-only"])
def test_weights_of_a_fusion_are_its_own(name):
    model = built(name)
    encoded = model.encode(torch.randint(30, (7,)), torch.arange(7) * 9000, offsets=torch.tensor([0, 7]))
    weights, num_long = encoded.weights[0], CONFIG.num_long
    torch.testing.assert_close(weights.sum(), torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(encoded.fused[0], weights @ encoded.interests[0])
    if name == "mean":
        assert weights.unique().numel() == 1
    elif name == "long-only":
        assert not weights[num_long:].any() and weights[:num_long].min() > 0
    else:
        assert weights[:num_long].unique().numel() == 1 and not weights[num_long:-1].any() and weights[-1] > 0


@pytest.mark.parametrize("name", ["gru4rec", "lstm"])
def test_a_recurrent_model_learns_more_than_popularity(name):
    log = simulated_shop(150, 30, seed=4)
    split = leave_one_out(log)
    build, _ = BUILDS[name]
    config = ModelConfig(num_items=30, dim=16, num_layers=1, num_heads=2, use_times=False, num_long=0, num_short=0)
    settings = {
        "epochs": 15,
        "batch_size": 16,
        "loss": "binary" if name == "lstm" else "softmax",
        "learning_rate": 5e-3,
    }
    model = fit(split.train, config, TrainConfig(**settings), build=build, progress=False).model
    measured = evaluate(neural.TorchScorer(model, split.test_history, None), split, progress=False)
    popular = evaluate(Popularity.from_log(split.test_history), split, progress=False)
    assert measured.metrics["ndcg@10"] > 1.05 * popular.metrics["ndcg@10"]


def test_neumf_scores_every_pair_and_prefers_what_was_met():
    log = make_log([[0, 1, 2], [3, 4, 5]] * 10, 6, times=None, actions=None)
    model = neural.fit_neumf(log, dim=8, epochs=500, learning_rate=1e-2, seed=0)
    scores = model.scores(np.array([0, 1]))
    assert scores.shape == (2, 6) and scores.dtype == np.float32
    pairs = model(torch.tensor([0, 1]), torch.tensor([4, 4])).detach().numpy()
    np.testing.assert_allclose(scores[:, 4], pairs, rtol=1e-5, atol=1e-6)
    assert scores[0, :3].min() > scores[0, 3:].max() and scores[1, 3:].min() > scores[1, :3].max()


def test_item_knn_is_the_sum_of_cosines_over_the_history():
    pytest.importorskip("implicit", reason="implicit (the extra 'bench') is not installed")
    import classic

    log = simulated_shop(40, 12, seed=1)
    matrix = classic.interactions(log).toarray()
    units = matrix / np.maximum(np.linalg.norm(matrix, axis=0), 1e-30)
    scores = classic.ItemKNN(log, "cosine", 12).scores(np.arange(40))
    np.testing.assert_allclose(scores, matrix @ (units.T @ units), rtol=1e-4, atol=1e-5)


def test_own_items_by_hour_are_ranked_by_the_weights_of_the_formula():
    pytest.importorskip("scipy", reason="scipy (of the extra 'bench') is not installed")
    import classic

    day = 86400
    times = np.array([0, day // 2, 3 * day, UNKNOWN_TIME, 0, 0])
    log = make_log([[2, 0, 2], [1, 1], [], [3]], 4, times=times, actions=None)
    scorer = classic.OwnItemsByHour(log, np.full(4, 7 * day), half_life=2.0, sharpness=3.0)

    def by_hour(days: float) -> float:
        turn = 2 * np.pi * days
        return 0.1 + 0.9 * np.exp(3 * (np.cos(turn) - 1) + np.cos(turn / 7) - 1)

    np.testing.assert_allclose(scorer.weights(0), [by_hour(7) / 2, by_hour(6.5) / 2**0.5, by_hour(4)])
    np.testing.assert_allclose(scorer.weights(1), [0.1 / 2**0.5, by_hour(7)])
    assert scorer.weights(2).shape == (0,)
    scores = scorer.scores(np.array([0, 2, 3]))
    assert scores[0, [0, 2]].tolist() == [1, 2] and (scores[0, [1, 3]] < 1).all()
    assert scores[1].tolist() == [0, 0.5, 0.5, 0]  # popularity: counts 1, 2, 2, 1
    assert scores[2].argmax() == 3


def test_what_a_user_has_met_is_found_among_negatives():
    met = torch.tensor([3, 7, 20])
    found = neural._is_in(torch.tensor([[3, 4], [20, 21], [0, 7]]), met)
    assert found.tolist() == [[True, False], [True, False], [False, True]]
