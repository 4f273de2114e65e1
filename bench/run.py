"""Times cases and their peers by turns, e.g. `python bench/run.py score_topk --num-items 1000000` (bench/README.md)."""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

from cases import CASES
from ceilings import Ceilings, measure_ceilings
from measure import interleave, limit_threads, machine
from quality.results import append
from rows import HEADER, line_of, row_of

__all__ = ["add_sizes", "options_of", "rows_of"]

_PAUSE = 5e-3  # seconds, for the other thread pools to stop spinning

# The cases that run when none is named.
DEFAULTS: list[tuple[str, dict[str, Any]]] = [
    ("score_topk", {"num_items": 10_000}),
    ("score_topk", {"num_items": 100_000}),
    ("score_topk", {"num_items": 1_000_000}),
    ("score_topk", {"num_items": 1_000_000, "batch": 16}),
    ("score_topk", {"num_items": 100_000, "interests": 8}),
    ("encode", {"seq_len": 50}),
    ("encode", {"seq_len": 200}),
    ("encode", {"seq_len": 50, "batch": 128}),
    ("encode", {"seq_len": 50, "model": "hstu"}),
    ("recommend", {"num_items": 10_000}),
    ("recommend", {"num_items": 100_000}),
    ("load", {"num_items": 100_000}),
]


def add_sizes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--num-items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--data", choices=("clustered", "isotropic", "unit"), default="clustered", help="their directions and norms"
    )
    parser.add_argument("--artifact", help="score_topk: items and users of this model, in place of made-up ones")
    parser.add_argument("--events", help="whose users, beside --artifact: a file with columns user, item, timestamp")
    parser.add_argument("--interests", type=int, default=1, help="score_topk: vectors a user")
    parser.add_argument("--allowed", type=float, default=1.0, help="score_topk: share of the items, with one interest")
    parser.add_argument("--seq-len", type=int, default=50, help="encode, recommend: events a user")
    parser.add_argument("--model", choices=("sasrec", "transformer", "hstu"), default="sasrec", help="what encodes")
    parser.add_argument("--impl", help="comma-separated names; default: all that are exact and installed")
    parser.add_argument("--approximate", action="store_true", help="score_topk: lists, trees and graphs, too")
    parser.add_argument("--target-recall", type=float, default=0.99, help="that lists, trees and graphs are set for")
    parser.add_argument("--hnsw-m", type=int, default=16, help="links of a graph's node")
    parser.add_argument("--hnsw-ef-construction", type=int, default=200, help="candidates while a graph is built")
    parser.add_argument("--indexes", type=pathlib.Path, help="where graphs and lists, minutes to build, are kept")


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="?", choices=sorted(CASES), help="default: a round of all cases")
    add_sizes(parser)
    parser.add_argument("--seconds", type=float, default=3.0, help="time to spend on a case")
    parser.add_argument("--json", type=pathlib.Path, help="append one JSON line a row to this file")
    parser.add_argument("--no-ceilings", action="store_true", help="leave pct_ceiling out; saves some seconds")
    parser.add_argument("--ceilings", type=pathlib.Path, help="file of ceilings measured before; written if missing")
    options = parser.parse_args(arguments)
    if (options.artifact or options.events) and options.case != "score_topk":
        parser.error("--artifact, --events: expected the case score_topk")
    return options


def rows_of(case_name: str, options: argparse.Namespace, ceilings: Ceilings | None) -> list[dict[str, Any]]:
    """Checks and times one case and returns a row per implementation."""
    case = CASES[case_name](options)
    qualities = {name: case.check(name, one) for name, one in case.implementations.items()}
    pause = _PAUSE if options.threads > 1 else 0.0
    runs = {name: one.run() for name, one in case.implementations.items()}
    timings = interleave(runs, options.seconds, pause=pause)
    base = next(iter(timings.values())).percentile(50)
    return [
        row_of(case_name, case, name, timing, qualities[name], threads=options.threads, base_us=base, ceilings=ceilings)
        for name, timing in timings.items()
    ]


def main() -> None:
    options = options_of()
    limit_threads(options.threads)
    plan = [(options.case, {})] if options.case else DEFAULTS
    facts = machine()
    print(f"{facts['cpu']}, {facts['isa']}, {options.threads} thread(s), commit {facts['commit']}")
    ceilings = None if options.no_ceilings else measure_ceilings(options.threads, options.ceilings)
    print(HEADER)
    for case_name, changes in plan:
        for row in rows_of(case_name, argparse.Namespace(**{**vars(options), **changes}), ceilings):
            print(line_of(row), flush=True)
            if options.json:
                append(options.json, row)


if __name__ == "__main__":
    main()
