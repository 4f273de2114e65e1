"""Times requests on a GPU, from histories to the top 10 of 1M items (`make bench-cuda`): docs/cuda.md.

The launchers beside torch, plain and compiled, all as CUDA graphs. With `--recommender` also `Recommender` on the GPU
beside the CPU's, for which lsif_sdk has to be installed there.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import gpu_encode
import gpu_topk
from gpu_torch_model import fused_by_torch, fused_of_all_rows

__all__ = ["main"]

_CASE = (50, 64)  # events, dim
_BATCHES = (1, 256)
_NUM_ITEMS, _K = 1_000_000, 10
_EMULATED_ITEMS = 3000
_CALLS = 300


def latencies(run: Callable[[], object], calls: int) -> list[float]:
    """Microseconds from the start of a call to its end on the device, ascending."""
    times = []
    for _ in range(calls):
        begin = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) * 1e6)
    return sorted(times)


def line(title: str, name: str, values: list[float], best: float) -> str:
    """The text of one row; `values` must be ascending."""
    median, low, high = statistics.median(values), values[len(values) // 10], values[-1 - len(values) // 10]
    return f"{title:24} {name:18} {median:10,.1f} {low:10,.1f} {high:10,.1f} {median / best:7.2f}"


@dataclass
class Request:
    """A call that enqueues a request on torch's stream. It keeps all memory alive that the launchers point to."""

    encode: Callable[[], None]
    search: Callable[[], None]
    problem: gpu_topk.Problem
    histories: gpu_encode.Problem
    weights: gpu_encode.Weights
    kept: tuple[object, ...]

    def __call__(self) -> None:
        self.encode()
        self.search()


def ours(library: str, batch: int, num_items: int, device: str) -> Request:
    """A request whose answer has been checked."""
    events, dim = _CASE
    encoder = gpu_encode.Library(library, device)
    weights = {name: weight.to(device) for name, weight in encoder.weights(dim).items()}
    histories = gpu_encode.make_problem((events, dim, batch), device)
    launcher = gpu_topk.Launcher(library)
    problem = gpu_topk.make_problem(launcher, (num_items, dim, batch, _K), device)
    problem.queries = histories.fused
    model = encoder.model(dim, weights, is_bf16=False)
    encode, search = model.encode(histories, may_fuse=True), launcher.search(problem)
    in_float64 = {name: weight.double() for name, weight in weights.items()}
    exact = fused_by_torch(in_float64, histories.items, all_rows=True)
    request = Request(encode, search, problem, histories, weights, (encoder, model))
    request()
    gpu_encode.check("lsif", histories.fused, exact, "float32")
    gpu_topk.check(problem)
    return request


def plain(weights: dict[str, Tensor], items: Tensor, vectors: Tensor) -> Tensor:
    return torch.topk(fused_by_torch(weights, items) @ vectors.T, _K).indices


def plain_of_all_rows(weights: dict[str, Tensor], items: Tensor, vectors: Tensor) -> Tensor:
    return torch.topk(fused_of_all_rows(weights, items) @ vectors.T, _K).indices


def bench(library: str) -> Iterator[str]:
    """Lines for each implementation: many requests back to back, and single requests from call to end."""
    torch.backends.cuda.matmul.allow_tf32 = False
    events, dim = _CASE
    yield f"{torch.cuda.get_device_name()}, torch {torch.__version__}, all as CUDA graphs"
    yield f"{'events, dim, users':24} {'':18} {'us':>10} {'p10':>10} {'p90':>10} {'ratio':>7}"
    for batch in _BATCHES:
        request = ours(library, batch, _NUM_ITEMS, "cuda")

        torch._dynamo.reset()
        compiled = functools.partial(torch.compile, dynamic=False, fullgraph=True)
        peers = {"torch": plain, "torch_compile": compiled(plain), "torch_compile_all": compiled(plain_of_all_rows)}
        calls: dict[str, Callable[[], object]] = {"lsif": request}
        for name, call in peers.items():
            calls[name] = functools.partial(call, request.weights, request.histories.items, request.problem.vectors)
        graphs = {name: gpu_topk.captured(call) for name, call in calls.items()}
        in_a_row: dict[str, list[float]] = {name: [] for name in graphs}
        for _ in range(15):
            for name, graph in graphs.items():
                graph()
                in_a_row[name].append(gpu_topk.microseconds(graph, 20))
        alone = {name: latencies(graph, _CALLS) for name, graph in graphs.items()}
        for heading, times in (("in a row", in_a_row), ("one at a time", alone)):
            for name, values in times.items():
                title = f"{events}, {dim}, {batch} {heading}"
                yield line(title, name, sorted(values), statistics.median(times["lsif"]))
        del request, calls, graphs
        torch.cuda.empty_cache()


def bench_recommender() -> Iterator[str]:
    """Times `recommend` on the GPU and on the CPU, from Python call to answer."""
    import numpy as np

    from lsif_sdk import Artifact, ItemTable, ModelConfig, Recommender
    from lsif_sdk.model import InterestFusionModel

    torch.manual_seed(0)
    events, dim = _CASE
    config = ModelConfig(num_items=_NUM_ITEMS, dim=dim, num_heads=2)
    weights = InterestFusionModel(config).export_weights()
    weights["item_embedding"] = torch.randn(_NUM_ITEMS, dim)
    weights.pop("catalog.vectors", None)
    artifact = Artifact(config, weights, ItemTable(np.arange(_NUM_ITEMS)))
    runs = {"device=cuda": Recommender(artifact, device="cuda"), "cpu": Recommender(artifact)}
    rng = np.random.default_rng(0)
    yield f"recommend(), {torch.get_num_threads()} threads of the CPU's; microseconds from call to answer"
    for batch in (1, 16, 256):
        histories = [list(map(int, rng.integers(_NUM_ITEMS, size=events))) for _ in range(batch)]
        times: dict[str, list[float]] = {name: [] for name in runs}
        answers = {name: run.recommend(histories, k=_K) for name, run in runs.items()}
        same = (answers["cpu"].items == answers["device=cuda"].items).mean()
        for turn in range(23):
            for name, run in runs.items():
                begin = time.perf_counter()
                for _ in range(10):
                    run.recommend(histories, k=_K)
                if turn >= 3:
                    times[name].append((time.perf_counter() - begin) * 1e5)
        best = statistics.median(times["device=cuda"])
        title = f"{events}, {dim}, {batch}; {100 * same:.1f}% equal"
        for name, values in times.items():
            yield line(title, name, sorted(values), best)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", help="liblsif_cuda_bench.so")
    parser.add_argument("--emulated", action="store_true", help="the library is the emulation's: check, time nothing")
    parser.add_argument("--recommender", action="store_true", help="time the Python API, too")
    options = parser.parse_args(arguments)
    if options.emulated:
        for batch in (1, 3):
            ours(options.library, batch, _EMULATED_ITEMS, "cpu")
            print(f"emulated: {batch} users' requests are right; nothing was timed")
        return 0
    if not torch.cuda.is_available():
        print("bench/gpu_requests.py: torch finds no CUDA device, so nothing was timed", file=sys.stderr)
        return 1
    gpu_topk.print_all(bench(options.library))
    if options.recommender:
        gpu_topk.print_all(bench_recommender())
    return 0


if __name__ == "__main__":
    sys.exit(main())
