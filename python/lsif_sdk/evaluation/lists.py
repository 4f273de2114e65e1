"""Metrics of recommendation lists from any system, against any number of relevant items per user."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsif_sdk.arguments import as_column, as_ks, first_repeat, is_integer
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError
from lsif_sdk.evaluation.metrics import standard_error
from lsif_sdk.evaluation.report import Measured, aligned
from lsif_sdk.ids import Id, rows_by_text
from lsif_sdk.recommendations import Recommendations, UserRecommendations
from lsif_sdk.tables import Ids, Source, Table, read_table

__all__ = ["ListReport", "format_lists", "measure_lists"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ListReport(Measured):
    """How well recommendation lists show what is relevant to their users.

    Args:
        k: how many entries of a list count, as requested: a number, or a tuple of several (a list in JSON).
        metrics: "ndcg@k", "recall@k", "precision@k", "map@k", "mrr@k", "hr@k" (with the number for k), for each k:
            means over users; see `measure_lists`.
        standard_errors: standard errors of these means: sample standard deviation / sqrt(num_users); NaN for one user.
        num_users: number of users with relevant items.
        num_without_list: how many of them have no list, which counts as 0.
        user_ids: their ids, sorted: int64 [num_users], or a list of text.
        gains: each user's contribution to each metric, float64 [num_users], in the order of `user_ids`. That depends
            only on the relevant items, so `paired_bootstrap` can compare two systems.
    """

    k: int | tuple[int, ...]
    metrics: dict[str, float]
    standard_errors: dict[str, float]
    num_users: int
    num_without_list: int
    user_ids: Ids = dataclasses.field(repr=False)
    gains: dict[str, NDArray[np.float64]] = dataclasses.field(repr=False)

    def to_dict(self, per_user: bool = False) -> dict[str, Any]:
        """The fields as JSON values, NaN as None; user ids and gains only if `per_user`."""
        result = self._json_values("user_ids", "gains")
        if per_user:
            result["user_ids"] = np.asarray(self.user_ids).tolist()
            result["gains"] = {name: values.tolist() for name, values in self.gains.items()}
        return result


def measure_lists(
    lists: Recommendations | Source,
    relevant: Source,
    k: int | Sequence[int] = 10,
    *,
    users: Sequence[Id] | NDArray[Any] | None = None,
    user: str = "user",
    item: str = "item",
    score: str = "score",
    rank: str | None = None,
    separator: str | None = None,
) -> ListReport:
    """Measures recommendation lists against the relevant items of each user, one or many.

    For a user with R relevant items, rel(r) = 1 where rank r of the list has one of them, otherwise 0, and
    hits(k) = sum of rel(r) over r <= k:

        ndcg@k       sum of rel(r) / log2(1 + r) over r <= k, divided by the sum of 1 / log2(1 + r) over r <= min(k, R)
        recall@k     hits(k) / R
        precision@k  hits(k) / k; missing entries of a shorter list count as misses
        map@k        sum of rel(r) hits(r) / r over r <= k, divided by min(k, R)
        mrr@k        1 / rank of the first relevant item if that is <= k, otherwise 0
        hr@k         1 if hits(k) > 0, otherwise 0

    Relevance is binary, so both forms of DCG are the same (Järvelin & Kekäläinen 2002; Burges et al. 2005); the ideal
    list begins with min(k, R) relevant items. Average precision (Manning, Raghavan & Schütze 2008, 8.4) is cut off at
    k and divided by the most hits possible within k; some libraries divide by R, or by k. Means are over the users of
    `relevant`, with 0 for users without a list; lists of other users are ignored. With one relevant item per user,
    "ndcg@k", "mrr@k" and "hr@k" are those of `evaluate`.

    Ids match by their text, as in `evaluate`: 7 in one table is "7" in the other.

    Args:
        lists: the `Recommendations` for several users, together with `users`; or a table with a row for each user and
            item, in any order, in a form that `lsif_sdk.training.read_events` takes (a DataFrame, a path, ...).
        relevant: such a table with a row for each user and relevant item.
        k: how many entries of each list count, or several numbers.
        users: ids of the users of a `Recommendations`, in its order.
        user: column of user ids in the tables.
        item: column of item ids in the tables.
        score: column of the scores in `lists`, the highest first; not read if `rank` is given. Among equal scores,
            relevant items come last, so that ties cannot raise a metric. An item with -infinity is not part of the
            list, as in `evaluate`.
        rank: column of ranks in `lists`, the lowest first, ties likewise. Only their order counts: ranks 2, 5 and 9 are
            the first three places. None = by `score`.
        separator: separator of the columns, if tables are text files (see `read_events`).

    Warns:
        UserWarning: no list has an item that is relevant to any user, so all gains are 0. Most often ids are spelled
            differently: "10.0" is not "10".

    Raises:
        ArgumentError: an argument is out of range, or `users` are not those of `lists`.
        ArgumentTypeError: an argument is of the wrong type.
        DataError: a table cannot be read, has no rows or lacks a column; an id is missing; a score or rank is NaN or
            not a number; a user has an item twice; or no user of `relevant` has a list.
        MissingExtraError: pandas is not installed.
    """
    ks = as_ks(k)
    order_by = {"score": score} if rank is None else {"rank": rank}
    _refuse_one_for_two({"user": user, "item": item} | order_by)
    columns = {"user=": user, "item=": item}
    wanted = _pairs(read_table(relevant, columns, separator, "relevant"), user, item)
    if isinstance(lists, Recommendations):
        if order_by != {"score": "score"}:
            ((option, column),) = order_by.items()
            raise ArgumentError(option, "nothing beside Recommendations, which are in order", repr(column))
        table, user, item, rank = _table_of(lists, users), "user", "item", "rank"
    elif isinstance(lists, UserRecommendations):
        raise ArgumentTypeError("lists", "Recommendations, of several users in one call, or a table", lists)
    else:
        columns |= {"score= (or rank=)": score} if rank is None else {"rank=": rank}
        table = read_table(lists, columns, separator, "lists")
        if users is not None:
            expected = f"None beside a table, which has them in column {user!r}"
            raise ArgumentError("users", expected, type(users).__name__)
    shown = _pairs(table, user, item)
    order = -table.numbers(score) if rank is None else table.numbers(rank)
    hits, num_with_list = _hits(shown, order, wanted)
    gains = _gains(hits, np.bincount(wanted.users, minlength=len(wanted.user_ids)), ks)
    return ListReport(
        k=ks[0] if is_integer(k) else ks,
        metrics={name: float(values.mean()) for name, values in gains.items()},
        standard_errors={name: standard_error(values) for name, values in gains.items()},
        num_users=len(wanted.user_ids),
        num_without_list=len(wanted.user_ids) - num_with_list,
        user_ids=wanted.user_ids,
        gains=gains,
    )


def format_lists(reports: Mapping[str, ListReport]) -> str:
    """A plain-text table of several systems, one line per system; for several k one table each, in the first's order.

    Raises:
        ArgumentError: `reports` is empty, or the reports are not comparable, since their users or k differ.
        ArgumentTypeError: not a mapping of names to `ListReport`s.
    """
    expected = "ListReports by name"
    if not isinstance(reports, Mapping):
        raise ArgumentTypeError("reports", expected, reports)
    if odd := [report for report in reports.values() if not isinstance(report, ListReport)]:
        raise ArgumentTypeError("reports", expected, odd[0])
    if not reports:
        raise ArgumentError("reports", "at least one report", "none")
    (name, first), *others = reports.items()
    ks, users = first.ks, list(map(str, first.user_ids))
    for other, report in others:
        if set(report.ks) != set(ks):
            raise ArgumentError("reports", f"one k, {first.k} as of {name!r}", f"{report.k} of {other!r}")
        if list(map(str, report.user_ids)) != users:
            expected = f"the same users, {len(users):,} as of {name!r}"
            raise ArgumentError("reports", expected, f"others, {report.num_users:,}, of {other!r}")
    return "\n\n".join(_table_at(reports, k) for k in ks) + f"\n{first.num_users:,} users, mean ± standard error"


def _table_at(reports: Mapping[str, ListReport], k: int) -> str:
    names = [f"{metric}@{k}" for metric in ("ndcg", "recall", "precision", "map", "mrr", "hr")]
    rows = [["lists", *names, "without a list"]]
    for system, report in reports.items():
        values, errors = report.metrics, report.standard_errors
        means = [f"{values[name]:.4f} ± {errors[name]:.4f}" for name in names]
        rows.append([str(system), *means, f"{report.num_without_list:,}"])
    return aligned(rows)


class _Pairs(NamedTuple):
    """Distinct (user, item) pairs: rows int64 [num_pairs] into the ids."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    user_ids: Ids
    item_ids: Ids


class _Hits(NamedTuple):
    """Relevant items in lists, sorted by user and rank: user rows and ranks int64 [num_hits]."""

    users: NDArray[np.int64]
    ranks: NDArray[np.int64]


def _refuse_one_for_two(columns: dict[str, str]) -> None:
    for place, (option, column) in enumerate(columns.items()):
        if column in list(columns.values())[:place]:
            raise ArgumentError(option, "a column of its own", repr(column))


def _table_of(lists: Recommendations, users: object) -> Table:
    import pandas as pd

    expected = f"the ids of the {len(lists)} users of lists, in that order"
    if users is None:
        raise ArgumentTypeError("users", expected, None)
    names = as_column("users", users, "ids")
    if len(names) != len(lists):
        raise ArgumentError("users", expected, len(names))
    if (missing := np.flatnonzero(pd.isna(names))).size:
        raise ArgumentError("users", expected, f"{names[missing[0]]!s} at position {missing[0]}")
    texts = list(map(str, names.tolist()))  # ids match by their text
    if len(set(texts)) < len(texts):
        raise ArgumentError("users", f"{expected}, all different", f"{first_repeat(texts)} twice")
    frame = pd.DataFrame(lists.columns(texts))
    return Table("lists (Recommendations)", frame, typed=True)


def _pairs(table: Table, user: str, item: str) -> _Pairs:
    """The pairs in the order of the table's rows; refuses repeated ones."""
    (users, user_ids), (items, item_ids) = table.ids(user), table.ids(item)
    keys = users * len(item_ids) + items
    order = np.argsort(keys, kind="stable")
    repeats = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    if repeats.size:
        first, second = order[repeats[0]], order[repeats[0] + 1]
        names = f"user {user_ids[users[first]]} has item {item_ids[items[first]]}"
        more = f" ({repeats.size:,} such rows)" if repeats.size > 1 else ""
        raise DataError(f"{table.name}: {names} twice, in rows {first + 1} and {second + 1}{more}")
    return _Pairs(users, items, user_ids, item_ids)


def _hits(shown: _Pairs, order: NDArray[np.float64], wanted: _Pairs) -> tuple[_Hits, int]:
    """The hits, and how many users of `wanted` have a list; lists are sorted by `order`, float64 [num_shown]."""
    users = rows_by_text(wanted.user_ids, shown.user_ids)[shown.users]
    items = rows_by_text(wanted.item_ids, shown.item_ids)[shown.items]
    if not (users >= 0).any():
        some, others = (", ".join(map(str, ids[:3])) or "nobody" for ids in (shown.user_ids, wanted.user_ids))
        raise DataError(
            f"lists: no user of relevant has a list; there are lists of {some}, and relevant names {others}"
        )
    if not (items >= 0).any():
        some, others = (", ".join(map(str, ids[:3])) for ids in (shown.item_ids, wanted.item_ids))
        same = "no item of relevant is in a list (ids of another spelling?)"
        warnings.warn(f"lists: {same}; lists have {some}, and relevant names {others}", stacklevel=3)
    width = len(wanted.item_ids)
    is_hit = (items >= 0) & np.isin(users * width + items, wanted.users * width + wanted.items)
    listed = np.flatnonzero((users >= 0) & (order < np.inf))
    listed = listed[np.lexsort((is_hit[listed], order[listed], users[listed]))]
    users, is_hit = users[listed], is_hit[listed]
    places = _places(users)
    return _Hits(users[is_hit], places[is_hit]), int(np.count_nonzero(places == 1))


def _places(users: NDArray[np.int64]) -> NDArray[np.int64]:
    """1, 2, .. for the rows of each user, given the sorted users of rows, int64 [num_rows]."""
    return np.arange(1, len(users) + 1) - np.searchsorted(users, users)


def _gains(hits: _Hits, num_relevant: NDArray[np.int64], ks: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """The metrics of each user, float64 [num_users]; `num_relevant` is int64 [num_users], all >= 1."""
    discounts = 1 / np.log2(1.0 + np.arange(1, max(ks) + 1))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    places = _places(hits.users)
    gains: dict[str, NDArray[np.float64]] = {}
    for k in ks:
        within = hits.ranks <= k
        users, ranks, place = hits.users[within], hits.ranks[within], places[within]
        values = np.stack([discounts[ranks - 1], np.ones(len(ranks)), place / ranks, (place == 1) / ranks])
        sums = [np.bincount(users, row, len(num_relevant)).astype(np.float64) for row in values]
        dcg, found, precision, reciprocal = sums
        reachable = np.minimum(k, num_relevant)
        gains |= {
            f"ndcg@{k}": dcg / ideal[reachable],
            f"recall@{k}": found / num_relevant,
            f"precision@{k}": found / k,
            f"map@{k}": precision / reachable,
            f"mrr@{k}": reciprocal,
            f"hr@{k}": (found > 0).astype(np.float64),
        }
    return gains
