"""What the artifacts of models say of their training, where it bears on how they are measured."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import numpy as np

from lsif_sdk.errors import ArgumentError
from lsif_sdk.evaluation.scorer import HistoryEncoder
from lsif_sdk.evaluation.splits import NO_TARGET, SPLITS, Split

__all__ = ["as_trained", "may_have_seen", "sample_of_targets", "training_of"]

_SPLIT = next(iter(SPLITS))
_SAMPLE = 32


def may_have_seen(training: Mapping[str, Any], split: Split, target: Literal["test", "validation"] = "test") -> bool:
    """Whether a model may have been trained on the targets of a split; False where nothing says how it was.

    Validation targets are never quite unseen: they decide when training stops. A split by time knows from when on it
    tests. Of another one the users in `sample_of_targets` tell: one who has another target now, and an older one
    or, without times, no more events than then, has been trained on it.

    Args:
        training: what the model's artifact says of its training.
        split: the split.
        target: the targets in question.
    """
    if "holdout" not in training:
        return False
    if training["holdout"] != "test" or training.get("split", _SPLIT) != split.name:
        return True
    if split.name != "time":
        return _are_others(training, split)
    trained = training.get("test_from")
    return not isinstance(trained, int) or split.test_from is None or split.test_from < trained


def sample_of_targets(split: Split) -> list[list[Any]]:
    """Of some users with a test target: hashes of the user and of the target, its Unix seconds, the number of events.

    They are the `_SAMPLE` users of the least hashes, so that splits of the same users have the same sample.
    """
    described = _described(split)
    return [[user, *described[user]] for user in sorted(described)[:_SAMPLE]]


def _described(split: Split) -> dict[str, tuple[str, int | None, int]]:
    """By hash of the user: hash of the test target, its Unix seconds (None: unknown), the number of events."""
    log, (targets, times) = split.log, split.targets("test")
    described = {}
    for row in np.flatnonzero(targets != NO_TARGET).tolist():
        user, item = _hash(log.user_ids[row]), _hash(log.item_ids[targets[row]])
        described[user] = item, None if times is None else int(times[row]), int(log.lengths[row])
    return described


def _hash(value: int | str) -> str:
    return hashlib.blake2b(str(value).encode(), digest_size=8).hexdigest()


def _are_others(training: Mapping[str, Any], split: Split) -> bool:
    sample = training.get("targets_sample")
    if not isinstance(sample, list) or training.get("targets_hash") == split.hash("test"):
        return False
    described = _described(split)
    for user, *known in sample:
        item, time, length = described.get(user, known)
        is_older = length <= known[2] if time is None or known[1] is None else time < known[1]
        if item != known[0] and is_older:
            return True
    return False


def as_trained(models: Iterable[Any], field: str, possible: Collection[Any]) -> Any:
    """What the artifacts of models say of a field of their training ("split", "exclude_seen"), if they agree.

    Args:
        models: recommenders and scorers; these say nothing.
        field: its name.
        possible: values, the first of which stands where nothing, or nothing possible, is said.

    Raises:
        ArgumentError: they do not agree.
    """
    otherwise = next(iter(possible))
    said = [training.get(field, otherwise) for model in models if (training := training_of(model))]
    known = {value if isinstance(value, (str, bool)) and value in possible else otherwise for value in said}
    if len(known) > 1:
        name = "events" if field == "split" else field
        got = " and ".join(sorted(map(repr, known)))
        raise ArgumentError(name, f"to be told: models differ in the {field} of their training", got)
    return known.pop() if known else otherwise


def training_of(model: Any) -> Mapping[str, Any]:
    """How a recommender was trained, as its artifact says; empty where none does."""
    training = getattr(getattr(model, "artifact", None), "training", None)
    return training if isinstance(model, HistoryEncoder) and isinstance(training, Mapping) else {}
