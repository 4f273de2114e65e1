"""Training on a GPU, if torch finds one; it does not need this package's CUDA ops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lsif_sdk.model import InterestFusionModel
from lsif_sdk.training import TrainConfig, fit
from lsif_sdk.training.batches import Sequences
from lsif_sdk.training.losses import NextEventLoss
from training_cases import FAST, NUM_ITEMS, cyclic_log, following, small_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")


@pytest.mark.parametrize("skip_seen", [False, True])
@pytest.mark.parametrize("scoring", ["fused", "multi_interest"])
def test_loss_and_gradients_are_those_of_the_cpu(scoring: str, skip_seen: bool) -> None:
    log = cyclic_log()
    counts = np.bincount(log.items, minlength=NUM_ITEMS)
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(3)
        model = InterestFusionModel(small_config(scoring=scoring)).double()
        loss = NextEventLoss(model, counts, 5, skip_seen=skip_seen)
        loss.to(device)
        sequences = Sequences(log, max_len=6, batch_size=16, time_dropout=0.0, skip_seen=skip_seen)
        value = loss(next(iter(sequences.batches(np.random.default_rng(0)))).to(torch.device(device)))
        value.backward()
        gradients = {name: p.grad for name, p in loss.named_parameters() if p.grad is not None}
        found.append({"loss": value, **gradients})
    expected, got = found
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name].cpu(), tensor, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_model_learns_there_and_comes_back(precision: str) -> None:
    pytest.importorskip("lightning_fabric")
    log = cyclic_log(num_users=200)
    config = TrainConfig(**{**FAST.to_dict(), "epochs": 12, "precision": precision, "averaging": 0.9})
    result = fit(log, small_config(), config, validation=following(log), exclude_seen=False, progress=False)
    assert result.best["ndcg@10"] > 0.8
    assert {p.device.type for p in result.model.parameters()} == {"cpu"}
