"""Progress: a bar on a terminal, a few plain lines elsewhere, nothing if it is switched off."""

from __future__ import annotations

import builtins
import io
import sys

import numpy as np
import pytest

from lsif_sdk import progress
from lsif_sdk.errors import ArgumentError
from lsif_sdk.evaluation import Popularity, compare, evaluate
from lsif_sdk.progress import track
from lsif_sdk.training import EventLog


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""
    seconds = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


def test_away_from_a_terminal_there_is_a_line_every_ten_seconds(clock, capsys):
    with track("train", 500, "steps", initial=100) as bar:
        for step in range(400):
            if step == 60:
                bar.note("epoch 2, loss 0.5")
            clock[0] += 0.25
            bar.update()
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert len(lines) == 10
    assert lines[0] == "train: 140/500 steps"
    assert lines[1] == "train: 180/500 steps, epoch 2, loss 0.5"
    assert lines[-1] == "train: 500/500 steps, epoch 2, loss 0.5"
    assert "\r" not in captured.err


def test_a_loop_done_sooner_prints_nothing(clock, capsys):
    with track("evaluate", 1000, "chunks") as bar:
        for _ in range(1000):
            clock[0] += 0.0099
            bar.update()
    assert capsys.readouterr().err == ""


def test_nothing_is_shown_where_nothing_is_wanted(clock, monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with track("train", 3, "steps", show=False) as bar:
        clock[0] += 100
        bar.note("loss 1")
        bar.update()
    assert stream.getvalue() == ""


def test_a_terminal_has_a_bar_with_the_newest_note(monkeypatch):
    pytest.importorskip("tqdm")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with track("train", 3, "steps") as bar:
        for _ in range(3):
            bar.update()
        bar.note("loss 0.25")
    shown = stream.getvalue().split("\r")
    assert len(shown) > 1
    assert "train: 100%" in shown[-1]
    assert "3/3" in shown[-1]
    assert "loss 0.25" in shown[-1]


def test_without_tqdm_a_terminal_has_lines(clock, monkeypatch):
    real = builtins.__import__

    def without_tqdm(name, *rest, **more):
        if name == "tqdm":
            raise ImportError(name)
        return real(name, *rest, **more)

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(builtins, "__import__", without_tqdm)
    with track("train", 3, "steps") as bar:
        clock[0] += 11
        bar.update()
    assert stream.getvalue() == "train: 1/3 steps\n"


@pytest.mark.parametrize("k", [0, -1, 2**20 + 1])
def test_a_bad_k_is_refused_before_anything_is_shown(monkeypatch, k):
    log = EventLog(np.arange(2), np.arange(3), np.array([0, 3, 6]), np.array([0, 1, 2] * 2))
    popularity = Popularity(np.ones(3, np.int64))
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    for call in (lambda: evaluate(popularity, log, k), lambda: compare({"one": popularity}, log, k)):
        with pytest.raises(ArgumentError, match="k: expected an integer in"):
            call()
    assert stream.getvalue() == ""
    evaluate(popularity, log, 1)
    assert "evaluate popularity" in stream.getvalue()
