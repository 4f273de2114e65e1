"""Training that goes on from a trained model: its items by their ids, all else as it is, in place of random weights."""

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
"""A trained model: an artifact, a recommender of one, or the path of its directory."""
_BIAS = "catalog.bias"


def as_start(start: Start) -> Artifact:
    """The artifact to start from.

    Raises:
        ArgumentError: it has no encoder.
        ArgumentTypeError: it is none of the three.
        ArtifactError: the directory holds none, or a damaged one.
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
    """The fields of the model's shape, all but `num_items`: those of `start`, whatever the events have.

    Args:
        start: the model to start from.
        log: the events.
        named: fields that the caller has chosen knowing the events, and which `warm_start` compares.

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

    Items that `start` knows get its vectors and biases, without the `popularity_penalty` that may have been taken off
    since; others, and rows beyond `item_ids`, stay as they are. Items that are hidden or removed in `start` are known.

    Args:
        model: in any float type.
        start: of the same shape, but for `num_items`.
        item_ids: of the model's first rows, [at most num_items].

    Raises:
        ArgumentError: shapes differ, the message names the field; or `start` knows none of the items.
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
    """What the artifact of a model says of the one its training started from.

    Args:
        start: that one.
        given: how it was named.
        log: the events of the new training.
        split: the new training's; None: nothing is held out.
        holdout: the new training's, see `lsif_sdk.training.train`.

    Returns:
        "newest_time": the newest event that either training had, Unix seconds; None where one does not say. "start":
        its directory's name as "source" (None without one), SHA-256 of its weights.safetensors, how many items were
        "kept", "new" and "gone", and what `has_seen_targets` says.
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
    """Whether a model may have been trained on what the training that starts from it is to hold out.

    Args:
        training: what the model's artifact says of its training.
        split: the new training's; None: nothing is held out.
        holdout: "test" or "validation", the new training's.

    Returns:
        "has_seen_targets": any of it, what stops the new training included. "has_seen_test_targets": the test targets.
    """
    if split is None:
        return {"has_seen_targets": False, "has_seen_test_targets": False}
    if training.get("holdout") == holdout:  # the same targets were held out, where no event has come since
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
    """The rows of `start` of items, int64 [num_items]; -1 for those it does not know. 7 and "7" are one item."""
    ids = id_list(item_ids, "item_ids")
    rows = start.items.rows_of_plain(ids)
    if rows is None:
        rows = rows_by_text(start.items.ids, ids)
    if bool((rows < 0).all()):
        others = shown(start.items.ids[:1].tolist())
        raise ArgumentError("start", f"a model that knows an item of the events, such as {shown(ids[:1])}", others)
    return rows


def _bias_without_penalty(start: Artifact) -> torch.Tensor:
    """See `Artifact.with_popularity_penalty`: float32 [num_items]."""
    bias, taken = start.catalog_bias.detach(), start.bias_penalty
    return bias if taken is None else bias + taken.detach()
