"""Two commits, timed by turns: `python bench/compare.py main HEAD --case score_topk --num-items 1000000`.

Each commit is built in a folder and a virtual environment of its own under build/compare. The cases are those of this
checkout, so both commits must have the API they use.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from typing import Any

import numpy as np
import numpy.typing as npt

from compare_worker import Worker

__all__ = ["Ratio", "build", "compare", "ratio_of"]

_ROOT = pathlib.Path(__file__).parents[1]
_FOLDER = _ROOT / "build" / "compare"
_RESAMPLES = 2000
_MIN_TURNS = 20

# Compared when no case is named: arguments of bench/run.py, without peers.
DEFAULTS = [
    "score_topk --num-items 100000",
    "score_topk --num-items 100000 --batch 16",
    "encode --seq-len 50",
    "recommend --num-items 100000",
]


class Ratio(tuple[float, float, float]):
    """The speed of HEAD relative to BASE, and the ends of its 95 % confidence interval."""

    def __str__(self) -> str:
        return f"{self[0]:.3f} [{self[1]:.3f}, {self[2]:.3f}]"


def ratio_of(base: npt.ArrayLike, head: npt.ArrayLike, seed: int = 0) -> Ratio:
    """The ratio of the medians base / head, with a bootstrap interval over turns.

    Args:
        base: one time per turn.
        head: one time per turn, of the same turns. A turn is drawn for both, so a slow moment of the machine hits both.
        seed: of the draws.

    Raises:
        ValueError: base and head have different lengths, or are empty.
    """
    times = np.array([base, head], np.float64)
    if times.ndim != 2 or times.shape[1] == 0:
        raise ValueError(f"times: expected one or more a turn of both, got shape {times.shape}")
    draws = np.random.default_rng(seed).integers(times.shape[1], size=(_RESAMPLES, times.shape[1]))
    medians = np.median(times[:, draws], axis=2)
    low, high = np.percentile(medians[0] / medians[1], [2.5, 97.5])
    whole = np.median(times, axis=1)
    return Ratio((float(whole[0] / whole[1]), float(low), float(high)))


def build(revision: str) -> tuple[str, pathlib.Path]:
    """The full commit and the Python of a virtual environment with that commit installed; built once."""
    commit = _run("git", "rev-parse", "--verify", f"{revision}^{{commit}}")
    folder = _FOLDER / commit[:12]
    python = folder / "venv" / "bin" / "python"
    if (folder / "built").exists():
        return commit, python
    print(f"Building {revision} ({commit[:12]}) ...", flush=True)
    if not (folder / "source").exists():
        _run("git", "worktree", "prune")
        _run("git", "worktree", "add", "--detach", str(folder / "source"), commit)
    shutil.rmtree(folder / "venv", ignore_errors=True)
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    # Torch, numpy and the build tools come from the running environment, whose path follows the new one's (lsif_sdk).
    here = sysconfig.get_path("purelib")
    own = sysconfig.get_path("purelib", vars={"base": str(folder / "venv")})
    pathlib.Path(own, "borrowed.pth").write_text(here + "\n")
    tools = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    options = ["--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    _run(str(python), "-m", "pip", "install", *options, str(folder / "source"), PATH=tools)
    (folder / "built").touch()
    return commit, python


def _run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=_ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def compare(base: Worker, head: Worker, seconds: float) -> Ratio:
    """Times both in turns for so many seconds; they alternate in who goes first."""
    times: tuple[list[float], list[float]] = ([], [])
    deadline = time.perf_counter() + seconds
    while len(times[0]) < _MIN_TURNS or time.perf_counter() < deadline:
        both = [(base, times[0]), (head, times[1])]
        for worker, own in both if len(times[0]) % 2 else reversed(both):
            own.append(float(np.median(worker.sample())))
    return ratio_of(*times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", help="commit, branch or tag")
    parser.add_argument("head", help="the same")
    parser.add_argument("--case", help="of bench/run.py, with its options after it; default: some of each")
    parser.add_argument("--seconds", type=float, default=5.0, help="time to spend on a case")
    options, sizes = parser.parse_known_args()
    lines = [" ".join([options.case, *sizes])] if options.case else [" ".join([line, *sizes]) for line in DEFAULTS]
    builds: list[tuple[str, Any]] = [build(options.base), build(options.head)]
    print(f"base {builds[0][0][:12]}, head {builds[1][0][:12]}; above 1: head is faster")
    for line in lines:
        with Worker(builds[0][1], line) as base, Worker(builds[1][1], line) as head:
            print(f"{line:60} {compare(base, head, options.seconds)}", flush=True)


if __name__ == "__main__":
    main()
