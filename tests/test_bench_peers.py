"""The same weights give the same numbers in our encoder and in the peers that bench/ compares it with."""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np
import pytest
import torch

import lsif_sdk
from bench_modules import BENCH
from composed_requests import composed
from encode_peers import EncodeProblem, encoder_peers
from lsif_sdk.items import ItemTable
from lsif_sdk.model import InterestFusionModel
from newest_state import NewestState, newest_state_flops, plain_config
from request_cases import eager_request, random_artifact
from topk_approximate import approximate
from topk_peers import peers
from topk_problem import make_problem

SEQ_LEN = 20
assert BENCH.is_dir()


@pytest.fixture(scope="module")
def artifact():
    return random_artifact(argparse.Namespace(model="sasrec", dim=16, seq_len=SEQ_LEN), 300)


@pytest.fixture(scope="module")
def problem(artifact):
    rng = np.random.default_rng(0)
    return EncodeProblem(artifact, [rng.integers(300, size=(3, SEQ_LEN)) for _ in range(2)], threads=1)


def relative_error(found, exact):
    return np.abs(found - exact).max() / np.abs(exact).max()


def test_our_encoder_and_the_module_of_the_peers_compute_the_same(artifact, problem):
    """Both are compared with the float64 model that all other tests use."""
    model = InterestFusionModel.from_weights(artifact.config, artifact.weights, dtype=torch.float64).eval()
    rows = np.concatenate(problem.histories)
    offsets = np.arange(len(rows) + 1) * SEQ_LEN
    with torch.inference_mode():
        exact = model.encode(torch.from_numpy(rows.reshape(-1)), offsets=torch.from_numpy(offsets)).fused.numpy()
    assert relative_error(problem.exact, exact) < 1e-12
    ours = lsif_sdk.Recommender(artifact, threads=1).encode_rows(rows.reshape(-1), None, None, offsets)
    assert relative_error(ours.fused, exact) < 1e-5
    np.testing.assert_array_equal(ours.fused, ours.interests[:, -1])  # no fusion: the newest state


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
@pytest.mark.parametrize("window", [5, SEQ_LEN + 3])
def test_the_module_has_the_activations_and_windows_of_the_model(activation, window):
    config = dataclasses.replace(plain_config(50, 8, SEQ_LEN), activation=activation, window=window, num_layers=3)
    torch.manual_seed(1)
    model = InterestFusionModel(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    artifact = lsif_sdk.Artifact(config, model.export_weights(), ItemTable(np.arange(50)))
    items = torch.randint(50, (2, SEQ_LEN))
    with torch.inference_mode():
        exact = model.double().encode(items.flatten(), offsets=torch.tensor([0, SEQ_LEN, 2 * SEQ_LEN])).fused
        found = NewestState(artifact, SEQ_LEN).double()(items)
    assert relative_error(found.numpy(), exact.numpy()) < 1e-12


def test_models_with_other_parts_are_refused():
    config = lsif_sdk.ModelConfig(num_items=5, dim=8)
    artifact = lsif_sdk.Artifact(config, InterestFusionModel(config).export_weights(), ItemTable(np.arange(5)))
    with pytest.raises(ValueError, match="expected transformer blocks alone"):
        NewestState(artifact, 4)


def test_flops_are_those_of_a_count_by_torch(problem):
    """Torch counts attention over all pairs, even future ones, so a history of one event is compared."""
    from torch.utils.flop_counter import FlopCounterMode

    config = dataclasses.replace(plain_config(50, 8, 1), num_layers=2)
    artifact = lsif_sdk.Artifact(config, InterestFusionModel(config).export_weights(), ItemTable(np.arange(50)))
    module = NewestState(artifact, 1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, 1, dtype=torch.int64))
    attention = 4 * config.dim * config.num_layers  # not every version of torch counts attention
    counted = counter.get_total_flops()
    assert newest_state_flops(config, 1) - counted in (0, attention)


def test_folded_flops_leave_out_what_the_engine_does():
    config = plain_config(50, 8, 5)
    d, n = config.dim, 5
    keys_and_values = 2 * n * 2 * d * d
    through_heads = 2 * 2 * d * d + 4 * n * d * (config.num_heads - 1)
    table = 2 * n * 3 * d * d
    saved = newest_state_flops(config, n) - newest_state_flops(config, n, folded=True)
    assert saved == keys_and_values - through_heads + table


@pytest.mark.parametrize("variant", ["", "@full"])
@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino_f32", "openvino"])
def test_peers_encode_what_we_do(problem, name, variant):
    """torch always runs; the others run if they are installed."""
    packages = {"onnxruntime": ["onnxruntime"], "openvino_f32": ["openvino"], "openvino": ["openvino"]}
    for package in packages.get(name, []):
        for needed in (package, "onnx", "onnxscript"):
            pytest.importorskip(needed, reason=f"{needed} (the extra 'bench') is not installed")
    peer = encoder_peers(problem)[name](name + variant)
    found = np.concatenate(peer.answers())
    assert relative_error(found, problem.exact) < peer.tolerance
    assert peer.tolerance == (2e-2 if peer.settings.get("precision", "f32") == "bf16" else 1e-4)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("torch", "torch"),
        ("numpy", "numpy"),
        ("faiss_flat", "faiss"),
        ("faiss_sqfp16", "faiss"),
        ("faiss_sq8_refine", "faiss"),
        ("scann", "scann"),
        ("implicit", "implicit"),
        ("scann_tree@40", "scann"),
        ("faiss_ivf", "faiss"),
        ("faiss_ivfpq", "faiss"),
        ("hnswlib", "hnswlib"),
        ("usearch", "usearch"),
    ],
)
def test_peers_find_what_we_do(name, package, batch):
    pytest.importorskip(package, reason=f"{package} (the extra 'bench') is not installed")
    from topk import quality

    found = make_problem(num_items=3000, dim=16, data="clustered", batch=batch, num_interests=1, k=5, threads=1)
    builders = peers(found) | approximate(found, target=0.99, m=16, ef_construction=100)
    peer = builders[name.partition("@")[0]](name)
    assert quality(name, peer, found).recall > (0.998 if peer.min_recall is None else 0.95)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", ["onnxruntime_scann", "onnxruntime_faiss"])
def test_peers_put_together_recommend_what_torch_does(artifact, name, batch):
    for needed in ("onnxruntime", "onnx", "onnxscript", name.removeprefix("onnxruntime_")):
        pytest.importorskip(needed, reason=f"{needed} (the extra 'bench') is not installed")
    rng = np.random.default_rng(1)
    histories = [rng.integers(300, size=(batch, SEQ_LEN)) for _ in range(4)]
    peer = composed(EncodeProblem(artifact, histories, threads=1), k=7)[name](name)
    exact = eager_request(artifact, np.zeros((batch, SEQ_LEN), np.int64), 7, torch.float64)
    for items, found in zip(histories, peer.answers(), strict=True):
        np.testing.assert_array_equal(found, exact(items.tolist()).numpy())
        assert not any(set(row) & set(history) for row, history in zip(found.tolist(), items.tolist(), strict=True))
