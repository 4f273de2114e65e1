"""A top-K problem: catalogue, queries and the exact answer, computed as no implementation under test does it."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Data", "Exact", "Problem", "Vectors", "exact_scores", "exact_top_k", "make_problem", "sample"]

Vectors = npt.NDArray[np.float32]
Data = Literal["clustered", "isotropic", "unit"]

_CLUSTERS = 256
_NUM_QUERIES = 256  # taken in turn at batch 1, so that the rows a query touches do not stay in the caches
_BLOCK = 1 << 14
_SPARE = 16  # extra candidates, because float32 may have put the k best in the wrong order


@dataclasses.dataclass(frozen=True)
class Exact:
    """The k best rows of each query by (score descending, row ascending): float64 and int64 [num_queries, k]."""

    scores: npt.NDArray[np.float64]
    indices: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Problem:
    """The data that implementations are made from.

    vectors: float32 [num_items, dim]. interests: float32 [num_queries, num_interests, dim]. weights: float32
    [num_queries, num_interests], None for one interest. indexes: built ones by name; different settings share them.
    allowed: rows that may be found, ascending, int64; None: all.
    """

    vectors: Vectors
    interests: Vectors
    weights: Vectors | None
    batch: int
    k: int
    threads: int
    exact: Exact
    kept: pathlib.Path | None = None
    allowed: npt.NDArray[np.int64] | None = None
    indexes: dict[str, tuple[Any, float]] = dataclasses.field(default_factory=dict)

    def batches(self) -> list[Vectors]:
        """The first interest of the queries, [batch, dim] each; single-interest implementations use only this."""
        return [
            np.ascontiguousarray(part[:, 0]) for part in np.split(self.interests, len(self.interests) // self.batch)
        ]

    def index(self, name: str, build: Callable[[], Any]) -> tuple[Any, float]:
        """The index of that name, built at the first call, and the seconds that took."""
        if name not in self.indexes:
            started = time.perf_counter()
            built = build()
            self.indexes[name] = built, time.perf_counter() - started
        return self.indexes[name]

    def kept_index(
        self, name: str, build: Callable[[], Any], save: Callable[[Any, str], Any], load: Callable[[str], Any]
    ) -> tuple[Any, float]:
        """As `index`, but read from the folder if it was built before from the same vectors and with the same name.

        So the name must contain all settings, and the version of the peer.
        """
        if self.kept is None or name in self.indexes:
            return self.index(name, build)
        path = self.kept / f"{name}-{hashlib.sha256(self.vectors.data).hexdigest()[:16]}"
        seconds = path.with_name(f"{path.name}.seconds")  # not with_suffix: a version in the name has dots
        if seconds.exists():
            self.indexes[name] = load(str(path)), float(seconds.read_text())
        else:
            self.kept.mkdir(parents=True, exist_ok=True)
            built, took = self.index(name, build)
            save(built, str(path))
            seconds.write_text(str(took))
        return self.indexes[name]


def sample(count: int, dim: int, data: Data, seed: int) -> Vectors:
    """Vectors as in recommendation, float32 [count, dim]: log-normal norms; directions in 256 clusters, or uniform.

    "unit" has uniform directions and norms of 1: neither clusters nor norms distinguish rows. The clusters are the same
    for every seed, so that users' vectors are near those of items.
    """
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, dim), dtype=np.float32)
    if data == "clustered":
        centres = np.random.default_rng(_CLUSTERS).standard_normal((_CLUSTERS, dim), dtype=np.float32)
        vectors *= 0.5
        vectors += centres[rng.integers(_CLUSTERS, size=count)]
    norms = np.exp(0.3 * rng.standard_normal((count, 1), dtype=np.float32)) if data != "unit" else 1
    vectors *= norms / np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def make_problem(
    *,
    num_items: int,
    dim: int,
    data: Data,
    batch: int,
    num_interests: int,
    k: int,
    threads: int,
    kept: pathlib.Path | None = None,
    allowed: float = 1.0,
    own: Callable[[int], tuple[Vectors, Vectors]] | None = None,
) -> Problem:
    """The problem of the size that the command line asks for.

    allowed: the share of items that may be found; they are drawn at random. own: returns items and the given number of
    queries with one interest, in place of random ones.
    """
    num_queries = batch * max(1, _NUM_QUERIES // batch)
    if own is None:
        vectors = sample(num_items, dim, data, seed=0)
        interests = sample(num_queries * num_interests, dim, data, seed=1)
    else:
        vectors, interests = own(num_queries)
        num_items, dim = vectors.shape
    interests = interests.reshape(num_queries, num_interests, dim)
    weights = None
    if num_interests > 1:
        weights = np.random.default_rng(2).dirichlet(np.ones(num_interests), num_queries).astype(np.float32)
    if allowed == 1:
        exact = exact_top_k(vectors, interests, weights, k)
        return Problem(vectors, interests, weights, batch, k, threads, exact, kept)
    rows = np.sort(np.random.default_rng(3).permutation(num_items)[: max(k, round(allowed * num_items))])
    exact = exact_top_k(vectors[rows], interests, weights, k)
    exact = dataclasses.replace(exact, indices=rows[exact.indices])
    return Problem(vectors, interests, weights, batch, k, threads, exact, kept, rows)


def _combine(products: torch.Tensor, weights: Vectors | None) -> torch.Tensor:
    """Scores [num_queries, rows] of products [num_queries, num_interests, rows]: docs/model.md, 5, at temperature 1."""
    if weights is None:
        return products[:, 0]
    return torch.logsumexp(products + torch.from_numpy(weights).to(products.dtype).log()[..., None], dim=1)


def exact_scores(
    vectors: Vectors, interests: Vectors, weights: Vectors | None, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Float64 scores of some rows per query: int64 [num_queries, count] -> float64 of the same shape."""
    candidates = torch.from_numpy(vectors[rows]).double()
    products = torch.from_numpy(interests).double() @ candidates.transpose(1, 2)
    scores: npt.NDArray[np.float64] = _combine(products, weights).numpy()
    return scores


def exact_top_k(vectors: Vectors, interests: Vectors, weights: Vectors | None, k: int) -> Exact:
    """Finds candidates in float32, in blocks of rows, and ranks them in float64."""
    users, items = torch.from_numpy(interests), torch.from_numpy(vectors)
    scores, rows = [], []
    for begin in range(0, len(vectors), _BLOCK):
        block = items[begin : begin + _BLOCK]
        best = _combine(users @ block.T, weights).topk(min(k + _SPARE, len(block)))
        scores.append(best.values)
        rows.append(best.indices + begin)
    best = torch.cat(scores, dim=1).topk(min(k + _SPARE, len(vectors)))
    indices = torch.cat(rows, dim=1).gather(1, best.indices).sort(dim=1).values.numpy()
    exact = exact_scores(vectors, interests, weights, indices)
    order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    return Exact(np.take_along_axis(exact, order, axis=1), np.take_along_axis(indices, order, axis=1))
