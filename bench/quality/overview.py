"""All that was measured at a glance: a Markdown table, and a figure with `--plot docs/quality.png`.

Where a model was measured in several setups on a data set, the one with the most seeds counts, the newest of those;
what else there is goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
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
    "food-com": "Food.com",
    "online-retail": "Online Retail",
    "foursquare-nyc": "Foursquare NYC",
}
"""Data sets in the order of the table, and their display names."""

_LABELS = {
    "Traditional": {
        "popularity": "popularity",
        "itemknn": "ItemKNN",
        "als": "ALS",
        "bpr": "BPR",
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
_KINDS = {model: kind for kind, labels in _LABELS.items() for model in labels}
_NAMES = {model: label for labels in _LABELS.values() for model, label in labels.items()}

Scores = dict[str, dict[str, list[float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=pathlib.Path, default=pathlib.Path(__file__).with_name("results.jsonl"))
    parser.add_argument("--plot", type=pathlib.Path, help="where the figure goes, as PNG or SVG")
    options = parser.parse_args()
    scores = headline(json.loads(line) for line in options.results.read_text().splitlines())
    print(table(scores))
    if options.plot:
        draw(scores, options.plot)


def headline(rows: Iterable[dict[str, Any]]) -> Scores:
    """NDCG@10 of each seed by data set and model, for one setup of each (see above).

    Names of models that know the request time end in "-now".

    Raises:
        SystemExit: rows of one data set have different test targets.
    """
    setups: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    targets: dict[str, str] = {}
    for row in rows:
        if targets.setdefault(row["data"], row["targets"]) != row["targets"]:
            raise SystemExit(f"{row['data']}: rows with different test targets")
        model = row["model"]
        if row["request_time"] and not model.endswith("-now"):
            model += "-now"
        of_model = setups.setdefault((row["data"], model), {})
        seeds = of_model.pop(_setup(row), {})
        of_model[_setup(row)] = {**seeds, row["seed"]: row["ndcg@10"]}  # the newest setup is last
    scores: Scores = {}
    for (data, model), of_model in setups.items():
        kept, *others = sorted(reversed(of_model.values()), key=len, reverse=True)
        scores.setdefault(data, {})[model] = [kept[seed] for seed in sorted(kept)]
        if others:
            print(f"{data} {model}: {_shown(kept)}; other setups: {', '.join(map(_shown, others))}", file=sys.stderr)
    return scores


def _setup(row: dict[str, Any]) -> str:
    """The settings a model was trained with: the recipe, overridden by the row's settings."""
    recipe = row.get("recipe") or {"model": {}, "training": {}}
    trained = {**recipe["model"], **recipe["training"], **row["settings"], "once": row.get("once", False)}
    return json.dumps(trained, sort_keys=True)


def _shown(seeds: dict[int, float]) -> str:
    return " ".join(f"{seed}: {seeds[seed]:.4f}" for seed in sorted(seeds))


def table(scores: Scores) -> str:
    """A table of models by data sets with means over seeds, and lsif's gain over the best traditional method."""
    lines = ["| NDCG@10 | " + " | ".join(DATASETS.values()) + " |", "| --- " * (1 + len(DATASETS)) + "|"]
    for model, label in _NAMES.items():
        cells = [_number(scores.get(data, {}).get(model)) for data in DATASETS]
        if any(cells):
            name = (f"**{label}**" if _KINDS[model] == "Ours" else label).replace(" *", r" \*")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    gains = [_gain(scores.get(data, {})) for data in DATASETS]
    lines.append("| lsif over the best traditional method | " + " | ".join(gains) + " |")
    return "\n".join(lines)


def _gain(scores: dict[str, list[float]]) -> str:
    traditional = [np.mean(scores[model]) for model in _LABELS["Traditional"] if model in scores]
    if not traditional or "lsif" not in scores:
        return ""
    return f"{np.mean(scores['lsif']) / max(traditional) - 1:+.1%}"


def _number(seeds: list[float] | None) -> str:
    return f"{np.mean(seeds):.4f}".removeprefix("0") if seeds else ""


def draw(scores: Scores, path: pathlib.Path) -> None:
    """One panel per data set, one bar per model, one dot per seed; hatched where the request time is known."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = [data for data in DATASETS if any(_KINDS.get(model) == "Ours" for model in scores.get(data, {}))]
    columns = 4 if len(shown) > 6 else 3
    figure = Figure(figsize=(4.3 * columns, 8.5), layout="constrained")
    panels = list(figure.subplots(-(-len(shown) // columns), columns, squeeze=False).flat)
    most = max(len(_NAMES.keys() & scores[data].keys()) for data in shown)
    for data, axes in zip(shown, panels, strict=False):
        _panel(axes, DATASETS[data], scores[data], most)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    patches = [Patch(color=colour, label=kind) for kind, colour in _COLOURS.items()]
    patches.append(Patch(facecolor="white", edgecolor="black", hatch="////", label="* knows the request time"))
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)
    figure.savefig(path, dpi=110)


def _panel(axes: Axes, title: str, scores: dict[str, list[float]], most: int) -> None:
    """`most`: bars in the fullest panel, so that all panels have bars of one thickness."""
    ranked = sorted(_NAMES.keys() & scores.keys(), key=lambda model: float(np.mean(scores[model])))
    for place, model in enumerate(ranked):
        mean, hatch = float(np.mean(scores[model])), "////" if model.endswith("-now") else None
        axes.barh(place, mean, height=0.62, color=_COLOURS[_KINDS[model]], alpha=0.85, hatch=hatch, edgecolor="white")
        axes.plot(scores[model], [place] * len(scores[model]), "k.", markersize=4)
        number, beside = _number(scores[model]), {"xytext": (6, 0), "textcoords": "offset points"}
        axes.annotate(number, (max(scores[model]), place), va="center", fontsize=8, **beside)
    axes.set_yticks(range(len(ranked)), [_NAMES[model] for model in ranked], fontsize=9)
    axes.set_ylim(len(ranked) - most - 0.5, len(ranked) - 0.4)
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("test NDCG@10, full ranking", fontsize=9)
    axes.margins(x=0.16)
    axes.locator_params(axis="x", nbins=5)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
