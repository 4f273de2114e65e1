"""What the artifacts of models say of their training, where it bears on how they are measured."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from lsif_sdk.errors import ArgumentError
from lsif_sdk.evaluation.scorer import HistoryEncoder
from lsif_sdk.evaluation.splits import SPLITS, Split

__all__ = ["as_trained", "may_have_seen", "training_of"]

_SPLIT = next(iter(SPLITS))


def may_have_seen(training: Mapping[str, Any], split: Split, target: Literal["test", "validation"] = "test") -> bool:
    """Whether a model may have been trained on the targets of a split; False where nothing says how it was.

    Validation targets are never quite unseen: they decide when training stops. A split by time knows from when on it
    tests. Another one that has as many targets as the training held out and no further events, but other targets, has
    made targets of events that were trained on; of further events, or fewer targets, nothing can be told.

    Args:
        training: what the model's artifact says of its training.
        split: the split.
        target: the targets in question.
    """
    if "holdout" not in training:
        return False
    if training["holdout"] != "test" or training.get("split", _SPLIT) != split.name:
        return True
    if target == "validation":
        return False
    if split.name != "time":
        return _are_others(training, split)
    trained = training.get("test_from")
    return not isinstance(trained, int) or split.test_from is None or split.test_from < trained


def _are_others(training: Mapping[str, Any], split: Split) -> bool:
    events, targets = training.get("events"), training.get("targets")
    if not isinstance(events, int) or not isinstance(targets, int):
        return False
    can_tell = len(split.log.items) <= events and split.num_targets("test") >= targets
    return can_tell and training.get("targets_hash") != split.hash("test")


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
