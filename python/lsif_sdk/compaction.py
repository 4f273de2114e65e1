"""A catalogue without the rows of removed items."""

from __future__ import annotations

import torch

from lsif_sdk.artifact import catalog_specs
from lsif_sdk.bitmaps import REMOVED
from lsif_sdk.errors import ArgumentError
from lsif_sdk.recommender import Recommender

__all__ = ["compacted"]


def compacted(recommender: Recommender) -> Recommender:
    """The same model, attributes and settings without the rows of removed items, with new codes.

    Remaining items keep their order and data. Since row numbers change, user states have to be made anew, and events of
    removed items become unknown.

    Raises:
        ArgumentError: no item would be left.
    """
    until = recommender.items.until
    if until is None or not (until == REMOVED).any():
        return recommender
    rows = (until != REMOVED).nonzero()[0]
    if not len(rows):
        raise ArgumentError("compact", "at least one item that is not removed", f"{len(until)} removed items")
    per_item = {"item_embedding", *(name for name, _, _ in catalog_specs(recommender.config))}
    weights = {
        name: torch.from_numpy(weight.detach().numpy()[rows]) if name in per_item else weight
        for name, weight in recommender.artifact.weights.items()
    }
    result = Recommender(
        recommender.artifact.edited(weights, recommender.items.of_rows(rows)),
        threads=recommender.threads or None,
        batching=recommender._batching,
        precision=recommender.precision,
        device=recommender.device,
    )
    result._attributes = recommender.attributes.of_rows(rows)
    result._calibration = recommender._calibration
    return result
