"""Timing by turns, and what a row of results says about the machine it came from."""

from __future__ import annotations

import dataclasses
import pathlib
import platform
import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lsif_sdk import _core

Run = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Timing:
    """Microseconds of one implementation: all samples, in the order they were taken."""

    samples: np.ndarray

    def percentile(self, q: float) -> float:
        """The q-th percentile in microseconds."""
        return float(np.percentile(self.samples, q))


def interleave(runs: dict[str, Run], seconds: float, min_samples: int = 7) -> dict[str, Timing]:
    """Times all implementations in turns, so that a noisy moment hits each of them alike.

    Each turn gives every implementation one sample (the mean over as many calls as fill about 2 ms). Turns go on for
    `seconds`, but there are at least `min_samples`.
    """
    calls = {}
    for name, run in runs.items():
        run()
        started = time.perf_counter()
        run()
        calls[name] = max(1, int(2e-3 / max(time.perf_counter() - started, 1e-7)))
    samples: dict[str, list[float]] = {name: [] for name in runs}
    deadline = time.perf_counter() + seconds
    while len(samples[next(iter(runs))]) < min_samples or time.perf_counter() < deadline:
        for name, run in runs.items():
            started = time.perf_counter()
            for _ in range(calls[name]):
                run()
            samples[name].append((time.perf_counter() - started) / calls[name] * 1e6)
    return {name: Timing(np.array(values)) for name, values in samples.items()}


def machine() -> dict[str, Any]:
    """CPU, instruction set and commit, the same for every row of a run."""
    return {"cpu": _cpu_name(), "isa": _core.build_info()["isa"], "commit": _commit()}


def _cpu_name() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    root = pathlib.Path(__file__).parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
