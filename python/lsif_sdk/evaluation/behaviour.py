"""Properties of the users of an evaluation and of a model's behaviour towards them, and groups of users for reports."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from lsif_sdk.arguments import as_integer
from lsif_sdk.evaluation.report import Report
from lsif_sdk.evaluation.scorer import RecommenderScorer, gather_events

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lsif_sdk.evaluation.splits import Split
    from lsif_sdk.event_log import EventLog
    from lsif_sdk.recommender import Recommender

__all__ = ["Behaviour", "Groups", "behaviour", "drift_groups", "length_groups", "taste_drift"]

Groups = dict[str, "NDArray[np.bool_]"]
"""Groups of users: name, and which users belong to it, bool [num_users]."""

_LENGTH_EDGES = (1, 6, 11, 21, 51, 101, 201, 10**9)

_USERS_PER_CHUNK = 1024
_TINY = 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class Behaviour:
    """The users of a report, in the order of `Report.user_rows`.

    Args:
        lengths: number of events of each user's history, int64 [num_users].
        long_share: weight of the long-term interests in each user's fused vector, float [num_users]; None: the model
            has no long-term interests.
        decays: decay of each long-term interest per day, float [num_long]; None: the model has none, or does not use
            times.
        drift: how much each user's taste changed, float [num_users] in [0, 2], NaN if the history is too short (see
            `taste_drift`); None: not measured.
    """

    lengths: NDArray[np.int64]
    long_share: NDArray[np.float32] | None = None
    decays: NDArray[np.float32] | None = None
    drift: NDArray[np.float64] | None = None


def behaviour(recommender: Recommender, split: Split, report: Report) -> Behaviour:
    """The behaviour of `recommender` for the users of a report on `split`."""
    target = cast(Literal["validation", "test"], report.target)
    history = split.history(target)
    lengths = history.lengths[report.user_rows]
    scorer = RecommenderScorer(recommender, history, split.targets(target)[1] if report.request_time else None)
    drift = taste_drift(history, scorer.item_vectors(), report.user_rows)
    if recommender.config.num_long == 0:
        return Behaviour(lengths, drift=drift)
    share = np.concatenate([scorer.long_share(users) for users in _chunks(report.user_rows)])
    decays = recommender.artifact.weights["long_pooling.decay"].numpy() if recommender.config.use_times else None
    return Behaviour(lengths, share, decays, drift)


def taste_drift(
    history: EventLog, vectors: NDArray[np.float32], user_rows: NDArray[np.int64], newest: int = 10
) -> NDArray[np.float64]:
    """How far a user's newest events are from the earlier ones.

        drift = 1 - cos(mean of the newest vectors, mean of the vectors before)

    with item vectors minus the mean over all items: 0 if the taste did not change, 1 if old and new events have nothing
    in common.

    Args:
        history: the histories.
        vectors: vectors of the items, in the order of `history.item_ids`, float [num_items, dim].
        user_rows: rows of the users, int64 [num_users].
        newest: number of events that count as new.

    Returns:
        [num_users] in [0, 2]; NaN for users without `newest` events before the newest ones.

    Raises:
        ArgumentError: `newest` is below 1, or a row is out of range.
    """
    newest = as_integer("newest", newest, 1, 2**31 - 1)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    drift = [_drift(history, centred, users, newest) for users in _chunks(user_rows)]
    return np.concatenate(drift)


def length_groups(lengths: NDArray[np.int64]) -> Groups:
    """Users by the length of their history; empty groups are left out."""
    groups = {}
    for low, high in itertools.pairwise(_LENGTH_EDGES):
        members = (lengths >= low) & (lengths < high)
        if members.any():
            groups[f"{low}+" if high == _LENGTH_EDGES[-1] else f"{low} to {high - 1}"] = members
    return groups


def drift_groups(drift: NDArray[np.float64]) -> Groups:
    """Quarters of the users by drift, in ascending order, without those of unknown drift; {} for fewer than four."""
    known = drift[~np.isnan(drift)]
    if len(known) < 4:
        return {}
    edges = np.quantile(known, [0.25, 0.5, 0.75])
    quarter = np.where(np.isnan(drift), -1, np.searchsorted(edges, drift))
    bounds = [known.min(), *edges, known.max()]
    names = [f"{low:.2f} to {high:.2f}" for low, high in itertools.pairwise(bounds)]
    return {name: quarter == place for place, name in enumerate(names) if (quarter == place).any()}


def _drift(
    history: EventLog, vectors: NDArray[np.float64], user_rows: NDArray[np.int64], newest: int
) -> NDArray[np.float64]:
    index, offsets = gather_events(history, user_rows)
    sums = np.zeros((len(index) + 1, vectors.shape[1]))
    np.cumsum(vectors[history.items[index]], axis=0, out=sums[1:])
    cut = np.maximum(offsets[1:] - newest, offsets[:-1])
    new, old = sums[offsets[1:]] - sums[cut], sums[cut] - sums[offsets[:-1]]
    lengths = np.linalg.norm(new, axis=1) * np.linalg.norm(old, axis=1)
    cosine = (new * old).sum(axis=1) / np.maximum(lengths, _TINY)
    return np.where(np.diff(offsets) >= 2 * newest, 1 - cosine.clip(-1, 1), np.nan)


def _chunks(user_rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return np.array_split(user_rows, max(1, len(user_rows) // _USERS_PER_CHUNK))
