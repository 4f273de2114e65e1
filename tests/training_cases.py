"""A log that any model can learn, a small model and a short training, for tests of the trainer."""

from __future__ import annotations

import numpy as np
import torch

from lsif_sdk.config import ModelConfig
from lsif_sdk.model import InterestFusionModel
from lsif_sdk.training import EventLog, Targets, TrainConfig
from lsif_sdk.training.batches import Batch, Sequences

NUM_ITEMS = 12


def cyclic_log(num_users: int = 40, seed: int = 0, max_length: int = 12, step: int = 1) -> EventLog:
    """Users walk around the catalogue: the next item is always the last one plus `step`."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, max_length + 1, num_users)
    lengths[:2] = (0, max_length)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    position = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    items = (np.repeat(rng.integers(NUM_ITEMS, size=num_users), lengths) + step * position) % NUM_ITEMS
    return EventLog(
        user_ids=np.arange(num_users),
        item_ids=[f"item {i}" for i in range(NUM_ITEMS)],
        offsets=offsets,
        items=items,
        times=np.sort(rng.integers(1, 10**6, offsets[-1])),
        actions=rng.integers(0, 3, offsets[-1]),
    )


def all_batches(sequences: Sequences, seed: int = 0) -> list[Batch]:
    return list(sequences.batches(np.random.default_rng(seed)))


def following(log: EventLog, step: int = 1) -> Targets:
    last = [log.user(row).items[-1:] for row in range(log.num_users)]
    return Targets(np.array([(items[0] + step) % NUM_ITEMS if len(items) else -1 for items in last]), None)


def small_config(**changes: object) -> ModelConfig:
    values: dict[str, object] = {
        "num_items": NUM_ITEMS, "dim": 8, "num_layers": 1, "window": 5, "num_long": 2, "num_short": 1, "pooling_dim": 4,
        "fusion_dim": 4, "ffn_dim": 8, "num_actions": 2,
    }  # fmt: skip
    return ModelConfig(**{**values, **changes})  # type: ignore[arg-type]


FAST = TrainConfig(epochs=4, batch_size=8, max_len=6, dropout=0.2, learning_rate=5e-3, warmup_steps=3)


def assert_same_weights(first: InterestFusionModel, second: InterestFusionModel) -> None:
    other = second.state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(value, other[name]), name
