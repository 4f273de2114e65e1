"""Models so small that thousands of damaged ones can be tried per second, and checks of their answers."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from lsif_sdk import Artifact, ItemTable, ModelConfig, Recommendations, Recommender
from native import random_weights

torch.set_num_threads(1)  # several threads would mostly wait for each other

NUM_ITEMS = 6
INTEGER_IDS = [5, -(2**63), 2**63 - 1, 0, 7, 8]
STRING_IDS = ["a", "b", "naïve", "数", "e", ""]
_SHAPE: dict[str, Any] = {
    "num_items": NUM_ITEMS, "dim": 4, "num_layers": 1, "num_heads": 2, "ffn_dim": 3, "window": 3, "num_long": 1,
    "num_short": 1, "short_window": 2, "pooling_dim": 2, "fusion_dim": 2, "num_time_boundaries": 3,
}  # fmt: skip
_VARIANTS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "request_time": True, "num_actions": 2, "normalize_items": True, "item_scale": 2.0},
    {"block": "transformer", "scoring": "multi_interest", "temperature": 0.7, "num_long": 2},
    {"repeats": True, "request_time": True, "scoring": "multi_interest"},
    {"block": "transformer", "use_times": False, "num_long": 0, "num_short": 0, "repeats": True},
]
ATTRIBUTES: dict[str, Any] = {
    "price": [1.5, float("nan"), 3.0, 0.0, -2.0, 1e300],
    "year": [1990, 1991, 1992, 1990, 2**62, -1],
    "kind": ["film", "book", None, "film", "", "book"],
    "genres": [["x", "y"], [], ["x"], ["z"], ["y"], ["x", "z"]],
}
NUM_MODELS = len(_VARIANTS)


def config(variant: int) -> ModelConfig:
    return ModelConfig(**{**_SHAPE, **_VARIANTS[variant]})


@functools.cache
def artifact(variant: int) -> Artifact:
    shape = config(variant)
    ids: list[Any] = STRING_IDS if variant % 2 else INTEGER_IDS
    titles = ["x", "", "Amélie", "日", "e", "f"] if variant == 1 else None
    table = ItemTable(ids, titles, np.array([5, 4, 3, 2, 1, 0]))
    return Artifact(shape, random_weights(shape, seed=variant), table, {"source": "test"}, {"ndcg": 0.5})


@functools.cache
def recommender(variant: int) -> Recommender:
    return new_recommender(variant)


def new_recommender(variant: int) -> Recommender:
    return Recommender(artifact(variant), threads=1, batching=variant == 2, attributes=ATTRIBUTES)


def check_answer(out: Recommendations, model: Recommender, batch: int, k: int) -> None:
    """Checks what holds for every answer of `recommend`: shapes, counts, known items, none twice, finite scores."""
    assert out.items.shape == out.scores.shape == (batch, k)
    assert out.counts.shape == out.long_share.shape == out.unknown.shape == out.fallback.shape == (batch,)
    assert np.isfinite(out.scores).all(), "scores are not finite"
    assert np.isfinite(out.long_share).all(), "long_share is not finite"
    assert ((out.counts >= 0) & (out.counts <= min(k, len(model.items)))).all()
    known = set(model.items.ids.tolist())
    for user, count in enumerate(out.counts):
        items = out.items[user].tolist()
        assert len(set(items[:count])) == count and known.issuperset(items[:count])
        assert set(items[count:]) <= {None, -1} and not out.scores[user, count:].any()
