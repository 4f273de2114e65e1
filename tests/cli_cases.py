"""Runs the command `lsif` in this process."""

from __future__ import annotations

from typing import Any

import pytest

from lsif_sdk.cli import main

SMALL = ["--set", "epochs=2", "--set", "dim=8", "--set", "num_layers=1", "--quiet"]


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err
