"""The results of an evaluation as a self-contained HTML page with plots, and as JSON."""

from __future__ import annotations

import html
import importlib.util
import io
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lsif_sdk.errors import ArgumentError, MissingExtraError
from lsif_sdk.evaluation.behaviour import Behaviour
from lsif_sdk.evaluation.bootstrap import paired_bootstrap
from lsif_sdk.evaluation.metrics import rank_gains
from lsif_sdk.evaluation.report import Report
from lsif_sdk.evaluation.report_plots import report_plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["check_plots", "write_report"]

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .8rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}figure{margin:1.5rem 0}
figcaption{color:#555}"""


def write_report(
    folder: str | os.PathLike[str], reports: Sequence[Report], users: Behaviour, title: str = "Evaluation"
) -> pathlib.Path:
    """Writes a self-contained index.html, and report.json, into a folder, which may exist.

    For reports on several k, intervals and plots are of the first k; each other k has a table.

    Args:
        folder: the folder.
        reports: reports of models on the same users and k; the others are compared with the last.
        users: the same users.
        title: heading of the page.

    Returns:
        The path of index.html.

    Raises:
        ArgumentError: `reports` is empty, or users or k differ.
        MissingExtraError: matplotlib is not installed.
    """
    if not reports:
        raise ArgumentError("reports", "at least one report", "none")
    first = reports[0]
    if any(not np.array_equal(report.user_rows, first.user_rows) for report in reports):
        raise ArgumentError("reports", "reports on the same users", "different users")
    if odd := next((report.k for report in reports if set(report.ks) != set(first.ks)), None):
        raise ArgumentError("reports", f"the same k, {first.k}", odd)
    if len(users.lengths) != first.num_users:
        raise ArgumentError("users", f"{first.num_users} users", len(users.lengths))
    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    rows = [_intervals(report, reports[-1]) for report in reports]
    figures = [_figure(caption, draw) for caption, draw in report_plots(reports, rows, users)]
    values = {"title": title, "models": [report.to_dict() | row for report, row in zip(reports, rows, strict=True)]}
    (path / "report.json").write_text(json.dumps(values, indent=1) + "\n", "utf-8")
    page = path / "index.html"
    page.write_text(_page(title, reports, rows, figures), "utf-8")
    return page


def _intervals(report: Report, reference: Report) -> dict[str, Any]:
    """95 % intervals over users of NDCG, and of the reference's NDCG minus this one."""
    k = report.ks[0]
    gains, of_reference = (rank_gains(r.per_user, k)[f"ndcg@{k}"] for r in (report, reference))
    difference = None if report is reference else paired_bootstrap(of_reference, gains)._asdict()
    return {"ndcg_interval": paired_bootstrap(gains)._asdict(), "reference_minus_this": difference}


def check_plots() -> None:
    """Raises the MissingExtraError of `write_report`, so that it comes before a long evaluation."""
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


def _interval(interval: dict[str, float], sign: str = "") -> str:
    mean, low, high = (f"{interval[name]:{sign}.4f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _table(reports: Sequence[Report], k: int, columns: dict[str, list[str]]) -> str:
    """An HTML table for one k; `columns` are the columns after the models' names, by heading."""
    header = ["model", *columns, f"HR@{k}", f"MRR@{k}", f"coverage@{k}", f"novelty@{k}, bits"]
    lines = ["".join(f"<th>{html.escape(name)}</th>" for name in header)]
    for report, *cells in zip(reports, *columns.values(), strict=True):
        cells.insert(0, report.name + (" (knows request time)" if report.request_time else ""))
        cells += [f"{report.metrics[f'{name}@{k}']:.4f}" for name in ("hr", "mrr", "coverage")]
        cells.append(f"{report.metrics[f'novelty@{k}']:.2f}")
        lines.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _page(title: str, reports: Sequence[Report], rows: Sequence[dict[str, Any]], figures: Sequence[str]) -> str:
    first, reference = reports[0], reports[-1].name
    k, *further = first.ks
    own = [_interval(row["ndcg_interval"]) for row in rows]
    differences = [row["reference_minus_this"] for row in rows]
    compared = ["" if difference is None else _interval(difference, "+") for difference in differences]
    tables = [_table(reports, k, {f"NDCG@{k} (95 % interval)": own, f"{reference} minus it": compared})]
    for k in further:
        ndcg = f"ndcg@{k}"
        means = [f"{report.metrics[ndcg]:.4f} ± {report.standard_errors[ndcg]:.4f}" for report in reports]
        tables.append(_table(reports, k, {f"NDCG@{k} ± standard error": means}))
    masking = "items of the history left out" if first.exclude_seen else "items of the history kept"
    if first.num_repeated:
        masking += f" ({first.num_repeated:,} targets are such items{': misses' if first.exclude_seen else ''})"
    facts = (
        f"{first.protocol}, {first.target} targets; {first.num_users:,} users, "
        f"{first.num_items:,} items ranked for each, {masking}, ties against the target; "
        f"targets {first.targets_hash[:12]}. Intervals: paired bootstrap over users."
    )
    heading = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{heading}</title><style>{_STYLE}</style>'
        f"<h1>{heading}</h1><p>{html.escape(facts)}</p>{''.join(tables)}{''.join(figures)}</html>\n"
    )
