"""Fixtures several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from store_cases import KINDS, RedisServer, Stores

# Tests use small tensors, on which several threads of torch would mostly wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of data sets (LSIF_DATA_DIR, by default shared/data beside the repository), or a skip."""
    folder = Path(os.environ.get("LSIF_DATA_DIR", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no data sets: LSIF_DATA_DIR names no folder, and shared/data beside the repository is none")
    return folder


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """A server, or a skip."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(params=KINDS)
def stores(request, tmp_path) -> Stores:
    """Stores of every kind, in turn."""
    server = request.getfixturevalue("redis_server") if request.param == "redis" else None
    return Stores(tmp_path, server)
