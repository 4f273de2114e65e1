"""The result of an evaluation, as an object, as JSON values and as a line of a plain-text table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.evaluation.metrics import MISSED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Measured", "Report", "aligned", "format_table"]

BASELINE = "popularity"


class Measured:
    """What a `Report` and a `ListReport` have in common."""

    k: int | tuple[int, ...]
    metrics: dict[str, float]
    standard_errors: dict[str, float]

    @property
    def ks(self) -> tuple[int, ...]:
        """`k` as a tuple."""
        return (self.k,) if isinstance(self.k, int) else self.k

    def _json_values(self, *left_out: str) -> dict[str, Any]:
        """All fields except `left_out` as JSON values, NaN as None."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        result = {field.name: getattr(self, field.name) for field in fields if field.name not in left_out}
        result["k"] = self.k if isinstance(self.k, int) else list(self.k)
        for name in ("metrics", "standard_errors"):
            result[name] = {key: None if math.isnan(value) else value for key, value in result[name].items()}
        return result


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(Measured):
    """How well one model ranks the targets of one split.

    Args:
        name: name of the model.
        k: length of the recommended lists as requested: a number, or a tuple of several (a list in JSON).
        target: "test" or "validation".
        protocol: how the events were split, in words.
        metrics: "ndcg@k", "hr@k", "mrr@k", "coverage@k", "novelty@k" (with the number for k), for each k; see
            `lsif_sdk.evaluation.metrics`.
        standard_errors: standard errors of "ndcg@k", "hr@k" and "mrr@k", which are means over users: sample standard
            deviation / sqrt(num_users); NaN for one user.
        num_users: number of users ranked.
        num_items: number of items among which each target was ranked.
        num_repeated: number of users whose target is in their history; with `exclude_seen` it is a miss, with rank
            `lsif_sdk.evaluation.metrics.MISSED`.
        exclude_seen: whether items of the history were left out of ranks and lists.
        request_time: whether the model got the time of the target event as request time.
        targets_hash: identifies the predicted (user, item) pairs of all users of the split; see
            `lsif_sdk.evaluation.splits.targets_hash`.
        user_rows: int64 [num_users], rows in `user_ids` of the events.
        per_user: rank of each user's target, int64 [num_users], in the order of `user_rows`; `MISSED` for a miss (null
            in JSON).
    """

    name: str
    k: int | tuple[int, ...]
    target: str
    protocol: str
    metrics: dict[str, float]
    standard_errors: dict[str, float]
    num_users: int
    num_items: int
    num_repeated: int
    exclude_seen: bool
    request_time: bool
    targets_hash: str
    user_rows: NDArray[np.int64] = dataclasses.field(repr=False)
    per_user: NDArray[np.int64] = dataclasses.field(repr=False)

    def to_dict(self, per_user: bool = False) -> dict[str, Any]:
        """The fields as JSON values, NaN as None; user rows and ranks only if `per_user`."""
        result = self._json_values("user_rows", "per_user")
        if per_user:
            result |= {
                "user_rows": self.user_rows.tolist(),
                "per_user": [None if rank == MISSED else rank for rank in self.per_user.tolist()],
            }
        return result


def format_table(reports: Report | Sequence[Report]) -> str:
    """A plain-text table with one line per report and, if one is named "popularity", each NDCG relative to that one's.

    Reports on several k give one table per k, in the first report's order, with a blank line between them.

    Raises:
        ArgumentError: `reports` is empty, or the reports are not comparable, since their protocols, targets, users,
            items, k or masking differ.
        ArgumentTypeError: not a `Report` or a sequence of them.
    """
    if isinstance(reports, Report):
        reports = [reports]
    if not isinstance(reports, Sequence):
        raise ArgumentTypeError("reports", "a Report, or several in a sequence", reports)
    for report in reports:
        if not isinstance(report, Report):
            raise ArgumentTypeError("reports", "a Report, or several in a sequence", report)
    if not reports:
        raise ArgumentError("reports", "at least one report", "none")
    tasks = {
        (r.targets_hash, frozenset(r.ks), r.target, r.protocol, r.num_users, r.num_items, r.exclude_seen)
        for r in reports
    }
    if len(tasks) > 1:
        expected = "the same protocol, targets, users, items, k and masking"
        raise ArgumentError("reports", expected, f"{len(tasks)} different tasks")
    return "\n".join(["\n\n".join(_table(reports, k) for k in reports[0].ks), _footnote(reports[0])])


def _table(reports: Sequence[Report], k: int) -> str:
    ndcg = f"ndcg@{k}"
    base = next((report.metrics[ndcg] for report in reports if report.name == BASELINE), None)
    header = ["model", f"NDCG@{k}", f"x {BASELINE}", f"HR@{k}", f"MRR@{k}", f"coverage@{k}", f"novelty@{k}, bits"]
    rows = [header]
    for report in reports:
        values, errors = report.metrics, report.standard_errors
        with_errors = [f"{values[name]:.4f} ± {errors[name]:.4f}" for name in (ndcg, f"hr@{k}", f"mrr@{k}")]
        ratio = f"{values[ndcg] / base:.2f}" if base else "-"
        name = report.name + (" (knows request time)" if report.request_time else "")
        rows.append([name, with_errors[0], ratio, *with_errors[1:]])
        rows[-1] += [f"{values[f'coverage@{k}']:.1%}", f"{values[f'novelty@{k}']:.2f}"]
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first a header, as lines of text; the first column is left-aligned, others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        columns = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *columns]))
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _footnote(report: Report) -> str:
    masking = "seen items left out" if report.exclude_seen else "seen items kept"
    if report.num_repeated:
        masking += f" ({report.num_repeated:,} targets are seen items{': misses' if report.exclude_seen else ''})"
    return (
        f"{report.protocol}, {report.target} targets {report.targets_hash[:12]}; {report.num_users:,} users, "
        f"{report.num_items:,} items, {masking}, ties against the target, mean ± standard error"
    )
