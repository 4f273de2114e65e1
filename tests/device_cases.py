"""A recommender on a device and the native one of the same model, for tests."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import emulated
import lsif_sdk.placed_model
from lsif_sdk import Recommendations, Recommender
from lsif_sdk.device import DevicePath, model
from lsif_sdk.device.facts import gathered, problem
from recommender_cases import build

NO_GPU = problem(gathered())
DEVICES = [
    "cpu",
    pytest.param("emulated", marks=pytest.mark.skipif(bool(emulated.MISSING), reason=emulated.MISSING)),
    pytest.param("cuda", marks=pytest.mark.skipif(bool(NO_GPU), reason=NO_GPU)),
]
"""The CPU ops, whose results equal the native path's bit by bit; the CUDA ops, emulated and on a GPU."""


class Again:
    """Like a CUDA graph: each call does the work again, on the same memory as the first call."""

    made: list[Any]

    def __init__(self, work: Any, shape: Any, device: torch.device, example: Any) -> None:
        self.made.append(shape)
        self._lock = threading.Lock()
        self._work, self._shape = work, shape
        self._ints = torch.from_numpy(example.copy())
        self._answer = work(shape, self._ints).clone()

    def __call__(self, fill: Any) -> Any:
        with self._lock:
            fill(self._ints.numpy())
            self._answer.copy_(self._work(self._shape, self._ints))
            return self._answer.numpy().copy()


def prepare(device: str, patch: pytest.MonkeyPatch) -> type[Again]:
    """Gives recommenders the device's ops and, if it has no CUDA graphs, a stand-in for them, which is returned."""
    patch.setattr(model, "kept_ops", kept_ops_of(device))
    stand_in = type("StandIn", (Again,), {"made": []})
    if device != "cuda":
        capture_by(stand_in, patch)
    return stand_in


def capture_by(capture: Any, patch: pytest.MonkeyPatch) -> None:
    class Path(DevicePath):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options, capture=capture)

    patch.setattr(lsif_sdk.placed_model, "DevicePath", Path)


def kept_ops_of(device: str) -> Any:
    """The ops that take the place of `lsif_sdk.ops.kept_ops` on the device."""
    if device != "emulated":
        return torch.ops.lsif_kept
    emulated.load()
    return torch.ops.lsif_kept_emulated


def memory_of(device: str) -> str:
    return "cuda" if device == "cuda" else "cpu"


def on_device(native: Recommender, device: str, **options: Any) -> Recommender:
    """The same model, answered by torch ops on tensors of a device, which may be the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        if device != "cuda":
            patch.setattr(lsif_sdk.placed_model, "as_device", lambda device: torch.device("cpu"))
        return Recommender(native.artifact, device=memory_of(device), **options)


def pair(device: str, scoring: str = "fused", **fields: Any) -> tuple[Recommender, Recommender]:
    native = build(scoring, **fields)
    return native, on_device(native, device)


def assert_same(
    device: str, expected: Recommendations, actual: Recommendations, more: Recommendations | None = None
) -> None:
    """Equal bit by bit with the CPU ops; with the CUDA ops within rounding, and rows that close may be in any order.

    `more`: the expected answer for a larger k, if it begins with the expected answer.
    """
    for name in ("counts", "unknown", "fallback"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name), name)
    assert (actual.version, actual.degraded) == (expected.version, expected.degraded)
    found = np.arange(expected.items.shape[1]) < expected.counts[:, None]
    assert (actual.items[~found] == (None if actual.items.dtype == object else -1)).all()
    if device == "cpu":
        for name in ("items", "scores", "long_share"):
            np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name), name)
        return
    np.testing.assert_allclose(actual.long_share, expected.long_share, rtol=0, atol=1e-4)
    np.testing.assert_allclose(actual.scores, expected.scores, rtol=1e-4, atol=1e-4)
    clear = _clear(expected if more is None else more)[:, : found.shape[1]] & found
    np.testing.assert_array_equal(actual.items[clear], expected.items[clear])


def _clear(answer: Recommendations) -> npt.NDArray[np.bool_]:
    """Which items are certain: their scores are far from their neighbours'. The last is not, if others may follow."""
    counts, k = answer.counts[:, None], answer.scores.shape[1]
    far = np.abs(np.diff(answer.scores, axis=1)) > 1e-3
    far |= np.arange(1, k) >= counts  # nothing follows
    clear = np.pad(far, ((0, 0), (1, 0)), constant_values=True)
    clear[:, :-1] &= far
    clear[:, -1] &= counts[:, 0] < k
    return clear
