"""Ranking metrics for one target per user, in which ties and NaN cannot favour a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lsif_sdk.arguments import as_array, as_int64, as_integer, as_k, as_ks, whole_numbers
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.ragged import owners_of

__all__ = [
    "MISSED",
    "coverage",
    "novelty",
    "pessimistic_ranks",
    "rank_gains",
    "ranks_to_metrics",
    "standard_error",
    "top_k_rows",
]

Ragged = tuple[NDArray[np.int64], NDArray[np.int64]]

MISSED: int = np.iinfo(np.int64).max
"""Rank of a target that is in no list, however long."""


def rank_gains(ranks: NDArray[np.int64], k: int | Sequence[int] = 10) -> dict[str, NDArray[np.float64]]:
    """Each user's contributions to the metrics of `ranks_to_metrics`: float64 [num_users] per metric.

    With one relevant item the ideal DCG is 1, so NDCG@k = 1 / log2(1 + rank), HR@k = 1 and MRR@k = 1 / rank
    if rank <= k; otherwise all three are 0.

    Args:
        ranks: int64 [num_users], the best rank is 1.
        k: length of the recommended list, >= 1, or several.

    Raises:
        ArgumentError: a rank is below 1 or not a whole number, `ranks` has another shape, or `k` is out of range.
        ArgumentTypeError: an argument is of the wrong type.
    """
    ranks, ks = as_int64("ranks", ranks), as_ks(k)
    if ranks.size and ranks.min() < 1:
        raise ArgumentError("ranks", "one rank >= 1 per user", int(ranks.min()))
    exact = ranks.astype(np.float64)
    discounted, reciprocal = 1 / np.log2(1.0 + exact), 1 / exact
    gains: dict[str, NDArray[np.float64]] = {}
    for length in ks:
        hit = (ranks <= length).astype(np.float64)
        gains |= {f"ndcg@{length}": hit * discounted, f"hr@{length}": hit, f"mrr@{length}": hit * reciprocal}
    return gains


def ranks_to_metrics(ranks: NDArray[np.int64], k: int | Sequence[int] = 10) -> dict[str, float]:
    """NDCG@k, HR@k and MRR@k as means over users, under the keys "ndcg@10", "hr@10", "mrr@10" for k = 10.

    Args:
        ranks: int64 [num_users], the best rank is 1; at least one user.
        k: length of the recommended list, >= 1, or several.

    Raises:
        ArgumentError: there are no users, or see `rank_gains`.
        ArgumentTypeError: an argument is of the wrong type.
    """
    gains = rank_gains(ranks, k)
    if not all(map(len, gains.values())):
        raise ArgumentError("ranks", "at least one user", "none")
    return {name: float(values.mean()) for name, values in gains.items()}


def pessimistic_ranks(
    scores: NDArray[np.floating], targets: NDArray[np.int64], seen: NDArray[np.bool_] | Ragged | None = None
) -> NDArray[np.int64]:
    """Rank of each user's target: 1 + the number of OTHER unseen items whose score is >= the target's.

    Ties count against the target, so a model that gives all items the same score ranks it last. A target among the
    seen items, or with a score of -infinity, is a miss with the rank `MISSED`: no list contains it, however long.

    Args:
        scores: float [batch, num_items]; infinity is an ordinary value.
        targets: item rows int64 [batch].
        seen: items to leave out: a mask bool [batch, num_items], or (items int64 [total], offsets int64 [batch + 1])
            where user b has seen items[offsets[b] : offsets[b + 1]], repeats allowed; None for none.

    Returns:
        int64 [batch].

    Raises:
        ArgumentError: shapes do not fit, a row is out of range, or a score is NaN.
        ArgumentTypeError: an argument is of the wrong type.
    """
    scores, targets = _as_scores(scores), as_int64("targets", targets)
    batch, num_items = scores.shape
    if targets.shape != (batch,) or (batch and (targets.min() < 0 or targets.max() >= num_items)):
        expected = f"{batch} item rows in [0, {num_items})"
        raise ArgumentError("targets", expected, f"{targets[:5]} of shape {targets.shape}")
    users = np.arange(batch)
    # These include the target itself unless it is seen, so their number is its rank.
    not_worse = scores >= scores[users, targets][:, None]
    _clear_seen(not_worse, seen, False)
    listed = not_worse[users, targets] & (scores[users, targets] > -np.inf)
    return np.where(listed, np.count_nonzero(not_worse, axis=1), MISSED)


def top_k_rows(
    scores: NDArray[np.floating], k: int, seen: NDArray[np.bool_] | Ragged | None = None
) -> NDArray[np.int64]:
    """The k best items of each user, best first, ties by lower row: int64 [batch, k].

    Seen items (see `pessimistic_ranks`) and items with a score of -infinity are left out; short lists end with -1.

    Raises:
        ArgumentError: shapes do not fit, a row or `k` is out of range, or a score is NaN.
        ArgumentTypeError: an argument is of the wrong type.
    """
    open_scores, k = _as_scores(scores).copy(), as_k(k)
    batch, num_items = open_scores.shape
    _clear_seen(open_scores, seen, -np.inf)
    top = np.full((batch, k), -1, dtype=np.int64)
    width = min(k, num_items)
    if width == 0:
        return top
    threshold = np.partition(open_scores, num_items - width, axis=1)[:, num_items - width]
    for user in range(batch):
        row = open_scores[user]
        candidates = np.flatnonzero((row >= threshold[user]) & (row > -np.inf))
        best = candidates[np.argsort(-row[candidates], kind="stable")[:k]]
        top[user, : best.size] = best
    return top


def coverage(top_items: NDArray[np.int64], num_items: int) -> float:
    """Share of the catalogue that appears in at least one user's list.

    Args:
        top_items: item rows int64 [num_users, k]; -1 = no item.
        num_items: size of the catalogue, >= 1.

    Raises:
        ArgumentError: a row is out of range or not a whole number, or `num_items` is below 1.
        ArgumentTypeError: an argument is of the wrong type.
    """
    num_items = as_integer("num_items", num_items, 1, 2**63 - 1)
    listed = _listed(top_items, num_items)
    return np.unique(listed).size / num_items


def novelty(top_items: NDArray[np.int64], user_counts: NDArray[np.int64], num_users: int) -> float:
    """Mean self-information of the recommended items in bits: the mean of -log2(max(user_counts[i], 1) / num_users).

    The mean is over all entries of all lists, so longer lists weigh more. An item that nobody has met would have
    infinite self-information; it counts as if one user had met it.

    Args:
        top_items: item rows int64 [num_users, k]; -1 = no item.
        user_counts: number of distinct users who met each item, int64 [num_items], each <= `num_users`.
        num_users: number of users that were counted, >= 1.

    Returns:
        Bits per recommended item; NaN if nothing was recommended.

    Raises:
        ArgumentError: a row or count is out of range or not a whole number, or `num_users` is below 1.
        ArgumentTypeError: an argument is of the wrong type.
    """
    num_users = as_integer("num_users", num_users, 1, 2**63 - 1)
    user_counts = as_int64("user_counts", user_counts)
    if user_counts.size and (user_counts.min() < 0 or user_counts.max() > num_users):
        got = f"counts from {user_counts.min()} to {user_counts.max()}"
        raise ArgumentError("user_counts", f"distinct users, between 0 and {num_users}", got)
    listed = _listed(top_items, user_counts.size)
    if listed.size == 0:
        return float("nan")
    return float(np.mean(np.log2(num_users) - np.log2(np.maximum(user_counts[listed], 1))))


def standard_error(gains: NDArray[np.float64]) -> float:
    """Standard error of the mean over users: the sample standard deviation / sqrt(num_users); NaN for fewer than two.

    Args:
        gains: float64 [num_users].
    """
    return float(gains.std(ddof=1) / np.sqrt(gains.size)) if gains.size > 1 else float("nan")


def _listed(top_items: NDArray[np.int64], num_items: int) -> NDArray[np.int64]:
    rows = whole_numbers("top_items", as_array("top_items", top_items, "item rows").ravel(), "item rows")
    listed = rows[rows >= 0]
    if listed.size and listed.max() >= num_items:
        raise ArgumentError("top_items", f"item rows below {num_items}", int(listed.max()))
    return listed


def _as_scores(given: NDArray[np.floating]) -> NDArray[np.floating]:
    scores = as_array("scores", given, "numbers of shape [batch, num_items]")
    if scores.dtype.kind not in "iuf":
        raise ArgumentTypeError("scores", "numbers of shape [batch, num_items]", given)
    if scores.ndim != 2:
        raise ArgumentError("scores", "shape [batch, num_items]", scores.shape)
    if np.isnan(scores).any():
        user, item = np.argwhere(np.isnan(scores))[0]
        raise ArgumentError("scores", "no NaN", f"NaN for user {user}, item {item}")
    return scores if scores.dtype.kind == "f" else scores.astype(np.float64)  # integers have no infinity


def _clear_seen(values: NDArray[np.generic], seen: NDArray[np.bool_] | Ragged | None, fill: float) -> None:
    """Writes `fill` over the seen items of `values` [batch, num_items], in place."""
    if seen is None:
        return
    batch, num_items = values.shape
    if isinstance(seen, tuple):
        if len(seen) != 2:
            raise ArgumentError("seen", "a mask, or a pair of items and offsets", f"{len(seen)} arrays")
        items, offsets = as_int64("seen[0]", seen[0]), as_int64("seen[1]", seen[1])
        bounds_fit = offsets.shape == (batch + 1,) and offsets[0] == 0 and offsets[-1] == items.size
        if not bounds_fit or (np.diff(offsets) < 0).any():
            got = f"offsets {offsets[:5]}.. of shape {offsets.shape} for {items.size} items"
            raise ArgumentError("seen", f"rising offsets [{batch + 1}] from 0 to the number of items", got)
        if items.size and (items.min() < 0 or items.max() >= num_items):
            raise ArgumentError("seen", f"item rows in [0, {num_items})", f"{items.min()} to {items.max()}")
        values[owners_of(offsets), items] = fill
        return
    mask = as_array("seen", seen, f"a bool mask of shape {values.shape}")
    if mask.shape != values.shape or mask.dtype != np.bool_:
        raise ArgumentError("seen", f"a bool mask of shape {values.shape}", f"{mask.dtype} {mask.shape}")
    values[mask] = fill
