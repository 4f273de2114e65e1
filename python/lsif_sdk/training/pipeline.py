"""From events to a `Recommender`: split, fit, export, measure."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from lsif_sdk.artifact import Artifact
from lsif_sdk.config import ModelConfig
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError
from lsif_sdk.evaluation import compare
from lsif_sdk.evaluation.splits import SPLITS
from lsif_sdk.items import ItemTable
from lsif_sdk.model import InterestFusionModel
from lsif_sdk.model.item_content import ItemContent
from lsif_sdk.recommender import Recommender
from lsif_sdk.training.config import TrainConfig
from lsif_sdk.training.data import EventLog, read_events
from lsif_sdk.training.trainer import fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lsif_sdk.training.tables import Source

__all__ = ["Recipe", "load_recipe", "train"]

_MODEL_FIELDS = {field.name for field in dataclasses.fields(ModelConfig)} - {"num_items"}
_TRAIN_FIELDS = {field.name for field in dataclasses.fields(TrainConfig)}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What to train: fields of `ModelConfig` (all but `num_items`, which the data decides) and a `TrainConfig`.

    Raises:
        ArgumentError: a model field is unknown.
    """

    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: TrainConfig = dataclasses.field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.model) - _MODEL_FIELDS):
            raise ArgumentError("recipe model", "fields of ModelConfig but num_items", f"unknown {unknown}")


def load_recipe(path: str | os.PathLike[str] | None = None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Reads {"model": {...}, "training": {...}}; fields left out have their defaults.

    Args:
        path: the JSON file; None: all defaults.
        overrides: fields of either part by name, put over the file's.

    Raises:
        ArgumentError: a field is unknown or out of range.
        DataError: the file cannot be read or is not such an object.
    """
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
        if name not in _MODEL_FIELDS | _TRAIN_FIELDS:
            raise ArgumentError(name, "a field of ModelConfig (but num_items) or TrainConfig", repr(value))
        values["model" if name in _MODEL_FIELDS else "training"][name] = value
    return Recipe(values["model"], TrainConfig.from_dict(values["training"]))


def train(
    events: EventLog | Source,
    model: Mapping[str, Any] | None = None,
    training: TrainConfig | Mapping[str, Any] | None = None,
    *,
    user: str = "user",
    item: str = "item",
    timestamp: str | None = "timestamp",
    action: str | None = None,
    split: Literal["leave_one_out", "time"] = "leave_one_out",
    holdout: Literal["test", "validation"] = "test",
    exclude_seen: bool = True,
    features: NDArray[np.float32] | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    source: str | None = None,
) -> Recommender:
    """Trains a model on events and returns it ready to recommend; `Recommender.save` writes it to disk.

    Events are held out and never trained on. With split "leave_one_out" these are each user's last two: the one before
    the last decides when to stop, the last one is the test target. With "time" they are the newest 20 % of all events:
    each user's first one in the older half decides when to stop, the first one in the newer half is the test target.
    Metrics of both go into the artifact. With holdout "validation" the test targets decide when to stop, and what is
    older than they are is trained on: nothing is left to measure honestly, but there is more to learn from, for
    production. See `lsif_sdk.evaluation.leave_one_out` and `time_split`.

    Args:
        events: an `EventLog`, or what `read_events` takes: a CSV, TSV or Parquet path or a DataFrame.
        model: fields of `ModelConfig` but `num_items`; None: the defaults. `use_times` and `num_actions` follow the
            events unless they are given.
        training: a `TrainConfig`, or fields of it; None: the defaults.
        user: column of user ids, if `events` is a table; likewise `item`, `timestamp` and `action` (see `read_events`).
        item: see `user`.
        timestamp: see `user`; None = there are none.
        action: see `user`; None = there are none.
        split: see above; "time" needs events with times.
        holdout: see above.
        exclude_seen: leave items of a history out when targets are ranked; False where people consume again. It changes
            which epoch is the best and what is measured, not what `recommend` returns.
        features: a description of each item, float32 [num_items, feature_dim] in the order of `EventLog.item_ids`, such
            as `lsif_sdk.text.embed_titles` of its title. Vectors and biases are then learned from it, too: items
            without events have a row as well; the result serves as any other. None: there are none.
        checkpoint_dir: where the state after every epoch is kept; None = nowhere.
        resume: go on from the checkpoint there, if there is one.
        progress: show progress bars.
        source: name of the data for the artifact's provenance.

    Raises:
        ArgumentError: a field is unknown or out of range.
        DataError: the events cannot be read, or no user has enough of them for a target.
        MissingExtraError: a package of the extra "train" is not installed.
    """
    if isinstance(events, EventLog):
        log = events
    else:
        log = read_events(events, user=user, item=item, timestamp=timestamp, action=action)
        if source is None and isinstance(events, (str, os.PathLike)):
            source = pathlib.Path(events).name
    if holdout not in ("test", "validation"):
        raise ArgumentError("holdout", "'test' or 'validation'", repr(holdout))
    if split not in SPLITS:
        raise ArgumentError("split", " or ".join(map(repr, SPLITS)), repr(split))
    if training is not None and not isinstance(training, (TrainConfig, Mapping)):
        raise ArgumentTypeError("training", "a TrainConfig or a mapping of its fields", training)
    settings = training if isinstance(training, TrainConfig) else TrainConfig.from_dict(training or {})
    recipe = Recipe(model or {}, settings)
    config = ModelConfig(num_items=log.num_items, **{**_fields_from(log), **recipe.model})
    parts = SPLITS[split](log)
    target: Literal["validation", "test"] = "validation" if holdout == "test" else "test"
    for needed in {target, "test"}:
        if not bool((parts.targets(needed)[0] >= 0).any()):
            raise DataError(f"events: expected a user with enough of them for a {needed} target ({parts.protocol})")
    if parts.history(target).lengths.max(initial=0) < 2:
        raise DataError(f"events: expected a user with two or more beside those held out ({parts.protocol}), got none")
    counts = np.bincount(parts.history(target).items, minlength=log.num_items).astype(np.int64)
    result = fit(
        parts.history(target),
        config,
        recipe.training,
        validation=parts.targets(target),
        exclude_seen=exclude_seen,
        checkpoint_dir=checkpoint_dir,
        build=_builder(features, counts),
        resume=resume,
        progress=progress,
    )
    provenance = {
        "source": source,
        "split": split,
        "protocol": parts.protocol,
        "holdout": holdout,
        "exclude_seen": exclude_seen,
        "users": log.num_users,
        "events": len(log.items),
        "targets_hash": parts.hash("test"),
        "config": recipe.training.to_dict(),
        "epochs": len(result.history),
        "best_epoch": int(result.best["epoch"]),
    }
    metrics: dict[str, Any] = {"validation": {name: value for name, value in result.best.items() if "@" in name}}
    items = ItemTable(log.item_ids, log.titles, counts)
    recommender = Recommender(Artifact(config, result.model.export_weights(), items, provenance, metrics))
    if holdout == "validation":
        return recommender
    reports = compare({"lsif": recommender}, parts, exclude_seen=exclude_seen, progress=progress)
    metrics["test"] = {report.name: report.to_dict() for report in reports}
    return Recommender(dataclasses.replace(recommender.artifact, metrics=metrics))


def _builder(
    features: NDArray[np.float32] | None, counts: NDArray[np.int64]
) -> Callable[[ModelConfig, float], InterestFusionModel]:
    if features is None:
        return InterestFusionModel
    array = np.asarray(features)
    if array.ndim != 2 or len(array) != len(counts) or array.dtype.kind != "f":
        got = f"{array.dtype} {array.shape}"
        raise ArgumentError("features", f"floats of shape [{len(counts)}, feature_dim], one row an item", got)
    described = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))

    def build(config: ModelConfig, dropout: float) -> InterestFusionModel:
        content = ItemContent(described, torch.from_numpy(counts > 0), config.dim)
        return InterestFusionModel(config, dropout, content)

    return build


def _fields_from(log: EventLog) -> dict[str, Any]:
    return {
        "use_times": log.times is not None,
        "num_actions": 0 if log.actions is None else int(log.actions.max(initial=0)),
    }
