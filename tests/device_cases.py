"""A recommender on a device beside the native one of the same model, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import lsif_sdk.native_model
from lsif_sdk import Recommendations, Recommender
from lsif_sdk.device.facts import gathered, problem
from recommender_cases import build

NO_GPU = problem(gathered())
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(bool(NO_GPU), reason=NO_GPU))]
"""The torch ops on the CPU, whose results have to be the native path's bit by bit; and a GPU."""


def on_device(native: Recommender, device: str, **options: Any) -> Recommender:
    """The same model, answering by torch ops on tensors of a device, which may be the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        if device == "cpu":
            patch.setattr(lsif_sdk.native_model, "as_device", lambda device: torch.device("cpu"))
        return Recommender(native.artifact, device=device, **options)


def pair(device: str, scoring: str = "fused", **fields: Any) -> tuple[Recommender, Recommender]:
    """(native, on the device)."""
    native = build(scoring, **fields)
    return native, on_device(native, device)


def assert_same(device: str, expected: Recommendations, actual: Recommendations) -> None:
    """Bit by bit on the CPU; on a GPU within the rounding of the encoder, rows that are as close in any order."""
    for name in ("counts", "unknown", "fallback"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name), name)
    assert (actual.version, actual.degraded) == (expected.version, expected.degraded)
    if device == "cpu":
        for name in ("items", "scores", "long_share"):
            np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name), name)
        return
    np.testing.assert_allclose(actual.long_share, expected.long_share, rtol=0, atol=1e-4)
    np.testing.assert_allclose(actual.scores, expected.scores, rtol=1e-4, atol=1e-4)
    gaps = np.abs(np.diff(expected.scores, axis=1))
    clear = np.ones(expected.scores.shape, np.bool_)
    clear[:, 1:] &= gaps > 1e-3
    clear[:, :-1] &= gaps > 1e-3
    clear[:, -1] = False
    np.testing.assert_array_equal(actual.items[clear], expected.items[clear])
