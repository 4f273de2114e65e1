"""bench/quality/overview.py: which runs represent a model, and what the table and the figure show."""

from __future__ import annotations

import pathlib
import sys
from typing import Any

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "bench" / "quality"))
import overview


def row(model: str, seed: int, ndcg: float, data: str = "ml-1m", **facts: Any) -> dict[str, Any]:
    defaults = {"request_time": False, "settings": {}, "targets": "t", "recipe": None, "once": False}
    return {**defaults, "data": data, "model": model, "seed": seed, "ndcg@10": ndcg, **facts}


def test_the_setup_with_the_most_seeds_stands_for_a_model(capsys):
    recipe = {"model": {"window": 20}, "training": {"epochs": 3}}
    rows = [
        row("lsif", 0, 0.1, settings={"epochs": 24}, recipe={"model": {"window": 20}, "training": {"epochs": 16}}),
        row("lsif", 0, 0.2, settings={"epochs": 24}, recipe=recipe),
        row("lsif", 1, 0.3, settings={"window": 20, "epochs": 24}, recipe=recipe),
        row("lsif", 0, 0.9, recipe=recipe),
        row("lsif", 1, 0.8, settings={"epochs": 24}, recipe=recipe, once=True),
    ]
    assert overview.headline(rows) == {"ml-1m": {"lsif": [0.2, 0.3]}}
    assert capsys.readouterr().err == "ml-1m lsif: 0: 0.2000 1: 0.3000; other setups: 1: 0.8000, 0: 0.9000\n"


def test_of_as_many_seeds_the_newest_setup_counts():
    rows = [row("als", 0, 0.1, settings={"factors": 1}), row("als", 0, 0.2, settings={"factors": 2})]
    assert overview.headline(rows) == {"ml-1m": {"als": [0.2]}}
    assert overview.headline(reversed(rows)) == {"ml-1m": {"als": [0.1]}}


def test_the_request_time_makes_another_model():
    rows = [row("hstu", 0, 0.1), row("hstu", 0, 0.2, request_time=True), row("lsif-now", 0, 0.3)]
    assert overview.headline(rows) == {"ml-1m": {"hstu": [0.1], "hstu-now": [0.2], "lsif-now": [0.3]}}


def test_rows_of_different_targets_are_refused():
    with pytest.raises(SystemExit, match="ml-1m: rows with different test targets"):
        overview.headline([row("als", 0, 0.1), row("lsif", 0, 0.1, targets="u")])


def test_the_table_and_the_figure_are_of_what_there_is(tmp_path):
    scores = overview.headline(
        [
            row("popularity", 0, 0.05),
            row("als", 0, 0.1),
            row("own-frequency", 0, 0.4),
            row("lsif", 0, 0.11),
            row("lsif", 1, 0.13),
            row("lsif-now", 0, 0.2, "beauty", request_time=True),
        ]
    )
    lines = overview.table(scores).splitlines()
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:4]] for line in lines}
    assert cells["NDCG@10"] == ["MovieLens-1M", "Amazon Beauty"]
    assert cells["**lsif**"] == [".1200", ""]
    assert cells[r"**lsif \***"] == ["", ".2000"]
    assert cells["lsif over the best traditional method"] == ["+20.0%", ""]
    assert "NCF" not in cells
    pytest.importorskip("matplotlib", reason="matplotlib (the extra 'report') is not installed")
    overview.draw(scores, tmp_path / "quality.png")
    assert (tmp_path / "quality.png").stat().st_size > 10_000
