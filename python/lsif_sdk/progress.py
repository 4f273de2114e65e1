"""Progress on standard error: a bar on a terminal, occasional plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

__all__ = ["SECONDS_PER_LINE", "Progress", "track"]

SECONDS_PER_LINE = 10.0


def track(label: str, total: int, unit: str, *, initial: int = 0, show: bool = True) -> Progress:
    """A context manager to which a loop reports its steps.

    Args:
        label: name of the activity.
        total: the most steps.
        unit: name of the steps.
        initial: steps that were done before.
        show: False reports nothing.

    Returns:
        A tqdm bar if standard error is a terminal and tqdm is installed; otherwise an object that prints at most one
        line every `SECONDS_PER_LINE` seconds, and none if the loop ends sooner.
    """
    if not show:
        return Progress()
    if sys.stderr.isatty():
        try:
            return _Bar(label, total, unit, initial)
        except ImportError:
            pass
    return _Lines(label, total, unit, initial)


class Progress:
    """Reports nothing."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self) -> None:
        """Reports one more step."""

    def note(self, text: str) -> None:
        """Shows this text beside the count from now on."""


class _Bar(Progress):
    def __init__(self, label: str, total: int, unit: str, initial: int) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(total=total, initial=initial, desc=label, unit=unit, dynamic_ncols=True)

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self) -> None:
        self._bar.update()

    def note(self, text: str) -> None:
        self._bar.set_postfix_str(text)


class _Lines(Progress):
    def __init__(self, label: str, total: int, unit: str, initial: int) -> None:
        self._label, self._total, self._unit, self._done = label, total, unit, initial
        self._note = ""
        self._printed = time.monotonic()

    def update(self) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._printed >= SECONDS_PER_LINE:
            self._printed = now
            note = f", {self._note}" if self._note else ""
            print(f"{self._label}: {self._done}/{self._total} {self._unit}{note}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        self._note = text
