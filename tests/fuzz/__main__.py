"""python -m fuzz [TARGET ...]: fuzzes each target in turn; exits with 1 if there are findings."""

from __future__ import annotations

import argparse
import pathlib
import sys

from fuzz import driver
from fuzz.targets import TARGETS

_ROOT = pathlib.Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], help="which; none: all")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each target")
    parser.add_argument("--cases", type=int, help="for each target, in place of time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--folder", type=pathlib.Path, default=_ROOT / "build" / "fuzz", help="where findings go")
    asked = parser.parse_args()
    seconds = asked.minutes * 60 if asked.cases is None else float("inf")
    options = driver.Options(asked.folder, asked.seed, asked.first, asked.cases, seconds)
    findings = 0
    for name in asked.targets or TARGETS:
        result = driver.run(TARGETS[name], options)
        print(f"{name}: {result}", flush=True)
        findings += result.findings
    if findings:
        print(f"{findings} findings: inputs and reports are in {asked.folder}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
