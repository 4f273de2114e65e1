"""A small recommender with random weights, for tests of its interface."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from lsif_sdk import Artifact, ItemTable, ModelConfig, Recommendations, Recommender
from native import random_weights

NUM_ITEMS = 40
IDS = [f"i{row}" for row in range(NUM_ITEMS)]
HISTORIES: list[Any] = [["i3", "i9", "i3"], ["i1"], [], ["i7", "new", "i8", "i30"]]


def build(scoring: str = "fused", ids: Any = IDS, titles: Any = None, seed: int = 1, **fields: Any) -> Recommender:
    shape = {"dim": 12, "num_layers": 1, "window": 5, "ffn_dim": 8} | fields
    config = ModelConfig(num_items=NUM_ITEMS, scoring=scoring, temperature=0.7, **shape)
    counts = np.arange(NUM_ITEMS)[::-1].copy()
    return Recommender(Artifact(config, random_weights(config, seed), ItemTable(ids, titles, counts)))


def same(a: Recommendations, b: Recommendations) -> bool:
    """Whether two answers agree bit by bit."""
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(Recommendations))
