"""A catalogue of vectors as an artifact, without a model of users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lsif_sdk.artifact import NO_ENCODER, Artifact, catalog_specs, encoder_specs
from lsif_sdk.config import ModelConfig
from lsif_sdk.errors import ArgumentError
from lsif_sdk.float_arrays import as_floats
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
    """The artifact of `Recommender.from_vectors`: an encoder of zeros, as small as one can be, which nobody may ask."""
    matrix = as_floats("vectors", vectors, 2)
    num_items, dim = matrix.shape
    if num_items < 1 or not 1 <= dim <= _MOST_ALONE:
        raise ArgumentError(
            "vectors", f"an item or more, of 1 to {_MOST_ALONE} dimensions", f"shape {list(matrix.shape)}"
        )
    if isinstance(ids, ItemTable) and titles is not None:
        raise ArgumentError("titles", "None beside an ItemTable", "titles")
    items = ids if isinstance(ids, ItemTable) else ItemTable(np.arange(num_items) if ids is None else ids, titles)
    if len(items) != num_items:
        raise ArgumentError("ids", f"{num_items} ids, one a row", len(items))
    config = ModelConfig(
        num_items=num_items, dim=dim, block="transformer", num_layers=1, num_heads=1, ffn_dim=1, window=1,
        num_long=0, num_short=0, pooling_dim=1, use_times=False,
    )  # fmt: skip
    tables = {"item_embedding", "catalog.vectors", "catalog.penalty"}
    weights = {
        name: torch.from_numpy(np.zeros(shape, dtype))
        for name, shape, dtype in encoder_specs(config) + catalog_specs(config)
        if name not in tables
    }
    weights["item_embedding"] = matrix
    if bias is not None:
        weights["catalog.bias"] = as_floats("bias", bias, 1)
        if len(weights["catalog.bias"]) != num_items:
            raise ArgumentError("bias", f"shape [{num_items}]", list(weights["catalog.bias"].shape))
    return Artifact(config, weights, items, {"encoder": NO_ENCODER})
