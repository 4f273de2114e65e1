"""Small catalogues, and batches of events over them, as lists."""

from __future__ import annotations

from typing import Any

from lsif_sdk import ItemTable
from lsif_sdk.event_batch import EventBatch

NUMBERS = ItemTable([10, 20, 30])
TEXTS = ItemTable(["a", "b", "数"])


def batch_of(histories: Any, table: ItemTable = NUMBERS, num_actions: int = 4) -> EventBatch:
    return EventBatch.from_histories(histories, table, num_actions)


def rows_of(batch: EventBatch, name: str = "items") -> list[list[int]]:
    values = getattr(batch, name)
    return [values[batch.offsets[b] : batch.offsets[b + 1]].tolist() for b in range(len(batch))]
