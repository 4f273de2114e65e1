"""The command `lsif`: refusals are one line, and nothing is written then."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from cli_cases import SMALL, run
from lsif_sdk.cli import main


def test_where_a_model_cannot_go_is_said_before_anything_is_read(tmp_path, capsys):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "config.json").write_text('{"format": "pt"}')
    code, _, err = run(capsys, "train", "nowhere.csv", "--out", thesis, "--overwrite")
    assert code == 2
    assert err == f"lsif train: {thesis}: exists and is not an lsif_sdk artifact; not overwritten\n"


@pytest.mark.parametrize("separator", ["", ", ", "tabs"])
def test_a_separator_is_one_character(shop_events, capsys, separator):
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(shop_events), "--out", "x", "--separator", separator])
    assert stopped.value.code == 2
    assert f"argument --separator: expected one character, or 'tab', got {separator!r}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["explain", "MODEL", "sku-1", "--item", "none"], "item: expected"),
        (["explain", "MODEL", "--item", "sku-1"], "history: expected one user with at least one known event"),
        (["explain", "MODEL", "sku-1", "--item", "sku-2", "--plot", "x.txt"], "--plot: expected a name that ends in"),
        (["train", "EVENTS", "--out", "x", "--user", "who"], "who"),
        (["train", "nowhere.csv", "--out", "x"], "nowhere.csv"),
        (
            ["train", "EVENTS", "--out", "x", "--set", "depth=3"],
            "(--set): expected fields of ModelConfig or TrainConfig (",
        ),
        (["train", "EVENTS", "--out", "x", "--set", "epoch=3"], "got 'epoch' (did you mean 'epochs'?)"),
        (["train", "EVENTS", "--out", "x", "--set", "dim"], "NAME=VALUE"),
        (["train", "EVENTS", "--out", "x", "--set", "=8"], "--set: expected NAME=VALUE"),
        (["train", "EVENTS", "--out", "x", "--set", "dim=-1"], "dim: expected"),
        (["train", "EVENTS", "--out", "x", "--set", "dim=wide"], "dim: expected an integer in [1, 65536], got str"),
        (["train", "EVENTS", "--out", "x", "--set", "num_items=3"], "got 'num_items'"),
        (["train", "EVENTS", "--out", "x", "--item", "sku"], "no column 'sku'; it has ['user', 'item', 'timestamp']"),
        (
            ["train", "EVENTS", "--out", "x", "--timestamp", "user"],
            "timestamp: expected a column of its own, got 'user'",
        ),
        (["train", "EVENTS", "--out", "x", "--titles", "EVENTS"], "; title= (--title-column) names another"),
        (["train", "EVENTS", "--out", "x", "--set", "dim=65538"], "dim: expected an integer in [1, 65536], got 65538"),
        (["train", "EVENTS", "--out", "x", "--set", "max_seconds=abc"], "max_seconds: expected a number"),
        (["train", "EVENTS", "--out", "x", "--set", "epochs=abc"], "epochs: expected an integer"),
        (["train", "EVENTS", "--out", "x", "--set", "dropout=[1]"], "dropout: expected a number in [0, 1), got list"),
        (["train", "EVENTS", "--out", "x", "--resume"], "--resume: expected --checkpoints DIRECTORY beside it"),
        (["train", "EVENTS", "--out", "MODEL"], "--out: expected a path that is free, or --overwrite"),
        (["train", "nowhere.csv", "--out", "EVENTS/model"], "/model: no directory can be made there: "),
        (["train", "EVENTS", "--out", "x", "--recipe", "EVENTS"], "not a readable recipe"),
        (["train", "EVENTS", "--out", "x", "--recipe", "nowhere.json"], "nowhere.json"),
        (["evaluate", "MODEL", "EVENTS", "--report", "EVENTS"], "--report: expected a folder, or a place for one"),
        (["evaluate", "nowhere", "EVENTS"], "nowhere: no such directory"),
        (["evaluate", "nowhere", "nothing", "--k", "0"], "k: expected an integer in [1, 1048576], got 0"),
        (["evaluate", "MODEL", "EVENTS", "--k", "2000000"], "k: expected an integer in [1, 1048576], got 2000000"),
        (["recommend", "nowhere", "a"], "nowhere: no such directory"),
        (["recommend", "MODEL", "sku-1", "--k", "0"], "k: expected"),
        (["recommend", "MODEL", "sku-1", "--now", str(2**63)], "now: expected numbers that fit int64"),
        (["recommend", "MODEL", "sku-1", "--now", "9" * 5000], "now: expected numbers that fit int64"),
        (["recommend", "MODEL", "sku-1", "--now", "9" * 400 + ".5"], "now: expected numbers that fit int64"),
        (["evaluate", "MODEL", "EVENTS", "--item", "timestamp"], "timestamp: expected a column of its own"),
        (["evaluate", "MODEL", "EVENTS", "--item", "user", "--user", "item"], "names no item of the model, whose ids"),
        (["inspect", "EVENTS"], "a file, not a directory"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    shop_model, shop_events, capsys, monkeypatch, tmp_path, arguments, expected
):
    monkeypatch.chdir(tmp_path)
    places = {"EVENTS": shop_events, "MODEL": shop_model}
    code, out, err = run(
        capsys, *[places.get(argument, argument.replace("EVENTS/", f"{shop_events}/")) for argument in arguments]
    )
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
        ('{"model": {"DIMM": 8}}', "unknown ['DIMM'] (did you mean 'dim'?)"),
        ('{"training": {"epoch": 8}}', "unknown ['epoch'] (did you mean 'epochs'?)"),
        ('{"training": {"dim": 8}}', "dim"),
        ("{", "not a readable recipe"),
    ],
)
def test_a_recipe_with_mistakes_is_refused(shop_events, tmp_path, capsys, text, expected):
    (tmp_path / "recipe.json").write_text(text)
    code, _, err = run(
        capsys, "train", shop_events, "--out", tmp_path / "x", "--recipe", tmp_path / "recipe.json", *SMALL
    )
    assert code == 2
    assert expected in err
    assert len(err.splitlines()) == 1


def test_a_damaged_model_is_noticed(shop_model, tmp_path, capsys):
    copy = tmp_path / "model"
    shutil.copytree(shop_model, copy)
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


def test_text_needs_titles(capsys, shop_events, tmp_path):
    code, _, err = run(capsys, "train", shop_events, "--out", tmp_path / "out", "--text", "some-folder", *SMALL)
    assert code == 2 and "--text: expected --titles FILE" in err
