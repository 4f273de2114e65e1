"""Times the encoder on a GPU beside torch (`make bench-cuda`), once its answers are right: docs/cuda.md."""

from __future__ import annotations

import argparse
import ctypes
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_topk import captured, microseconds, print_all
from gpu_torch_model import (
    HEADS,
    HIDDEN,
    LAYERS,
    LONG,
    SHORT,
    SHORT_WINDOW,
    WINDOW,
    Weights,
    fused_by_torch,
    fused_of_all_rows,
)

__all__ = ["main"]

_CASES = [  # events, dim, batch
    (50, 64, 1),
    (50, 64, 256),
    (200, 128, 1),
    (200, 128, 1024),
]
_EMULATED_CASES = [(1, 64, 1), (60, 64, 2), (30, 128, 3), (120, 32, 1)]  # of 120 events 108 reach a result
_NUM_ITEMS = 10_000
_TURNS = 15
_RELATIVE = {"float32": 1e-4, "bfloat16": 2e-2}  # of the largest value, from float64


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    """The address of its values."""
    return ctypes.c_void_p(tensor.data_ptr())


def config_of(dim: int) -> ctypes.Array[ctypes.c_int64]:
    """An hstu model without times and actions, in the order of `to_ints` (engine/model.h)."""
    block, gelu, ffn_dim = 0, 2, 1
    values = [
        _NUM_ITEMS, dim, LAYERS, HEADS, block, gelu, ffn_dim, WINDOW, LONG, SHORT, SHORT_WINDOW, HIDDEN, HIDDEN,
        0, 0, 0, 0, 0,
    ]  # fmt: skip
    return (ctypes.c_int64 * len(values))(*values)


class Library:
    """The C interface of bench/gpu_encode.cpp."""

    def __init__(self, path: str, device: str) -> None:
        self._c = ctypes.CDLL(path)
        self._device = device
        self._c.lsif_weight.restype = ctypes.c_bool
        self._c.lsif_model.restype = ctypes.c_void_p
        for name in ("lsif_model_size", "lsif_encode_workspace_size", "lsif_state_size"):
            getattr(self._c, name).restype = ctypes.c_int64

    def weights(self, dim: int) -> Weights:
        """Random weights by name, in the order the engine expects."""
        generator = torch.Generator().manual_seed(1)
        weights: Weights = {}
        name, shape = ctypes.create_string_buffer(256), (ctypes.c_int64 * 4)()
        while self._c.lsif_weight(config_of(dim), ctypes.c_int64(len(weights)), name, shape):
            sizes = [size for size in shape if size]
            scale = 1 / math.sqrt(sizes[-1]) if len(sizes) == 2 else 0.3
            weight = torch.randn(sizes, generator=generator) * scale
            weights[name.value.decode()] = weight.abs() if name.value.endswith(b"decay") else weight
            shape[:] = [0] * 4
        return weights

    def model(self, dim: int, weights: Weights, *, is_bf16: bool) -> Model:
        """A model ready to run; the weights must outlive it."""
        config = config_of(dim)
        packed = torch.empty(self._c.lsif_model_size(config, ctypes.c_bool(is_bf16)), device=self._device)
        addresses = (ctypes.c_void_p * len(weights))(*(weight.data_ptr() for weight in weights.values()))
        handle = self._c.lsif_model(config, addresses, pointer(packed), ctypes.c_bool(is_bf16))
        if handle is None:
            raise RuntimeError("make_device_model failed")
        return Model(self._c, ctypes.c_void_p(handle), packed)


@dataclass
class Model:
    """A model of the library."""

    library: ctypes.CDLL
    handle: ctypes.c_void_p
    packed: Tensor

    def _call(self, name: str, *arguments: object) -> None:
        stream = torch.cuda.current_stream().cuda_stream if self.packed.is_cuda else 0
        error = getattr(self.library, name)(self.handle, *arguments, ctypes.c_void_p(stream))
        if error:
            raise RuntimeError(f"{name}: CUDA error {error}")

    def encode(self, problem: Problem, *, may_fuse: bool) -> Callable[[], None]:
        """A call that enqueues the encoder on torch's current stream."""
        batch, events = problem.items.shape
        sizes = ctypes.c_int64(batch * events), ctypes.c_int64(batch)
        size = self.library.lsif_encode_workspace_size(self.handle, *sizes)
        workspace = torch.empty(size, dtype=torch.uint8, device=problem.items.device)
        inputs = pointer(problem.items), pointer(problem.offsets)
        return lambda: self._call(
            "lsif_encode", *inputs, *sizes, pointer(workspace), *problem.outputs(), ctypes.c_bool(may_fuse)
        )

    def states(self, problem: Problem) -> tuple[Callable[[], None], Callable[[], None]]:
        """Two calls on states with all events: one appends the last event again, one encodes."""
        batch = len(problem.items)
        device = problem.items.device
        states = torch.empty(batch * self.library.lsif_state_size(self.handle), dtype=torch.uint8, device=device)
        slots = torch.arange(batch, device=device)
        where = pointer(states), pointer(slots), ctypes.c_int64(batch)
        self._call("lsif_start_states", *where)
        columns = [column.contiguous() for column in problem.items.T]
        for column in columns:
            self._call("lsif_append", *where, pointer(column))
        kept = (states, slots, columns)

        def append() -> None:
            self._call("lsif_append", *where, pointer(kept[2][-1]))

        return append, lambda: self._call("lsif_encode_states", *where, *problem.outputs())


@dataclass
class Problem:
    """Histories of one length, and buffers for their results."""

    items: Tensor
    offsets: Tensor
    fused: Tensor
    interests: Tensor
    weights: Tensor

    def outputs(self) -> tuple[ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]:
        """The addresses of the result buffers."""
        return pointer(self.fused), pointer(self.interests), pointer(self.weights)


def make_problem(case: tuple[int, int, int], device: str) -> Problem:
    events, dim, batch = case
    interests = LONG + SHORT + 1
    items = torch.randint(_NUM_ITEMS, (batch, events), generator=torch.Generator().manual_seed(2)).to(device)
    return Problem(
        items, torch.arange(batch + 1, device=device) * events, torch.zeros(batch, dim, device=device),
        torch.zeros(batch, interests, dim, device=device), torch.zeros(batch, interests, device=device),
    )  # fmt: skip


def error_of(fused: Tensor, expected: Tensor) -> float:
    """The largest difference from the float64 vectors, relative to their largest value."""
    return float((fused.double() - expected).abs().max() / expected.abs().max())


def check(name: str, fused: Tensor, expected: Tensor, precision: str) -> float:
    """The error; ends the program if it is above the precision's tolerance."""
    error = error_of(fused, expected)
    if not error <= _RELATIVE[precision]:
        raise SystemExit(f"{name}: off by {error:.1e} of the largest value")
    return error


def ignoring_result(call: Callable[[Weights, Tensor], Tensor], weights: Weights, items: Tensor) -> Callable[[], None]:
    def run() -> None:
        call(weights, items)

    return run


Runs = dict[str, Callable[[], None]]


def checked_runs(
    library: Library, case: tuple[int, int, int], device: str, *, autotune: bool = False
) -> tuple[Runs, dict[str, float]]:
    """Calls by name, of ours and, on a GPU, of torch's; and the errors of their results."""
    host = library.weights(case[1])
    weights = {name: weight.to(device) for name, weight in host.items()}
    problem = make_problem(case, device)
    exact = {name: weight.double() for name, weight in weights.items()}
    expected = fused_by_torch(exact, problem.items, all_rows=True)
    model = library.model(case[1], weights, is_bf16=False)
    append, encode_states = model.states(problem)
    runs: Runs = {
        "lsif": model.encode(problem, may_fuse=True),
        "lsif_steps": model.encode(problem, may_fuse=False),
        "lsif_bf16": library.model(case[1], weights, is_bf16=True).encode(problem, may_fuse=False),
        "lsif_states": encode_states,
    }
    errors = {}
    for name, run in runs.items():
        problem.fused.fill_(math.nan)
        run()
        errors[name] = check(name, problem.fused, expected, "bfloat16" if name == "lsif_bf16" else "float32")
    runs["lsif_append"] = append
    check("torch", fused_by_torch(weights, problem.items), expected, "float32")
    if device == "cuda":
        torch._dynamo.reset()  # otherwise it stops compiling after some shapes, with only a warning
        peers = {
            "torch": fused_by_torch,
            "torch_compile": torch.compile(fused_by_torch, dynamic=False, fullgraph=True),
            "torch_compile_all": torch.compile(fused_of_all_rows, dynamic=False, fullgraph=True),
        }
        if autotune:
            mode = "max-autotune-no-cudagraphs"  # CUDA graphs are captured by this program, as for all others
            peers["torch_autotune"] = torch.compile(fused_by_torch, dynamic=False, fullgraph=True, mode=mode)
        in_bf16 = {name: weight.bfloat16() for name, weight in weights.items()}
        for name, call in peers.items():
            errors[name] = check(name, call(weights, problem.items), expected, "float32")
            runs[name] = ignoring_result(call, weights, problem.items)
            if name in ("torch_compile", "torch_autotune"):
                errors[f"{name}_bf16"] = error_of(call(in_bf16, problem.items), expected)
                runs[f"{name}_bf16"] = ignoring_result(call, in_bf16, problem.items)
    return runs, errors


def bench(library: Library, *, autotune: bool) -> Iterator[str]:
    torch.backends.cuda.matmul.allow_tf32 = False
    yield f"{torch.cuda.get_device_name()}, torch {torch.__version__}, all as CUDA graphs"
    yield f"{'events, dim, users':24} {'':18} {'us':>10} {'p10':>10} {'p90':>10} {'ratio':>7} {'error':>8}"
    for case in _CASES:
        checked, errors = checked_runs(library, case, "cuda", autotune=autotune)
        runs = {name: captured(run) for name, run in checked.items()}
        repeats = {name: max(1, int(5e3 / microseconds(run, 1))) for name, run in runs.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(_TURNS):
            for name, run in runs.items():
                run()
                times[name].append(microseconds(run, repeats[name]))
        best = statistics.median(times["lsif"])
        for name, values in times.items():
            values.sort()
            median = statistics.median(values)
            low, high = values[len(values) // 10], values[-1 - len(values) // 10]
            title = ", ".join(map(str, case))
            error = f"{errors[name]:8.0e}" if name in errors else ""
            yield f"{title:24} {name:18} {median:10,.1f} {low:10,.1f} {high:10,.1f} {median / best:7.2f} {error}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", help="liblsif_cuda_bench.so")
    parser.add_argument("--emulated", action="store_true", help="the library is the emulation's: check, time nothing")
    parser.add_argument("--autotune", action="store_true", help="also torch.compile with max-autotune (minutes)")
    options = parser.parse_args(arguments)
    library = Library(options.library, "cpu" if options.emulated else "cuda")
    if options.emulated:
        for case in _EMULATED_CASES:
            checked_runs(library, case, "cpu")
            print(f"emulated: {case} is right; nothing was timed")
        return 0
    if not torch.cuda.is_available():
        print("bench/gpu_encode.py: torch finds no CUDA device, so nothing was timed", file=sys.stderr)
        return 1
    print_all(bench(library, autotune=options.autotune))
    return 0


if __name__ == "__main__":
    sys.exit(main())
