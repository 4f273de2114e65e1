"""Ranks held-out events among the whole catalogue while a model is being trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsif_sdk.arguments import as_flag, as_int64, as_ks
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.evaluation.metrics import pessimistic_ranks, ranks_to_metrics
from lsif_sdk.evaluation.scorer import gather_events
from lsif_sdk.evaluation.splits import NO_TARGET
from lsif_sdk.event_log import EventLog, check_log
from lsif_sdk.model import InterestFusionModel
from lsif_sdk.model.encoded import Encoded

__all__ = ["Targets", "as_targets", "encode_users", "validate"]

_EVENTS_PER_BATCH = 1 << 14
_SCORES_PER_BATCH = 1 << 24


class Targets(NamedTuple):
    """One held-out event per user, the same pair as `Split.targets`.

    Attributes:
        items: item rows int64 [num_users]; -1 for a user without a held-out event.
        times: Unix seconds int64 [num_users], or None.
    """

    items: NDArray[np.int64]
    times: NDArray[np.int64] | None


@torch.inference_mode()
def validate(
    model: InterestFusionModel,
    log: EventLog,
    targets: Targets | tuple[Any, Any],
    k: int = 10,
    *,
    exclude_seen: bool = True,
) -> dict[str, float]:
    """NDCG@k, HR@k and MRR@k of the held-out events, given all events of `log` (and their times, with `request_time`).

    The full catalogue is ranked; ties count against the target.

    Args:
        model: in eval mode.
        log: the histories.
        targets: the event that follows each history.
        k: length of the list.
        exclude_seen: rank without the items of the history; a target that is one of them is a miss, see
            `lsif_sdk.evaluation.pessimistic_ranks`.

    Raises:
        ArgumentError: no user has a target, there is not one target per user, or a target or `k` is out of range.
        ArgumentTypeError: an argument is of the wrong type.
    """
    if not isinstance(model, InterestFusionModel):
        raise ArgumentTypeError("model", "an InterestFusionModel", model)
    check_log("log", log)
    exclude_seen, ks = as_flag("exclude_seen", exclude_seen), as_ks(k)
    targets = as_targets("targets", targets, log, model.config.num_items)
    users = np.flatnonzero(targets.items != NO_TARGET)
    ranks = []
    for rows in _batches(log.lengths, users, max(1, _SCORES_PER_BATCH // model.config.num_items)):
        scores = model.scores(encode_users(model, log, rows, targets.times)).float().cpu().numpy()
        index, offsets = gather_events(log, rows)
        seen = log.items[index], offsets
        ranks.append(pessimistic_ranks(scores, targets.items[rows], seen if exclude_seen else None))
    return ranks_to_metrics(np.concatenate(ranks), ks)


def encode_users(
    model: InterestFusionModel, log: EventLog, rows: NDArray[np.int64], now: NDArray[np.int64] | None
) -> Encoded:
    """Encodes the histories of the users in these rows of a log, on the model's device.

    Args:
        model: in eval mode.
        log: the histories.
        rows: rows of the users, int64 [batch].
        now: request time of each user of the log, Unix seconds int64 [num_users]; None: unknown.
    """
    index, offsets = gather_events(log, rows)

    def tensor(values: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values).to(model.item_embedding.device)

    return model.encode(
        tensor(log.items[index]),
        None if log.times is None else tensor(log.times[index]),
        None if log.actions is None else tensor(log.actions[index]),
        offsets=tensor(offsets),
        now=None if now is None else tensor(now[rows]),
    )


def as_targets(argument: str, targets: object, log: EventLog, num_items: int) -> Targets:
    """Checked targets for the users of a log.

    Raises:
        ArgumentError: there is not one target per user, a row is out of range, or no user has a target.
        ArgumentTypeError: not a pair of arrays.
    """
    pair = list(targets) if isinstance(targets, np.ndarray) else targets
    if isinstance(pair, (str, bytes)) or not isinstance(pair, Sequence) or len(pair) != 2:
        raise ArgumentTypeError(argument, "a pair of items and times, Split.targets(...) say", targets)
    items, times = as_int64(f"{argument}[0]", pair[0]), None
    if pair[1] is not None:
        times = as_int64(f"{argument}[1]", pair[1])
    shapes = [list(part.shape) for part in (items, times) if part is not None]
    if any(shape != [log.num_users] for shape in shapes):
        raise ArgumentError(argument, f"arrays of {log.num_users} users", shapes)
    if (items == NO_TARGET).all():
        raise ArgumentError(argument, "at least one user with a held-out item", "none")
    if items.min() < NO_TARGET or items.max() >= num_items:
        expected = f"item rows in [0, {num_items}), {NO_TARGET} for none"
        raise ArgumentError(f"{argument}[0]", expected, f"{items.min()} to {items.max()}")
    return Targets(items, times)


def _batches(lengths: NDArray[np.int64], users: NDArray[np.int64], max_users: int) -> Iterator[NDArray[np.int64]]:
    """Batches of users sorted by history length, each padded to a limited number of events."""
    users = users[np.argsort(lengths[users], kind="stable")]
    begin = 0
    while begin < len(users):
        end = begin + 1
        while (
            end < len(users)
            and end - begin < max_users
            and (end + 1 - begin) * lengths[users[end]] <= _EVENTS_PER_BATCH
        ):
            end += 1
        yield users[begin:end]
        begin = end
