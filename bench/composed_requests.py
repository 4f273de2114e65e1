"""Peers of recommend, composed of the fastest parts available: ONNX Runtime encodes, an index finds the items.

An index does not know which items a user has seen, so it is asked for as many more than k as there are events, and seen
items are dropped. An item's bias is an extra dimension, in which queries have 1. For faiss, zeros pad the vectors to
whole registers.
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from encode_peers import EncodeProblem
from implementations import Builder, Implementation

__all__ = ["composed"]

Lists = list[list[int]]
Vectors = npt.NDArray[np.float32]
Search = Callable[[Vectors], npt.NDArray[Any]]
"""Queries [batch, dim + 1] to rows [batch, wanted], best first."""

_MakeSearch = Callable[[Vectors, Vectors, int, int], Search]
"""Arguments: items [num_items, dim + 1], queries to try the index with, number of wanted items, threads."""

_REFINE = 2  # this many times k candidates are scored again
_TRIES = 8  # of each index; the fastest one counts
_REGISTER = 16  # floats


def composed(problem: EncodeProblem, k: int) -> dict[str, Builder]:
    """Builders by name. Their requests are those of `request_cases.recommend`: lists of ids in, rows out."""

    def builder(make: _MakeSearch, multiple: int) -> Builder:
        return lambda _: _request(problem, k, make, multiple)

    return {"onnxruntime_scann": builder(_scann, 1), "onnxruntime_faiss": builder(_faiss, _REGISTER)}


def _request(problem: EncodeProblem, k: int, make: _MakeSearch, multiple: int) -> Implementation:
    started = time.perf_counter()
    artifact, session = problem.artifact, problem.session()
    vectors, bias = artifact.catalog_vectors.numpy(), artifact.catalog_bias.numpy()
    dim = vectors.shape[1]
    width = -(-(dim + 1) // multiple) * multiple
    columns, queries = (np.zeros((size, width), np.float32) for size in (len(vectors), problem.batch))
    columns[:, :dim], columns[:, dim], queries[:, dim] = vectors, bias, 1
    search = make(columns, columns[: problem.batch], min(len(columns), k + problem.seq_len), problem.threads)
    built = time.perf_counter() - started

    def call(rows: Lists) -> list[list[int]]:
        queries[:, :dim] = session.run(None, {"items": np.array(rows)})[0]
        answers = []
        for history, items in zip(rows, search(queries).tolist(), strict=True):
            seen = set(history)
            answers.append([item for item in items if item not in seen][:k])
        return answers

    inputs = [items.tolist() for items in problem.histories]
    return Implementation(call=call, inputs=inputs, build_s=built)


def _scann(vectors: Vectors, _: Vectors, wanted: int, threads: int) -> Search:
    import scann

    searcher = scann.scann_ops_pybind.builder(vectors, wanted, "dot_product").score_brute_force().build()
    searcher.set_num_threads(threads)

    def search(queries: Vectors) -> npt.NDArray[Any]:
        if threads == 1 or len(queries) == 1:
            return searcher.search_batched(queries)[0]  # type: ignore[no-any-return]
        return searcher.search_batched_parallel(queries, batch_size=-(-len(queries) // threads))[0]  # type: ignore[no-any-return]

    return search


def _faiss(vectors: Vectors, some: Vectors, wanted: int, threads: int) -> Search:
    """The faster of a float32 index and an fp16 index that scores twice the wanted items again; both are exact."""
    import faiss

    faiss.omp_set_num_threads(threads)
    dim = vectors.shape[1]
    flat = faiss.IndexFlatIP(dim)
    codes = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    refined = faiss.IndexRefineFlat(codes)
    refined.k_factor = _REFINE
    for index in (flat, refined):
        index.train(vectors)
        index.add(vectors)

    def seconds(index: Any) -> float:
        return min(timeit.repeat(lambda: index.search(some, wanted), number=1, repeat=_TRIES))

    index = min((flat, refined), key=seconds)
    return lambda queries: index.search(queries, wanted)[1]
