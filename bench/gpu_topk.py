"""Times score_topk on a GPU beside torch (`make bench-cuda`), once its answers are right: docs/cuda.md."""

from __future__ import annotations

import argparse
import ctypes
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["main"]

_CASES = [  # rows, dim, batch, k
    (1_000_000, 64, 1, 10),
    (10_000_000, 64, 1, 10),
    (1_000_000, 64, 16, 10),
    (1_000_000, 64, 256, 10),
    (1_000_000, 64, 4096, 10),
    (1_000_000, 64, 1, 100),
    (1_000_000, 64, 1, 1000),
    (1_000_000, 256, 16, 10),
]
_EMULATED_CASES = [(3000, 64, 1, 10), (3000, 64, 2, 10), (20_000, 24, 9, 100), (3000, 24, 40, 10)]
_TURNS = 15
_MAX_SCORES = 1 << 30  # computed by the peer at a time


class Launcher:
    """The C interface of bench/gpu_launch.cpp."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        self._library.lsif_code.restype = ctypes.c_int64
        self._library.lsif_workspace_size.restype = ctypes.c_int64

    def code(self, vectors: Tensor) -> Tensor:
        """The codes of the rows; both are on the host."""
        sizes = (ctypes.c_int64(len(vectors)), ctypes.c_int64(vectors.shape[1]))
        address = ctypes.c_void_p(vectors.data_ptr())
        codes = torch.empty(self._library.lsif_code(address, *sizes, None), dtype=torch.uint8)
        self._library.lsif_code(address, *sizes, ctypes.c_void_p(codes.data_ptr()))
        return codes

    def search(self, problem: Problem) -> Callable[[], None]:
        """A call that enqueues the search on torch's current stream."""
        rows, dim = problem.vectors.shape
        batch, k = problem.scores.shape
        sizes = [ctypes.c_int64(size) for size in (rows, dim, batch, k)]
        size = self._library.lsif_workspace_size(*sizes)
        workspace = torch.empty(size, dtype=torch.uint8, device=problem.vectors.device)

        def pointer(tensor: Tensor) -> ctypes.c_void_p:
            return ctypes.c_void_p(tensor.data_ptr())

        def run() -> None:
            on_gpu = problem.vectors.is_cuda
            stream = torch.cuda.current_stream().cuda_stream if on_gpu else 0
            error = self._library.lsif_score_topk(
                pointer(problem.vectors), pointer(problem.codes), pointer(problem.host_codes),
                ctypes.c_int64(len(problem.codes)), *sizes[:2], pointer(problem.queries), *sizes[2:],
                pointer(workspace), pointer(problem.scores), pointer(problem.indices), pointer(problem.counts),
                ctypes.c_void_p(stream),
            )  # fmt: skip
            if error:
                raise RuntimeError(f"score_topk: CUDA error {error}")

        return run


@dataclass
class Problem:
    """Rows, queries and buffers for the answer, on one device."""

    vectors: Tensor
    codes: Tensor
    host_codes: Tensor
    queries: Tensor
    scores: Tensor
    indices: Tensor
    counts: Tensor


def make_problem(launcher: Launcher, case: tuple[int, int, int, int], device: str) -> Problem:
    rows, dim, batch, k = case
    generator = torch.Generator(device).manual_seed(1)
    vectors = torch.randn(rows, dim, generator=generator, device=device)
    host_codes = launcher.code(vectors.cpu())
    return Problem(
        vectors, host_codes.to(device), host_codes, torch.randn(batch, dim, generator=generator, device=device),
        torch.empty(batch, k, device=device), torch.empty(batch, k, dtype=torch.int64, device=device),
        torch.empty(batch, dtype=torch.int64, device=device),
    )  # fmt: skip


def check(problem: Problem, *, num_checked: int = 4) -> None:
    """Checks the first queries' results against float64 scores; rows with equal rounded scores may swap."""
    k = problem.scores.shape[1]
    for query in range(min(num_checked, len(problem.queries))):
        scores = torch.cat([part.double() @ problem.queries[query].double() for part in problem.vectors.split(1 << 20)])
        expected = torch.topk(scores, k)
        got = problem.scores[query]
        if not torch.equal(got, expected.values.float()):
            raise SystemExit(f"query {query}: the scores are not those of the best rows")
        if not torch.equal(scores[problem.indices[query]].float(), got):
            raise SystemExit(f"query {query}: the rows are not those of the scores")


def torch_topk(problem: Problem) -> Callable[[], None]:
    """The peer: all scores, then their top-k."""
    k = problem.scores.shape[1]
    parts = problem.queries.split(max(1, _MAX_SCORES // len(problem.vectors)))

    def run() -> None:
        for part in parts:
            torch.topk(part @ problem.vectors.T, k, dim=1)

    return run


def captured(run: Callable[[], None]) -> Callable[[], None]:
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def microseconds(run: Callable[[], None], repeats: int) -> float:
    """Mean time of one call, over `repeats` calls in a row."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) * 1e3 / repeats


def copy_bandwidth() -> float:
    """Bytes per second, read plus written, of a copy within the device."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * len(source) / (min(microseconds(lambda: target.copy_(source), 5) for _ in range(5)) * 1e-6)


def bench(launcher: Launcher) -> Iterator[str]:
    torch.backends.cuda.matmul.allow_tf32 = False
    bandwidth = copy_bandwidth()
    yield f"{torch.cuda.get_device_name()}, torch {torch.__version__}, copy {bandwidth / 1e9:,.0f} GB/s"
    yield f"{'rows x dim, batch, k':30} {'':12} {'us':>10} {'p10':>10} {'p90':>10} {'ratio':>7} {'% of copy':>10}"
    for case in _CASES:
        problem = make_problem(launcher, case, "cuda")
        search = launcher.search(problem)
        search()
        check(problem)
        runs = {"lsif": search, "lsif_graph": captured(search), "torch": torch_topk(problem)}
        runs["torch_graph"] = captured(runs["torch"])
        runs["lsif_graph"]()
        check(problem)
        repeats = {name: max(1, int(5e3 / microseconds(run, 1))) for name, run in runs.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(_TURNS):
            for name, run in runs.items():
                run()
                times[name].append(microseconds(run, repeats[name]))
        best = statistics.median(times["lsif_graph"])
        for name, values in times.items():
            values.sort()
            median = statistics.median(values)
            read = len(problem.codes) if name.startswith("lsif") else problem.vectors.numel() * 4
            share = f"{100 * read / (median * 1e-6) / bandwidth:9.0f}%" if case[2] == 1 else ""
            title = f"{case[0]:,} x {case[1]}, {case[2]}, {case[3]}"
            low, high = values[len(values) // 10], values[-1 - len(values) // 10]
            yield f"{title:30} {name:12} {median:10,.1f} {low:10,.1f} {high:10,.1f} {median / best:7.2f} {share:>10}"
        del problem, runs, search
        torch.cuda.empty_cache()


def print_all(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", help="liblsif_cuda_bench.so")
    parser.add_argument("--emulated", action="store_true", help="the library is the emulation's: check, time nothing")
    options = parser.parse_args(arguments)
    launcher = Launcher(options.library)
    if options.emulated:
        for case in _EMULATED_CASES:
            problem = make_problem(launcher, case, "cpu")
            launcher.search(problem)()
            check(problem, num_checked=case[2])
            print(f"emulated: {case} is right; nothing was timed")
        return 0
    if not torch.cuda.is_available():
        print("bench/gpu_topk.py: torch finds no CUDA device, so nothing was timed", file=sys.stderr)
        return 1
    print_all(bench(launcher))
    return 0


if __name__ == "__main__":
    sys.exit(main())
