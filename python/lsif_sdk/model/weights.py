"""The artifact's tensors of a model, and a model's parameters from them (docs/model.md has names and shapes)."""

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

_VECTORS_TOLERANCE = 1e-2  # of the length: above the rounding of half precision, far below what other items have
_ENCODER = "encoder."
_RATE, _DECAY = "long_pooling.rate", "long_pooling.decay"
_INPUTS, _VECTORS = "item_embedding", "catalog.vectors"
_PENALTY = "catalog.penalty"  # which `Artifact.with_popularity_penalty` keeps: no part of a model
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
    """Gives a model the parameters that `exported` made `weights` from; see `InterestFusionModel.from_weights`."""
    config = model.config
    if config.has_two_tables != (_VECTORS in weights):
        raise ArtifactError(f"{_VECTORS}: expected {'a tensor' if config.has_two_tables else 'none'}")
    put(model, state_of(model, weights))
    if config.has_two_tables:
        _check_tables(model, weights)


def state_of(model: InterestFusionModel, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a model such as this one that `exported` made `weights` from, by name.

    Of two tables of items it is the one that the model holds, whether or not the other belongs to it.
    """
    derived = (_VECTORS, _DECAY, _PENALTY, *_TABLES)
    state = {name: value for name, value in weights.items() if name not in derived} | Repeats.steps(weights)
    if model.config.normalize_inputs:  # its direction is all of an embedding that this does not keep
        state[_INPUTS] = weights[_VECTORS]
    if _DECAY in weights:
        state[_RATE] = weights[_DECAY].to(torch.float64).sqrt()
    names = {name.removeprefix(_ENCODER): name for name in model.state_dict()}
    return {names.get(name, name): value for name, value in state.items()}


def put(model: InterestFusionModel, state: Mapping[str, Tensor]) -> None:
    """Gives a model a whole state; ArtifactError where it does not fit."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ArtifactError(f"weights do not fit the config: {error}") from error


@torch.no_grad()
def _check_tables(model: InterestFusionModel, weights: Mapping[str, Tensor]) -> None:
    """Refuses vectors and inputs that are not those the model makes of its one matrix."""
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
