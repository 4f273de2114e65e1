"""Converts between a model's parameters and the tensors of an artifact (names and shapes: docs/model.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lsif_sdk.errors import ArtifactError
from lsif_sdk.model.repeats import Repeats

if TYPE_CHECKING:
    from lsif_sdk.model.model import InterestFusionModel

__all__ = ["exported", "load", "put", "state_of"]

_VECTORS_TOLERANCE = 1e-2  # of the length: above the rounding of half precision, far below distances between items
_ENCODER = "encoder."
_RATE, _DECAY = "long_pooling.rate", "long_pooling.decay"
_INPUTS, _VECTORS = "item_embedding", "catalog.vectors"
_PENALTY = "catalog.penalty"  # of `Artifact.with_popularity_penalty`, not part of a model
_STEPS, _TABLES = "_steps", ("repeats.distance", "repeats.age")


@torch.no_grad()
def exported(model: InterestFusionModel) -> dict[str, Tensor]:
    """See `InterestFusionModel.export_weights`."""
    config = model.config
    weights = {
        name.removeprefix(_ENCODER): value for name, value in model.state_dict().items() if not name.endswith(_STEPS)
    }
    if config.repeats:
        weights |= model.repeats.tables()
    if config.num_long > 0:
        del weights[_RATE]
        weights[_DECAY] = model.long_pooling.decay()
    if config.has_two_tables:
        weights[_VECTORS] = model.catalog_rows().vectors
        weights[_INPUTS] = model.inputs_of(model.item_embedding)
    return {
        name: value.to("cpu", torch.float32 if value.is_floating_point() else value.dtype).contiguous().clone()
        for name, value in weights.items()
    }


def load(model: InterestFusionModel, weights: Mapping[str, Tensor]) -> None:
    """The inverse of `exported`, into an existing model; see `InterestFusionModel.from_weights`."""
    config = model.config
    if config.has_two_tables != (_VECTORS in weights):
        raise ArtifactError(f"{_VECTORS}: expected {'a tensor' if config.has_two_tables else 'none'}")
    put(model, state_of(model, weights))
    if config.has_two_tables:
        _check_tables(model, weights)


def state_of(model: InterestFusionModel, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict from which `exported` made `weights`, for a model like this one.

    If there are two tables of items, it has the one that the model holds; the other is not compared.
    """
    derived = (_VECTORS, _DECAY, _PENALTY, *_TABLES)
    state = {name: value for name, value in weights.items() if name not in derived} | Repeats.steps(weights)
    if model.config.normalize_inputs:  # inputs have lost the length of embeddings
        state[_INPUTS] = weights[_VECTORS]
    if _DECAY in weights:
        state[_RATE] = weights[_DECAY].to(torch.float64).sqrt()
    names = {name.removeprefix(_ENCODER): name for name in model.state_dict()}
    return {names.get(name, name): value for name, value in state.items()}


def put(model: InterestFusionModel, state: Mapping[str, Tensor]) -> None:
    """Loads a whole state dict; ArtifactError if it does not fit."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ArtifactError(f"weights do not fit the config: {error}") from error


@torch.no_grad()
def _check_tables(model: InterestFusionModel, weights: Mapping[str, Tensor]) -> None:
    """Refuses vectors and inputs that differ from those that the model computes from its one matrix."""
    c = model.config
    tables = []
    if c.normalize_items:
        tables.append((_VECTORS, _INPUTS, model.catalog_rows().vectors, c.item_scale))
    if c.normalize_inputs:
        tables.append((_INPUTS, _VECTORS, model.inputs_of(model.item_embedding), c.dim**0.5))
    for name, other, expected, length in tables:
        got = weights[name].to(expected)
        fits = got.shape == expected.shape
        if not fits or not torch.allclose(got, expected, rtol=0, atol=_VECTORS_TOLERANCE * length):
            raise ArtifactError(f"{name}: expected the rows of {other} at length {length:g}")
