"""A `LiveRecommender` to change, and what its snapshots must equal."""

from __future__ import annotations

from typing import Any

import numpy as np

from lsif_sdk import Artifact, ItemTable, LiveRecommender, Recommender
from recommender_cases import IDS, NUM_ITEMS, build

DIM = 16
HISTORY = [IDS[3], IDS[38], IDS[7]]
TITLES = [f"Title {row}" for row in range(NUM_ITEMS)]


def vectors_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


def live_of(**changes: Any) -> LiveRecommender:
    return LiveRecommender(build(dim=DIM, titles=TITLES, **changes), keep=3)


def from_scratch(recommender: Recommender) -> Recommender:
    """A recommender with the same weights and items, with codes, ids and native objects built again."""
    a, table = recommender.artifact, recommender.items
    until = None if table.until is None else table.until.copy()
    items = ItemTable(table.ids, table.titles, table.counts, until)
    return Recommender(Artifact(a.config, {name: w.clone() for name, w in a.weights.items()}, items))


def answers(recommender: Recommender, history: Any = HISTORY, **options: Any) -> list[tuple[Any, float]]:
    return list(recommender.recommend(history, k=2 * NUM_ITEMS, **options)[0])
