"""One self-contained HTML page of an evaluation, for people who would rather look than read; and the same as JSON."""

from __future__ import annotations

import dataclasses
import html
import importlib.util
import io
import itertools
import json
import math
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from lsif_sdk.errors import ArgumentError, MissingExtraError
from lsif_sdk.evaluation.bootstrap import paired_bootstrap
from lsif_sdk.evaluation.metrics import rank_gains
from lsif_sdk.evaluation.report import Report
from lsif_sdk.evaluation.scorer import RecommenderScorer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from lsif_sdk.evaluation.splits import Split
    from lsif_sdk.recommender import Recommender

__all__ = ["Behaviour", "behaviour", "check_plots", "write_report"]

_USERS_PER_CHUNK = 1024

_LENGTH_EDGES = (1, 6, 11, 21, 51, 101, 201, 10**9)
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .8rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}figure{margin:1.5rem 0}
figcaption{color:#555}"""


@dataclasses.dataclass(frozen=True, eq=False)
class Behaviour:
    """What is known of the users of a report, and how a model treats them, for the plots by group.

    Args:
        lengths: events of each user's history, int64 [num_users], in the order of `Report.user_rows`.
        long_share: weight of the long-term interests in each user's fused vector, float [num_users]; None: no model
            with interests.
        decays: decay of each long-term interest per day, float [num_long]; None: no such interests.
    """

    lengths: NDArray[np.int64]
    long_share: NDArray[np.float32] | None = None
    decays: NDArray[np.float32] | None = None


def behaviour(recommender: Recommender, split: Split, report: Report) -> Behaviour:
    """How `recommender` treats the users of a report made on `split`."""
    target = cast(Literal["validation", "test"], report.target)
    history = split.history(target)
    lengths = history.lengths[report.user_rows]
    if recommender.config.num_long == 0:
        return Behaviour(lengths)
    scorer = RecommenderScorer(recommender, history, split.targets(target)[1] if report.request_time else None)
    chunks = np.array_split(report.user_rows, max(1, len(report.user_rows) // _USERS_PER_CHUNK))
    share = np.concatenate([scorer.long_share(users) for users in chunks])
    decays = recommender.artifact.weights["long_pooling.decay"].numpy() if recommender.config.use_times else None
    return Behaviour(lengths, share, decays)


def write_report(
    folder: str | os.PathLike[str], reports: Sequence[Report], users: Behaviour, title: str = "Evaluation"
) -> pathlib.Path:
    """Writes index.html (nothing else is needed to read it) and report.json into a folder, which may exist.

    Args:
        folder: where to.
        reports: of models measured on the same users; the last is the one the others are compared with.
        users: the same users.
        title: heading of the page.

    Returns:
        The path of index.html.

    Raises:
        ArgumentError: no reports, or reports on different users.
        MissingExtraError: matplotlib is not installed.
    """
    if not reports:
        raise ArgumentError("reports", "at least one report", "none")
    first = reports[0]
    if any(not np.array_equal(report.user_rows, first.user_rows) for report in reports):
        raise ArgumentError("reports", "reports on the same users", "different users")
    if len(users.lengths) != first.num_users:
        raise ArgumentError("users", f"{first.num_users} users", len(users.lengths))
    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    rows = [_intervals(report, reports[-1]) for report in reports]
    figures = [_figure(caption, draw) for caption, draw in _plots(reports, rows, users)]
    values = {"title": title, "models": [report.to_dict() | row for report, row in zip(reports, rows, strict=True)]}
    (path / "report.json").write_text(json.dumps(values, indent=1) + "\n", "utf-8")
    page = path / "index.html"
    page.write_text(_page(title, reports, rows, figures), "utf-8")
    return page


def _intervals(report: Report, reference: Report) -> dict[str, Any]:
    """95 % intervals over users of NDCG, and of its difference to the reference's."""
    name = f"ndcg@{report.k}"
    gains, of_reference = (rank_gains(r.per_user, r.k)[name] for r in (report, reference))
    difference = None if report is reference else paired_bootstrap(of_reference, gains)._asdict()
    return {"ndcg_interval": paired_bootstrap(gains)._asdict(), "reference_minus_this": difference}


def _plots(
    reports: Sequence[Report], rows: Sequence[dict[str, Any]], users: Behaviour
) -> list[tuple[str, Callable[[Axes], None]]]:
    k = reports[0].k
    plots: list[tuple[str, Callable[[Axes], None]]] = [
        (f"NDCG@{k} by model, with 95 % intervals over users", lambda axes: _by_model(axes, reports, rows)),
        (f"Accuracy (NDCG@{k}) against catalogue coverage@{k}", lambda axes: _accuracy_coverage(axes, reports)),
        (f"NDCG@{k} by length of the history", lambda axes: _by_length(axes, reports, users.lengths)),
    ]
    share, decays = users.long_share, users.decays
    if share is not None:
        caption = "Weight of the long-term interests in the fused vector, by length of the history (quartiles)"
        plots.append((caption, lambda axes: _share_by_length(axes, share, users.lengths)))
    if decays is not None and len(decays):
        caption = "What an event still counts for in each long-term interest, by its age"
        plots.append((caption, lambda axes: _time_scales(axes, decays)))
    return plots


def _by_model(axes: Axes, reports: Sequence[Report], rows: Sequence[dict[str, Any]]) -> None:
    intervals = [row["ndcg_interval"] for row in rows]
    means = np.array([interval["mean"] for interval in intervals])
    errors = np.array([[i["mean"] - i["low"], i["high"] - i["mean"]] for i in intervals]).T
    axes.barh([report.name for report in reports], means, xerr=errors, color="#4477aa", capsize=3)
    axes.set_xlabel(f"NDCG@{reports[0].k}")


def _accuracy_coverage(axes: Axes, reports: Sequence[Report]) -> None:
    k = reports[0].k
    for report in reports:
        x, y = report.metrics[f"coverage@{k}"], report.metrics[f"ndcg@{k}"]
        axes.plot(x, y, "o", color="#4477aa")
        axes.annotate(report.name, (x, y), textcoords="offset points", xytext=(5, 5))
    axes.set_xlabel("share of the catalogue in at least one list")
    axes.set_ylabel(f"NDCG@{k}")


def _by_length(axes: Axes, reports: Sequence[Report], lengths: NDArray[np.int64]) -> None:
    groups = _length_groups(lengths)
    for report in reports:
        gains = rank_gains(report.per_user, report.k)[f"ndcg@{report.k}"]
        axes.plot(
            [name for name, _ in groups], [gains[members].mean() for _, members in groups], "o-", label=report.name
        )
    axes.set_xlabel("events in the history (users)")
    axes.set_ylabel(f"NDCG@{reports[0].k}")
    axes.legend()


def _share_by_length(axes: Axes, share: NDArray[np.float32], lengths: NDArray[np.int64]) -> None:
    groups = _length_groups(lengths)
    axes.boxplot([share[members] for _, members in groups], showfliers=False)
    axes.set_xticks(range(1, len(groups) + 1), [name for name, _ in groups])
    axes.set_xlabel("events in the history (users)")
    axes.set_ylabel("long share")
    axes.set_ylim(0, 1)


def _time_scales(axes: Axes, decays: NDArray[np.float32]) -> None:
    days = np.logspace(-2, 3.5, 200)
    for index, decay in enumerate(decays.tolist()):
        half = "never forgets" if decay < 1e-6 else f"half after {math.log(2) / decay:.3g} days"
        axes.semilogx(days, np.exp(-decay * days), label=f"interest {index}: {half}")
    axes.set_xlabel("age, days")
    axes.set_ylabel("factor")
    axes.legend()


def _length_groups(lengths: NDArray[np.int64]) -> list[tuple[str, NDArray[np.bool_]]]:
    groups = []
    for low, high in itertools.pairwise(_LENGTH_EDGES):
        members = (lengths >= low) & (lengths < high)
        if members.any():
            name = f"{low}+" if high == _LENGTH_EDGES[-1] else f"{low} to {high - 1}"
            groups.append((f"{name}\n({int(members.sum())})", members))
    return groups


def check_plots() -> None:
    """Refuses, before anything is measured, what `write_report` would refuse after it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("the plots of a report", "matplotlib", "report")


def _figure(caption: str, draw: Callable[[Axes], None]) -> str:
    check_plots()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.8), layout="constrained")
    draw(figure.add_subplot())
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    picture = text.getvalue()
    picture = picture[picture.index("<svg") :]
    return f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _page(title: str, reports: Sequence[Report], rows: Sequence[dict[str, Any]], figures: Sequence[str]) -> str:
    first = reports[0]
    k, reference = first.k, reports[-1].name
    header = ["model", f"NDCG@{k} (95 % interval)", f"{reference} minus it", f"HR@{k}", f"MRR@{k}", f"coverage@{k}"]
    header += [f"novelty@{k}, bits"]
    lines = ["".join(f"<th>{html.escape(name)}</th>" for name in header)]
    for report, row in zip(reports, rows, strict=True):
        own, difference = row["ndcg_interval"], row["reference_minus_this"]
        cells = [report.name + (" (knows request time)" if report.request_time else "")]
        cells.append(f"{own['mean']:.4f} ({own['low']:.4f} to {own['high']:.4f})")
        cells.append(
            f"{difference['mean']:+.4f} ({difference['low']:+.4f} to {difference['high']:+.4f})" if difference else ""
        )
        cells += [f"{report.metrics[f'{name}@{k}']:.4f}" for name in ("hr", "mrr", "coverage")]
        cells.append(f"{report.metrics[f'novelty@{k}']:.2f}")
        lines.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    masking = "items of the history left out" if first.exclude_seen else "items of the history kept"
    facts = (
        f"{first.num_users:,} users, {first.num_items:,} items ranked for each, {masking}, ties against the target; "
        f"targets {first.targets_hash[:12]}. Intervals: paired bootstrap over users."
    )
    table = "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
    heading = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{heading}</title><style>{_STYLE}</style>'
        f"<h1>{heading}</h1><p>{html.escape(facts)}</p>{table}{''.join(figures)}</html>\n"
    )
