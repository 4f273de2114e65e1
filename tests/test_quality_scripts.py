"""bench/quality end to end on a small data set: rows, tables and groups agree with what was measured."""

from __future__ import annotations

import argparse
import gzip
import json
import pathlib
import re
import sys

import numpy as np
import pytest

from lsif_sdk.datasets import simulated_shop
from lsif_sdk.evaluation import Popularity, evaluate

pytest.importorskip("scipy", reason="scipy (the extra 'bench') is not installed")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "bench" / "quality"))
import cold
import data
import groups
import models
import table
import trials

import run as run_script

RECIPE = {"model": {"dim": 8, "num_layers": 1, "request_time": False}, "training": {"epochs": 2}}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder with rows of three models on a small file in the form of MOOCCubeX."""
    root = tmp_path_factory.mktemp("data")
    log = simulated_shop(60, 30)
    folder = root / "mooccubex-courses"
    folder.mkdir()
    with gzip.open(folder / "sequences.txt.gz", "wt") as file:
        for user in range(log.num_users):
            items = log.user(user).items.tolist()
            file.write(" ".join(map(str, [user, *items])) + "\n")
    recipes = tmp_path_factory.mktemp("recipes")
    (recipes / "mooccubex.json").write_text(json.dumps(RECIPE))
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "ROOT", root)
        patch.setattr(models, "RECIPES", recipes)
        patch.setattr(run_script, "RECIPES", recipes)
        _call(patch, run_script, out, "--model", "popularity", "lsif", "gru4rec", "--seeds", "0", "1")
        dataset, split = data.load("mooccubex")
        yield out, dataset, split, patch


def _call(patch, script, out, *arguments):
    patch.setattr(sys, "argv", ["script", "--data", "mooccubex", "--out", str(out), *arguments])
    script.main()


def test_rows_say_what_was_measured(measured):
    out, dataset, split, _ = measured
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [(row["model"], row["seed"]) for row in rows] == [
        ("popularity", 0),
        ("lsif", 0),
        ("lsif", 1),
        ("gru4rec", 0),
        ("gru4rec", 1),
    ]
    report = evaluate(Popularity.from_log(split.test_history), split, exclude_seen=dataset.exclude_seen, progress=False)
    assert rows[0]["ndcg@10"] == pytest.approx(report.metrics["ndcg@10"], abs=1e-5)
    assert {row["targets"] for row in rows} == {split.hash("test")}
    assert all(row["recipe"] == RECIPE for row in rows)
    assert all(re.fullmatch(r"[0-9a-f]{12}(-dirty)?|unknown", row["commit"]) for row in rows)
    ranks = np.load(out / "ranks" / "mooccubex-popularity-0.npz")
    np.testing.assert_array_equal(ranks["ranks"], report.per_user)


def test_the_table_has_a_line_a_model_and_the_mean_of_its_seeds(measured, capsys):
    out, _, split, patch = measured
    _call(patch, table, out, "--reference", "lsif")
    text = capsys.readouterr().out
    assert split.hash("test")[:12] in text
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    mean = np.mean([row["ndcg@10"] for row in rows if row["model"] == "lsif"])
    assert f"| lsif | 2 | {mean:.4f} (" in lines["lsif"] and "sd over seeds" in lines["lsif"]
    assert "| popularity | 1 |" in lines["popularity"]


def test_seeds_of_different_recipes_are_not_averaged(measured, tmp_path):
    out, _, _, patch = measured
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    rows[2]["recipe"] = {"model": {}}
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SystemExit, match="lsif: its seeds differ in recipe"):
        _call(patch, table, tmp_path)


def test_variants_can_be_trained_once_with_fields_of_their_own(measured, tmp_path):
    *_, patch = measured
    _call(patch, run_script, tmp_path, "--model", "lsif", "--seeds", "0", "--once", "--set", '{"epochs": 1}')
    row = json.loads((tmp_path / "results.jsonl").read_text())
    assert row["once"] and row["settings"] == {"epochs": 1} and row["recipe"] == RECIPE
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["mooccubex-lsif-0"]


def test_a_trial_is_not_run_again_and_no_test_target_is_ranked_without_seeds(measured, tmp_path, capsys):
    *_, patch = measured
    tune = ("--model", "gru4rec", "--seeds", "--tune", "--tune-epochs", "1")
    _call(patch, run_script, tmp_path, *tune)
    path = tmp_path / "trials.jsonl"
    tried = [json.loads(line) for line in path.read_text().splitlines()]
    assert [trial["settings"] for trial in tried] == [{**each, "epochs": 1} for each in models.TRAINING_GRID]
    assert not (tmp_path / "results.jsonl").exists() and not (tmp_path / "ranks").exists()

    path.write_text("".join(json.dumps(trial) + "\n" for trial in tried[:-1]))
    _call(patch, run_script, tmp_path, *tune)
    again = [json.loads(line) for line in path.read_text().splitlines()]
    assert [trial | {"s": 0} for trial in again] == [trial | {"s": 0} for trial in tried]
    best = max(tried, key=lambda trial: trial["ndcg@10"])["settings"]
    kept = json.loads((tmp_path / "settings.json").read_text())["mooccubex"]["gru4rec"]
    assert kept == {name: best[name] for name in ("learning_rate", "dropout")}

    patch.setattr(sys, "argv", ["trials.py", str(path)])
    trials.main()
    line = next(line for line in capsys.readouterr().out.splitlines() if "gru4rec" in line)
    cells = [cell.strip(" *") for cell in line.split("|")[2:-1]]
    assert cells == ["gru4rec", "1"] + [f"{trial['ndcg@10']:.4f}".removeprefix("0") for trial in tried]


def test_penalties_are_tried_on_one_training(measured, tmp_path, capsys):
    *_, patch = measured
    _call(patch, run_script, tmp_path, "--model", "lsif-penalty", "--seeds", "--tune", "--set", '{"epochs": 1}')
    tried = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert [trial["settings"] for trial in tried] == [
        {**each, "epochs": 1} for each in models.MODELS["lsif-penalty"].grid
    ]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["mooccubex-lsif-0"]
    assert tried[0]["novelty@10"] < tried[-1]["novelty@10"]  # the least and the greatest penalty
    assert trials.chosen_table(tried).count("lsif-penalty") == 1


def test_groups_compare_on_the_same_users(measured, capsys):
    out, _, split, patch = measured
    _call(patch, groups, out, "--reference", "lsif", "--against", "popularity", "gru4rec")
    text = capsys.readouterr().out
    assert "minus popularity" in text and "minus gru4rec" in text
    counts = [int(line.split("|")[2]) for line in text.split("| drift")[0].splitlines()[2:] if line.startswith("| ")]
    assert sum(counts) == (split.test_items >= 0).sum()
    with pytest.raises(SystemExit, match="no runs of als"):
        _call(patch, groups, out, "--against", "als")


def test_rows_of_cold_items_go_to_a_folder_that_is_made(measured, tmp_path):
    _, _, split, _ = measured
    options = argparse.Namespace(data="mooccubex", seed=0, out=tmp_path / "new")
    is_cold = np.arange(split.log.num_items) % 2 == 0
    for name in ("one", "two"):
        cold.report(name, Popularity.from_log(split.test_history), split, is_cold, options)
    rows = [json.loads(line) for line in (tmp_path / "new" / "cold.jsonl").read_text().splitlines()]
    assert [row["model"] for row in rows] == ["one", "two"]
    assert rows[0]["cold_users"] + rows[0]["warm_users"] == (split.test_items >= 0).sum()
