"""What is timed: for each case the implementations by name, each a function of no arguments, and the work of one call.

Every case checks that its implementations agree before anything is timed. Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import importlib.util
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import lsif_sdk
from lsif_sdk.items import ItemTable
from lsif_sdk.model import InterestFusionModel
from measure import Run

__all__ = ["CASES", "Case"]


@dataclasses.dataclass(frozen=True)
class Case:
    """Implementations by name, and bytes and floating-point operations of one call of ours (0: not counted)."""

    runs: dict[str, Run]
    params: dict[str, Any]
    bytes: int = 0
    flops: int = 0


def mixture(num_items: int, dim: int, seed: int = 0) -> np.ndarray:
    """Item vectors as in recommendation: 256 clusters, norms log-normal. float32 [num_items, dim]."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((256, dim))
    vectors = centres[rng.integers(256, size=num_items)] + 0.5 * rng.standard_normal((num_items, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors * np.exp(0.3 * rng.standard_normal((num_items, 1)))).astype(np.float32)


def score_topk(options: argparse.Namespace) -> Case:
    """Exact top-K of a catalogue by inner product."""
    vectors = mixture(options.num_items, options.dim)
    queries = mixture(options.batch, options.dim, seed=1)
    catalog = lsif_sdk.Catalog.from_vectors(vectors)
    torch.set_num_threads(options.threads)
    items, users = torch.from_numpy(vectors), torch.from_numpy(queries)
    runs: dict[str, Callable[[], Any]] = {
        "lsif": lambda: catalog.top_k(queries, options.k, threads=options.threads).indices,
        "torch": lambda: torch.topk(users @ items.T, options.k).indices,
    }
    if importlib.util.find_spec("faiss"):
        runs["faiss_flat"] = _faiss_flat(vectors, queries, options)
    agree("score_topk", {name: np.asarray(run()) for name, run in runs.items()})
    code_bytes = catalog.code_bytes
    return Case(
        runs,
        {name: getattr(options, name) for name in ("num_items", "dim", "batch", "k")},
        bytes=code_bytes,
        flops=2 * options.num_items * options.dim * options.batch,
    )


def _faiss_flat(vectors: np.ndarray, queries: np.ndarray, options: argparse.Namespace) -> Run:
    import faiss

    faiss.omp_set_num_threads(options.threads)
    # Its best setting from 16 queries on: one BLAS call over all of them.
    faiss.cvar.distance_compute_blas_threshold = 1 if options.batch >= 16 else 20
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return lambda: index.search(queries, options.k)[1]


def random_model(options: argparse.Namespace, num_items: int) -> InterestFusionModel:
    """An untrained model of the size asked for: speed does not depend on the weights."""
    torch.manual_seed(0)
    config = lsif_sdk.ModelConfig(num_items=num_items, dim=options.dim, block=options.block, ffn_dim=4 * options.dim)
    return InterestFusionModel(config).eval()


def random_events(options: argparse.Namespace, num_items: int) -> dict[str, np.ndarray]:
    """Histories of `seq_len` events each, ragged layout, about an hour apart."""
    rng = np.random.default_rng(0)
    total = options.batch * options.seq_len
    gaps = rng.integers(1, 7200, size=(options.batch, options.seq_len))
    return {
        "items": rng.integers(num_items, size=total),
        "times": np.cumsum(gaps, axis=1).reshape(-1),
        "offsets": np.arange(options.batch + 1) * options.seq_len,
    }


def encode(options: argparse.Namespace) -> Case:
    """Histories to interests and fused vectors."""
    model = random_model(options, 10_000)
    recommender = recommender_of(model, options.threads)
    events = random_events(options, 10_000)
    items, times, offsets = events["items"], events["times"], events["offsets"]
    torch.set_num_threads(options.threads)
    tensors = {name: torch.from_numpy(values) for name, values in events.items()}

    def eager() -> Any:
        with torch.inference_mode():
            return model.encode(tensors["items"], tensors["times"], offsets=tensors["offsets"]).fused

    runs = {"lsif": lambda: recommender.encode_rows(items, times, None, offsets).fused, "torch": eager}
    close("encode", {name: np.asarray(run()) for name, run in runs.items()})
    return Case(runs, {name: getattr(options, name) for name in ("dim", "seq_len", "batch", "block")})


def recommend(options: argparse.Namespace) -> Case:
    """The whole request: external ids in, external ids out, seen items left out."""
    model = random_model(options, options.num_items)
    recommender = recommender_of(model, options.threads)
    events = random_events(options, options.num_items)
    histories = [
        lsif_sdk.Events(items.tolist(), times)
        for items, times in zip(
            events["items"].reshape(options.batch, -1), events["times"].reshape(options.batch, -1), strict=True
        )
    ]
    torch.set_num_threads(options.threads)
    tensors = {name: torch.from_numpy(values) for name, values in events.items()}
    users = torch.arange(options.batch).repeat_interleave(options.seq_len)
    vectors, bias = (part.detach() for part in model.catalog_rows())

    def eager() -> Any:
        with torch.inference_mode():
            fused = model.encode(tensors["items"], tensors["times"], offsets=tensors["offsets"]).fused
            scores = torch.addmm(bias, fused, vectors.T)
            scores[users, tensors["items"]] = -torch.inf
            return torch.topk(scores, options.k).indices

    runs = {"lsif": lambda: recommender.recommend(histories, options.k).items, "torch": eager}
    agree("recommend", {name: np.asarray(run(), np.int64) for name, run in runs.items()})
    return Case(runs, {name: getattr(options, name) for name in ("num_items", "dim", "seq_len", "batch", "k", "block")})


def load(options: argparse.Namespace) -> Case:
    """An artifact from disk (in the page cache) to ready."""
    recommender = recommender_of(random_model(options, options.num_items), options.threads)
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    recommender.save(f"{folder.name}/model")
    runs = {"lsif": lambda: lsif_sdk.Recommender.load(f"{folder.name}/model", threads=options.threads)}
    return Case(runs, {name: getattr(options, name) for name in ("num_items", "dim")})


def recommender_of(model: InterestFusionModel, threads: int) -> lsif_sdk.Recommender:
    """The native request path on a torch model's weights; ids are row numbers."""
    items = ItemTable(np.arange(model.config.num_items))
    return lsif_sdk.Recommender(lsif_sdk.Artifact(model.config, model.export_weights(), items), threads=threads)


def agree(case: str, results: dict[str, np.ndarray]) -> None:
    """Refuses to time implementations that differ in more than one result in a thousand (rounding-level ties)."""
    first, *others = results
    for other in others:
        different = np.mean(np.sort(results[first], axis=-1) != np.sort(results[other], axis=-1))
        if different > 1e-3:
            raise SystemExit(f"{case}: {first} and {other} differ in {different:.1%} of the results; nothing timed")


def close(case: str, results: dict[str, np.ndarray]) -> None:
    """Refuses to time implementations whose vectors differ by more than float32 rounding explains."""
    first, *others = results
    for other in others:
        error = np.abs(results[first] - results[other]).max() / np.abs(results[first]).max()
        if error > 1e-4:
            raise SystemExit(f"{case}: {first} and {other} differ by {error:.1e}; nothing timed")


CASES: dict[str, Callable[[argparse.Namespace], Case]] = {
    "score_topk": score_topk,
    "encode": encode,
    "recommend": recommend,
    "load": load,
}
