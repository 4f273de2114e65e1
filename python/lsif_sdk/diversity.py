"""Diverse lists by maximal marginal relevance (Carbonell and Goldstein 1998)."""

from __future__ import annotations

import math
import time

import numpy as np
import numpy.typing as npt

__all__ = ["diversified", "diversify", "num_candidates"]

_CANDIDATES_PER_RESULT = 10
_LEAST_CANDIDATES = 100
_ONE_THREAD = 8192
"""Elements of a matrix; NumPy's OpenBLAS was seen to start threads only from 460,000."""


def num_candidates(k: int, num_items: int) -> int:
    """From how many of the best items k items are chosen."""
    return min(num_items, max(_CANDIDATES_PER_RESULT * k, _LEAST_CANDIDATES))


def diversify(
    scores: npt.NDArray[np.float32],
    vectors: npt.NDArray[np.float32],
    k: int,
    diversity: float,
    seconds: float = math.inf,
) -> tuple[npt.NDArray[np.int64], bool]:
    """Chooses k of n candidates one after another, each time the one with the largest

        (1 - diversity) relevance - diversity max cosine with those chosen before,

    where the relevance is the score, scaled to [0, 1] over the candidates. Ties go to the better score.

    Args:
        scores: [n], not ascending.
        vectors: vectors of the candidates [n, dim].
        k: how many to choose; at most n are.
        diversity: 0 keeps the order, 1 considers only the similarity.
        seconds: time limit, after which the rest of the k are taken by score.

    Returns:
        positions int64 [min(k, n)], in the order chosen; whether the time limit cut the choice short.
    """
    end = time.perf_counter() + seconds
    spread = np.float64(scores[0]) - scores[-1] if len(scores) else 0.0
    relevance = (scores.astype(np.float64) - scores[-1:]) / spread if spread > 0 else np.ones(len(scores))
    directions = vectors.astype(np.float64)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    blocks = _in_blocks(directions)
    nearest = np.zeros(len(scores))
    chosen = np.zeros(min(k, len(scores)), np.int64)
    left = np.ones(len(scores), np.bool_)
    for place in range(len(chosen)):
        if time.perf_counter() >= end:
            chosen[place:] = left.nonzero()[0][: len(chosen) - place]
            return chosen, max(place, 1) < len(chosen)  # the first one is always the best by score
        value = np.where(left, (1 - diversity) * relevance - diversity * nearest, -np.inf)
        best = int(value.argmax())
        chosen[place], left[best] = best, False
        similarity = (blocks @ directions[best]).reshape(-1)[: len(scores)]
        nearest = similarity if place == 0 else np.maximum(nearest, similarity)
    return chosen, False


def _in_blocks(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The matrix as [num_blocks, rows, dim], with zeros at the end. A product with one block is too small for OpenBLAS
    to use threads, which on a busy machine wait for each other for milliseconds."""
    rows = max(1, min(len(matrix), _ONE_THREAD // matrix.shape[1]))
    padded = np.zeros((-(-len(matrix) // rows) * rows, matrix.shape[1]))
    padded[: len(matrix)] = matrix
    return padded.reshape(-1, rows, matrix.shape[1])


def diversified(
    vectors: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    k: int,
    diversity: float,
    seconds: float = math.inf,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64], bool]:
    """`diversify` for a batch of answers.

    Args:
        vectors: of the catalogue [num_items, dim].
        scores: of the candidates [batch, n].
        rows: of the candidates in the catalogue int64 [batch, n].
        counts: candidates of each user int64 [batch].
        k: results per user.
        diversity: see `diversify`.
        seconds: time limit for all users together; see `diversify`.

    Returns:
        scores [batch, k], 0 past counts; rows [batch, k], -1 past counts; counts [batch]; whether the time limit cut
        the choice short.
    """
    end, is_late = time.perf_counter() + seconds, False
    few_scores, few_rows = np.zeros((len(counts), k), np.float32), np.full((len(counts), k), -1, np.int64)
    for user, count in enumerate(counts):
        left = end - time.perf_counter()
        if left <= 0:  # does not read vectors that would not be used
            chosen, is_cut = np.arange(min(k, count)), min(k, count) > 1
        else:
            chosen, is_cut = diversify(scores[user, :count], vectors[rows[user, :count]], k, diversity, left)
        is_late |= is_cut
        few_scores[user, : len(chosen)] = scores[user, chosen]
        few_rows[user, : len(chosen)] = rows[user, chosen]
    return few_scores, few_rows, np.minimum(counts, k), is_late
