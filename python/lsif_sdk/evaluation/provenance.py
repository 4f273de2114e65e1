"""What artifacts record about their training, as far as it matters for evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import numpy as np

from lsif_sdk.errors import ArgumentError
from lsif_sdk.evaluation.splits import NO_TARGET, SPLITS, Split
from lsif_sdk.event_log import EventLog
from lsif_sdk.recommender import Recommender
from lsif_sdk.times import SECONDS_PER_DAY

__all__ = ["as_trained", "may_have_seen", "provenance_of", "sample_of_targets", "split_as_trained"]

_SPLIT = next(iter(SPLITS))
_SAMPLE = 32


def may_have_seen(training: Mapping[str, Any], split: Split, target: Literal["test", "validation"] = "test") -> bool:
    """Whether a model may have been trained on the targets of a split; False if its training is not recorded.

    Splits by time are compared by the time from which they test, others by the users of `sample_of_targets`: a target
    on an earlier day than the recorded one was trained on. One on the same day, or without times, may have been, if it
    differs from the recorded one, which is not in the history, and the user has no new events. The model with which
    training began (`lsif_sdk.training.warm_start`) may have seen the targets, too.

    Args:
        training: `Artifact.training` of the model.
        split: the split.
        target: the targets in question; those of validation are never quite unseen, as they decide when to stop.
    """
    if "holdout" not in training or _is_newer(training.get("newest_time"), split, target):
        return False
    is_other = training["holdout"] != "test" or training.get("split", _SPLIT) != split.name
    if is_other or _began_with_them(training.get("start"), target):
        return True
    if split.name != "time":
        return _are_others(training, split)
    trained = training.get("test_from")
    return not isinstance(trained, int) or split.test_from is None or split.test_from < trained


def _began_with_them(start: object, target: Literal["test", "validation"]) -> bool:
    """Whether the model with which training began, if any, may have seen the targets that training held out."""
    if not isinstance(start, Mapping):
        return False
    has_seen = start.get("has_seen_targets")
    return (start.get("has_seen_test_targets", has_seen) if target == "test" else has_seen) is not False


def _is_newer(trained: object, split: Split, target: Literal["test", "validation"]) -> bool:
    """Whether all targets are later than the newest event that training had, held out or not."""
    targets, times = split.targets(target)
    is_known = isinstance(trained, int) and times is not None and bool((targets != NO_TARGET).any())
    return is_known and int(times[targets != NO_TARGET].min()) > trained  # type: ignore[operator, index]


def provenance_of(split: Split) -> dict[str, Any]:
    """What an artifact records of the split that it was trained and tested with."""
    return {
        "split": split.name,
        "protocol": split.protocol,
        "test_from": split.test_from,
        "targets_hash": split.hash("test"),
        "targets_sample": sample_of_targets(split),
    }


def sample_of_targets(split: Split) -> list[list[Any]]:
    """For `_SAMPLE` users with a test target: hash of the user, hash of user and target, the target's day (days since
    1970, None if unknown), and the user's number of events.

    The users with the smallest hashes are taken, so that splits of the same users have the same sample.
    """
    log, (targets, times), lengths = split.log, split.targets("test"), split.log.lengths
    rows = {_hash(log.user_ids[row]): row for row in np.flatnonzero(targets != NO_TARGET).tolist()}
    sample = []
    for user in sorted(rows)[:_SAMPLE]:
        row = rows[user]
        day = None if times is None else int(times[row]) // SECONDS_PER_DAY
        pair = _hash(log.user_ids[row], log.item_ids[targets[row]])
        sample.append([user, pair, day, int(lengths[row])])
    return sample


def _hash(*values: int | str) -> str:
    return hashlib.blake2b(repr([str(value) for value in values]).encode(), digest_size=8).hexdigest()


def _are_others(training: Mapping[str, Any], split: Split) -> bool:
    sample = training.get("targets_sample")
    if not isinstance(sample, list) or training.get("targets_hash") == split.hash("test"):
        return False
    log, (targets, times), lengths = split.log, split.targets("test"), split.log.lengths
    entries = [entry for entry in sample if isinstance(entry, list) and len(entry) == 4]
    known = {user: rest for user, *rest in entries if isinstance(user, str)}
    for row in np.flatnonzero(targets != NO_TARGET).tolist():
        pair, day, length = known.get(_hash(log.user_ids[row]), (None, None, None))
        if not isinstance(pair, str) or not isinstance(length, int):
            continue
        if times is not None and isinstance(day, int) and int(times[row]) // SECONDS_PER_DAY != day:
            is_older = int(times[row]) // SECONDS_PER_DAY < day
        else:
            # On the same day, or without times: the user has no new events, and the old target is not in the history.
            history = set(split.test_history.user(row).items.tolist())
            is_history = any(_hash(log.user_ids[row], log.item_ids[item]) == pair for item in history)
            is_other = _hash(log.user_ids[row], log.item_ids[targets[row]]) != pair
            is_older = is_other and not is_history and int(lengths[row]) <= length
        if is_older:
            return True
    return False


def as_trained(models: Iterable[Any], field: str, possible: Collection[Any]) -> Any:
    """The value that models' artifacts record for a field of their training ("split", "exclude_seen").

    Args:
        models: recommenders, and scorers, which are ignored.
        field: name of the field.
        possible: possible values; the first one is the default if none, or another one, is recorded.

    Raises:
        ArgumentError: the models differ.
    """
    otherwise = next(iter(possible))
    trained = [m.artifact.training for m in models if isinstance(m, Recommender) and m.artifact.training]
    said = [training.get(field, otherwise) for training in trained if field in training or "holdout" not in training]
    known = {value if isinstance(value, (str, bool)) and value in possible else otherwise for value in said}
    if len(known) > 1:
        name = "events" if field == "split" else field
        got = " and ".join(sorted(map(repr, known)))
        raise ArgumentError(name, f"to be told: models differ in the {field} of their training", got)
    return known.pop() if known else otherwise


def split_as_trained(log: EventLog, models: Iterable[Any]) -> Split:
    """Splits these events in the way of the models' training."""
    return SPLITS[as_trained(models, "split", SPLITS)](log)
