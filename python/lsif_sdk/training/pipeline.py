"""Trains a `Recommender` from events: split, fit, export, measure."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from lsif_sdk.arguments import as_array, as_choice, as_flag, index_of
from lsif_sdk.artifact import Artifact
from lsif_sdk.config import ModelConfig
from lsif_sdk.content import LEAST_DESCRIBED, ContentAdapter
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError, shown
from lsif_sdk.evaluation import compare
from lsif_sdk.evaluation.evaluate import measure
from lsif_sdk.evaluation.provenance import provenance_of
from lsif_sdk.evaluation.splits import SPLITS, Split
from lsif_sdk.event_log import EventLog, as_log
from lsif_sdk.items import ItemTable
from lsif_sdk.model import InterestFusionModel
from lsif_sdk.recommender import Recommender
from lsif_sdk.training.config import TrainConfig
from lsif_sdk.training.recipe import Recipe
from lsif_sdk.training.trainer import FitResult, check_checkpoint, fit
from lsif_sdk.training.validation import encode_users
from lsif_sdk.training.warm_start import Start, as_start, fields_of, provenance_of_start

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lsif_sdk.tables import Source

__all__ = ["HOLDOUTS", "describe_items", "train"]

HOLDOUTS = ("test", "validation", "nothing")
"""Values of `train(holdout=)`."""
_KNOWN = (
    "start may have been trained on the targets that this training holds out: what is measured of these flatters the "
    "model, and may stop training too early, or at once (docs/training.md, Warm start)"
)
_CALIBRATION_USERS = 4096
_USERS_PER_BATCH = 256


def train(
    events: EventLog | Source,
    model: Mapping[str, Any] | None = None,
    training: TrainConfig | Mapping[str, Any] | None = None,
    *,
    user: str = "user",
    item: str = "item",
    timestamp: str | None = "timestamp",
    action: str | None = None,
    separator: str | None = None,
    split: Literal["leave_one_out", "time"] = "leave_one_out",
    holdout: Literal["test", "validation", "nothing"] = "test",
    exclude_seen: bool | None = None,
    features: NDArray[np.float32] | None = None,
    start: Start | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    source: str | None = None,
) -> Recommender:
    """Trains a model on events and returns it ready to recommend; `Recommender.save` writes it to disk.

    `split` and `holdout` decide which events are held out, that is, not trained on:

    - split "leave_one_out": each user's last two events. The first decides when training stops (validation), the last
      is the test target.
    - split "time": the newest 20 % of all events. Each user's first event in the older half decides when training
      stops, the first in the newer half is the test target.
    - holdout "test" (default): as above, with metrics of both in the artifact.
    - holdout "validation": the test targets decide when training stops, and all earlier events are trained on. No event
      is left for an unbiased test, but the model learns from more data, for production.
    - holdout "nothing": all events are trained on, whatever `split`. `training` has to set `epochs` (a `TrainConfig`
      always does), for example to the best number of an earlier training (`artifact.training["best_epoch"]`; 0: no
      epoch was better than `start`).

    See `lsif_sdk.evaluation.leave_one_out` and `time_split`.

    Args:
        events: an `EventLog`, or a source for `read_events`: a CSV, TSV or Parquet path or a DataFrame.
        model: fields of `ModelConfig` except `num_items`; None: the defaults. `use_times` and `num_actions` follow from
            the events unless they are given.
        training: a `TrainConfig`, or fields of it; None: the defaults.
        user: column of user ids, if `events` is a table (see `read_events`).
        item: column of item ids, likewise.
        timestamp: column of times, likewise; None = there are none.
        action: column of action types, likewise; None = there are none.
        separator: column separator, if `events` is a text file (see `read_events`).
        split: see above; "time" needs events with times.
        holdout: see above.
        exclude_seen: leave items of the history out when targets are ranked, and by default in `recommend`; False where
            people consume items again. It influences the best epoch, the metrics and the default of
            `recommend(exclude_seen=)`; `TrainConfig.skip_seen` also leaves them out of training. None: as `start` was
            trained, or True without `start`.
        features: a description of each item, float32 [num_items, feature_dim] in the order of `EventLog.item_ids`, such
            as its title by `lsif_sdk.text.embed_titles`; zeros for an item without one. After training, items without
            events get rows from the items with the nearest descriptions, and items with few events improved ones
            (`ContentAdapter.catalog`). None: no descriptions.
        start: a trained model (its directory, or an `Artifact` or `Recommender`) to continue from. Items of `events`
            that it knows by id start with its vectors, the others as usual; its other items are dropped. Its
            hyper-parameters are used; fields in `model` may not differ from them. `events` need the times and action
            types that it reads. If no epoch is better in validation, the result has its weights ("best_epoch" 0).
            None: training begins with random weights.
        checkpoint_dir: folder for the state after every epoch; None = no checkpoints.
        resume: continue from the checkpoint in that folder, if there is one.
        progress: show progress bars.
        source: name of the data for the artifact's provenance; None = the file name, if `events` is a path.

    Raises:
        ArgumentError: a field is unknown, out of range, or differs from `start`; or `start` does not fit the events.
        ArgumentTypeError: an argument or a field is of the wrong type.
        ArtifactError: `start` is not a model directory, or a damaged one; or the checkpoint is of another run.
        DataError: the events cannot be read, or no user has enough events for a target.
        MissingExtraError: a package of the extra "train" is not installed.
    """
    resume, progress = as_flag("resume", resume), as_flag("progress", progress)
    if checkpoint_dir is not None:
        check_checkpoint(checkpoint_dir, resume)
    as_choice("holdout", holdout, HOLDOUTS)
    as_choice("split", split, tuple(SPLITS))
    if source is not None and not isinstance(source, str):
        raise ArgumentTypeError("source", "a string or None", source)
    begun = None if start is None else as_start(start)
    log = as_log(events, user=user, item=item, timestamp=timestamp, action=action, separator=separator)
    if source is None and isinstance(events, (str, os.PathLike)):
        source = pathlib.Path(events).name
    if exclude_seen is None:
        exclude_seen = begun is None or begun.excludes_seen
    exclude_seen = as_flag("exclude_seen", exclude_seen)
    recipe = Recipe(model or {}, _train_config(training, holdout))
    config = _model_config(log, recipe.model, begun)
    target: Literal["validation", "test"] = "validation" if holdout == "test" else "test"
    parts = None if holdout == "nothing" else _split(log, split, target)
    history = _history(log, parts, target)
    if features is not None:
        _check_features(features, config, history)
    started = {} if begun is None or start is None else provenance_of_start(begun, start, log, parts, holdout)
    if started and started["start"]["has_seen_targets"]:
        warnings.warn(_KNOWN, stacklevel=2)
    result = fit(
        history,
        config,
        recipe.training,
        validation=None if parts is None else parts.targets(target),
        exclude_seen=exclude_seen,
        start=begun,
        checkpoint_dir=checkpoint_dir,
        resume=resume,
        progress=progress,
    )
    if features is not None:
        describe_items(result.model, history, features)
    provenance = {
        "source": source,
        "holdout": holdout,
        "exclude_seen": exclude_seen,
        **_provenance(log, parts, recipe.training, result),
        **started,
    }
    counts = np.bincount(history.items, minlength=log.num_items).astype(np.int64)
    items = ItemTable(log.item_ids, log.titles, counts)
    recommender = Recommender(Artifact(config, result.model.export_weights(), items, provenance))
    if parts is None:
        return recommender
    best = {name: value for name, value in result.best.items() if "@" in name}
    return _measured(recommender, parts, target, best, features is not None, exclude_seen, progress)


def _history(log: EventLog, parts: Split | None, target: Literal["validation", "test"]) -> EventLog:
    """The events to train on: those before the targets that decide when training stops, or all."""
    history = log if parts is None else parts.history(target)
    if history.lengths.max(initial=0) < 2:
        held_out = "" if parts is None else f" beside those held out ({parts.protocol})"
        raise DataError(f"events: expected a user with two or more{held_out}, got none")
    return history


def _provenance(log: EventLog, parts: Split | None, training: TrainConfig, result: FitResult) -> dict[str, Any]:
    return {
        "users": log.num_users,
        "events": len(log.items),
        "newest_time": None if log.times is None else int(log.times.max()),
        **({} if parts is None else provenance_of(parts)),
        "config": training.to_dict(),
        "epochs": len(result.epochs),
        "best_epoch": int(result.best["epoch"]),
    }


def _measured(
    recommender: Recommender,
    parts: Split,
    target: Literal["validation", "test"],
    best: dict[str, float],
    is_described: bool,
    exclude_seen: bool,
    progress: bool,
) -> Recommender:
    """The recommender with metrics in its artifact: of the targets that stopped training (`best`), and of the test."""
    if is_described:  # the descriptions were added after `best` was measured
        report = measure(
            recommender, parts, target=target, exclude_seen=exclude_seen, label="validation", progress=progress
        )
        best = {name: report.metrics[name] for name in best}
    metrics: dict[str, Any] = {"validation": best}
    if target != "test":
        reports = compare({"lsif": recommender}, parts, exclude_seen=exclude_seen, progress=progress)
        metrics["test"] = {report.name: report.to_dict() for report in reports}
    artifact = dataclasses.replace(recommender.artifact, metrics=metrics)
    object.__setattr__(artifact, "codes", recommender.catalog.codes)  # of the same weights
    return Recommender(artifact)


def _model_config(log: EventLog, model: Mapping[str, Any], begun: Artifact | None) -> ModelConfig:
    fields = _fields_from(log) if begun is None else fields_of(begun, log, model)
    config = ModelConfig(num_items=log.num_items, **{**fields, **model})
    if config.use_times and log.times is None:
        raise ArgumentError("use_times", "False for events without times", True)
    return config


def _train_config(training: TrainConfig | Mapping[str, Any] | None, holdout: str) -> TrainConfig:
    if isinstance(training, TrainConfig):
        return training
    if training is not None and not isinstance(training, Mapping):
        raise ArgumentTypeError("training", "a TrainConfig or a mapping of its fields", training)
    if holdout == "nothing" and "epochs" not in (training or {}):
        raise ArgumentError("training", "epochs to be named where nothing is held out to stop by", "none")
    return TrainConfig.from_dict(training or {})


def _split(log: EventLog, split: str, target: Literal["validation", "test"]) -> Split:
    """The split of the events, checked to have a test target and one that decides when training stops."""
    parts = SPLITS[split](log)
    for needed in {target, "test"}:
        if not bool((parts.targets(needed)[0] >= 0).any()):
            least = f", {4 if target == 'validation' else 3} at least," if split == "leave_one_out" else ""
            wanted = f"a user with enough of them{least} for a {needed} target ({parts.protocol})"
            raise DataError(f"events: expected {wanted}")
    return parts


def _check_features(features: NDArray[np.float32], config: ModelConfig, log: EventLog) -> None:
    """Checks features before a long training; `log` has the events to train on."""
    array = as_array("features", features, "floats, one row per item")
    labels = index_of(features)
    if labels is not None and labels.tolist() not in ([*range(len(labels))], list(log.item_ids)):
        expected = "rows in the order of EventLog.item_ids (frame.reindex(log.item_ids), say)"
        raise ArgumentError("features", expected, f"an index that begins with {shown(labels.tolist()[:1])}")
    if array.ndim != 2 or len(array) != config.num_items or array.dtype.kind != "f":
        got = f"{array.dtype} {array.shape}"
        raise ArgumentError("features", f"floats of shape [{config.num_items}, feature_dim], one row per item", got)
    if not np.isfinite(array).all():
        raise ArgumentError("features", "finite numbers", "NaN or infinity")
    if config.normalize_items:
        raise ArgumentError("normalize_items", "False beside features, which give vectors lengths of their own", True)
    described = np.flatnonzero(array.any(axis=1))
    if (num_known := np.isin(described, log.items).sum()) < LEAST_DESCRIBED:
        raise ArgumentError("features", f"descriptions of at least {LEAST_DESCRIBED} items with events", num_known)


@torch.no_grad()
def describe_items(
    model: InterestFusionModel, log: EventLog, features: NDArray[np.float32], exploration: float = 0.5
) -> ContentAdapter:
    """Replaces a trained model's item vectors by those of `ContentAdapter.catalog`, and returns the adapter.

    Args:
        model: in eval mode, without `normalize_items`.
        log: the events it was trained on.
        features: a description of each item, [num_items, feature_dim]; zeros for an item without one.
        exploration: see `ContentAdapter.items`.

    Raises:
        ArgumentError: see `ContentAdapter.fit`.
    """
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(log.lengths > 1))[:_CALIBRATION_USERS]
    newest = log.offsets[1:] - 1  # of the users chosen; others may have none
    before = log.select(~np.isin(np.arange(len(log.items)), newest[chosen]))
    now = None if log.times is None else log.times[newest]
    users = [
        encode_users(model, before, chosen[begin : begin + _USERS_PER_BATCH], now).fused.numpy()
        for begin in range(0, len(chosen), _USERS_PER_BATCH)
    ]
    vectors, bias = (part.numpy() for part in model.catalog_rows())
    counts = np.bincount(log.items, minlength=model.config.num_items)
    adapter = ContentAdapter.fit(features, vectors, bias, counts, np.concatenate(users), log.items[newest[chosen]])
    rows = adapter.catalog(exploration)
    model.item_embedding.copy_(torch.from_numpy(rows.vectors))
    model.catalog.bias.copy_(torch.from_numpy(rows.bias))
    return adapter


def _fields_from(log: EventLog) -> dict[str, Any]:
    return {
        "use_times": log.times is not None,
        "num_actions": 0 if log.actions is None else int(log.actions.max(initial=0)),
    }
