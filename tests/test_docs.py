"""The Python of README.md and of docs/cookbook runs as it stands there."""

from __future__ import annotations

import os
import pathlib
import re

import pytest

import lsif_sdk
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.training import TrainConfig

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "cookbook").glob("*.md"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory with what the pages start from: model/ of a small shop, and its events as events.csv."""
    path = tmp_path_factory.mktemp("cookbook")
    log = simulated_shop(300, 100)
    lsif_sdk.train(log, {"dim": 16}, TrainConfig(epochs=2), progress=False).save(path / "model")
    rows = ["user,item,timestamp"]
    for user in range(log.num_users):
        events = log.user(user)
        rows += [f"u{user},{log.item_ids[item]},{time}" for item, time in zip(events.items, events.times, strict=True)]
    (path / "events.csv").write_text("\n".join(rows) + "\n")
    return path


def blocks(page: pathlib.Path) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_cookbook_runs(page, folder, monkeypatch):
    monkeypatch.chdir(folder)
    source = blocks(page)
    assert "assert" in source, "a page shows what comes out"
    exec(compile(source, str(page), "exec"), {})


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
