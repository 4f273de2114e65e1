"""Validation results of settings, as Markdown: `python bench/quality/trials.py [build/quality/trials.jsonl]`.

One table has the models tuned over the six settings of TRAINING_GRID, the other the settings the rest chose.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

from models import TRAINING_GRID
from overview import DATASETS

KEPT = pathlib.Path(__file__).with_name("trials.jsonl")


def main() -> None:
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else KEPT
    trials = [json.loads(line) for line in path.read_text().splitlines()]
    print("\n\n".join((grid_table(trials), chosen_table(trials))))


def grid_table(trials: list[dict[str, Any]]) -> str:
    """A row for each model and data set, a column for each setting of the grid; the best value is bold."""
    settings = [f"{each['learning_rate']:g}, {each['dropout']:g}" for each in TRAINING_GRID]
    lines = [f"| data set | model | epochs | {' | '.join(settings)} |", "| --- " * (3 + len(settings)) + "|"]
    for (data, model, epochs), of_model in _grouped(trials, on_grid=True).items():
        found = [[trial["ndcg@10"] for trial in of_model if _has(trial, each)] for each in TRAINING_GRID]
        best = max(value for values in found for value in values)
        cells = [_shown(max(values), max(values) == best) if values else "" for values in found]
        lines.append(f"| {DATASETS.get(data, data)} | {model} | {epochs} | {' | '.join(cells)} |")
    return "\n".join(lines)


def chosen_table(trials: list[dict[str, Any]]) -> str:
    """A row for each other model and data set: number of settings tried, worst and best value, and the best setting."""
    lines = ["| data set | model | settings | worst | best | which |", "| --- " * 6 + "|"]
    for (data, model, _), of_model in _grouped(trials, on_grid=False).items():
        best = max(of_model, key=lambda trial: trial["ndcg@10"])
        worst = min(trial["ndcg@10"] for trial in of_model)
        which = ", ".join(f"{name} {value}" for name, value in best["settings"].items())
        cells = [str(len(of_model)), _shown(worst), _shown(best["ndcg@10"]), which]
        lines.append(f"| {DATASETS.get(data, data)} | {model} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _grouped(trials: list[dict[str, Any]], on_grid: bool) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """Trials by data set (in the order of the tables), model and number of epochs ("" where all were allowed)."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    order = {data: place for place, data in enumerate(DATASETS)}
    for trial in sorted(
        trials, key=lambda trial: (order.get(trial["data"], len(order)), trial["data"], trial["model"])
    ):
        if any(_has(trial, settings) for settings in TRAINING_GRID) == on_grid:
            epochs = str(trial["settings"].get("epochs", "")) if on_grid else ""
            groups.setdefault((trial["data"], trial["model"], epochs), []).append(trial)
    return groups


def _has(trial: dict[str, Any], settings: Any) -> bool:
    return bool(settings.items() <= trial["settings"].items())


def _shown(value: float, best: bool = False) -> str:
    text = f"{value:.4f}".removeprefix("0")
    return f"**{text}**" if best else text


if __name__ == "__main__":
    main()
