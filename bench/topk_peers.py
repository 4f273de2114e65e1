"""Peers of score_topk that look at every row: exact ones, and faiss indexes that round the vectors.

Each has its best settings, which bench/README.md lists.
"""

from __future__ import annotations

import dataclasses
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from implementations import Builder, Implementation
from topk_problem import Problem, Vectors

__all__ = ["peers"]

_BLAS_NEVER, _BLAS_ALWAYS = 2**31 - 1, 1
_TRIES = 8  # of each setting; the fastest one counts
_TORCH_BLOCK = 1 << 14
_REFINE = 2  # this many times k candidates are scored again


def peers(problem: Problem) -> dict[str, Builder]:
    return {
        "torch": lambda _: _torch(problem),
        "numpy": lambda _: _numpy(problem),
        "faiss_flat": lambda _: _faiss_flat(problem),
        "faiss_sqfp16": lambda _: _faiss_sqfp16(problem),
        "faiss_sq8_refine": lambda _: _faiss_sq8_refine(problem),
        "scann": lambda _: _scann(problem),
        "implicit": lambda _: _implicit(problem),
    }


def _scan(problem: Problem, row_bytes: int, **others: Any) -> Implementation:
    """An implementation that reads `row_bytes` per row and multiplies each row with every query."""
    num_items, dim = problem.vectors.shape
    flops = 2 * num_items * dim * problem.batch
    return Implementation(
        **{"bytes": num_items * row_bytes, "flops": flops, "index_bytes": num_items * row_bytes, **others}
    )


def _torch(problem: Problem) -> Implementation:
    """All rows at once, or in blocks whose scores stay in the caches: whichever is faster here."""
    torch.set_num_threads(problem.threads)
    columns = torch.from_numpy(problem.vectors).T

    @torch.inference_mode()
    def whole(queries: torch.Tensor) -> torch.Tensor:
        return torch.topk(queries @ columns, problem.k).indices

    @torch.inference_mode()
    def in_blocks(queries: torch.Tensor) -> torch.Tensor:
        values, rows = [], []
        for begin in range(0, columns.shape[1], _TORCH_BLOCK):
            scores = queries @ columns[:, begin : begin + _TORCH_BLOCK]
            best = torch.topk(scores, min(problem.k, scores.shape[1]))
            values.append(best.values)
            rows.append(best.indices + begin)
        best = torch.topk(torch.cat(values, 1), problem.k)
        return torch.cat(rows, 1).gather(1, best.indices)

    inputs = [torch.from_numpy(queries) for queries in problem.batches()]

    def seconds(call: Callable[[torch.Tensor], torch.Tensor]) -> float:
        return min(timeit.repeat(lambda: call(inputs[0]), number=1, repeat=_TRIES))

    call = min((whole, in_blocks), key=seconds)
    return _scan(
        problem,
        4 * problem.vectors.shape[1],
        call=call,
        inputs=inputs,
        read=lambda answer: answer.numpy(),
        settings={"blocks": call is in_blocks},
    )


def _numpy(problem: Problem) -> Implementation:
    columns, k = problem.vectors.T, problem.k

    def call(queries: Vectors) -> Any:
        scores = queries @ columns
        best = np.argpartition(scores, -k, axis=1)[:, -k:] if k < scores.shape[1] else np.argsort(scores, axis=1)
        return np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1), 1)

    return _scan(problem, 4 * problem.vectors.shape[1], call=call, inputs=problem.batches())


def _faiss(problem: Problem, index: Any, row_bytes: int, **others: Any) -> Implementation:
    import faiss

    faiss.omp_set_num_threads(problem.threads)

    def build() -> Any:
        index.train(problem.vectors)
        index.add(problem.vectors)
        return index

    built, seconds = problem.index(type(index).__name__ + str(row_bytes), build)
    return _scan(
        problem,
        row_bytes,
        call=lambda queries: built.search(queries, problem.k),
        inputs=problem.batches(),
        read=lambda answer: answer[1],
        build_s=seconds,
        **others,
    )


def _faiss_flat(problem: Problem) -> Implementation:
    """One BLAS call over all queries, or faiss's own loops: the threshold's meaning differs between versions."""
    import faiss

    dim = problem.vectors.shape[1]
    flat = _faiss(problem, faiss.IndexFlatIP(dim), 4 * dim)

    def seconds(threshold: int) -> float:
        faiss.cvar.distance_compute_blas_threshold = threshold
        return min(timeit.repeat(flat.run(), number=1, repeat=_TRIES))

    threshold = min((_BLAS_NEVER, _BLAS_ALWAYS), key=seconds)
    faiss.cvar.distance_compute_blas_threshold = threshold
    return dataclasses.replace(flat, settings={"blas": threshold == _BLAS_ALWAYS})


def _faiss_sqfp16(problem: Problem) -> Implementation:
    import faiss

    dim = problem.vectors.shape[1]
    index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    return _faiss(problem, index, 2 * dim, min_recall=0.99)


def _faiss_sq8_refine(problem: Problem) -> Implementation:
    import faiss

    dim = problem.vectors.shape[1]
    codes = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexRefineFlat(codes)
    index.k_factor = _REFINE
    memory = 5 * dim * len(problem.vectors)
    return _faiss(problem, index, dim, min_recall=0.95, index_bytes=memory, settings={"k_factor": _REFINE})


def _scann(problem: Problem) -> Implementation:
    import scann

    def build() -> Any:
        return scann.scann_ops_pybind.builder(problem.vectors, problem.k, "dot_product").score_brute_force().build()

    searcher, seconds = problem.index("scann", build)
    searcher.set_num_threads(problem.threads)
    if problem.threads > 1 and problem.batch > 1:
        share = -(-problem.batch // problem.threads)  # queries per thread: ScaNN divides queries among threads

        def call(queries: Vectors) -> Any:
            return searcher.search_batched_parallel(queries, batch_size=share)
    else:
        call = searcher.search_batched
    return _scan(
        problem,
        4 * problem.vectors.shape[1],
        call=call,
        inputs=problem.batches(),
        read=lambda answer: answer[0],
        build_s=seconds,
    )


def _implicit(problem: Problem) -> Implementation:
    from implicit.cpu.topk import topk

    return _scan(
        problem,
        4 * problem.vectors.shape[1],
        call=lambda queries: topk(problem.vectors, queries, problem.k, num_threads=problem.threads),
        inputs=problem.batches(),
        read=lambda answer: answer[0],
    )
