"""All that was measured at a glance: a Markdown table, and a figure with `--plot docs/quality.png`.

Of each model on each data set the runs that share the newest one's settings, averaged over seeds; results.jsonl beside
this file keeps the older ones.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DATASETS = {
    "ml-1m": "MovieLens-1M",
    "beauty": "Amazon Beauty",
    "sports": "Amazon Sports",
    "mooccubex": "MOOCCubeX",
    "online-retail": "Online Retail",
    "foursquare-nyc": "Foursquare NYC",
}
"""Data sets with rows of ours, and what a reader calls them."""

_LABELS = {
    "Traditional": {
        "popularity": "popularity",
        "itemknn": "ItemKNN",
        "als": "ALS",
        "ncf": "NCF",
        "lstm": "LSTM of the source",
    },
    "Own items, counted": {
        "own-frequency": "own most frequent",
        "own-frequency-fading": "own frequent, fading",
        "own-frequency-hour-now": "own frequent, by hour *",
    },
    "Neural": {
        "gru4rec": "GRU4Rec",
        "sasrec": "SASRec",
        "hstu": "HSTU",
        "rectools-sasrec": "RecTools SASRec",
        "rectools-hstu": "RecTools HSTU",
        "rectools-hstu-now": "RecTools HSTU *",
    },
    "Ours": {"lsif": "lsif", "lsif-titles": "lsif, titles", "lsif-now": "lsif *"},
}
_COLOURS = dict(zip(_LABELS, ("#8a8a8a", "#c49a3c", "#4c78a8", "#c0392b"), strict=True))

Scores = dict[str, dict[str, list[float]]]


def main() -> None:
    """Prints the table and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=pathlib.Path, default=pathlib.Path(__file__).with_name("results.jsonl"))
    parser.add_argument("--plot", type=pathlib.Path, help="where the figure goes, as PNG or SVG")
    options = parser.parse_args()
    scores = newest(json.loads(line) for line in options.results.read_text().splitlines())
    print(table(scores))
    if options.plot:
        draw(scores, options.plot)


def newest(rows: Iterable[dict[str, Any]]) -> Scores:
    """NDCG@10 of each seed by data set and model: the runs with the settings of the newest one of that model.

    Models that know the request time have names that end in "-now".
    """
    runs: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for row in rows:
        model = row["model"].removesuffix("-now") + "-now" * row["request_time"]
        setups = runs.setdefault((row["data"], model), {})
        recipe = row.get("recipe") or {"model": {}, "training": {}}
        trained = {**recipe["model"], **recipe["training"], **row["settings"], "once": row.get("once", False)}
        setup = json.dumps(trained, sort_keys=True)
        setups[setup] = {**setups.pop(setup, {}), row["seed"]: row["ndcg@10"]}  # the newest one last
    scores: Scores = {}
    for (data, model), setups in runs.items():
        of_seeds = list(setups.values())[-1]
        scores.setdefault(data, {})[model] = [of_seeds[seed] for seed in sorted(of_seeds)]
    return scores


def table(scores: Scores) -> str:
    """Models by data sets, means over seeds, and what lsif gains on the best traditional method."""
    lines = ["| NDCG@10 | " + " | ".join(DATASETS.values()) + " |", "| --- " * (1 + len(DATASETS)) + "|"]
    for kind, labels in _LABELS.items():
        for model, label in labels.items():
            cells = [_number(scores[data].get(model)) for data in DATASETS]
            if any(cells):
                name = (f"**{label}**" if kind == "Ours" else label).replace(" *", r" \*")
                lines.append(f"| {name} | " + " | ".join(cells) + " |")
    gains = []
    for data in DATASETS:
        known = [np.mean(scores[data][model]) for model in _LABELS["Traditional"] if model in scores[data]]
        gains.append(f"{np.mean(scores[data]['lsif']) / max(known) - 1:+.1%}")
    lines.append("| lsif over the best traditional method | " + " | ".join(gains) + " |")
    return "\n".join(lines)


def _number(seeds: list[float] | None) -> str:
    return f"{np.mean(seeds):.4f}".removeprefix("0") if seeds else ""


def draw(scores: Scores, path: pathlib.Path) -> None:
    """One panel a data set, one row a model, one dot a seed."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(13, 8.5), layout="constrained")
    for data, axes in zip(DATASETS, figure.subplots(2, 3).flat, strict=True):
        _panel(axes, DATASETS[data], scores[data])
    patches = [Patch(color=colour, label=kind) for kind, colour in _COLOURS.items()]
    patches.append(Patch(alpha=0, label="* knows the request time"))
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)
    figure.savefig(path, dpi=110)


def _panel(axes: Axes, title: str, scores: dict[str, list[float]]) -> None:
    kinds = {model: kind for kind, labels in _LABELS.items() for model in labels}
    names = {model: label for labels in _LABELS.values() for model, label in labels.items()}
    ranked = sorted((model for model in scores if model in names), key=lambda model: np.mean(scores[model]))
    means = [float(np.mean(scores[model])) for model in ranked]
    axes.barh(range(len(ranked)), means, height=0.62, color=[_COLOURS[kinds[model]] for model in ranked], alpha=0.85)
    for place, (model, mean) in enumerate(zip(ranked, means, strict=True)):
        axes.plot(scores[model], [place] * len(scores[model]), "k.", markersize=4)
        number, beside = _number(scores[model]), {"xytext": (6, 0), "textcoords": "offset points"}
        axes.annotate(number, (mean, place), va="center", fontsize=8, **beside)
    axes.set_yticks(range(len(ranked)), [names[model] for model in ranked], fontsize=9)
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("test NDCG@10, full ranking", fontsize=9)
    axes.margins(x=0.14)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
