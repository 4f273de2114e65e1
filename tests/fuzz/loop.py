"""Runs one case after another, and decides what counts as a finding."""

from __future__ import annotations

import pathlib
import random
import re
import time
import traceback
import warnings
from collections.abc import Iterator, MutableSequence
from typing import Protocol

from lsif_sdk import errors

CASE, REFUSED, ACCEPTED, FINDINGS = range(4)
"""Positions in the counters of `fuzz`; CASE: the number of the current case."""

_MOST_CHARACTERS = 1000
_NAMED = re.compile(r"\S.*: expected .+, got .+", re.DOTALL)


class Target(Protocol):
    """Something to fuzz. Inputs are bytes, so that each can be kept as a file."""

    name: str
    suffix: str

    def generate(self, rng: random.Random) -> bytes:
        """An input; the same for the same state of rng."""

    def run(self, data: bytes) -> None:
        """Passes the input to the SDK and asserts that the answer keeps the contract."""


def input_of(target: Target, seed: int, case: int) -> bytes:
    return target.generate(random.Random(f"{seed} {target.name} {case}"))


def refusal(target: Target, data: bytes) -> errors.LsifError | None:
    """The error that refused the input; None if it was accepted. Findings are raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            target.run(data)
        except errors.LsifError as error:
            _check_message(error)
            return error
    return None


def _check_message(error: errors.LsifError) -> None:
    message = str(error)
    message.encode()  # can be printed and logged
    if isinstance(error, (errors.ArgumentError, errors.ArgumentTypeError)):
        assert _NAMED.match(message), f"a message that does not say what was expected: {message[:200]!r}"
    assert message and len(message) <= _MOST_CHARACTERS, f"a message of {len(message)} characters: {message[:200]!r}"


def fuzz(
    target: Target,
    seed: int,
    cases: Iterator[int],
    counters: MutableSequence[int],
    folder: pathlib.Path,
    seconds: float = float("inf"),
) -> None:
    """Runs the cases, or as many as time allows. Each new finding is written to `folder`."""
    end = time.monotonic() + seconds
    known: set[str] = set()
    for case in cases:
        if time.monotonic() > end:
            return
        counters[CASE] = case
        data = input_of(target, seed, case)
        try:
            counters[ACCEPTED if refusal(target, data) is None else REFUSED] += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also errors of extension modules that are not an Exception
            place = _where(error)
            if place not in known:
                known.add(place)
                counters[FINDINGS] += 1
                write_finding(folder, target, case, data, traceback.format_exc())


def _where(error: BaseException) -> str:
    """The key by which findings count as the same: type, last line in the SDK and, if an assertion failed, its text."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if "lsif_sdk" in frame.filename] or frames[-1:]
    said = re.sub(r"\d+|/[^:]*:|'.*", "#", str(error))[:60] if isinstance(error, AssertionError) else ""
    return f"{type(error).__name__} {said} {inside[-1].filename}:{inside[-1].lineno}"


def write_finding(folder: pathlib.Path, target: Target, case: int, data: bytes, report: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{target.name}-{case}{target.suffix}"
    path.write_bytes(data)
    path.with_suffix(".report").write_text(report, errors="backslashreplace")
