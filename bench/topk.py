"""The case score_topk: the best items of a catalogue by inner product, ours and peers' on the same vectors."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import lsif_sdk
from checks import agree, recall
from implementations import Builder, Case, Implementation, Quality, build_all, params_of
from own_model import own_vectors
from topk_approximate import approximate
from topk_filtered import filtered
from topk_peers import peers
from topk_problem import Problem, exact_scores, exact_top_k, make_problem

__all__ = ["score_topk"]


def score_topk(options: argparse.Namespace) -> Case:
    """With several interests, the peer is our own search with one, which shows the cost of multi-interest scoring."""
    torch.set_num_threads(options.threads)
    own = None
    if options.artifact or options.events:
        if options.interests > 1 or not (options.artifact and options.events):
            raise SystemExit("--artifact, --events: expected both, and one interest")
        own = functools.partial(own_vectors, options.artifact, options.events)
    problem = make_problem(
        num_items=options.num_items,
        dim=options.dim,
        data=options.data,
        batch=options.batch,
        num_interests=options.interests,
        k=options.k,
        threads=options.threads,
        kept=options.indexes,
        allowed=options.allowed,
        own=own,
    )
    builders: dict[str, Builder] = {
        "lsif": lambda _: _lsif(problem),
        "lsif_scan": lambda name: _lsif(problem, name, ordered=False),
        "lsif_recall": lambda name: _lsif_recall(problem, float(name.partition("@")[2] or options.target_recall)),
    }
    names = ["lsif"]
    if problem.allowed is not None:
        builders = filtered(problem)
        names = [*builders]
    elif options.interests > 1:
        builders["lsif_one"] = lambda _: _lsif_one(problem)
        names.append("lsif_one")
    else:
        exact = peers(problem)
        indexes = approximate(problem, options.target_recall, options.hnsw_m, options.hnsw_ef_construction)
        builders |= exact | indexes
        names += [*exact, *(["lsif_recall", *indexes] if options.approximate else [])]
    chosen = options.impl.split(",") if options.impl else names
    params = params_of(options, "num_items", "dim", "batch", "k", "data", "interests")
    if own is not None:
        num_items, dim = problem.vectors.shape
        params |= {"num_items": num_items, "dim": dim, "data": pathlib.Path(options.artifact).name}
    if problem.allowed is not None:
        params["allowed"] = options.allowed
    return Case(build_all(builders, chosen), params, lambda name, impl: quality(name, impl, problem))


def quality(name: str, implementation: Implementation, problem: Problem) -> Quality:
    """Recall, and how far the scores at any rank are below the exact ones, relative to the best score of all.

    Raises:
        SystemExit: an exact implementation is not exact, or an approximate one has less recall than it must.
    """
    interests, weights, exact = problem.interests, problem.weights, problem.exact
    if name == "lsif_one":
        interests, weights = np.ascontiguousarray(interests[:, :1]), None
        exact = exact_top_k(problem.vectors, interests, None, problem.k)
    found = np.concatenate(implementation.answers())
    if implementation.min_recall is None:
        agree(name, found, exact.indices)
    share = recall(found, exact.indices)
    if share < (implementation.min_recall or 0):
        raise SystemExit(f"{name}: recall {share:.3f}, below {implementation.min_recall}; nothing timed")
    scores = exact_scores(problem.vectors, interests, weights, np.maximum(found, 0))
    scores = -np.sort(-np.where(found >= 0, scores, -np.inf), axis=1)
    both = np.isfinite(scores)
    error = np.abs(scores[both] - exact.scores[both]).max() / np.abs(exact.scores).max()
    return Quality(max_error=float(error), recall=share)


def _lsif(problem: Problem, name: str = "lsif", ordered: bool | None = None) -> Implementation:
    def build() -> lsif_sdk.Catalog:
        return lsif_sdk.Catalog.from_vectors(problem.vectors, threads=problem.threads, ordered=ordered)

    catalog, seconds = problem.index(name, build)
    num_items, dim = problem.vectors.shape
    num_interests = problem.interests.shape[1]
    inputs: list[Any] = list(problem.batches())
    call: Callable[[Any], Any] = functools.partial(catalog.top_k, k=problem.k, threads=problem.threads)
    if problem.weights is not None:
        parts = len(problem.interests) // problem.batch
        interests = np.split(np.ascontiguousarray(problem.interests), parts)
        inputs = list(zip(interests, np.split(np.ascontiguousarray(problem.weights), parts), strict=True))

        call = functools.partial(_search, catalog, problem)

    return Implementation(
        call=call,
        inputs=inputs,
        read=lambda answer: answer.indices,
        # With ordered codes most are skipped; how many depends on the queries.
        bytes=None if catalog.is_ordered else catalog.code_bytes,
        flops=None if catalog.is_ordered else 2 * num_items * dim * problem.batch * num_interests,
        unit="int8",
        build_s=seconds,
        index_bytes=catalog.code_bytes + 4 * (dim + 1) * num_items,
    )


def _lsif_recall(problem: Problem, target: float) -> Implementation:
    """Calibrated on rows of the catalogue, not on the timed queries."""

    def build() -> lsif_sdk.Catalog:
        return lsif_sdk.Catalog.from_vectors(problem.vectors, threads=problem.threads, ordered=True)

    catalog, seconds = problem.index("lsif_recall", build)
    return Implementation(
        call=functools.partial(catalog.top_k, k=problem.k, threads=problem.threads, recall_target=target),
        inputs=list(problem.batches()),
        read=lambda answer: answer.indices,
        build_s=seconds,
        index_bytes=catalog.code_bytes + 4 * (problem.vectors.shape[1] + 1) * len(problem.vectors),
        min_recall=target / 2,  # the target holds for users distributed like the rows
        settings={"recall_target": target},
    )


def _search(
    catalog: lsif_sdk.Catalog, problem: Problem, queries: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
) -> lsif_sdk.TopK:
    return catalog.search(*queries, 1.0, problem.k, None, problem.threads)


def _lsif_one(problem: Problem) -> Implementation:
    first = np.ascontiguousarray(problem.interests[:, :1])
    return _lsif(dataclasses.replace(problem, interests=first, weights=None))
