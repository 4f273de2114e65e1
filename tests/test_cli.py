"""The command `lsif`: what it prints, what it writes, and one-line refusals."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from lsif_sdk import Recommender
from lsif_sdk.cli import main
from lsif_sdk.datasets import simulated_shop

SMALL = ["--set", "epochs=2", "--set", "dim=8", "--set", "num_layers=1", "--quiet"]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    log = simulated_shop(60, 30)
    path = tmp_path_factory.mktemp("events") / "events.csv"
    rows = ["user,item,timestamp"]
    for user in range(log.num_users):
        own = log.user(user)
        rows += [f"{log.user_ids[user]},{log.item_ids[i]},{t}" for i, t in zip(own.items, own.times, strict=True)]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def model(events: pathlib.Path) -> pathlib.Path:
    path = events.parent / "model"
    titles = events.parent / "titles.tsv"
    titles.write_text("item\ttitle\n" + "".join(f"sku-{n}\tThing {n}\n" for n in range(1, 31)))
    assert main(["train", str(events), "--out", str(path), "--titles", str(titles), *SMALL]) == 0
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_train_writes_a_model_with_its_provenance(model):
    artifact = Recommender.load(model).artifact
    assert artifact.config.dim == 8
    assert artifact.training["source"] == "events.csv"
    assert artifact.training["holdout"] == "test"
    assert set(artifact.metrics["test"]) == {"popularity", "lsif"}


def test_evaluate_prints_a_table_or_json(model, events, capsys):
    code, out, err = run(capsys, "evaluate", model, events)
    assert code == 0
    assert "popularity" in out
    assert "NDCG@10" in out
    assert "warning" not in err
    code, out, _ = run(capsys, "evaluate", model, events, "--json", "--k", 5)
    reports = {report["name"]: report for report in json.loads(out)}
    saved = Recommender.load(model).artifact.metrics["test"]
    assert reports["lsif"]["targets_hash"] == saved["lsif"]["targets_hash"]
    assert "ndcg@5" in reports["lsif"]["metrics"]


def test_recommend_prints_titles_or_json(model, capsys):
    code, out, err = run(capsys, "recommend", model, "sku-1", "sku-2", "--k", 3)
    assert code == 0
    assert len(out.splitlines()) == 3
    assert "Thing " in out
    assert "long-term share" in err
    code, out, _ = run(capsys, "recommend", model, "sku-1", "nothing", "--k", 3, "--json")
    answer = json.loads(out)
    assert answer["unknown"] == 1
    expected = Recommender.load(model).recommend(["sku-1"], k=3)[0]
    assert [row["item"] for row in answer["items"]] == expected.items.tolist()
    code, _, err = run(capsys, "recommend", model)
    assert code == 0
    assert "most popular" in err


def test_inspect_and_doctor_report_facts(model, capsys):
    facts = json.loads(run(capsys, "inspect", model, "--json")[1])
    assert facts["items"] == {"count": 30, "ids": "strings", "titles": True}
    assert facts["model"]["dim"] == 8
    assert "format_version: 1" in run(capsys, "inspect", model)[1]
    report = json.loads(run(capsys, "doctor", "--json")[1])
    assert report["instruction set"].split(":")[0] in report["runnable here"]
    assert report["threads"]["lsif_sdk default"] >= 1


def test_training_resumes_and_holds_out_what_it_is_told(events, tmp_path, capsys):
    checkpoints, out = tmp_path / "checkpoints", tmp_path / "model"
    common = ["train", events, "--out", out, "--checkpoints", checkpoints, "--holdout", "validation", *SMALL]
    assert run(capsys, *common)[0] == 0
    assert run(capsys, *common)[0] == 2  # there is a model already
    assert run(capsys, *common, "--resume", "--overwrite")[0] == 0
    assert "test" not in Recommender.load(out).artifact.metrics
    assert "warning" in run(capsys, "evaluate", out, events)[2]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "EVENTS", "--out", "x", "--user", "who"], "who"),
        (["train", "nowhere.csv", "--out", "x"], "nowhere.csv"),
        (["train", "EVENTS", "--out", "x", "--set", "depth=3"], "depth"),
        (["train", "EVENTS", "--out", "x", "--set", "dim"], "NAME=VALUE"),
        (["train", "EVENTS", "--out", "x", "--set", "dim=-1"], "dim: expected"),
        (["train", "EVENTS", "--out", "x", "--recipe", "nowhere.json"], "nowhere.json"),
        (["evaluate", "nowhere", "EVENTS"], "nowhere: no such directory"),
        (["recommend", "nowhere", "a"], "nowhere: no such directory"),
        (["recommend", "MODEL", "sku-1", "--k", "0"], "k: expected"),
        (["inspect", "EVENTS"], "no such directory"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(model, events, capsys, monkeypatch, tmp_path, arguments, expected):
    monkeypatch.chdir(tmp_path)
    places = {"EVENTS": events, "MODEL": model}
    code, out, err = run(capsys, *[places.get(argument, argument) for argument in arguments])
    assert code == 2
    assert out == ""
    assert err.startswith(f"lsif {arguments[0]}: ")
    assert expected in err
    assert len(err.splitlines()) == 1


def test_the_command_is_installed():
    command = pathlib.Path(sys.executable).with_name("lsif")
    done = subprocess.run([command, "doctor"], capture_output=True, text=True, check=True)
    assert "instruction set:" in done.stdout
