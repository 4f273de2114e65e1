"""An artifact of item vectors alone, without an encoder of users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lsif_sdk.artifact import NO_ENCODER, Artifact, catalog_specs, encoder_specs
from lsif_sdk.catalog import checked_items
from lsif_sdk.config import ModelConfig
from lsif_sdk.errors import ArgumentError
from lsif_sdk.ids import Id
from lsif_sdk.items import ItemTable

__all__ = ["items_alone"]

_MOST_ALONE = 4096  # dimensions: the encoder of zeros takes 16 dim^2 bytes, in memory and in the file


def items_alone(
    vectors: torch.Tensor | npt.ArrayLike,
    ids: Sequence[Id] | npt.NDArray[Any] | ItemTable | None,
    bias: torch.Tensor | npt.ArrayLike | None,
    titles: Sequence[str] | None,
) -> Artifact:
    """The artifact of `Recommender.from_vectors`, with the smallest possible encoder, of zeros, which is never used."""
    matrix, offsets, items = checked_items(vectors, ids, bias)
    num_items, dim = matrix.shape
    if num_items < 1 or dim > _MOST_ALONE:
        expected = f"an item or more, of 1 to {_MOST_ALONE} dimensions"
        raise ArgumentError("vectors", expected, f"shape {list(matrix.shape)}")
    if titles is not None:
        if isinstance(ids, ItemTable):
            raise ArgumentError("titles", "None beside an ItemTable", "titles")
        items = ItemTable(items.ids, titles)
    config = ModelConfig(
        num_items=num_items, dim=dim, block="transformer", num_layers=1, num_heads=1, ffn_dim=1, window=1,
        num_long=0, num_short=0, pooling_dim=1, use_times=False,
    )  # fmt: skip
    tables = {"item_embedding", "catalog.bias", "catalog.vectors", "catalog.penalty"}
    weights = {
        name: torch.from_numpy(np.zeros(shape, dtype))
        for name, shape, dtype in encoder_specs(config) + catalog_specs(config)
        if name not in tables
    }
    weights |= {"item_embedding": matrix, "catalog.bias": offsets}
    return Artifact(config, weights, items, {"encoder": NO_ENCODER})
