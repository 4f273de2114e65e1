"""Families of item vectors, and the float64 oracle that `Catalog.top_k` is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lsif_sdk import TopK

Excluded = Sequence[Sequence[int]]


def gaussian(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(n, d))


def clustered(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(7, d))[rng.integers(7, size=n)] + 1e-3 * rng.normal(size=(n, d))


def heavy_tailed(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_t(1.2, size=(n, d))


def duplicate(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(-3, 4, size=(max(1, n // 5), d))[rng.integers(max(1, n // 5), size=n)]


def constant(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return np.full((n, d), 3.0)


def zero(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return np.zeros((n, d))


def huge(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return 1e20 * rng.normal(size=(n, d))


def tiny(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return 1e-20 * rng.normal(size=(n, d))


def mixed(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return (
        rng.normal(size=(n, d)) * 10.0 ** rng.integers(-20, 18, size=(n, 1)) * 10.0 ** rng.integers(-3, 4, size=(1, d))
    )


def subnormal(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return 1e-41 * rng.normal(size=(n, d))


FAMILIES = (gaussian, clustered, heavy_tailed, duplicate, constant, zero, huge, tiny, mixed, subnormal)
# Their sums are exact in float64, so that even equal scores have one right order.
EXACT = (duplicate, constant, zero)


def assert_exact(
    result: TopK,
    vectors: np.ndarray,
    bias: np.ndarray | None,
    queries: np.ndarray,
    k: int,
    exclude: Excluded | None = None,
) -> None:
    """`result` is the float64 oracle's top k; they may only differ by the rounding of the two sums."""
    x, q = vectors.astype(np.float64), queries.astype(np.float64)
    b = np.zeros(len(x)) if bias is None else bias.astype(np.float64)
    scores = q @ x.T + b
    # Two float64 sums in any order, and one rounding to float32 (2^-24 of the score, or half the least subnormal).
    sums = 1e-15 * (x.shape[1] + 2) * (np.abs(q) @ np.abs(x).T + np.abs(b))
    slack = sums + 2.0**-24 * np.abs(scores) + 2.0**-150
    assert result.scores.shape == result.indices.shape == (len(q), k)
    assert (result.scores.dtype, result.indices.dtype, result.counts.dtype) == (np.float32, np.int64, np.int64)
    for query in range(len(q)):
        allowed = np.ones(len(x), np.bool_)
        allowed[list(exclude[query] if exclude is not None else [])] = False
        count = min(k, int(allowed.sum()))
        assert result.counts[query] == count
        got, rows = result.scores[query, :count], result.indices[query, :count]
        assert (result.indices[query, count:] == -1).all()
        assert (result.scores[query, count:] == 0).all()
        assert allowed[rows].all()
        assert len(np.unique(rows)) == count
        assert (np.abs(got - scores[query, rows]) <= slack[query, rows]).all()
        assert (np.lexsort((rows, -got)) == np.arange(count)).all(), "not by score, then by row"
        allowed[rows] = False
        if count and allowed.any():
            left = np.flatnonzero(allowed)
            assert (scores[query, left] - slack[query, left] <= got[-1]).all(), "a better row was left out"


def assert_same(a: TopK, b: TopK) -> None:
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left.view(np.int32 if left.dtype == np.float32 else None), right.view(
            np.int32 if right.dtype == np.float32 else None
        ))  # fmt: skip


def random_case(
    family: Callable[..., np.ndarray], n: int, d: int, batch: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """float32 vectors [n, d] of a family, and queries [batch, d] of the same kind whose scores fit float32."""
    rng = np.random.default_rng([seed, n, d])
    vectors = np.clip(family(n, d, rng), -1e30, 1e30).astype(np.float32)
    likely = heavy_tailed if family is heavy_tailed else duplicate if family in EXACT else gaussian
    return vectors, np.clip(likely(batch, d, rng), -1e4, 1e4).astype(np.float32)
