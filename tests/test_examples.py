"""The examples run: the server, with requests over HTTP, and the two short ones. `make demo` runs demo.py."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from typing import Any

import pytest

from recommender_cases import IDS, NUM_ITEMS, build

FOLDER = pathlib.Path(__file__).parents[1] / "examples"


@pytest.fixture
def server() -> Any:
    """The address of examples/http_server.py, which serves a small model."""
    spec = importlib.util.spec_from_file_location("http_server", FOLDER / "http_server.py")
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.MAX_K = 5
    module.Handler.recommender = build()
    module.Handler.log_message = lambda *_: None
    with module.Server(("127.0.0.1", 0), module.Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def asked(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_server_answers_and_bounds_k(server):
    expected = build().recommend(["i1", "i2"], k=3)[0]
    status, answer = asked(f"{server}/recommend?items=i1,i2&k=3")
    assert status == 200 and [row["item"] for row in answer["items"]] == expected.items.tolist()
    assert answer["long_share"] == pytest.approx(expected.long_share) and not answer["fallback"]
    assert [row["item"] for row in asked(f"{server}/recommend")[1]["items"]] == IDS[:5]  # most popular first
    assert len(asked(f"{server}/recommend?items=i1&k={NUM_ITEMS}")[1]["items"]) == 5


def test_the_server_says_what_is_wrong(server):
    for path, status, message in (
        ("/", 404, "only /recommend"),
        ("/recommend?items=i1&k=0", 400, "k: expected an integer in"),
        ("/recommend?items=i1&k=many", 400, "k: "),
    ):
        code, answer = asked(server + path)
        assert code == status and message in answer["error"]


def printed(example: str, folder: pathlib.Path) -> list[str]:
    command = [sys.executable, FOLDER / example]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # several threads would spin: docs/training.md, "Busy machines"
    run = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_the_quickstart_trains_saves_and_recommends(tmp_path):
    lines = printed("quickstart.py", tmp_path)
    assert len(lines) == 3 and (tmp_path / "build" / "quickstart-model").is_dir()
    for line, fallback in zip(lines, ("personal", "personal", "popular"), strict=True):
        found, said = line.rsplit(" ", 1)
        titles, scores = zip(*ast.literal_eval(found), strict=True)
        assert said == fallback and len(set(titles)) == 3 and list(scores) == sorted(scores, reverse=True)


def test_the_exact_index_leaves_each_query_own_row_out(tmp_path):
    lines = printed("exact_index.py", tmp_path)
    assert len(lines) == 2
    for query, line in enumerate(lines):
        ids, scores = zip(*ast.literal_eval(line), strict=True)
        assert len(set(ids)) == 5 and f"doc-{query}" not in ids and list(scores) == sorted(scores, reverse=True)
