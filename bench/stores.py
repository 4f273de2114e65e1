"""What it costs to keep users in a store.

    python bench/stores.py --redis unix:///tmp/redis.sock

Each store appends one event at a time to a user with --seq-len of them; `Users` records one and recommends. Calls of
all rows are timed in turns; "recommend a state" and "append to a state" are the same without a store.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lsif_sdk import Events, Recommender
from lsif_sdk.integrations import HistoryStore, RedisStore, SQLiteStore, Users
from request_cases import random_artifact


def main() -> None:
    """Prints one line per row: 10th percentile, median and 90th percentile, in microseconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-items", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--seq-len", type=int, default=200)
    parser.add_argument("--model", choices=("sasrec", "hstu"), default="hstu")
    parser.add_argument("--redis", help="URL of a server that keeps what it acknowledges; its keys lsif-bench:* go")
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    recommender = Recommender(random_artifact(options, options.num_items), threads=1)
    with tempfile.TemporaryDirectory() as folder:
        stores: dict[str, HistoryStore] = {
            "sqlite": SQLiteStore(Path(folder) / "full.db"),
            "sqlite NORMAL": SQLiteStore(Path(folder) / "normal.db", synchronous="NORMAL"),
        }
        if options.redis:
            stores["redis"] = RedisStore(options.redis, prefix="lsif-bench:")
        print(f"{'us':36} {'p10':>8} {'median':>8} {'p90':>8}")
        for name, times in timed(calls(recommender, stores, options.seq_len), options.rounds).items():
            print(f"{name:36} {' '.join(f'{value:8.0f}' for value in np.percentile(times, [10, 50, 90]))}")
        for store in stores.values():
            for user in ("recorded", "appended"):
                store.delete(user)
            store.close()


def calls(recommender: Recommender, stores: dict[str, HistoryStore], seq_len: int) -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(0)
    history = Events(rng.integers(len(recommender.items), size=seq_len), np.arange(seq_len))
    clock = itertools.count(seq_len)
    state = recommender.new_state(history)

    def event() -> Events:
        return Events([7], [next(clock)])

    rows: dict[str, Callable[[], Any]] = {
        "recommend a state": lambda: recommender.recommend(state=state, k=10),
        "append to a state": lambda: recommender.append(state, event()),
    }
    for name, store in stores.items():
        users = Users(recommender, store)
        users.record("recorded", history)
        store.append("appended", history)
        rows |= {
            f"{name}: Users.recommend": lambda users=users: users.recommend("recorded", k=10),
            f"{name}: Users.state": lambda users=users: users.state("recorded"),
            f"{name}: Users.record": lambda users=users: users.record("recorded", event()),
            f"{name}: store.append": lambda store=store: store.append("appended", event()),
        }
    return rows


def timed(rows: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Microseconds of each call; every round calls each row once."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, call in rows.items():
            begin = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - begin) * 1e6)
    return times


if __name__ == "__main__":
    main()
