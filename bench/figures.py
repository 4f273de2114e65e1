"""Figures of the report: latency against catalogue size, roofline, latency against recall."""

from __future__ import annotations

import itertools
import pathlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ceilings import Ceilings
from report_text import Row, title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["figures", "missed", "recall_points", "roofline_points", "size_series"]

_MARKERS = "os^Dv<>P*X"
_NOTHING_MISSED = 1e-4
"""Where a recall of 1 is drawn on a logarithmic axis: below one miss in the 2,560 results at batch 1, k 10."""


def size_series(rows: Sequence[Row]) -> dict[str, list[tuple[int, float]]]:
    """(items, median us) of each implementation, for the measurement that was made at the most catalogue sizes."""
    families: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row["case"] == "score_topk" and "@" not in row["impl"]:
            others = title_of({**row, "params": {**row["params"], "num_items": 0}})
            # The first row counts: a sweep over settings measures the same size again, with our index in the caches.
            families[others][row["impl"]].setdefault(row["params"]["num_items"], row["median_us"])
    widest = max(families.values(), key=lambda family: len(family.get("lsif", {})), default={})
    series = {name: sorted(points.items()) for name, points in widest.items() if len(points) > 1}
    return series if "lsif" in series else {}


def roofline_points(rows: Sequence[Row]) -> list[tuple[str, float, float]]:
    """(case and sizes, operations per byte, operations per second) of our one-thread rows with bytes and flops."""
    return [
        (
            title_of(row).removesuffix(", 1 thread"),
            row["flops"] / row["bytes"],
            row["flops"] / row["median_us"] * 1e6,
        )
        for row in rows
        if row["impl"] in ("lsif", "lsif_scan") and row["threads"] == 1 and row["flops"] and row["bytes"]
    ]


def recall_points(rows: Sequence[Row]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """For each measurement with a sweep over settings: (recall, median us) of every implementation, by name."""
    sweeps: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for title, group in itertools.groupby(rows, key=title_of):
        together = list(group)
        if any("@" in row["impl"] for row in together):
            points: dict[str, list[tuple[float, float]]] = defaultdict(list)
            for row in together:
                points[row["impl"].partition("@")[0]].append((row["recall"], row["median_us"]))
            sweeps[title] = {name: sorted(values) for name, values in points.items()}
    return sweeps


def missed(sweep: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, list[tuple[float, float]]]:
    """The same points with 1 - recall in place of recall, for a logarithmic axis."""
    return {
        name: [(max(1 - recall, _NOTHING_MISSED), median) for recall, median in points]
        for name, points in sweep.items()
    }


def figures(rows: Sequence[Row], ceilings: Sequence[Ceilings], page: pathlib.Path) -> list[pathlib.Path]:
    """Writes each figure that has data, beside `page` and named after it; returns their paths."""
    from matplotlib.figure import Figure

    written = []
    series, points, by_recall = size_series(rows), roofline_points(rows), recall_points(rows)
    one_thread = [one for one in ceilings if one.threads == 1]

    def save(name: str, figure: Figure) -> None:
        path = page.with_name(f"{page.stem}-{name}.png")
        figure.savefig(path, dpi=120)
        written.append(path)

    def axes_of(figure: Figure | SubFigure, title: str, x: str, y: str) -> Axes:
        axes = figure.subplots()
        axes.set(title=title, xlabel=x, ylabel=y, yscale="log")
        axes.grid(alpha=0.3, which="both")
        return axes

    if series:
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = axes_of(figure, "Top-K: latency against catalogue size", "items", "median, us")
        _lines(axes, series)
        axes.set_xscale("log")
        save("size", figure)
    if points and one_thread:
        figure = Figure(figsize=(9, 6), layout="constrained")
        axes = axes_of(figure, "Roofline, one thread", "operations a byte", "operations a second")
        _roofline(axes, points, one_thread[0])
        save("roofline", figure)
    if by_recall:
        figure = Figure(figsize=(8, 5 * len(by_recall)), layout="constrained")
        for part, (title, sweep) in zip(
            np.atleast_1d(figure.subfigures(len(by_recall))), by_recall.items(), strict=True
        ):
            label = f"1 - recall ({_NOTHING_MISSED:g}: nothing missed)"
            axes = axes_of(part, title.removesuffix(", interests 1, 1 thread"), label, "median, us")
            _lines(axes, missed(sweep))
            axes.set_xscale("log")
            axes.invert_xaxis()
        save("recall", figure)
    return written


def _lines(axes: Axes, series: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    for index, (name, points) in enumerate(series.items()):
        width = 2.5 if name == "lsif" else 1.2
        x, y = zip(*points, strict=True)
        axes.plot(x, y, marker=_MARKERS[index % len(_MARKERS)], linewidth=width, label=name)
    axes.legend(fontsize=8)


def _roofline(axes: Axes, points: Sequence[tuple[str, float, float]], ceilings: Ceilings) -> None:
    intensities = [intensity for _, intensity, _ in points]
    x = np.geomspace(min(intensities) / 4, max(intensities) * 4, 100)
    for size, rate in (ceilings.bandwidth[-1], ceilings.bandwidth[len(ceilings.bandwidth) // 2]):
        top = max(peak for peak in ceilings.peaks.values() if peak)
        axes.plot(x, np.minimum(x * rate, top), color="grey", linewidth=1)
        axes.text(x[0], x[0] * rate, f"{rate / 1e9:.0f} GB/s at {size >> 10:,} KiB", fontsize=7, va="bottom")
    for name, peak in ceilings.peaks.items():
        if peak:
            axes.axhline(peak, color="grey", linestyle="--", linewidth=1)
            axes.text(x[-1], peak, f"{name}, {ceilings.instructions[name]}", fontsize=7, ha="right", va="bottom")
    for index, (name, intensity, rate) in enumerate(points):
        axes.plot(intensity, rate, _MARKERS[index % len(_MARKERS)], label=name)
    axes.set_xscale("log")
    axes.legend(fontsize=6, loc="lower right")
