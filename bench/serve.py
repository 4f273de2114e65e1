"""Requests per second at a bounded 99th percentile, under arrivals that do not wait for answers.

    python bench/serve.py --num-items 1000000 --p99-ms 50

Requests arrive at random moments (Poisson), whether earlier ones are answered or not, and are taken up by a fixed
number of threads; a request's latency counts from its arrival. The rate rises by steps until the 99th percentile is
above the bound; the last rate below it is the result. Implementations: "lsif" (one call a thread), "lsif_batching", and
"torch" (one call a thread: eager encoding, scores of all items, top-k). Their answers are compared first.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import lsif_sdk
from checks import agree
from quality.results import append
from request_cases import eager_request, random_artifact, random_histories

Call = Callable[[int], Any]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result at one rate.

    rate: arrivals per second. p50_ms, p99_ms: percentiles of the latency from arrival to answer.
    """

    rate: float
    p50_ms: float
    p99_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--seq-len", type=int, default=50)
    parser.add_argument("--model", choices=("sasrec", "hstu"), default="sasrec")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--callers", type=int, default=32, help="threads that take requests up")
    parser.add_argument("--p99-ms", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=4.0, help="a step takes")
    parser.add_argument("--impl", default="lsif,lsif_batching,torch")
    parser.add_argument("--json", type=pathlib.Path, help="append a JSON line a step to this file")
    options = parser.parse_args()
    options.batch = 1
    calls = implementations(options)
    for name in options.impl.split(","):
        best = highest_rate(calls[name], options, name)
        shown = f"{best.rate:8.0f} requests/s  p50 {best.p50_ms:6.1f} ms  p99 {best.p99_ms:6.1f} ms" if best else "none"
        print(f"{name:14} {shown}", flush=True)


def implementations(options: argparse.Namespace) -> dict[str, Call]:
    """Functions that answer request number i, by name; all of them give the same items."""
    artifact = random_artifact(options, options.num_items)
    histories, times = random_histories(options, options.num_items)
    events = [lsif_sdk.Events(row[0].tolist(), times[0]) for row in histories]
    lists = [[row[0].tolist()] for row in histories]
    torch.set_num_threads(1)
    eager = eager_request(artifact, times, options.k)
    alone = lsif_sdk.Recommender(artifact, threads=1)
    together = lsif_sdk.Recommender(artifact, threads=1, batching=True)
    calls: dict[str, Call] = {
        "lsif": lambda i: alone.recommend(events[i % len(events)], options.k).items,
        "lsif_batching": lambda i: together.recommend(events[i % len(events)], options.k).items,
        "torch": lambda i: eager(lists[i % len(lists)]),
    }
    expected = np.concatenate([np.asarray(calls["torch"](i)) for i in range(len(events))])
    for name in ("lsif", "lsif_batching"):
        agree(name, np.concatenate([np.asarray(calls[name](i), np.int64) for i in range(len(events))]), expected)
    return calls


def highest_rate(call: Call, options: argparse.Namespace, name: str) -> Outcome | None:
    """The last step whose 99th percentile is within the bound."""
    began = time.perf_counter()
    for i in range(20):
        call(i)
    rate, best = 0.5 / ((time.perf_counter() - began) / 20), None
    while True:
        outcome = sustain(call, rate, options.seconds, options.callers)
        if options.json:
            append(options.json, {"impl": name, "num_items": options.num_items, **dataclasses.asdict(outcome)})
        if outcome.p99_ms > options.p99_ms:
            return best
        best, rate = outcome, rate * 1.2


def sustain(call: Call, rate: float, seconds: float, callers: int) -> Outcome:
    """Measures latencies under Poisson arrivals at this rate."""
    rng = np.random.default_rng(0)
    arrivals = np.cumsum(rng.exponential(1 / rate, size=max(50, int(rate * seconds))))
    waiting: queue.SimpleQueue[tuple[int, float] | None] = queue.SimpleQueue()
    latencies: list[float] = []
    failures: list[Exception] = []

    def work() -> None:
        while (request := waiting.get()) is not None:
            number, arrived = request
            try:
                call(number)
                latencies.append(time.perf_counter() - arrived)
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(callers)]
    for thread in threads:
        thread.start()
    began = time.perf_counter()
    for number, moment in enumerate(arrivals):
        if (left := began + moment - time.perf_counter()) > 0:
            time.sleep(left)
        waiting.put((number, began + moment))
    for _ in threads:
        waiting.put(None)
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    p50, p99 = np.percentile(latencies, [50, 99]) * 1e3
    return Outcome(rate, float(p50), float(p99))


if __name__ == "__main__":
    main()
