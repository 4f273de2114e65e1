"""Small event logs and a slow rank function, for tests of splits, metrics and evaluation."""

from __future__ import annotations

import numpy as np

from lsif_sdk.evaluation.metrics import MISSED
from lsif_sdk.event_log import EventLog


def make_log(histories, num_items, **columns):
    """Events with times 100, 101, ... over all users, and action types 1, 2, 1, 2, ..."""
    lengths = [len(history) for history in histories]
    total = sum(lengths)
    columns = {"times": 100 + np.arange(total), "actions": 1 + np.arange(total) % 2} | columns
    return EventLog(
        user_ids=[f"u{u}" for u in range(len(histories))],
        item_ids=columns.pop("item_ids", [f"i{i}" for i in range(num_items)]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.array([item for history in histories for item in history], dtype=np.int64),
        **columns,
    )


def random_log(seed, num_users=40, num_items=25, max_length=12):
    rng = np.random.default_rng(seed)
    histories = [rng.integers(num_items, size=rng.integers(1, max_length + 1)) for _ in range(num_users)]
    return make_log(histories, num_items)


def slow_rank(scores, target, seen):
    if target in seen or scores[target] == -np.inf:
        return MISSED
    better = [item for item in range(len(scores)) if item != target and item not in seen]
    return 1 + sum(float(scores[item]) >= float(scores[target]) for item in better)
