"""The Python code in README.md and docs/cookbook, and the commands in docs/cookbook, run as written."""

from __future__ import annotations

import csv
import os
import pathlib
import re
import shlex
from collections.abc import Iterable, Sequence

import numpy as np
import pytest

import lsif_sdk
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.training import TrainConfig

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "cookbook").glob("*.md"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory with the files the pages start from: model/ of a small shop, and its events as events.csv.

    The events are also in watched.csv, in the form an application might have, with titles in films.csv.
    """
    path = tmp_path_factory.mktemp("cookbook")
    log = simulated_shop(300, 100)
    lsif_sdk.train(log, {"dim": 16}, TrainConfig(epochs=2), progress=False).save(path / "model")
    users = [f"u{user}" for user in np.repeat(np.arange(log.num_users), log.lengths)]
    items = [log.item_ids[item] for item in log.items]
    events = list(zip(users, items, log.times, strict=True))
    write(path / "events.csv", ("user", "item", "timestamp"), events)
    dates = log.times.astype("datetime64[s]").tolist()
    write(path / "watched.csv", ("member", "film", "when"), zip(users, items, dates, strict=True))
    write(path / "films.csv", ("film", "name"), [(item, f"Film, the {item}") for item in log.item_ids])
    return path


def write(path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def blocks(page: pathlib.Path) -> str:
    """The page's Python code, with its commands as calls."""
    parts = re.findall(r"```(python|bash)\n(.*?)```", page.read_text(), re.DOTALL)
    return "\n".join(text if language == "python" else as_calls(text) for language, text in parts)


def as_calls(commands: str) -> str:
    calls = [f"assert main({shlex.split(line)[1:]}) == 0, {line!r}" for line in commands.splitlines()]
    return "\n".join(["from lsif_sdk.cli import main", *calls])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # threads.md forks, and says when that is allowed
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_cookbook_runs(page, folder, monkeypatch):
    monkeypatch.chdir(folder)
    source = blocks(page)
    assert "assert" in source, "a page shows what comes out"
    source = source.replace("'films-model/']", "'films-model/', '--set', 'epochs=1']").replace(
        "train(log)", "train(log, None, {'epochs': 1})"
    )
    exec(compile(source, str(page), "exec"), {"__name__": "__main__"})


def test_the_pages_are_known():
    index = (ROOT / "docs" / "cookbook.md").read_text()
    assert {f"cookbook/{page.name}" for page in PAGES} == set(re.findall(r"\((cookbook/\w+\.md)\)", index))


def test_the_readme_runs(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.symlink(folder / "events.csv", tmp_path / "events.csv")
    source = blocks(ROOT / "README.md").replace(
        'train("events.csv")', 'train("events.csv", None, TrainConfig(epochs=1))'
    )
    source = re.sub(r"\bi(42|7|99|1)\b", r"sku-\1", source)
    exec(compile(source, "README.md", "exec"), {"TrainConfig": TrainConfig})
    assert len(capsys.readouterr().out.splitlines()) >= 10
