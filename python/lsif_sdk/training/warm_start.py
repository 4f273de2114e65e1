"""Training that starts from a trained model in place of random weights; items are matched by id."""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from lsif_sdk.artifact import Artifact
from lsif_sdk.artifact_files import unshared
from lsif_sdk.config import ModelConfig
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, shown
from lsif_sdk.evaluation.provenance import may_have_seen
from lsif_sdk.evaluation.splits import Split
from lsif_sdk.event_log import EventLog
from lsif_sdk.ids import id_list, rows_by_text
from lsif_sdk.live import LiveRecommender
from lsif_sdk.model import InterestFusionModel
from lsif_sdk.model.weights import put, state_of
from lsif_sdk.recommender import Recommender
from lsif_sdk.tables import Ids

__all__ = ["Start", "as_start", "fields_of", "has_seen_targets", "provenance_of_start", "warm_start"]

Start = Artifact | Recommender | str | os.PathLike[str]
"""A trained model: an `Artifact`, a `Recommender`, or the path of its directory."""
_BIAS = "catalog.bias"


def as_start(start: Start) -> Artifact:
    """The artifact to start from.

    Raises:
        ArgumentError: the model has no encoder.
        ArgumentTypeError: `start` is not a `Start`.
        ArtifactError: the directory has no artifact, or a damaged one.
    """
    if isinstance(start, Recommender):
        start = start.artifact
    if isinstance(start, (str, os.PathLike)):
        start = Artifact.load(start)
    if not isinstance(start, Artifact):
        is_live = isinstance(start, LiveRecommender)
        expected = "a model's directory, an Artifact or a Recommender" + (" (take `current`)" if is_live else "")
        raise ArgumentTypeError("start", expected, start)
    if not start.has_encoder:
        raise ArgumentError("start", "a model with an encoder", "items alone")
    return start


def fields_of(start: Artifact, log: EventLog, named: Collection[str]) -> dict[str, Any]:
    """The hyper-parameters of `start`, all except `num_items`, checked against the events.

    Args:
        start: the model to start from.
        log: the events.
        named: fields that the caller sets explicitly, which `warm_start` compares.

    Raises:
        ArgumentError: the events lack times or action types that `start` reads, or have action types it does not know.
    """
    fields = start.config.to_dict()
    del fields["num_items"]
    if start.config.use_times and log.times is None:
        raise ArgumentError("start", "a model with use_times False for events without times", "use_times True")
    num_actions = start.config.num_actions
    if "num_actions" not in named:
        if num_actions and log.actions is None:
            expected = "a model with num_actions 0 for events without action types"
            raise ArgumentError("start", expected, f"num_actions {num_actions}")
        if log.actions is not None and (most := int(log.actions.max(initial=0))) > num_actions:
            expected = f"a model with num_actions {most} or more for the events' action types"
            raise ArgumentError("start", expected, f"num_actions {num_actions}")
    return fields


@torch.no_grad()
def warm_start(model: InterestFusionModel, start: Artifact, item_ids: Ids) -> None:
    """Gives a new model the weights of a trained one.

    Items that `start` knows, also hidden or removed ones, get its vectors and biases, without a `popularity_penalty`
    subtracted later. Other items, and rows beyond `item_ids`, do not change.

    Args:
        model: the new model, in any float type.
        start: the trained model, with the same hyper-parameters except `num_items`.
        item_ids: ids of the model's first rows, [at most num_items].

    Raises:
        ArgumentError: a hyper-parameter differs (the message names it), or `start` knows none of the items.
        ArtifactError: the model lacks a tensor that `start` has, or has it in another shape.
    """
    _check_shape(model.config, start.config)
    rows = torch.from_numpy(_rows_in(start, item_ids))
    places = (rows >= 0).nonzero()[:, 0]
    state = model.state_dict()
    trained = state_of(model, {**start.weights, _BIAS: _bias_without_penalty(start)})
    for name in ("item_embedding", _BIAS):
        values = state[name].clone()
        values[places] = trained[name][rows[places]].to(values)
        trained[name] = values
    put(model, {**state, **trained})


def provenance_of_start(
    start: Artifact, given: Start, log: EventLog, split: Split | None, holdout: str
) -> dict[str, Any]:
    """What a model's artifact records of the model that its training started from.

    Args:
        start: that model.
        given: `start` as the caller gave it.
        log: the new training's events.
        split: the new training's; None: nothing is held out.
        holdout: the new training's, see `lsif_sdk.training.train`.

    Returns:
        "newest_time": time of the newest event of either training, Unix seconds; None if not known for both. "start":
        the directory's name as "source" (None without one), SHA-256 of its weights.safetensors, how many items were
        "kept", "new" and "gone", and the result of `has_seen_targets`.
    """
    kept = int((_rows_in(start, log.item_ids) >= 0).sum())
    newest: list[object] = [None if log.times is None else int(log.times.max())]
    if start.training:
        newest.append(start.training.get("newest_time"))
    known = [time for time in newest if isinstance(time, int)]
    facts = {
        "source": pathlib.Path(given).resolve().name if isinstance(given, (str, os.PathLike)) else None,
        "weights_sha256": hashlib.sha256(safetensors.torch.save(unshared(start.weights))).hexdigest(),
        "kept": kept,
        "new": log.num_items - kept,
        "gone": len(start.items) - kept,
        **has_seen_targets(start.training, split, holdout),
    }
    return {"start": facts, "newest_time": max(known) if len(known) == len(newest) else None}


def has_seen_targets(training: Mapping[str, Any], split: Split | None, holdout: str) -> dict[str, bool]:
    """Whether a model may have been trained on targets that a new training, starting from it, holds out.

    Args:
        training: `Artifact.training` of the model.
        split: the split of the new training; None: nothing is held out.
        holdout: that of the new training, "test" or "validation".

    Returns:
        "has_seen_targets": any of them, including those that decide when the new training stops.
        "has_seen_test_targets": the test targets.
    """
    if split is None:
        return {"has_seen_targets": False, "has_seen_test_targets": False}
    if training.get("holdout") == holdout:  # without new events, the same targets were held out
        training = {**training, "holdout": "test"}
    test = may_have_seen(training, split, "test")
    stops_by_validation = holdout == "test"
    any_of_them = test or (stops_by_validation and may_have_seen(training, split, "validation"))
    return {"has_seen_targets": any_of_them, "has_seen_test_targets": test}


def _check_shape(config: ModelConfig, start: ModelConfig) -> None:
    wanted = start.to_dict()
    for name, got in config.to_dict().items():
        if name != "num_items" and got != wanted[name]:
            raise ArgumentError(name, f"{wanted[name]!r}, as start has it", repr(got))


def _rows_in(start: Artifact, item_ids: Ids) -> NDArray[np.int64]:
    """Rows of these items in `start`, int64 [num_items]; -1 for unknown ones. Ids 7 and "7" are the same item."""
    ids = id_list(item_ids, "item_ids")
    rows = start.items.rows_of_plain(ids)
    if rows is None:
        rows = rows_by_text(start.items.ids, ids)
    if bool((rows < 0).all()):
        others = shown(start.items.ids[:1].tolist())
        raise ArgumentError("start", f"a model that knows an item of the events, such as {shown(ids[:1])}", others)
    return rows


def _bias_without_penalty(start: Artifact) -> torch.Tensor:
    """The biases before `Artifact.with_popularity_penalty`, float32 [num_items]."""
    bias, taken = start.catalog_bias.detach(), start.bias_penalty
    return bias if taken is None else bias + taken.detach()
