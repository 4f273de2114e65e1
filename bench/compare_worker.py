"""A process that times one case of one commit on request, for bench/compare.py."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

__all__ = ["Worker"]


class Worker:
    """The process, as seen by its owner.

    Args:
        python: the Python of the environment that has the commit installed.
        line: a case of bench/run.py and its options; its implementation `lsif` is timed.

    Raises:
        SystemExit: the process ended before it was ready; its messages are on stderr.
    """

    def __init__(self, python: pathlib.Path, line: str) -> None:
        self._command = [str(python), str(pathlib.Path(__file__).resolve()), *line.split(), "--impl", "lsif"]
        # A checkout on PYTHONPATH would be imported in place of the installed package.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._answer()  # it is ready

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def sample(self) -> list[float]:
        """The time of each call of one turn, in microseconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        times: list[float] = self._answer()
        return times

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._command} ended with status {self._process.wait()}")
        return json.loads(line)


def main() -> None:
    """Answers each line on stdin with the times of one turn."""
    from cases import CASES
    from measure import burst, calls_per_turn, limit_threads
    from run import options_of

    options = options_of(sys.argv[1:])
    limit_threads(options.threads)
    case = CASES[options.case](options)
    ours = case.implementations["lsif"]
    case.check("lsif", ours)
    run = ours.run()
    calls = calls_per_turn(run)
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        print(json.dumps(burst(run, calls)), flush=True)


if __name__ == "__main__":
    main()
