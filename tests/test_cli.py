"""The command `lsif`: what it prints and what it writes."""

from __future__ import annotations

import dataclasses
import io
import json
import pathlib
import re
import subprocess
import sys
import tomllib
import unicodedata
from typing import Any

import numpy
import pandas
import pytest

import lsif_sdk
from cli_cases import SMALL, run
from lsif_sdk import Events, Recommender, commands
from lsif_sdk.cli import main
from lsif_sdk.doctor import diagnose
from lsif_sdk.items import ItemTable
from lsif_sdk.training import read_events

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with events.tsv (integer ids, actions, other column names, no times) and a model trained on it."""
    folder = tmp_path_factory.mktemp("numbers")
    rows = [f"{user}\t{(7 * user + step * step) % 20 + 100}\t{step % 3 + 1}" for user in range(20) for step in range(8)]
    (folder / "events.tsv").write_text("\n".join(["who\twhat\thow", *rows]) + "\n")
    columns = ["--user", "who", "--item", "what", "--action", "how", "--timestamp", ""]
    assert main(["train", str(folder / "events.tsv"), "--out", str(folder / "model"), *columns, *SMALL]) == 0
    return folder


def test_train_writes_a_model_with_its_provenance(shop_model):
    artifact = Recommender.load(shop_model).artifact
    assert artifact.config.dim == 8
    assert artifact.training["source"] == "events.csv"
    assert artifact.training["holdout"] == "test"
    assert set(artifact.metrics["test"]) == {"popularity", "lsif"}


def test_settings_and_recipes_reach_the_model(shop_events, tmp_path, capsys):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(
        json.dumps({"model": {"dim": 8, "block": "transformer", "num_long": 1}, "training": {"epochs": 9}})
    )
    settings = ["--set", "epochs=1", "--set", "normalize_items=True", "--set", "scoring=multi_interest"]
    code, out, err = run(
        capsys, "train", shop_events, "--out", tmp_path / "deep" / "model", "--recipe", recipe, *settings, "--quiet"
    )
    assert (code, out) == (0, f"wrote {tmp_path / 'deep' / 'model'}\n")
    assert "epoch 1" not in err and "1 of at most 1 epochs; the best was the 1.\nvalidation   NDCG@10 " in err
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


def test_seen_items_are_left_out_unless_wanted(shop_model, capsys):
    def items(*options: Any) -> list[str]:
        answer = json.loads(run(capsys, "recommend", shop_model, "sku-1", "sku-2", "--k", 30, "--json", *options)[1])
        return [row["item"] for row in answer["items"]]

    everything = items("--include-seen")
    assert sorted(everything) == sorted(f"sku-{n}" for n in range(1, 31))
    assert items() == [item for item in everything if item not in ("sku-1", "sku-2")]


def test_train_says_how_many_targets_are_misses(shop_events, capsys, tmp_path):
    doubled = tmp_path / "doubled.csv"
    head, *rows = shop_events.read_text().splitlines()
    doubled.write_text("\n".join([head, *(row for row in rows for _ in range(2))]) + "\n")
    small = ["--set", "epochs=1", "--set", "dim=8"]
    for events, options, is_told in (
        (shop_events, (), False),
        (doubled, (), True),
        (doubled, ("--include-seen",), False),
    ):
        code, _, err = run(capsys, "train", events, "--out", tmp_path / "m", "--overwrite", *small, *options)
        assert code == 0 and ("of these are in their user's history already, and so misses" in err) is is_told


def test_evaluate_prints_a_table_or_json(shop_model, shop_events, capsys):
    code, out, err = run(capsys, "evaluate", shop_model, shop_events)
    assert code == 0
    assert "popularity" in out
    assert "NDCG@10" in out
    assert "warning" not in err
    code, out, err = run(capsys, "evaluate", shop_model, shop_events, "--json", "--quiet", "--k", 5)
    assert err == ""
    reports = {report["name"]: report for report in json.loads(out)}
    saved = Recommender.load(shop_model).artifact.metrics["test"]
    assert reports["lsif"]["targets_hash"] == saved["lsif"]["targets_hash"]
    assert "ndcg@5" in reports["lsif"]["metrics"]
    _, several, _ = run(capsys, "evaluate", shop_model, shop_events, "--json", "--quiet", "--k", "10,5")
    for report in json.loads(several):
        assert report["k"] == [10, 5] and report["metrics"].items() > reports[report["name"]]["metrics"].items()
    _, table, _ = run(capsys, "evaluate", "--k", "10,5", shop_model, shop_events, "--quiet")
    assert table.index("NDCG@10") < table.index("NDCG@5")


def test_ids_may_stand_on_both_sides_of_an_option(capsys, shop_model):
    expected = run(capsys, "recommend", shop_model, "sku-1", "sku-2", "--k", "3")
    for arguments in (("--k", "3", "sku-1", "sku-2"), ("sku-1", "--k", "3", "sku-2")):
        assert run(capsys, "recommend", shop_model, *arguments) == expected
    with pytest.raises(SystemExit):
        run(capsys, "recommend", shop_model, "sku-1", "--kay", "3")
    assert "unrecognized arguments: --kay 3" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(capsys, "inspect", shop_model, "more")
    assert "unrecognized arguments: more" in capsys.readouterr().err


def test_ids_that_begin_with_a_dash_come_after_two(capsys, tmp_path):
    ids = ["-x", "--k", "b", "c"]
    rows = [f"u{user},{ids[(user + step) % 4]},{step}" for user in range(8) for step in range(6)]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    model = tmp_path / "model"
    assert run(capsys, "train", tmp_path / "events.csv", "--out", model, "--include-seen", *SMALL)[0] == 0
    expected = run(capsys, "recommend", model, "--k", 3, "b", "--", "--k", "-x")
    assert expected[0] == 0 and "unknown" not in expected[2]
    for arguments in (("b", "--k", 3, "--", "--k", "-x"), ("--k", 3, "--", "b", "--k", "-x")):
        assert run(capsys, "recommend", model, *arguments) == expected
    assert run(capsys, "explain", model, "--item=--k", "--", "-x")[1].startswith("--k: score")
    for command in (["recommend", model, "-x"], ["explain", model, "-x", "--item", "b"]):
        with pytest.raises(SystemExit):
            run(capsys, *command)
        assert "unrecognized arguments: -x (ids that begin with '-' come after --)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(capsys, "inspect", model, "-x")
    assert capsys.readouterr().err.endswith("unrecognized arguments: -x\n")


def test_ids_and_titles_do_not_steer_the_terminal(capsys, tmp_path):
    ids = ["a\nb", "\x1b[31mred", "c\u2028d\x9b", "\u202eoverride", "na\u00efve \U0001f44d"]
    frame = pandas.DataFrame(
        {"user": [f"u{n // 6}" for n in range(60)], "item": [ids[(n + n // 6) % 5] for n in range(60)]}
    )
    titles = {item: f"\x07{item}\r\ntitle" for item in ids}
    log = read_events(frame, timestamp=None).with_titles(titles)
    small = ({"dim": 8, "num_layers": 1}, {"epochs": 1})
    trained = lsif_sdk.train(log, *small, exclude_seen=False, progress=False, source="\x1b[2J.csv")
    trained.save(tmp_path / "\x1b[1m")
    Recommender(dataclasses.replace(trained.artifact, items=ItemTable(log.item_ids))).save(tmp_path / "bare")
    for model in (tmp_path / "\x1b[1m", tmp_path / "bare"):
        _, out, err = run(capsys, "recommend", model, *ids, "--k", 5)
        assert "\\x1b[31mred" in out and "a\\nb" in out and "na\u00efve \U0001f44d" in out
        assert len(out.splitlines()) == 5
        texts = [out, err, *run(capsys, "explain", model, *ids, "--item", ids[1])[1:]]
        texts += run(capsys, "explain", model, ids[0], "--item", "\x1b[31mblue")[1:]
        texts += run(capsys, "inspect", model)[1:]
        assert "\\x1b[2J.csv" in texts[-2]
        assert all(char == "\n" or unicodedata.category(char) not in ("Cc", "Zl", "Zp") for char in "".join(texts))
        assert "\u202e" not in "".join(texts)
        shown = run(capsys, "recommend", model, *ids, "--k", 5, "--json")[1]
        assert {row["item"] for row in json.loads(shown)["items"]} == set(ids)
        assert "na\u00efve \U0001f44d" in shown and all(char == "\n" or char.isprintable() for char in shown)
    code, _, err = run(capsys, "train", tmp_path / "\x1b[1m.csv", "--out", tmp_path / "x")
    assert code == 2 and "\x1b" not in err and "\\x1b[1m.csv" in err


def test_a_model_is_evaluated_on_the_split_and_with_the_masking_it_was_trained_for(capsys, shop_events, tmp_path):
    out = tmp_path / "model"
    assert run(capsys, "train", shop_events, "--out", out, "--split", "time", "--include-seen", *SMALL)[0] == 0
    saved = Recommender.load(out).artifact
    assert saved.training["split"] == "time" and saved.training["exclude_seen"] is False
    code, text, err = run(capsys, "evaluate", out, shop_events, "--json", "--quiet")
    assert (code, err) == (0, "")
    for report in json.loads(text):
        assert report["targets_hash"] == saved.metrics["test"]["lsif"]["targets_hash"]
        assert report["exclude_seen"] is False
    _, text, err = run(capsys, "evaluate", out, shop_events, "--json", "--quiet", "--split", "leave_one_out")
    assert "may have been trained on the test targets" in err
    assert json.loads(text)[0]["targets_hash"] != saved.metrics["test"]["lsif"]["targets_hash"]
    _, text, _ = run(capsys, "evaluate", out, shop_events, "--json", "--quiet", "--no-include-seen")
    assert json.loads(text)[0]["exclude_seen"] is True


def test_recommend_prints_titles_or_json(shop_model, capsys):
    code, out, err = run(capsys, "recommend", shop_model, "sku-1", "sku-2", "--k", 3)
    assert code == 0
    assert len(out.splitlines()) == 3
    assert "Thing " in out
    assert "long-term share" in err
    code, out, _ = run(capsys, "recommend", shop_model, "sku-1", "nothing", "--k", 3, "--json")
    answer = json.loads(out)
    assert answer["unknown"] == 1
    expected = Recommender.load(shop_model).recommend(["sku-1"], k=3)[0]
    assert [row["item"] for row in answer["items"]] == expected.items.tolist()
    code, _, err = run(capsys, "recommend", shop_model)
    assert code == 0
    assert "most popular" in err
    _, out, err = run(capsys, "recommend", shop_model, "sku-1", "nothing", "--k", 30)
    assert len(out.splitlines()) == 29
    assert "1 unknown item(s)" in err
    answer = json.loads(run(capsys, "recommend", shop_model, "--k", 2, "--now", 1_700_000_000, "--json")[1])
    assert answer["fallback"] is True
    counts = Recommender.load(shop_model).items.counts
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
    dates = [
        "--times",
        "1970-01-01T00:05,1970-01-01T01:01:40+01:00",
        "--now",
        "1970-01-01 00:06:40",
        *options[2:4],
        *options[6:],
    ]
    assert run(capsys, "recommend", numbers / "model", "101", "104", "--k", 30, "--json", *dates)[1] == out
    refusals = {
        ("--times", "300"): "times: expected 2 values, one per item, got 1",
        ("--times", "300,now"): "--times: expected Unix seconds or ISO dates with hyphens, got 'now'",
        ("--times", "20240101T00,100"): "--times: expected Unix seconds or ISO dates with hyphens, got '20240101T00'",
        ("--actions", "4,1"): "actions: expected values in [0, 3], got 4",
        ("--exclude", "a105"): "--exclude: expected integers, as the catalogue's ids, got 'a105'",
    }
    for wrong, message in refusals.items():
        code, out, err = run(capsys, "recommend", numbers / "model", "101", "104", *wrong)
        assert (code, out, err) == (2, "", f"lsif recommend: {message}\n")


@pytest.mark.parametrize(("separator", "option"), [(";", ";"), ("|", "|"), ("\t", "tab"), ("\t", "\t")])
def test_columns_are_separated_by_what_is_told(shop_events, shop_model, tmp_path, capsys, separator, option):
    (tmp_path / "log").write_text(shop_events.read_text().replace(",", separator))
    (tmp_path / "names").write_text(f"item{separator}title\nsku-1{separator}Thing, first\n")
    options = ["--titles", tmp_path / "names", "--title-separator", option, "--separator", option]
    code, _, err = run(capsys, "train", tmp_path / "log", "--out", tmp_path / "model", *options, *SMALL)
    assert (code, err.splitlines()[1]) == (0, "2 of at most 2 epochs; the best was the 2.")
    items = Recommender.load(tmp_path / "model").items
    assert items.title_of("sku-1") == "Thing, first"
    same = run(capsys, "evaluate", shop_model, tmp_path / "log", "--separator", option, "--quiet")
    assert same == run(capsys, "evaluate", shop_model, shop_events, "--quiet")
    assert same[0] == 0


def test_titles_of_other_items_are_noticed(shop_events, tmp_path, capsys):
    (tmp_path / "titles.csv").write_text("item,title\nSKU-1,Thing\n")
    code, _, err = run(
        capsys, "train", shop_events, "--out", tmp_path / "model", "--titles", tmp_path / "titles.csv", *SMALL
    )
    assert code == 2 and not (tmp_path / "model").exists()
    expected = "titles: expected titles of the events' items, such as 'sku-1', got only titles of others, such as"
    assert err == f"lsif train: {expected} 'SKU-1'\n"
    (tmp_path / "titles.csv").write_text("item,title\nsku-1,Thing\nsku-2,\nsku-3,sku-3\nSKU-4,Thing\n")
    out = ["--out", tmp_path / "model", "--titles", tmp_path / "titles.csv", *SMALL[:-1]]
    code, _, err = run(capsys, "train", shop_events, *out)
    assert code == 0 and "1 of 30 items have a title\n" in err


def test_events_with_numbers_only_are_of_a_model_that_knows_them_as_texts(tmp_path, capsys):
    rows = [f"u{user},{(7 * user + step * step) % 20 + 100},{step}" for user in range(20) for step in range(6)]
    events = tmp_path / "events.csv"
    events.write_text("\n".join(["user,item,timestamp", *rows, "u0,gift,-1"]) + "\n")
    assert run(capsys, "train", events, "--out", tmp_path / "model", *SMALL)[0] == 0
    assert Recommender.load(tmp_path / "model").items.has_string_ids
    events.write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    code, out, err = run(capsys, "evaluate", tmp_path / "model", events, "--json", "--quiet")
    assert (code, err) == (0, "")
    assert json.loads(out)[1]["num_users"] == 20


def test_version_is_told_and_the_package_runs_as_the_command(capsys):
    command = [sys.executable, "-m", "lsif_sdk", "--version"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told == f"lsif_sdk {lsif_sdk.__version__}\n"
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0 and capsys.readouterr().out == told


def test_an_interruption_is_one_line(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "doctor", interrupted)
    assert run(capsys, "doctor") == (130, "", "\nlsif doctor: interrupted\n")


def test_inspect_and_doctor_report_facts(shop_model, capsys):
    facts = json.loads(run(capsys, "inspect", shop_model, "--json")[1])
    assert facts["items"] == {
        "count": 30, "available": 30, "ids": "strings", "first": ["sku-1", "sku-10", "sku-11"], "titles": True
    }  # fmt: skip
    assert facts["model"]["dim"] == 8
    artifact = Recommender.load(shop_model).artifact
    assert (facts["written_by"], facts["written_at"]) == (artifact.written_by, artifact.written_at)
    assert facts["written_by"] == f"lsif_sdk {lsif_sdk.__version__}"
    assert "format_version: 1" in run(capsys, "inspect", shop_model)[1]
    report = json.loads(run(capsys, "doctor", "--json")[1])
    assert report["instruction set"].split(":")[0] in report["runnable here"]
    assert report["threads"]["lsif_sdk default"] >= 1


def test_doctor_lists_all_that_pyproject_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split("[<>=]", requirement)[0] for requirement in requirements}

    facts = diagnose()
    assert {"torch", *facts["packages"]} == names(project["dependencies"])
    for_developers = {"bench", "test", "lint"}
    extras = {
        extra: names(listed)
        for extra, listed in project["optional-dependencies"].items()
        if extra not in for_developers
    }
    assert {extra: set(packages) for extra, packages in facts["extras"].items()} == extras
    assert facts["packages"]["numpy"] == numpy.__version__


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_an_output_of_any_encoding_takes_what_is_printed(encoding, shop_events, tmp_path, monkeypatch):
    def printed(*arguments: object) -> str:
        content = io.BytesIO()
        with io.TextIOWrapper(content, encoding) as output:
            monkeypatch.setattr(sys, "stdout", output)
            assert main([str(argument) for argument in arguments]) == 0
            return content.getvalue().decode(encoding)

    titles = tmp_path / "titles.csv"
    titles.write_text("item,title\nsku-1,Caf\u00e9 \u2615\n")
    model = tmp_path / "model"
    printed("train", shop_events, "--titles", titles, "--out", model, *SMALL)
    assert "NDCG@10" in printed("evaluate", model, shop_events, "--quiet")
    shown = "Caf\u00e9 \u2615".encode(encoding, "backslashreplace").decode(encoding)
    assert shown in printed("explain", model, "sku-2", "--item", "sku-1")
    assert shown in printed("recommend", model, "sku-2", "--k", 29)
    rows = json.loads(printed("recommend", model, "sku-2", "--k", 29, "--json"))["items"]
    assert "Caf\u00e9 \u2615" in [row["title"] for row in rows]


def test_a_closed_output_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["doctor"]) == 0


def test_training_resumes_and_holds_out_what_it_is_told(shop_events, tmp_path, capsys):
    checkpoints, out = tmp_path / "checkpoints", tmp_path / "model"
    common = ["train", shop_events, "--out", out, "--checkpoints", checkpoints, "--holdout", "validation", *SMALL]
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
    assert "warning" in run(capsys, "evaluate", out, shop_events)[2]


def test_explain_prints_draws_or_dumps_the_parts(shop_model, capsys, tmp_path):
    why = Recommender.load(shop_model).explain(["sku-1", "sku-2"], "sku-3")
    code, out, _ = run(capsys, "explain", shop_model, "sku-1", "sku-2", "--item", "sku-3")
    assert code == 0 and f"score {why.score:.4f}" in out
    assert out.count("Thing ") == 3  # the item and both events
    for part in why.interests:
        assert f"{part.share:+9.4f}" in out and f"{part.kind}, weight {part.weight:.0%}" in out
    picture = tmp_path / "$_$.png"
    code, out, err = run(
        capsys, "explain", shop_model, "sku-1", "sku-2", "--item", "sku-3", "--plot", picture, "--json"
    )
    assert code == 0 and f"wrote {picture}" in err
    assert picture.read_bytes().startswith(b"\x89PNG")
    answer = json.loads(out)
    assert answer["score"] == pytest.approx(why.score) and len(answer["events"]) == 2
    many = [f"sku-{1 + place % 20}" for place in range(40)]
    out = run(capsys, "explain", shop_model, *many, "--item", "sku-3", "--times", ",".join(map(str, range(40))))[1]
    assert "25 further events" in out and "1970-01-01" in out


def test_evaluate_writes_a_report_on_request(capsys, shop_model, shop_events, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib (the extra 'report') is not installed")
    code, out, err = run(capsys, "evaluate", shop_model, shop_events, "--quiet", "--report", tmp_path / "report")
    assert code == 0 and "NDCG@10" in out and "index.html" in err
    page = (tmp_path / "report" / "index.html").read_text("utf-8")
    assert page.startswith("<!doctype html>") and "popularity" in page
    assert json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))["models"][0]["name"] == "popularity"


@pytest.mark.parametrize(
    ("done", "best", "said"),
    [
        (9, 9, "9 of at most 9 epochs; the best was the 9."),
        (5, 2, "5 of at most 9 epochs: none was better since; the best was the 2."),
        (4, 3, "4 of at most 9 epochs: max_seconds were over; the best was the 3."),
    ],
)
def test_what_ended_a_training_is_said(done, best, said):
    training = {"epochs": done, "best_epoch": best, "config": {"epochs": 9, "patience": 3}}
    assert commands._stopped(training) == said


def test_a_model_that_is_not_above_popularity_is_not_recommended_for_use():
    reports = {name: {"k": 10, "metrics": {"ndcg@10": value}} for name, value in (("popularity", 0.2), ("lsif", 0.2))}
    assert commands._next_step(reports).startswith("not above popularity")
    reports["lsif"]["metrics"] = {"ndcg@10": 0.21}
    assert commands._next_step(reports).startswith("for use, train on more of them")
