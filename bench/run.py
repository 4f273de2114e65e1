"""Times cases and their peers by turns, e.g. `python bench/run.py score_topk --num-items 1000000` (bench/README.md)."""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

from cases import CASES
from measure import interleave, machine

# What runs when no case is named.
DEFAULTS = [
    ("score_topk", {"num_items": 10_000}),
    ("score_topk", {"num_items": 100_000}),
    ("score_topk", {"num_items": 1_000_000}),
    ("score_topk", {"num_items": 1_000_000, "batch": 16}),
    ("encode", {"seq_len": 50}),
    ("encode", {"seq_len": 50, "block": "transformer"}),
    ("encode", {"seq_len": 200}),
    ("encode", {"seq_len": 50, "batch": 128}),
    ("recommend", {"num_items": 10_000}),
    ("recommend", {"num_items": 100_000}),
    ("load", {"num_items": 100_000}),
]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="?", choices=sorted(CASES), help="default: a round of all cases")
    parser.add_argument("--num-items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--seq-len", type=int, default=50)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--block", choices=("hstu", "transformer"), default="hstu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--impl", help="comma-separated names; default: all that are installed")
    parser.add_argument("--seconds", type=float, default=3.0, help="time to spend on a case")
    parser.add_argument("--json", type=pathlib.Path, help="append one JSON line a row to this file")
    return parser.parse_args(arguments)


def rows_of(case_name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs one case and returns a row per implementation."""
    case = CASES[case_name](options)
    wanted = options.impl.split(",") if options.impl else list(case.runs)
    if missing := [name for name in wanted if name not in case.runs]:
        raise SystemExit(
            f"{case_name}: not installed or unknown: {', '.join(missing)}; there are {', '.join(case.runs)}"
        )
    timings = interleave({name: case.runs[name] for name in wanted}, options.seconds)
    base = timings[wanted[0]].percentile(50)
    return [
        {
            "case": case_name,
            "impl": name,
            "params": case.params,
            "threads": options.threads,
            "median_us": timing.percentile(50),
            "p10_us": timing.percentile(10),
            "p90_us": timing.percentile(90),
            "ratio": timing.percentile(50) / base,
            "bytes": case.bytes if name == "lsif" else None,
            "flops": case.flops or None,
            **machine(),
        }
        for name, timing in timings.items()
    ]


def main() -> None:
    """Runs what the command line asks for and prints a table."""
    options = parse()
    plan = [(options.case, {})] if options.case else DEFAULTS
    facts = machine()
    print(f"{facts['cpu']}, {facts['isa']}, {options.threads} thread(s), commit {facts['commit']}")
    print(f"{'case':11} {'parameters':58} {'impl':10} {'median us':>11} {'p10':>11} {'p90':>11} {'x':>7}")
    for case_name, changes in plan:
        for row in rows_of(case_name, argparse.Namespace(**{**vars(options), **changes})):
            params = " ".join(f"{key}={value}" for key, value in row["params"].items())
            times = f"{row['median_us']:11.1f} {row['p10_us']:11.1f} {row['p90_us']:11.1f} {row['ratio']:7.2f}"
            print(f"{case_name:11} {params:58} {row['impl']:10} {times}", flush=True)
            if options.json:
                with options.json.open("a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
