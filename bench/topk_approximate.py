"""Peers of score_topk that look at only some of the rows: lists, trees and graphs, at a given setting or a recall.

"hnswlib@64" is hnswlib with ef 64; "hnswlib" alone has the smallest setting whose recall reaches `target`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from checks import recall
from implementations import Builder, Implementation
from topk_problem import Problem, Vectors

__all__ = ["approximate", "tuned"]

_EFFORTS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048]
_MIN_RECALL = 0.05  # below this, an index is wrong, not just badly tuned
_DIMENSIONS_PER_CODE = 2
_REORDERED = 10  # times k, and at least 100, are scored again in float32
_LISTS_PER_REORDERED = 16  # faiss: from 32 lists on, lists // 16 times as many are scored again


def approximate(problem: Problem, target: float, m: int, ef_construction: int) -> dict[str, Builder]:
    """Builders by name; `m` and `ef_construction` are settings of the graphs."""

    def graph(make: Callable[..., Implementation]) -> Builder:
        return lambda name: tuned(name, lambda effort: make(problem, effort, m, ef_construction), problem, target)

    def lists(stored: str) -> Builder:
        return lambda name: tuned(name, lambda effort: _faiss_lists(problem, stored, effort), problem, target)

    return {
        "scann_tree": lambda name: tuned(name, lambda effort: _scann_tree(problem, effort), problem, target),
        "faiss_ivf": lists("SQfp16"),
        "faiss_ivfpq": lists(_codes(problem)),
        "hnswlib": graph(_hnswlib),
        "usearch": graph(_usearch),
    }


def tuned(name: str, make: Callable[[int], Implementation], problem: Problem, target: float) -> Implementation:
    """With the effort its name gives, or with the least that reaches the target (the highest if none does)."""
    _, _, effort = name.partition("@")
    if effort:
        return make(int(effort))
    expected = problem.exact.indices
    for value in _EFFORTS:
        implementation = make(value)
        if recall(np.concatenate(implementation.answers()), expected) >= target:
            break
    return implementation


def _scann_tree(problem: Problem, leaves: int) -> Implementation:
    import scann

    num_items = len(problem.vectors)
    num_leaves = max(1, round(2 * math.sqrt(num_items)))
    reordered = max(100, _REORDERED * problem.k)

    def build() -> Any:
        builder = scann.scann_ops_pybind.builder(problem.vectors, problem.k, "dot_product")
        builder = builder.tree(num_leaves, min(leaves, num_leaves), training_sample_size=min(num_items, 250_000))
        builder = builder.score_ah(_DIMENSIONS_PER_CODE, anisotropic_quantization_threshold=0.2).reorder(reordered)
        return builder.set_n_training_threads(problem.threads).build()

    searcher, seconds = problem.index("scann_tree", build)
    searcher.set_num_threads(problem.threads)
    if problem.batch == 1:

        def call(query: Vectors) -> Any:
            return searcher.search(query, leaves_to_search=leaves)

        inputs = [queries[0] for queries in problem.batches()]
    else:
        search = searcher.search_batched_parallel if problem.threads > 1 else searcher.search_batched
        inputs = problem.batches()

        def call(query: Vectors) -> Any:
            return search(query, leaves_to_search=leaves)

    return Implementation(
        call=call,
        inputs=inputs,
        read=lambda answer: _padded(answer[0], problem.k),
        build_s=seconds,
        min_recall=_MIN_RECALL,
        settings={"leaves": num_leaves, "leaves_to_search": leaves, "reordered": reordered},
    )


def _codes(problem: Problem) -> str:
    """Product quantisation of the residuals, 4 bits per two dimensions; the best are scored again from the vectors."""
    dim = problem.vectors.shape[1]
    return f"PQ{dim if dim % _DIMENSIONS_PER_CODE else dim // _DIMENSIONS_PER_CODE}x4fsr,RFlat"


def _faiss_lists(problem: Problem, stored: str, lists: int) -> Implementation:
    """Lists by nearest centre, of rounded vectors or of codes; `lists` of them are searched.

    With codes, the number scored again grows with the number of lists; otherwise recall would not rise.
    """
    import faiss

    faiss.omp_set_num_threads(problem.threads)
    num_items, dim = problem.vectors.shape
    num_lists = max(1, round(math.sqrt(num_items) / 2))

    def build() -> Any:
        index = faiss.index_factory(dim, f"IVF{num_lists},{stored}", faiss.METRIC_INNER_PRODUCT)
        index.train(problem.vectors)
        index.add(problem.vectors)
        return index

    name = f"faiss-{version('faiss-cpu')}-IVF{num_lists}-{stored}-{problem.threads}"
    index, seconds = problem.kept_index(name, build, faiss.write_index, faiss.read_index)
    refined = stored.endswith("RFlat")
    lists = min(lists, num_lists)
    reordered = max(100, _REORDERED * problem.k) * max(1, lists // _LISTS_PER_REORDERED)
    parameters = faiss.SearchParametersIVF(nprobe=lists)
    if refined:
        parameters = faiss.IndexRefineSearchParameters(k_factor=reordered / problem.k, base_index_params=parameters)

    def call(queries: Vectors) -> Any:
        return index.search(queries, problem.k, params=parameters)

    row_bytes = 4 * dim + (dim // 2 if dim % _DIMENSIONS_PER_CODE else dim // 4) if refined else 2 * dim
    return Implementation(
        call=call,
        inputs=problem.batches(),
        read=lambda answer: answer[1],
        build_s=seconds,
        index_bytes=num_items * (row_bytes + 8) + num_lists * 4 * dim,
        min_recall=_MIN_RECALL,
        settings={"lists": num_lists, "searched": lists, **({"reordered": reordered} if refined else {})},
    )


def _hnswlib(problem: Problem, ef: int, m: int, ef_construction: int) -> Implementation:
    import hnswlib

    def build() -> Any:
        index = hnswlib.Index(space="ip", dim=problem.vectors.shape[1])
        index.init_index(max_elements=len(problem.vectors), M=m, ef_construction=ef_construction, random_seed=0)
        index.add_items(problem.vectors, num_threads=problem.threads)
        return index

    def load(path: str) -> Any:
        index = hnswlib.Index(space="ip", dim=problem.vectors.shape[1])
        index.load_index(path)
        return index

    name = f"hnswlib-{version('hnswlib')}-{m}-{ef_construction}-{problem.threads}"
    index, seconds = problem.kept_index(name, build, lambda index, path: index.save_index(path), load)

    def call(queries: Vectors) -> Any:
        index.set_ef(ef)  # set at each call (0.1 us), because the settings of a run share the index
        return index.knn_query(queries, problem.k, num_threads=problem.threads)

    ef = max(ef, problem.k)
    return Implementation(
        call=call,
        inputs=problem.batches(),
        read=lambda answer: answer[0].astype(np.int64),
        build_s=seconds,
        index_bytes=index.index_file_size(),
        min_recall=_MIN_RECALL,
        settings={"m": m, "ef_construction": ef_construction, "ef": ef},
    )


def _usearch(problem: Problem, ef: int, m: int, ef_construction: int) -> Implementation:
    from usearch.index import Index

    def build() -> Any:
        dim = problem.vectors.shape[1]
        index = Index(ndim=dim, metric="ip", dtype="bf16", connectivity=m, expansion_add=ef_construction)
        index.add(np.arange(len(problem.vectors)), problem.vectors, threads=problem.threads)
        return index

    name = f"usearch-{version('usearch')}-bf16-{m}-{ef_construction}-{problem.threads}"
    index, seconds = problem.kept_index(name, build, lambda index, path: index.save(path), Index.restore)

    def call(queries: Vectors) -> Any:
        index.expansion_search = ef  # set at each call, because the settings of a run share the index
        return index.search(queries, problem.k, threads=problem.threads)

    ef = max(ef, problem.k)
    return Implementation(
        call=call,
        inputs=problem.batches(),
        read=lambda answer: answer.keys.reshape(problem.batch, -1).astype(np.int64),
        build_s=seconds,
        index_bytes=index.memory_usage,
        min_recall=_MIN_RECALL,
        settings={"m": m, "ef_construction": ef_construction, "ef": ef, "dtype": "bf16"},
    )


def _padded(rows: Any, k: int) -> Any:
    """Results [batch, k] from one row or several, with -1 where fewer were found."""
    found = np.atleast_2d(np.asarray(rows).astype(np.int64))
    return np.pad(found, ((0, 0), (0, k - found.shape[1])), constant_values=-1)
