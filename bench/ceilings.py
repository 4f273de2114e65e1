"""What this machine can do at best, measured by ceilings.cpp: `python bench/ceilings.py --threads 2`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["Ceilings", "measure_ceilings", "share_of_ceiling"]

_SOURCE = pathlib.Path(__file__).with_name("ceilings.cpp")
_PROGRAM = pathlib.Path(__file__).parents[1] / "build" / "bench" / "ceilings"
_MAX_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """The highest rates that `threads` threads reach together.

    bandwidth: (bytes of the working set, bytes read per second), ascending. peaks: multiplications and additions per
    second for "fma_f32", "int8" and "bf16"; None where the CPU has no instruction for it. instructions: their names.
    """

    threads: int
    isa: str
    bandwidth: tuple[tuple[int, float], ...]
    peaks: Mapping[str, float | None]
    instructions: Mapping[str, str | None]

    @classmethod
    def from_json(cls, text: str) -> Ceilings:
        """Parses the program's output."""
        values = json.loads(text)
        peaks = values["peaks"]
        return cls(
            values["threads"],
            values["isa"],
            tuple((int(size), float(rate)) for size, rate in values["bandwidth"]),
            {name: peak and float(peak["ops_per_s"]) for name, peak in peaks.items()},
            {name: peak and peak["instruction"] for name, peak in peaks.items()},
        )

    def to_json(self) -> str:
        """The format that `from_json` reads."""
        peaks = {
            name: peak and {"instruction": self.instructions[name], "ops_per_s": peak}
            for name, peak in self.peaks.items()
        }
        values = {"isa": self.isa, "threads": self.threads, "bandwidth": self.bandwidth, "peaks": peaks}
        return json.dumps(values)

    def bandwidth_at(self, working_set: float) -> float:
        """Bytes per second from a working set of this size, interpolated linearly over log(size)."""
        sizes, rates = zip(*self.bandwidth, strict=True)
        return float(np.interp(np.log(max(working_set, 1)), np.log(sizes), rates))


def share_of_ceiling(
    ceilings: Ceilings, seconds: float, moved: float | None, flops: float | None, unit: str
) -> float | None:
    """The least time for a call's bytes or its flops, whichever is longer, in per cent of the call's time.

    Args:
        ceilings: for as many threads as the call had.
        seconds: time of one call.
        moved: bytes the call reads, each once, so they are also its working set; None: not counted.
        flops: multiplications and additions; None: not counted.
        unit: which of the peaks applies to the flops.

    Returns:
        None if nothing is counted, or if only flops are counted and this machine has no peak for them.
    """
    needed = []
    if moved:
        needed.append(moved / ceilings.bandwidth_at(moved))
    if flops and (peak := ceilings.peaks[unit]):
        needed.append(flops / peak)
    return 100 * max(needed) / seconds if needed else None


def measure_ceilings(threads: int, cache: pathlib.Path | None = None) -> Ceilings | None:
    """Compiles the program if needed and runs it (some seconds); without a compiler, None and a note on stderr.

    Args:
        threads: how many work together.
        cache: a file with earlier measurements of the same run of the suite, by number of threads.
    """
    known: dict[str, Any] = json.loads(cache.read_text()) if cache and cache.exists() else {}
    if str(threads) not in known:
        program = _compiled()
        if program is None:
            return None
        done = subprocess.run([program, str(threads), str(_MAX_BYTES)], capture_output=True, text=True, check=True)
        known[str(threads)] = json.loads(done.stdout)
        if cache:
            cache.write_text(json.dumps(known))
    return Ceilings.from_json(json.dumps(known[str(threads)]))


def _compiled() -> pathlib.Path | None:
    if _PROGRAM.exists() and _PROGRAM.stat().st_mtime > _SOURCE.stat().st_mtime:
        return _PROGRAM
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        print("No C++ compiler, so no share of the machine's ceiling", file=sys.stderr)
        return None
    _PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-std=c++20", "-O2", "-pthread", str(_SOURCE), "-o", str(_PROGRAM)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{_SOURCE.name} does not compile, so no share of the machine's ceiling: {done.stderr}", file=sys.stderr)
        return None
    return _PROGRAM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="as one line of JSON instead")
    options = parser.parse_args()
    ceilings = measure_ceilings(options.threads)
    if ceilings is None:
        raise SystemExit(1)
    if options.json:
        print(ceilings.to_json())
        return
    print(f"{ceilings.isa}, {ceilings.threads} thread(s)")
    for size, rate in ceilings.bandwidth:
        print(f"{size / 1024:11,.0f} KiB {rate / 1e9:8.1f} GB/s")
    for name, peak in ceilings.peaks.items():
        print(f"{name:15} " + (f"{peak / 1e9:8.1f} G/s, {ceilings.instructions[name]}" if peak else "    none"))


if __name__ == "__main__":
    main()
