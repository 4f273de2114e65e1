"""Peers of recommend, put together from the fastest parts there are: ONNX Runtime encodes, an index finds the items.

An index knows nothing of a user's own items, so it is asked for as many more as there are events, and theirs are left
out. An item's bias is one dimension more, in which queries have 1; zeros fill up the vectors that faiss multiplies, to
whole registers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from encode_peers import EncodeProblem
from implementations import Builder, Implementation

__all__ = ["composed"]

Lists = list[list[int]]
Vectors = npt.NDArray[np.float32]
Search = Callable[[Vectors], npt.NDArray[Any]]
"""Queries [batch, dim + 1] to rows [batch, wanted], best first."""

_REFINE = 2  # times k candidates are scored again
_REGISTER = 16  # numbers


def composed(problem: EncodeProblem, k: int) -> dict[str, Builder]:
    """Builders by name, of requests like `request_cases.recommend`'s: lists of ids in, rows out."""
    searches: Mapping[str, Callable[[Vectors, int, int], Search]] = {"scann": _scann, "faiss": _faiss}

    def builder(make: Callable[[Vectors, int, int], Search]) -> Builder:
        return lambda _: _request(problem, k, make)

    return {f"onnxruntime_{name}": builder(make) for name, make in searches.items()}


def _request(problem: EncodeProblem, k: int, make: Callable[[Vectors, int, int], Search]) -> Implementation:
    session = problem.session()
    artifact, started = problem.artifact, time.perf_counter()
    columns = torch.cat([artifact.catalog_vectors, artifact.catalog_bias[:, None]], 1).numpy()
    wanted = min(len(columns), k + problem.seq_len)
    search = make(columns, wanted, problem.threads)
    built = time.perf_counter() - started
    ones = np.ones((problem.batch, 1), np.float32)

    def call(rows: Lists) -> list[list[int]]:
        newest = session.run(None, {"items": np.array(rows)})[0]
        found = search(np.concatenate([newest, ones], axis=1))
        answers = []
        for history, items in zip(rows, found.tolist(), strict=True):
            seen = set(history)
            answers.append([item for item in items if item not in seen][:k])
        return answers

    inputs = [items.tolist() for items in problem.histories]
    return Implementation(call=call, inputs=inputs, build_s=built)


def _scann(vectors: Vectors, wanted: int, threads: int) -> Search:
    import scann

    searcher = scann.scann_ops_pybind.builder(vectors, wanted, "dot_product").score_brute_force().build()
    searcher.set_num_threads(threads)
    search = searcher.search_batched if threads == 1 else searcher.search_batched_parallel
    return lambda queries: search(queries)[0]


def _faiss(vectors: Vectors, wanted: int, threads: int) -> Search:
    """fp16, and twice as many as wanted scored again, which gives the exact ones: faster than its float32."""
    import faiss

    faiss.omp_set_num_threads(threads)
    vectors = _filled_up(vectors)
    codes = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexRefineFlat(codes)
    index.k_factor = _REFINE
    index.train(vectors)
    index.add(vectors)
    return lambda queries: index.search(_filled_up(queries), wanted)[1]


def _filled_up(vectors: Vectors) -> Vectors:
    return np.pad(vectors, ((0, 0), (0, -vectors.shape[1] % _REGISTER)))
