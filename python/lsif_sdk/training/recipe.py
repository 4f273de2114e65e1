"""Recipes: the settings of a training, from JSON files and overrides."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError
from lsif_sdk.training.config import MODEL_FIELDS, TrainConfig, meant

__all__ = ["Recipe", "load_recipe"]

_TRAIN_FIELDS = {field.name for field in dataclasses.fields(TrainConfig)}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of a training: fields of `ModelConfig` (except `num_items`, which the data decides) and a `TrainConfig`.

    Raises:
        ArgumentError: a model field is unknown.
        ArgumentTypeError: `model` is not a mapping, or `training` is not a `TrainConfig`.
    """

    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: TrainConfig = dataclasses.field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if not isinstance(self.model, Mapping):
            raise ArgumentTypeError("model", "a mapping of fields of ModelConfig", self.model)
        if not isinstance(self.training, TrainConfig):
            raise ArgumentTypeError("training", "a TrainConfig", self.training)
        if "num_items" in self.model:
            raise ArgumentError("model", "no num_items, which the events decide", self.model["num_items"])
        if unknown := sorted(set(self.model) - MODEL_FIELDS, key=str):
            hint = "; that belongs to training" if set(unknown) <= _TRAIN_FIELDS else ""
            expected = f"fields of ModelConfig ({', '.join(sorted(MODEL_FIELDS))})"
            raise ArgumentError("model", expected, f"unknown {unknown}{hint or meant(unknown[0], MODEL_FIELDS)}")


def load_recipe(path: str | os.PathLike[str] | None = None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Reads a JSON object {"model": {...}, "training": {...}}; missing fields have their defaults.

    Args:
        path: the JSON file; None: all defaults.
        overrides: fields of either part by name, which replace those of the file.

    Raises:
        ArgumentError: a field is unknown or out of range.
        ArgumentTypeError: an argument or a field is of the wrong type.
        DataError: the file cannot be read or is not such an object.
    """
    if not isinstance(path, (str, os.PathLike, type(None))):
        raise ArgumentTypeError("path", "a JSON file's path, or None", path)
    if not isinstance(overrides, (Mapping, type(None))):
        raise ArgumentTypeError("overrides", "a mapping of fields to values, or None", overrides)
    values: dict[str, dict[str, Any]] = {"model": {}, "training": {}}
    if path is not None:
        try:
            recipe = json.loads(pathlib.Path(path).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not a readable recipe: {error}") from error
        if not isinstance(recipe, dict) or not all(isinstance(part, dict) for part in recipe.values()):
            raise DataError(f"{path}: expected objects 'model' and 'training'")
        if unknown := sorted(set(recipe) - set(values)):
            raise DataError(f"{path}: expected only 'model' and 'training', got {unknown}")
        values |= recipe
    for name, value in (overrides or {}).items():
        if name not in MODEL_FIELDS | _TRAIN_FIELDS:
            expected = f"fields of ModelConfig or TrainConfig ({', '.join(sorted(MODEL_FIELDS | _TRAIN_FIELDS))})"
            raise ArgumentError("overrides (--set)", expected, repr(name) + meant(name, MODEL_FIELDS | _TRAIN_FIELDS))
        values["model" if name in MODEL_FIELDS else "training"][name] = value
    return Recipe(values["model"], TrainConfig.from_dict(values["training"]))
