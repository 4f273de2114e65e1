"""score_topk where a filter allows only some of the items: ours uses a bitmap, peers their own means."""

from __future__ import annotations

import functools
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import lsif_sdk
from implementations import Builder, Implementation
from lsif_sdk.bitmaps import as_bitmap
from topk_problem import Problem, Vectors

__all__ = ["filtered"]

_TRIES = 8  # of each setting; the fastest one counts


def filtered(problem: Problem) -> dict[str, Builder]:
    """Builders by name. The first is ours; the last has a copy of the allowed vectors, made before the timing."""
    return {
        "lsif": lambda name: _lsif(problem, name),
        "torch_mask": lambda _: _torch_mask(problem),
        "torch_gather": lambda _: _torch_gather(problem),
        "faiss_selector": lambda name: _faiss_selector(problem, name),
        "torch_subset": lambda _: _torch_subset(problem),
    }


def _holds(problem: Problem) -> np.ndarray[Any, np.dtype[np.bool_]]:
    holds = np.zeros(len(problem.vectors), np.bool_)
    holds[problem.allowed] = True
    return holds


def _lsif(problem: Problem, name: str) -> Implementation:
    def build() -> lsif_sdk.Catalog:
        return lsif_sdk.Catalog.from_vectors(problem.vectors, threads=problem.threads)

    catalog, seconds = problem.index(name, build)
    bitmaps = [as_bitmap(_holds(problem))] * problem.batch
    search = functools.partial(catalog.search, allowed=bitmaps)
    return Implementation(
        call=lambda queries: search(queries, None, 1.0, problem.k, None, problem.threads),
        inputs=problem.batches(),
        read=lambda answer: answer.indices,
        build_s=seconds,
    )


def _of_torch(problem: Problem, call: Any) -> Implementation:
    return Implementation(
        call=torch.inference_mode()(call),
        inputs=[torch.from_numpy(queries) for queries in problem.batches()],
        read=lambda answer: answer.numpy(),
    )


def _torch_mask(problem: Problem) -> Implementation:
    columns = torch.from_numpy(problem.vectors).T
    mask = torch.from_numpy(np.where(_holds(problem), 0, -np.inf).astype(np.float32))
    return _of_torch(problem, lambda queries: torch.topk(torch.addmm(mask, queries, columns), problem.k).indices)


def _torch_gather(problem: Problem) -> Implementation:
    vectors, rows = torch.from_numpy(problem.vectors), torch.from_numpy(problem.allowed)
    return _of_torch(problem, lambda queries: rows[torch.topk(queries @ vectors[rows].T, problem.k).indices])


def _torch_subset(problem: Problem) -> Implementation:
    columns, rows = torch.from_numpy(problem.vectors[problem.allowed]).T, torch.from_numpy(problem.allowed)
    return _of_torch(problem, lambda queries: rows[torch.topk(queries @ columns, problem.k).indices])


def _faiss_selector(problem: Problem, name: str) -> Implementation:
    import faiss

    faiss.omp_set_num_threads(problem.threads)

    def build() -> Any:
        index = faiss.IndexFlatIP(problem.vectors.shape[1])
        index.add(problem.vectors)
        return index

    index, seconds = problem.index(name, build)
    inputs = problem.batches()

    def search(selector: Any) -> Callable[[Vectors], Any]:
        parameters = faiss.SearchParameters(sel=selector)
        return lambda queries: index.search(queries, problem.k, params=parameters)

    def tried(call: Callable[[Vectors], Any]) -> float:
        return min(timeit.repeat(lambda: call(inputs[0]), number=1, repeat=_TRIES))

    of_rows = search(faiss.IDSelectorArray(problem.allowed))  # scores only these; a bitmap is tested for every row
    of_bits = search(faiss.IDSelectorBitmap(np.packbits(_holds(problem), bitorder="little")))
    call = min((of_rows, of_bits), key=tried)
    return Implementation(
        call=call,
        inputs=inputs,
        read=lambda answer: answer[1],
        build_s=seconds,
        settings={"array": call is of_rows},
    )
