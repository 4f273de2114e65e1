"""Offline evaluation: all models rank the whole catalogue, by the same function."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lsif_sdk.arguments import as_array, as_flag, as_integer, as_ks, is_integer
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError, shown
from lsif_sdk.evaluation.baselines import Popularity, Scorer
from lsif_sdk.evaluation.metrics import (
    coverage,
    novelty,
    pessimistic_ranks,
    rank_gains,
    standard_error,
    top_k_rows,
)
from lsif_sdk.evaluation.provenance import as_trained, may_have_seen, split_as_trained
from lsif_sdk.evaluation.report import BASELINE, Report
from lsif_sdk.evaluation.scorer import RecommenderScorer, check_recommender, gather_events
from lsif_sdk.evaluation.splits import Split
from lsif_sdk.event_log import EventLog, as_log, refuse_columns
from lsif_sdk.progress import Progress, track
from lsif_sdk.recommender import Recommender

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lsif_sdk.tables import Source

__all__ = ["compare", "evaluate", "measure", "with_catalog_items"]

SCORES_PER_CHUNK = 1 << 23  # 32 MiB of float32 scores at a time
USERS_PER_CHUNK = 256
Model = Scorer | Recommender
_KNOWN = "{} may have been trained on the {} targets of this split"


def evaluate(
    recommender: Model,
    events: EventLog | Split | Source,
    k: int | Sequence[int] = 10,
    *,
    user: str = "user",
    item: str = "item",
    timestamp: str | None = "timestamp",
    action: str | None = None,
    separator: str | None = None,
    with_request_time: bool | None = None,
    target: Literal["test", "validation"] = "test",
    exclude_seen: bool | None = None,
    min_history: int = 1,
    name: str | None = None,
    progress: bool = True,
) -> Report:
    """Ranks each user's target among all items of the catalogue and of the events, without sampled candidates.

    Args:
        recommender: a `lsif_sdk.Recommender` (encodes with its native path), or a `Scorer` that has read
            `split.history(target)`.
        events: a `Split`; or the events, which are then split as for the recommender's training (by `leave_one_out` if
            not recorded): an `EventLog`, or a source for `lsif_sdk.training.read_events`, such as a path or DataFrame.
        k: length of the recommended lists; or several, such as (10, 5, 20), of which plots show the first. Ranks are
            computed once.
        user: column of user ids, if `events` is a table (see `read_events`).
        item: column of item ids, likewise.
        timestamp: column of times, likewise; None = there are none.
        action: column of action types, likewise; None = there are none.
        separator: column separator, if `events` is a text file (see `read_events`).
        with_request_time: whether the recommender gets the time of the target event as request time (an easier task, so
            mention it with the results); None = yes if the model reads it and the events have times.
        target: which of the two held-out events to predict.
        exclude_seen: leave items of the history out of ranks and lists; a target that is one of them is a miss (see
            `pessimistic_ranks`). False where people consume items again; None = as in the recommender's training, True
            if not recorded.
        min_history: leave out users with fewer events before the target (large: only "warm users").
        name: name of the model in the report; None = its class name in lower case.
        progress: show progress on standard error: a bar on a terminal, a line every 10 s elsewhere.

    Warns:
        UserWarning: the recommender may have been trained on the targets, or reads times or action types that the
            events do not have.

    Raises:
        ArgumentError: an argument is out of range, or a scorer returned a wrong shape or NaN.
        ArgumentTypeError: an argument is of the wrong type, or a scorer returned something other than numbers.
        DataError: no user has enough events, or no item is in the recommender's catalogue.
    """
    if not isinstance(name, (str, type(None))):
        raise ArgumentTypeError("name", "a text, or None", name)
    split = _split_of(
        events, [recommender], user=user, item=item, timestamp=timestamp, action=action, separator=separator
    )
    label = type(recommender).__name__.lower() if name is None else name
    _warn(label, recommender, split, target)
    return measure(
        recommender,
        split,
        k,
        with_request_time=with_request_time,
        target=target,
        exclude_seen=_exclude_seen(exclude_seen, [recommender]),
        min_history=min_history,
        label=label,
        progress=progress,
    )


def measure(
    recommender: Model,
    split: Split,
    k: int | Sequence[int] = 10,
    *,
    exclude_seen: bool,
    label: str,
    with_request_time: bool | None = None,
    target: Literal["test", "validation"] = "test",
    min_history: int = 1,
    progress: bool = True,
) -> Report:
    """`evaluate` for a given split, `exclude_seen` and model name; without warnings."""
    ks, min_history = as_ks(k), as_integer("min_history", min_history, 1, 2**62)
    scorer, split, request_time = _scorer_of(recommender, split, target, with_request_time)
    history, items = split.history(target), split.targets(target)[0]
    users = np.flatnonzero((items >= 0) & (history.lengths >= min_history))
    if users.size == 0:
        raise DataError(f"no user has a {target} target and at least {min_history} events before it")
    step = max(1, min(USERS_PER_CHUNK, SCORES_PER_CHUNK // history.num_items))
    show = as_flag("progress", progress)
    with track(f"evaluate {label}", -(-users.size // step), "chunks of users", show=show) as bar:
        longest = min(max(ks), history.num_items)  # a list cannot be longer than the catalogue
        ranks, top, num_repeated = _rank_all(scorer, history, users, items[users], longest, exclude_seen, step, bar)
    gains, user_counts = rank_gains(ranks, ks), _user_counts(history)
    metrics = {key: float(values.mean()) for key, values in gains.items()}
    for length in ks:
        metrics[f"coverage@{length}"] = coverage(top[:, :length], history.num_items)
        metrics[f"novelty@{length}"] = novelty(top[:, :length], user_counts, history.num_users)
    return Report(
        name=label,
        k=ks[0] if is_integer(k) else ks,
        target=target,
        protocol=split.protocol,
        metrics=metrics,
        standard_errors={key: standard_error(values) for key, values in gains.items()},
        num_users=users.size,
        num_items=history.num_items,
        num_repeated=num_repeated,
        exclude_seen=exclude_seen,
        request_time=request_time,
        targets_hash=split.hash(target),
        user_rows=users,
        per_user=ranks,
    )


def _scorer_of(
    recommender: Model, split: Split, target: Literal["test", "validation"], with_request_time: bool | None
) -> tuple[Scorer, Split, bool]:
    """The scorer, the split with all items that it scores, and whether it gets the request time."""
    if isinstance(recommender, Recommender):
        split = with_catalog_items(split, recommender)
        request_time = _request_time(recommender, split, with_request_time)
        now = split.targets(target)[1] if request_time else None
        return RecommenderScorer(recommender, split.history(target), now), split, request_time
    if not isinstance(recommender, Scorer):
        expected = "a Recommender (`current` of a LiveRecommender) or an object with scores(user_rows)"
        raise ArgumentTypeError("recommender", expected, recommender)
    if with_request_time not in (None, False):
        expected = "None or False for a scorer, which has no request time"
        raise ArgumentError("with_request_time", expected, shown(with_request_time))
    return recommender, split, False


def compare(
    models: Mapping[str, Model],
    events: EventLog | Split | Source,
    k: int | Sequence[int] = 10,
    *,
    user: str = "user",
    item: str = "item",
    timestamp: str | None = "timestamp",
    action: str | None = None,
    separator: str | None = None,
    with_request_time: bool | None = None,
    target: Literal["test", "validation"] = "test",
    exclude_seen: bool | None = None,
    min_history: int = 1,
    progress: bool = True,
) -> list[Report]:
    """Evaluates popularity and several models on one split; `print(format_table(compare(...)))` shows the results.

    Args:
        models: recommenders and scorers by name. A scorer must also score the items that only the catalogues of the
            recommenders have, in the order of `with_catalog_items`.
        events: see `evaluate`.
        k: see `evaluate`.
        user: see `evaluate`.
        item: see `evaluate`.
        timestamp: see `evaluate`.
        action: see `evaluate`.
        separator: see `evaluate`.
        with_request_time: see `evaluate`; for the recommenders only.
        target: see `evaluate`.
        exclude_seen: see `evaluate`; for all models.
        min_history: see `evaluate`.
        progress: see `evaluate`.

    Returns:
        A report named "popularity", counted on the histories from which targets are predicted, then one per model.

    Raises:
        ArgumentError: see `evaluate`; or recommenders were trained with different splits or different `exclude_seen`,
            and `events` or `exclude_seen` does not decide.
        ArgumentTypeError: `models` is not a mapping with texts as names, or see `evaluate`.
    """
    if not isinstance(models, Mapping):
        raise ArgumentTypeError("models", 'a mapping of names to recommenders, {"lsif": recommender} say', models)
    for name in models:
        if not isinstance(name, str):
            raise ArgumentTypeError("models", "names that are texts", name)
    if BASELINE in models:
        raise ArgumentError("models", f"names other than {BASELINE!r}, which is counted anyway", repr(BASELINE))
    split = _split_of(
        events, models.values(), user=user, item=item, timestamp=timestamp, action=action, separator=separator
    )
    excluded = _exclude_seen(exclude_seen, models.values())
    for name, model in models.items():
        _warn(name, model, split, target)
        if isinstance(model, Recommender):
            split = with_catalog_items(split, model)
    reports = []
    for name, model in {BASELINE: Popularity.from_log(split.history(target)), **models}.items():
        report = measure(
            model,
            split,
            k,
            with_request_time=with_request_time if isinstance(model, Recommender) else None,
            target=target,
            exclude_seen=excluded,
            min_history=min_history,
            label=name,
            progress=progress,
        )
        reports.append(report)
    return reports


def _warn(label: str, model: Model, split: Split, target: Literal["test", "validation"]) -> None:
    """Warns if a model may have been trained on the targets, or reads times or action types the events do not have."""
    if not isinstance(model, Recommender):
        return
    if may_have_seen(model.artifact.training, split, target):
        warnings.warn(_KNOWN.format(label, target), stacklevel=3)
    config, log = model.config, split.log
    for is_read, values, name, argument in (
        (config.use_times, log.times, "times", "timestamp="),
        (config.num_actions > 0, log.actions, "action types", "action="),
    ):
        if is_read and values is None:
            warnings.warn(f"{label} reads {name}, and the events have none ({argument} names the column)", stacklevel=3)


def _split_of(events: EventLog | Split | Source, models: Iterable[Any], **columns: Any) -> Split:
    if isinstance(events, Split):
        refuse_columns(events, columns)
        return events
    return split_as_trained(as_log(events, **columns), models)


def _exclude_seen(given: bool | None, models: Iterable[Any]) -> bool:
    if given is None:
        return bool(as_trained(models, "exclude_seen", (True, False)))
    return as_flag("exclude_seen", given)


def with_catalog_items(split: Split, recommender: Recommender) -> Split:
    """`split` with the catalogue's items without events appended to `item_ids`, so that they are ranked too.

    Raises:
        ArgumentTypeError: an argument is of the wrong type.
        DataError: no item of the events is in the catalogue.
    """
    if not isinstance(split, Split):
        raise ArgumentTypeError("split", "a Split, leave_one_out(...) say", split)
    check_recommender(recommender)
    known = {str(item) for item in split.log.item_ids}
    extra = [str(item) for item in recommender.items.ids if str(item) not in known]
    if len(extra) == len(recommender.items.ids) > 0:
        got = ", ".join(sorted(known)[:3])
        raise DataError(f"events: no item is in the recommender's catalogue; they name {got} and so on")
    if not extra:
        return split

    def extended(log: EventLog) -> EventLog:
        titles = None if log.titles is None else [*log.titles, *extra]
        return dataclasses.replace(log, item_ids=[*map(str, log.item_ids), *extra], titles=titles)

    return dataclasses.replace(
        split,
        log=extended(split.log),
        train=extended(split.train),
        test_history=extended(split.test_history),
    )


def _request_time(recommender: Recommender, split: Split, wanted: bool | None) -> bool:
    possible = recommender.config.request_time and split.log.times is not None
    wanted = None if wanted is None else as_flag("with_request_time", wanted)
    if wanted and not possible:
        raise ArgumentError("with_request_time", "None or False: the model or the events lack request times", True)
    return possible if wanted is None else wanted


def _rank_all(
    scorer: Scorer,
    history: EventLog,
    users: NDArray[np.int64],
    targets: NDArray[np.int64],
    k: int,
    exclude_seen: bool,
    step: int,
    bar: Progress,
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Ranks int64 [num_users], lists int64 [num_users, k], and how many targets are items of the user's history."""
    num_items = history.num_items
    ranks, top, num_repeated = [], [], 0
    for start in range(0, users.size, step):
        chunk, chunk_targets = users[start : start + step], targets[start : start + step]
        index, offsets = gather_events(history, chunk)
        seen = history.items[index], offsets
        repeated = seen[0] == np.repeat(chunk_targets, np.diff(offsets))
        num_repeated += np.unique(np.repeat(chunk, np.diff(offsets))[repeated]).size
        scores = as_array("scores", scorer.scores(chunk), "numbers")
        if scores.dtype.kind in "biu":  # integers cannot hold -infinity
            scores = scores.astype(np.float64)
        if scores.shape != (chunk.size, num_items):
            raise ArgumentError("recommender", f"scores of shape {(chunk.size, num_items)}", scores.shape)
        ranks.append(pessimistic_ranks(scores, chunk_targets, seen if exclude_seen else None))
        top.append(top_k_rows(scores, k, seen if exclude_seen else None))
        bar.update()
    return np.concatenate(ranks), np.concatenate(top), num_repeated


def _user_counts(history: EventLog) -> NDArray[np.int64]:
    """Distinct users who met each item: int64 [num_items]."""
    pairs = np.unique(history.users * history.num_items + history.items)
    return np.bincount(pairs % history.num_items, minlength=history.num_items)
