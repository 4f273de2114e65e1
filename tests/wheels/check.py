"""Checks that an installed wheel works with the installed torch: encoder, search, requests and `lsif doctor`."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import torch

import lsif_sdk
from lsif_sdk.device.facts import gathered, mismatches, problem
from lsif_sdk.errors import ArgumentError
from lsif_sdk.ops import ops

TESTS = pathlib.Path(__file__).parents[1]
sys.path.append(str(TESTS))  # after the installed wheel
import native  # noqa: E402
import recommender_cases  # noqa: E402

HAS_CUDA_OPS = torch._C._dispatch_has_kernel_for_dispatch_key("lsif::score_topk", "CUDA")


def check_encoder() -> None:
    artifact = native.make_artifact(native.make_config(request_time=True), seed=1)
    batch = native.random_batch(artifact.config, (0, 3, 40, 1), 2)
    assert native.encode_error(artifact, batch, native.encode_op(artifact, batch)) < 1e-4


def check_search() -> None:
    rng = np.random.default_rng(0)
    vectors, queries = rng.standard_normal((5000, 32)), rng.standard_normal((3, 32))
    found = lsif_sdk.Catalog.from_vectors(vectors).top_k(queries, 10)
    expected = np.argsort(-(queries.astype(np.float32).astype(np.float64) @ vectors.astype(np.float32).T), axis=1)
    assert np.array_equal(found.indices, expected[:, :10])
    torch.library.opcheck(ops.layer_norm.default, (torch.ones(2, 3), torch.ones(3), torch.ones(3), 1e-5, None))


def check_requests() -> None:
    recommender = recommender_cases.build()
    assert len(recommender.recommend(recommender_cases.HISTORIES, k=5)) == len(recommender_cases.HISTORIES)
    facts = gathered()
    if reason := problem(facts):
        try:
            lsif_sdk.Recommender(recommender.artifact, device="cuda")
        except ArgumentError as error:
            assert reason in str(error), error
        else:
            raise AssertionError("device='cuda' was not refused")
    else:
        lsif_sdk.Recommender(recommender.artifact, device="cuda").recommend(recommender_cases.HISTORIES)


def check_build(wheel: str) -> None:
    facts = gathered()
    assert bool(facts.built_for) == ("cu" in wheel.split("-")[2]), (wheel, facts)
    assert not facts.ops_problem, facts
    assert bool(facts.built_for and facts.torch_cuda) == HAS_CUDA_OPS, facts
    doctor = [sys.executable, "-I", "-m", "lsif_sdk", "doctor"]
    said = subprocess.run(doctor, capture_output=True, text=True, check=True).stdout
    assert f"mismatches: {'; '.join(mismatches(facts)) or 'none'}" in said, said


if __name__ == "__main__":
    assert TESTS.parent not in pathlib.Path(lsif_sdk.__file__).parents, lsif_sdk.__file__
    check_encoder()
    check_search()
    check_requests()
    check_build(sys.argv[1])
    said = "; ".join(mismatches(gathered())) or "no mismatch"
    print(f"ok: {sys.argv[1]} beside torch {torch.__version__}, CUDA ops loaded: {HAS_CUDA_OPS}; {said}")
