"""Interleaved timing, and the facts about the machine that each row of results has."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import pathlib
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lsif_sdk import _core
from quality.results import commit

__all__ = ["Run", "Timing", "burst", "calls_per_turn", "interleave", "limit_threads", "machine", "turn_order"]

Run = Callable[[], Any]
"""Makes one call of the timed function."""

_TURN_SECONDS = 2e-3
_MAX_CALLS = 500
_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclasses.dataclass(frozen=True)
class Timing:
    """The times of one implementation's calls, in microseconds, in the order they were made."""

    samples: npt.NDArray[np.float64]

    def percentile(self, q: float) -> float:
        """The q-th percentile in microseconds."""
        return float(np.percentile(self.samples, q))


def calls_per_turn(run: Run) -> int:
    """How many calls of `run` fill a turn, once the caches are warm."""
    return max(_calls_in_a_turn(run) for _ in range(2))


def _calls_in_a_turn(run: Run) -> int:
    started = time.perf_counter()
    for calls in range(1, _MAX_CALLS):
        run()
        if time.perf_counter() - started >= _TURN_SECONDS:
            return calls
    return _MAX_CALLS


def burst(run: Run, calls: int) -> list[float]:
    """Microseconds of each of `calls` calls. One call before them warms the caches and is not counted."""
    run()
    samples = []
    for _ in range(calls):
        started = time.perf_counter_ns()
        run()
        samples.append((time.perf_counter_ns() - started) / 1e3)
    return samples


def turn_order(names: Iterable[str]) -> list[str]:
    """The names, with settings of one index (INDEX@SETTING) apart: otherwise one would warm the caches for the next."""
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(name.partition("@")[0], []).append(name)
    rounds = itertools.zip_longest(*families.values())
    return [name for one in rounds for name in one if name is not None]


def interleave(runs: Mapping[str, Run], seconds: float, min_turns: int = 7, pause: float = 0.0) -> dict[str, Timing]:
    """Times all implementations interleaved, so that a noisy moment affects them all alike.

    Args:
        runs: what to call, by name.
        seconds: how long turns are repeated.
        min_turns: the least number of turns, even if they take longer.
        pause: seconds before each turn, for thread pools that spin for a while after their work.
    """
    calls = {name: calls_per_turn(run) for name, run in runs.items()}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    order = turn_order(runs)
    deadline = time.perf_counter() + seconds
    turns = 0
    while turns < min_turns or time.perf_counter() < deadline:
        for name in order:
            time.sleep(pause)
            samples[name] += burst(runs[name], calls[name])
        turns += 1
    return {name: Timing(np.array(values)) for name, values in samples.items()}


def limit_threads(threads: int) -> None:
    """Restarts this process with thread pools of `threads` threads: OpenBLAS and OpenMP read the size when loaded."""
    wanted = dict.fromkeys(_POOLS, str(threads))
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **wanted})


@functools.cache
def machine() -> dict[str, Any]:
    """CPU, instruction set and commit: the same for every row of a run."""
    return {"isa": _core.build_info()["isa"], "commit": commit(), "cpu": _cpu_name()}


def _cpu_name() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
