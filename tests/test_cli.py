"""The command `lsif`: what it prints, what it writes, and one-line refusals."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import pytest

from lsif_sdk import Events, Recommender
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


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with integer ids, actions and other column names: events.tsv and the model of them, without times."""
    folder = tmp_path_factory.mktemp("numbers")
    rows = [f"{user}\t{(7 * user + step * step) % 20 + 100}\t{step % 3 + 1}" for user in range(20) for step in range(8)]
    (folder / "events.tsv").write_text("\n".join(["who\twhat\thow", *rows]) + "\n")
    columns = ["--user", "who", "--item", "what", "--action", "how", "--timestamp", ""]
    assert main(["train", str(folder / "events.tsv"), "--out", str(folder / "model"), *columns, *SMALL]) == 0
    return folder


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


def test_settings_and_recipes_reach_the_model(events, tmp_path, capsys):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(
        json.dumps({"model": {"dim": 8, "block": "transformer", "num_long": 1}, "training": {"epochs": 9}})
    )
    settings = ["--set", "epochs=1", "--set", "normalize_items=True", "--set", "scoring=multi_interest"]
    code, out, err = run(
        capsys, "train", events, "--out", tmp_path / "deep" / "model", "--recipe", recipe, *settings, "--quiet"
    )
    assert (code, out, err) == (0, f"wrote {tmp_path / 'deep' / 'model'}\n", "")
    artifact = Recommender.load(tmp_path / "deep" / "model").artifact
    assert (artifact.config.dim, artifact.config.block, artifact.config.num_long) == (8, "transformer", 1)
    assert (artifact.config.normalize_items, artifact.config.scoring) == (True, "multi_interest")
    assert artifact.training["config"]["epochs"] == artifact.training["epochs"] == 1


def test_integer_ids_other_columns_and_no_times(numbers, capsys):
    config = Recommender.load(numbers / "model").config
    assert (config.num_actions, config.use_times) == (3, False)
    answer = json.loads(run(capsys, "recommend", numbers / "model", "101", "104", "--k", 2, "--json")[1])
    expected = Recommender.load(numbers / "model").recommend([101, 104], k=2)[0]
    assert [(row["item"], row["score"]) for row in answer["items"]] == list(expected)
    assert answer["long_share"] == expected.long_share
    code, out, err = run(capsys, "recommend", numbers / "model", "a101")
    assert (code, out) == (2, "")
    assert err == "lsif recommend: items: expected integers, as the catalogue's ids, got 'a101'\n"


def test_seen_items_are_left_out_unless_wanted(model, capsys):
    def items(*options: Any) -> list[str]:
        answer = json.loads(run(capsys, "recommend", model, "sku-1", "sku-2", "--k", 30, "--json", *options)[1])
        return [row["item"] for row in answer["items"]]

    everything = items("--include-seen")
    assert sorted(everything) == sorted(f"sku-{n}" for n in range(1, 31))
    assert items() == [item for item in everything if item not in ("sku-1", "sku-2")]


def test_evaluate_prints_a_table_or_json(model, events, capsys):
    code, out, err = run(capsys, "evaluate", model, events)
    assert code == 0
    assert "popularity" in out
    assert "NDCG@10" in out
    assert "warning" not in err
    code, out, err = run(capsys, "evaluate", model, events, "--json", "--quiet", "--k", 5)
    assert err == ""
    reports = {report["name"]: report for report in json.loads(out)}
    saved = Recommender.load(model).artifact.metrics["test"]
    assert reports["lsif"]["targets_hash"] == saved["lsif"]["targets_hash"]
    assert "ndcg@5" in reports["lsif"]["metrics"]


def test_a_model_is_evaluated_on_the_split_and_with_the_masking_it_was_trained_for(capsys, events, tmp_path):
    out = tmp_path / "model"
    assert run(capsys, "train", events, "--out", out, "--split", "time", "--include-seen", *SMALL)[0] == 0
    saved = Recommender.load(out).artifact
    assert saved.training["split"] == "time" and saved.training["exclude_seen"] is False
    code, text, err = run(capsys, "evaluate", out, events, "--json", "--quiet")
    assert (code, err) == (0, "")
    for report in json.loads(text):
        assert report["targets_hash"] == saved.metrics["test"]["lsif"]["targets_hash"]
        assert report["exclude_seen"] is False
    _, text, err = run(capsys, "evaluate", out, events, "--json", "--quiet", "--split", "leave_one_out")
    assert "may have been trained on the test targets" in err
    assert json.loads(text)[0]["targets_hash"] != saved.metrics["test"]["lsif"]["targets_hash"]
    _, text, _ = run(capsys, "evaluate", out, events, "--json", "--quiet", "--no-include-seen")
    assert json.loads(text)[0]["exclude_seen"] is True


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
    _, out, err = run(capsys, "recommend", model, "sku-1", "nothing", "--k", 30)
    assert len(out.splitlines()) == 29
    assert "1 unknown item(s)" in err
    answer = json.loads(run(capsys, "recommend", model, "--k", 2, "--now", 1_700_000_000, "--json")[1])
    assert answer["fallback"] == "popularity"
    counts = Recommender.load(model).items.counts
    assert [row["score"] for row in answer["items"]] == sorted(counts.tolist(), reverse=True)[:2]


def test_recommend_takes_times_actions_and_items_to_leave_out(numbers, capsys):
    recommender = Recommender.load(numbers / "model")
    options = ["--times", "300,100", "--actions", "2,3", "--now", 400, "--exclude", 105, "--exclude", "110"]
    out = run(capsys, "recommend", numbers / "model", "101", "104", "--k", 30, "--json", *options)[1]
    expected = recommender.recommend(Events([101, 104], [300, 100], [2, 3]), 30, now=400, exclude=[105, 110])[0]
    got = [(row["item"], row["score"]) for row in json.loads(out)["items"]]
    assert got == list(expected)
    assert not {105, 110} & {item for item, _ in got}
    assert got != list(recommender.recommend([101, 104], 30, exclude=[105, 110])[0])
    refusals = {
        ("--times", "300"): "times: expected 2 values, one an item, got 1",
        ("--times", "300,now"): "--times: expected whole numbers with commas between them, got 'now'",
        ("--actions", "4,1"): "actions: expected values in [0, 3], got 4",
        ("--exclude", "a105"): "--exclude: expected integers, as the catalogue's ids, got 'a105'",
    }
    for wrong, message in refusals.items():
        code, out, err = run(capsys, "recommend", numbers / "model", "101", "104", *wrong)
        assert (code, out, err) == (2, "", f"lsif recommend: {message}\n")


@pytest.mark.parametrize(("separator", "option"), [(";", ";"), ("|", "|"), ("\t", "tab"), ("\t", "\t")])
def test_columns_are_separated_by_what_is_told(events, model, tmp_path, capsys, separator, option):
    (tmp_path / "log").write_text(events.read_text().replace(",", separator))
    (tmp_path / "names").write_text(f"item{separator}title\nsku-1{separator}Thing, first\n")
    options = ["--titles", tmp_path / "names", "--title-separator", option, "--separator", option]
    code, _, err = run(capsys, "train", tmp_path / "log", "--out", tmp_path / "model", *options, *SMALL)
    assert (code, err) == (0, "")
    items = Recommender.load(tmp_path / "model").items
    assert items.title(items.row("sku-1")) == "Thing, first"
    same = run(capsys, "evaluate", model, tmp_path / "log", "--separator", option, "--quiet")
    assert same == run(capsys, "evaluate", model, events, "--quiet")
    assert same[0] == 0


@pytest.mark.parametrize("separator", ["", ", ", "tabs"])
def test_a_separator_is_one_character(events, capsys, separator):
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(events), "--out", "x", "--separator", separator])
    assert stopped.value.code == 2
    assert f"argument --separator: expected one character, or 'tab', got {separator!r}" in capsys.readouterr().err


def test_titles_of_other_items_are_noticed(events, tmp_path, capsys):
    (tmp_path / "titles.csv").write_text("item,title\nSKU-1,Thing\n")
    code, _, err = run(
        capsys, "train", events, "--out", tmp_path / "model", "--titles", tmp_path / "titles.csv", *SMALL
    )
    assert code == 0
    assert err == f"lsif train: warning: {tmp_path / 'titles.csv'} has a title for no item of the events\n"


def test_where_a_model_cannot_go_is_said_before_anything_is_read(tmp_path, capsys):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "config.json").write_text('{"format": "pt"}')
    code, _, err = run(capsys, "train", "nowhere.csv", "--out", thesis, "--overwrite")
    assert code == 2
    assert err == f"lsif train: {thesis}: exists and is not an lsif_sdk artifact; not overwritten\n"


def test_events_with_numbers_only_are_of_a_model_that_knows_them_as_texts(tmp_path, capsys):
    rows = [f"u{user},{(7 * user + step * step) % 20 + 100},{step}" for user in range(20) for step in range(6)]
    events = tmp_path / "events.csv"
    events.write_text("\n".join(["user,item,timestamp", *rows, "u0,gift,9"]) + "\n")
    assert run(capsys, "train", events, "--out", tmp_path / "model", *SMALL)[0] == 0
    assert Recommender.load(tmp_path / "model").items.has_string_ids
    events.write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    code, out, err = run(capsys, "evaluate", tmp_path / "model", events, "--json", "--quiet")
    assert (code, err) == (0, "")
    assert json.loads(out)[1]["num_users"] == 20


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
    code, _, err = run(capsys, *common)
    assert code == 2
    assert "--out: expected a path that is free, or --overwrite" in err
    first = Recommender.load(out).artifact
    assert run(capsys, *common, "--resume", "--overwrite")[0] == 0
    resumed = Recommender.load(out).artifact
    assert resumed.training == first.training
    assert all(tensor.equal(first.weights[name]) for name, tensor in resumed.weights.items())
    code, _, err = run(capsys, *common, "--resume", "--overwrite", "--set", "dim=16")
    assert code == 2
    assert "the checkpoint belongs to another run" in err
    assert Recommender.load(out).config.dim == 8
    assert "test" not in Recommender.load(out).artifact.metrics
    assert "warning" in run(capsys, "evaluate", out, events)[2]


def test_explain_prints_draws_or_dumps_the_parts(model, capsys, tmp_path):
    why = Recommender.load(model).explain(["sku-1", "sku-2"], "sku-3")
    code, out, _ = run(capsys, "explain", model, "sku-1", "sku-2", "--item", "sku-3")
    assert code == 0 and f"score {why.score:.4f}" in out
    assert out.count("Thing ") == 3  # the item and both events
    for part in why.interests:
        assert f"{part.share:+9.4f}" in out and f"{part.kind}, weight {part.weight:.0%}" in out
    picture = tmp_path / "$_$.png"
    code, out, err = run(capsys, "explain", model, "sku-1", "sku-2", "--item", "sku-3", "--plot", picture, "--json")
    assert code == 0 and f"wrote {picture}" in err
    assert picture.read_bytes().startswith(b"\x89PNG")
    answer = json.loads(out)
    assert answer["score"] == pytest.approx(why.score) and len(answer["events"]) == 2
    many = [f"sku-{1 + place % 20}" for place in range(40)]
    out = run(capsys, "explain", model, *many, "--item", "sku-3", "--times", ",".join(map(str, range(40))))[1]
    assert "25 further events" in out and "1970-01-01" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["explain", "MODEL", "sku-1", "--item", "none"], "item: expected"),
        (["explain", "MODEL", "--item", "sku-1"], "history: expected one user with at least one known event"),
        (["explain", "MODEL", "sku-1", "--item", "sku-2", "--plot", "x.txt"], "--plot: expected a name that ends in"),
        (["train", "EVENTS", "--out", "x", "--user", "who"], "who"),
        (["train", "nowhere.csv", "--out", "x"], "nowhere.csv"),
        (["train", "EVENTS", "--out", "x", "--set", "depth=3"], "depth"),
        (["train", "EVENTS", "--out", "x", "--set", "dim"], "NAME=VALUE"),
        (["train", "EVENTS", "--out", "x", "--set", "=8"], "--set: expected NAME=VALUE"),
        (["train", "EVENTS", "--out", "x", "--set", "dim=-1"], "dim: expected"),
        (["train", "EVENTS", "--out", "x", "--set", "dim=wide"], "dim: expected an integer in [1, 65536], got 'wide'"),
        (["train", "EVENTS", "--out", "x", "--set", "num_items=3"], "num_items: expected"),
        (["train", "EVENTS", "--out", "x", "--item", "sku"], "no column 'sku'; it has ['user', 'item', 'timestamp']"),
        (["train", "EVENTS", "--out", "x", "--timestamp", "user"], "column 'user', row 1: expected Unix seconds"),
        (["train", "EVENTS", "--out", "x", "--titles", "EVENTS"], "no column 'title'"),
        (["train", "EVENTS", "--out", "x", "--set", "dim=65538"], "dim: expected an integer in [1, 65536], got 65538"),
        (["train", "EVENTS", "--out", "x", "--set", "max_seconds=abc"], "max_seconds: expected a number"),
        (["train", "EVENTS", "--out", "x", "--set", "epochs=abc"], "epochs: expected an integer"),
        (["train", "EVENTS", "--out", "x", "--set", "dropout=[1]"], "dropout: expected a number in [0, 1), got [1]"),
        (["train", "EVENTS", "--out", "x", "--resume"], "--resume: expected --checkpoints DIRECTORY beside it"),
        (["train", "EVENTS", "--out", "MODEL"], "--out: expected a path that is free, or --overwrite"),
        (["train", "EVENTS", "--out", "x", "--recipe", "EVENTS"], "not a readable recipe"),
        (["train", "EVENTS", "--out", "x", "--recipe", "nowhere.json"], "nowhere.json"),
        (["evaluate", "nowhere", "EVENTS"], "nowhere: no such directory"),
        (["evaluate", "MODEL", "EVENTS", "--k", "0"], "k: expected an integer in [1, 1048576], got 0"),
        (["evaluate", "MODEL", "EVENTS", "--k", "2000000"], "k: expected an integer in [1, 1048576], got 2000000"),
        (["recommend", "nowhere", "a"], "nowhere: no such directory"),
        (["recommend", "MODEL", "sku-1", "--k", "0"], "k: expected"),
        (["recommend", "MODEL", "sku-1", "--now", str(2**63)], "now: expected numbers that fit int64"),
        (["evaluate", "MODEL", "EVENTS", "--item", "timestamp"], "names no item of the model, whose ids are strings"),
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
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", "expected objects 'model' and 'training'"),
        ('{"model": 3}', "expected objects 'model' and 'training'"),
        ('{"modle": {"dim": 8}}', "got ['modle']"),
        ('{"model": {"depth": 8}}', "depth"),
        ('{"training": {"dim": 8}}', "dim"),
        ("{", "not a readable recipe"),
    ],
)
def test_a_recipe_with_mistakes_is_refused(events, tmp_path, capsys, text, expected):
    (tmp_path / "recipe.json").write_text(text)
    code, _, err = run(capsys, "train", events, "--out", tmp_path / "x", "--recipe", tmp_path / "recipe.json", *SMALL)
    assert code == 2
    assert expected in err
    assert len(err.splitlines()) == 1


def test_a_damaged_model_is_noticed(model, tmp_path, capsys):
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    weights = bytearray((copy / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "weights.safetensors").write_bytes(weights)
    code, out, err = run(capsys, "inspect", copy)
    assert (code, out) == (2, "")
    assert "weights.safetensors" in err


@pytest.mark.parametrize("arguments", [[], ["fit"], ["train"], ["recommend", "model", "--k", "many"]])
def test_a_command_line_that_is_none_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: lsif" in capsys.readouterr().err


def test_the_command_is_installed():
    command = pathlib.Path(sys.executable).with_name("lsif")
    if not command.exists():
        pytest.skip("no command lsif beside this Python: the package is not installed in its environment")
    done = subprocess.run([command, "doctor"], capture_output=True, text=True, check=True)
    assert "instruction set:" in done.stdout


def test_a_reader_that_goes_away_is_no_error(monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["doctor"]) == 0
    assert capsys.readouterr().err == ""


def test_evaluate_writes_a_report_on_request(capsys, model, events, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib (the extra 'report') is not installed")
    code, out, err = run(capsys, "evaluate", model, events, "--quiet", "--report", tmp_path / "report")
    assert code == 0 and "NDCG@10" in out and "index.html" in err
    page = (tmp_path / "report" / "index.html").read_text("utf-8")
    assert page.startswith("<!doctype html>") and "popularity" in page
    assert json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))["models"][0]["name"] == "popularity"


def test_text_needs_titles(capsys, events, tmp_path):
    code, _, err = run(capsys, "train", events, "--out", tmp_path / "out", "--text", "some-folder", *SMALL)
    assert code == 2 and "--text: expected --titles FILE" in err
