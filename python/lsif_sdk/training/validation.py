"""Ranks held-out events among the whole catalogue while a model is being trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsif_sdk.errors import ArgumentError
from lsif_sdk.evaluation.metrics import pessimistic_ranks, ranks_to_metrics
from lsif_sdk.evaluation.scorer import gather_events
from lsif_sdk.evaluation.splits import NO_TARGET
from lsif_sdk.event_log import EventLog
from lsif_sdk.model import InterestFusionModel

__all__ = ["Targets", "validate"]

_EVENTS_PER_BATCH = 1 << 14
_SCORES_PER_BATCH = 1 << 24


class Targets(NamedTuple):
    """One held-out event a user; `Split.targets` gives the same pair.

    Attributes:
        items: item rows int64 [num_users]; -1 for a user without one.
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
        model: put into eval mode by the caller.
        log: the histories.
        targets: what follows them.
        k: length of the list.
        exclude_seen: rank without the items of the history; a target that is one of them is a miss, see
            `lsif_sdk.evaluation.pessimistic_ranks`.

    Raises:
        ArgumentError: no user has a target.
    """
    targets, device = Targets(*targets), model.item_embedding.device
    users = np.flatnonzero(targets.items != NO_TARGET)
    if users.size == 0:
        raise ArgumentError("validation", "at least one user with a held-out item", "none")
    ranks = []
    for rows in _batches(log.lengths, users, max(1, _SCORES_PER_BATCH // model.config.num_items)):
        index, offsets = gather_events(log, rows)
        items = log.items[index]
        encoded = model.encode(
            torch.from_numpy(items).to(device),
            _tensor(log.times, index, device),
            _tensor(log.actions, index, device),
            offsets=torch.from_numpy(offsets).to(device),
            now=_tensor(targets.times, rows, device),
        )
        scores = model.scores(encoded).float().cpu().numpy()
        ranks.append(pessimistic_ranks(scores, targets.items[rows], (items, offsets) if exclude_seen else None))
    return ranks_to_metrics(np.concatenate(ranks), k)


def _tensor(values: NDArray[np.int64] | None, index: NDArray[np.int64], device: torch.device) -> Tensor | None:
    return None if values is None else torch.from_numpy(values[index]).to(device)


def _batches(lengths: NDArray[np.int64], users: NDArray[np.int64], max_users: int) -> Iterator[NDArray[np.int64]]:
    """Users by length, so that padded batches hold a bounded number of events."""
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
