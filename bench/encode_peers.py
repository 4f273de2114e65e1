"""Peers of encode: one module with the same weights and without padding, in several engines at their best settings."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import logging
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import lsif_sdk
from implementations import Builder, Implementation
from newest_state import NewestState, newest_state_flops

__all__ = ["BF16_TOLERANCE", "EncodeProblem", "encoder_peers"]

Histories = npt.NDArray[np.int64]

BF16_TOLERANCE = 2e-2
"""Relative to a vector's largest value: about 5 roundings to 8 bits of precision."""


class EncodeProblem:
    """A model, histories int64 [batch, seq_len] that calls take in turn, and the exact newest states.

    Args:
        artifact: a model that `NewestState` supports.
        histories: all of the same shape.
        threads: number of threads of every implementation.
    """

    def __init__(self, artifact: lsif_sdk.Artifact, histories: list[Histories], threads: int) -> None:
        self.artifact = artifact
        self.histories = histories
        self.threads = threads
        self.batch, self.seq_len = histories[0].shape
        torch.set_num_threads(threads)

    @functools.cache  # noqa: B019 (a problem lives as long as the process)
    def module(self, newest_only: bool = True) -> NewestState:
        """The module that peers run; see `NewestState`."""
        return NewestState(self.artifact, self.seq_len, newest_only).eval()

    @functools.cached_property
    def exact(self) -> npt.NDArray[np.float64]:
        """The newest states of all histories in float64, [len(histories) * batch, dim]."""
        exact = copy.deepcopy(self.module()).double()
        with torch.inference_mode():
            return np.concatenate([exact(torch.from_numpy(items)).numpy() for items in self.histories])

    @functools.cache  # noqa: B019
    def onnx(self, newest_only: bool) -> bytes:
        """The module as an ONNX file of fixed shape."""
        import onnx  # noqa: F401 (the exporter needs it; without it, the peer is reported as missing)
        import onnxscript  # noqa: F401

        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            path = pathlib.Path(folder) / "newest.onnx"
            example = (torch.from_numpy(self.histories[0]),)
            names: dict[str, Any] = {"input_names": ["items"], "output_names": ["newest"]}
            torch.onnx.export(self.module(newest_only), example, path, **names, external_data=False)
            return path.read_bytes()

    def session(self, newest_only: bool = True) -> Any:
        """An ONNX Runtime session of that file."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(self.onnx(newest_only), options, providers=["CPUExecutionProvider"])

    def implementation(self, **others: Any) -> Implementation:
        """An implementation with the fields all engines share: bytes of the weights, and the least arithmetic."""
        weights = self.artifact.weights
        layers = sum(4 * value.numel() for name, value in weights.items() if name.startswith("layers."))
        rows = 4 * self.artifact.config.dim * self.batch * self.seq_len
        flops = self.batch * newest_state_flops(self.artifact.config, self.seq_len)
        return Implementation(**{"bytes": layers + rows, "flops": flops, **others})


def encoder_peers(problem: EncodeProblem) -> dict[str, Builder]:
    """Builders by name; "torch@full" and the like compute the last layer for all positions."""
    builders = {
        "torch": _torch,
        "torch_compile": _torch_compile,
        "onnxruntime": _onnxruntime,
        "openvino_f32": functools.partial(_openvino, hints={"INFERENCE_PRECISION_HINT": "f32"}),
        "openvino": functools.partial(_openvino, hints={}),
    }

    def builder(build: Callable[..., Implementation]) -> Builder:
        def named(name: str) -> Implementation:
            _, _, variant = name.partition("@")
            if variant not in ("", "full"):
                raise SystemExit(f"--impl: expected a peer or a peer@full, got {name}")
            return build(problem, newest_only=variant == "")

        return named

    return {name: builder(build) for name, build in builders.items()}


def _torch(problem: EncodeProblem, newest_only: bool) -> Implementation:
    call = torch.inference_mode()(problem.module(newest_only))
    return problem.implementation(call=call, inputs=[torch.from_numpy(items) for items in problem.histories])


def _torch_compile(problem: EncodeProblem, newest_only: bool) -> Implementation:
    """Weights as constants of the graph, and a C++ wrapper: the fastest of its settings here."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        raise ImportError("torch.compile needs a C++ compiler")
    started = time.perf_counter()
    settings: dict[str, Any] = {"freezing": True, "cpp_wrapper": True}
    module = copy.deepcopy(problem.module(newest_only))
    compiled = torch.compile(module, fullgraph=True, dynamic=False, options=settings)
    inputs = [torch.from_numpy(items) for items in problem.histories]
    call = torch.no_grad()(compiled)
    call(inputs[0])
    return problem.implementation(call=call, inputs=inputs, build_s=time.perf_counter() - started, settings=settings)


def _onnxruntime(problem: EncodeProblem, newest_only: bool) -> Implementation:
    started = time.perf_counter()
    session = problem.session(newest_only)
    return problem.implementation(
        call=lambda items: session.run(None, {"items": items}),
        inputs=problem.histories,
        read=lambda answer: answer[0],
        build_s=time.perf_counter() - started,
    )


def _openvino(problem: EncodeProblem, newest_only: bool, hints: dict[str, Any]) -> Implementation:
    """One stream for the lowest latency; inputs and outputs are not copied."""
    import openvino

    started = time.perf_counter()
    core = openvino.Core()
    threads = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": problem.threads}
    compiled = core.compile_model(core.read_model(problem.onnx(newest_only)), "CPU", {**threads, **hints})
    request = compiled.create_infer_request()
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    half = precision != "f32"
    return problem.implementation(
        call=lambda items: request.infer([items], share_inputs=True, share_outputs=True),
        inputs=problem.histories,
        read=lambda answer: answer[0],
        build_s=time.perf_counter() - started,
        unit="bf16" if half else "fma_f32",
        tolerance=BF16_TOLERANCE if half else 1e-4,
        settings={"precision": precision},
    )
