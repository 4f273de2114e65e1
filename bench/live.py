"""What a change of a live catalogue costs, and what readers notice: `python bench/live.py --num-items 1000000`.

For each kind of change: how long until its snapshot is published, and how long requests of another thread take while
changes go on without pause, beside requests of a quiet recommender, in turns.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import threading
import time
from collections.abc import Callable

import numpy as np

import lsif_sdk
from quality.results import append
from request_cases import random_artifact, random_histories

Change = Callable[[int], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--seq-len", type=int, default=50)
    parser.add_argument("--model", choices=("sasrec", "hstu"), default="hstu")
    parser.add_argument("--changes", type=int, default=10, help="of each kind")
    parser.add_argument("--json", type=pathlib.Path, help="append the lines to this file")
    options = parser.parse_args()
    options.batch = 1
    artifact = random_artifact(options, options.num_items)
    histories, times = random_histories(options, options.num_items)
    events = [lsif_sdk.Events(row[0].tolist(), times[0]) for row in histories]
    live = lsif_sdk.LiveRecommender(lsif_sdk.Recommender(artifact, threads=1))
    for name, change in changes(live, options).items():
        quiet = latencies(live, events, lambda: time.sleep(1.0))
        took: list[float] = []

        def go_on(change: Change = change, took: list[float] = took) -> None:
            for i in range(options.changes):
                began = time.perf_counter()
                change(i)
                took.append(time.perf_counter() - began)

        busy = latencies(live, events, go_on)
        row = {
            "change": name, "num_items": options.num_items, "dim": options.dim,
            "publish_ms": float(np.median(took)) * 1e3,
            **{f"{kind}_{q}_us": float(np.percentile(values, percent)) * 1e6
               for kind, values in (("quiet", quiet), ("changing", busy)) for q, percent in (("p50", 50), ("p99", 99))},
        }  # fmt: skip
        print(json.dumps({key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}))
        if options.json:
            append(options.json, row)


def changes(live: lsif_sdk.LiveRecommender, options: argparse.Namespace) -> dict[str, Change]:
    rng = np.random.default_rng(0)

    def vectors(count: int) -> np.ndarray:
        return rng.normal(size=(count, options.dim)).astype(np.float32)

    def known(count: int) -> list[int]:
        return rng.choice(options.num_items, count, replace=False).tolist()

    first = 10 * options.num_items
    return {
        "hide 100": lambda i: live.hide(known(100)),
        "change 1": lambda i: live.upsert(known(1), vectors(1)),
        "change 1,000": lambda i: live.upsert(known(1000), vectors(1000)),
        "add 1": lambda i: live.upsert([first + i], vectors(1)),
        "add 1,000": lambda i: live.upsert([2 * first + 1000 * i + j for j in range(1000)], vectors(1000)),
        "rollback": lambda i: (live.hide(known(1)), live.rollback()),
    }


def latencies(live: lsif_sdk.LiveRecommender, events: list[lsif_sdk.Events], other: Callable[[], None]) -> list[float]:
    """Seconds of each of the requests made one after another while another thread runs `other`."""
    thread = threading.Thread(target=other)
    thread.start()
    values: list[float] = []
    while thread.is_alive():
        began = time.perf_counter()
        live.current.recommend(events[len(values) % len(events)], 10)
        values.append(time.perf_counter() - began)
    thread.join()
    return values


if __name__ == "__main__":
    main()
