"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import bench_modules  # noqa: F401 (puts bench/ on the path for every test file)
from cli_cases import SMALL
from lsif_sdk.cli import main
from lsif_sdk.datasets import simulated_shop
from store_cases import KINDS, RedisServer, Stores

# On the small tensors of tests, several torch threads would mostly wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of data sets (LSIF_DATA_DIR, by default shared/data beside the repository); skips without one."""
    folder = Path(os.environ.get("LSIF_DATA_DIR", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no data sets: LSIF_DATA_DIR names no folder, and shared/data beside the repository is none")
    return folder


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """A Redis server; skips if none can be started."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(params=KINDS)
def stores(request, tmp_path) -> Stores:
    """Stores of one kind; the test runs once for each kind."""
    server = request.getfixturevalue("redis_server") if request.param == "redis" else None
    return Stores(tmp_path, server)


@pytest.fixture(scope="session")
def shop_events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    log = simulated_shop(60, 30)
    path = tmp_path_factory.mktemp("events") / "events.csv"
    rows = ["user,item,timestamp"]
    for user in range(log.num_users):
        own = log.user(user)
        rows += [f"{log.user_ids[user]},{log.item_ids[i]},{t}" for i, t in zip(own.items, own.times, strict=True)]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="session")
def shop_model(shop_events: Path) -> Path:
    """A model that `lsif train` makes of `shop_events`."""
    path = shop_events.parent / "model"
    titles = shop_events.parent / "titles.tsv"
    titles.write_text("item\ttitle\n" + "".join(f"sku-{n}\tThing {n}\n" for n in range(1, 31)))
    assert main(["train", str(shop_events), "--out", str(path), "--titles", str(titles), *SMALL]) == 0
    return path
