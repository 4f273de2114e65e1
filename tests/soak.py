"""Threads recommend and append while the catalogue changes under them: `python tests/soak.py --minutes 5`.

Every answer is checked against a record, kept by the thread that makes the changes, of what the snapshot that the
answer names has: which items, with which vectors, which of them hidden. Prints a line every ten seconds and, at the
end, what was done; exits with 1 at the first wrong answer, unexpected error, stuck thread or growth of memory.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import dataclasses
import faulthandler
import pathlib
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from lsif_sdk import Artifact, Batching, ItemTable, LiveRecommender, ModelConfig, Recommender, errors
from lsif_sdk.model import InterestFusionModel

NUM_ITEMS, DIM, K = 2000, 16, 10
KEPT = 64  # versions whose contents are still known
TOLERANCE = 1e-4  # of scores, relative to the largest: that of states (tests/test_user_state.py)
GROWTH_MIB = 64


@dataclasses.dataclass
class Contents:
    """What a snapshot holds, by the record. vectors: float64 [rows, DIM]; shown: of each row."""

    ids: list[str]
    vectors: np.ndarray
    bias: np.ndarray
    shown: np.ndarray


class Record:
    """Contents by version; the newest KEPT of them."""

    def __init__(self, first: Contents) -> None:
        self._by_version: collections.OrderedDict[int, Contents] = collections.OrderedDict({0: first})
        self._lock = threading.Lock()

    def of(self, version: int) -> Contents | None:
        with self._lock:
            return self._by_version.get(version)

    def add(self, version: int, contents: Contents) -> None:
        with self._lock:
            self._by_version[version] = contents
            if len(self._by_version) > KEPT:
                self._by_version.popitem(last=False)


def build() -> Recommender:
    """A small model with random weights, whose catalogue is large enough to be searched in parts."""
    torch.manual_seed(0)
    config = ModelConfig(num_items=NUM_ITEMS, dim=DIM, num_layers=2, window=20, ffn_dim=32)
    weights = InterestFusionModel(config).export_weights()
    items = ItemTable([f"i{row}" for row in range(NUM_ITEMS)], counts=np.arange(NUM_ITEMS))
    limits = Batching(max_batch=8, max_queue=12)
    return Recommender(Artifact(config, weights, items), batching=limits)


class Soak:
    """One run. `counts` says what was done; `failures` what went wrong."""

    def __init__(self, minutes: float, swaps: int, threads: int) -> None:
        self.live = LiveRecommender(build(), keep=2)
        catalog = self.live.current.catalog
        first = Contents(
            list(catalog.ids), catalog.vectors.double().numpy(), catalog.bias.double().numpy(), np.ones(NUM_ITEMS, bool)
        )
        self.record = Record(first)
        self.end = time.monotonic() + 60 * minutes
        self.swaps, self.threads, self.minutes = swaps, threads, minutes
        self.counts: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []
        self._counting = threading.Lock()
        self.states = [self.live.current.new_state() for _ in range(200)]

    def count(self, what: str) -> None:
        with self._counting:
            self.counts[what] += 1

    def run(self) -> bool:
        roles = [self.change, self.append, self.append, self.ask_async, self.ask_async]
        roles += [self.ask, self.ask_states] * ((self.threads - len(roles) + 1) // 2)
        workers = [
            threading.Thread(target=self.guarded, args=(role, seed), daemon=True)
            for seed, role in enumerate(roles[: self.threads])
        ]
        for worker in workers:
            worker.start()
        memory = self.watch()
        for worker in workers:
            worker.join(timeout=30)
        if any(worker.is_alive() for worker in workers):
            faulthandler.dump_traceback(all_threads=True)
            self.failures.append("a thread is stuck")
        self.live.close()
        grown = memory[-1] - memory[0]
        if grown > GROWTH_MIB:
            self.failures.append(f"memory grew by {grown:.0f} MiB")
        print(f"{dict(sorted(self.counts.items()))}, memory {memory[0]:.0f} to {memory[-1]:.0f} MiB", flush=True)
        for failure in self.failures[:3]:
            print(failure, file=sys.stderr, flush=True)
        return not self.failures

    def watch(self) -> list[float]:
        """Resident memory in MiB, every second but in the first fifth of the time."""
        began, memory = time.monotonic(), []
        while (now := time.monotonic()) < self.end and not self.failures:
            time.sleep(max(0.0, min(1.0, self.end - now)))
            if now - began > 12 * self.minutes:
                memory.append(resident_mib())
            if int(now - began) % 10 == 9:
                print(f"{now - began:.0f} s, version {self.live.version}: {dict(self.counts)}", flush=True)
        return memory or [resident_mib()]

    def guarded(self, role: Callable[[random.Random], None], seed: int) -> None:
        rng = random.Random(seed)
        try:
            while time.monotonic() < self.end and not self.failures:
                role(rng)
        except BaseException:
            self.failures.append(traceback.format_exc())

    def change(self, rng: random.Random) -> None:
        """One change of the catalogue, recorded before it is published."""
        live, before = self.live, self.record.of(self.live.version)
        assert before is not None
        after = dataclasses.replace(
            before,
            ids=list(before.ids),
            vectors=before.vectors.copy(),
            bias=before.bias.copy(),
            shown=before.shown.copy(),
        )
        chosen = rng.sample(range(len(before.ids)), 5)
        ids = [before.ids[row] for row in chosen]
        kind = rng.choice(["upsert", "hide", "show", "add", "replace vectors"])
        with live.edit() as edit:
            if kind in ("hide", "show"):
                getattr(edit, kind)(ids)
                after.shown[chosen] = kind == "show"
            else:
                if kind == "add" and len(before.ids) < NUM_ITEMS + 300:
                    ids = [f"n{live.version}-{i}" for i in range(3)]
                    chosen = list(range(len(before.ids), len(before.ids) + 3))
                    after.ids += ids
                    after.vectors = np.concatenate([after.vectors, np.zeros((3, DIM))])
                    after.bias = np.concatenate([after.bias, np.zeros(3)])
                    after.shown = np.concatenate([after.shown, np.ones(3, bool)])
                vectors = np.random.default_rng(rng.getrandbits(32)).normal(size=(len(ids), DIM)).astype(np.float32)
                edit.upsert(ids, vectors, bias=np.zeros(len(ids), np.float32))
                after.vectors[chosen], after.bias[chosen], after.shown[chosen] = vectors, 0.0, True
            self.record.add(edit.version, after)
        self.count("changes")
        due = self.end - 60 * self.minutes * (1 - self.live.version / self.swaps)
        time.sleep(max(0.0, min(due, self.end) - time.monotonic()))

    def history(self, rng: random.Random) -> list[str]:
        return [f"i{rng.randrange(NUM_ITEMS)}" for _ in range(rng.randrange(1, 30))]

    def ask(self, rng: random.Random) -> None:
        history, snapshot = self.history(rng), self.live.current
        try:
            answer = snapshot.recommend(history, K, timeout=rng.choice([None, None, 0.0005]))
        except (errors.DeadlineError, errors.OverloadedError) as error:
            self.count(type(error).__name__)
            return
        self.check(snapshot, answer, snapshot.user_vectors(history)[0], history)

    def ask_states(self, rng: random.Random) -> None:
        state = rng.choice(self.states)
        snapshot = self.live.current
        try:
            answer = snapshot.recommend(state=state, k=K)
        except errors.OverloadedError:
            self.count("OverloadedError")
            return
        if state.num_events:
            self.check(snapshot, answer, snapshot.user_vectors(state=state)[0], [])

    def append(self, rng: random.Random) -> None:
        user = rng.randrange(len(self.states))
        state = self.states[user]
        if state.num_events > 500:
            state = self.live.current.new_state()
        self.states[user] = self.live.current.append(state, self.history(rng)[:2])
        self.count("appends")
        time.sleep(0.001)

    def ask_async(self, rng: random.Random) -> None:
        asyncio.run(self.ask_and_cancel(rng))

    async def ask_and_cancel(self, rng: random.Random) -> None:
        snapshot = self.live.current
        histories = [self.history(rng) for _ in range(6)]
        tasks = [asyncio.create_task(snapshot.recommend_async(history, K, timeout=0.05)) for history in histories]
        await asyncio.sleep(rng.random() * 0.002)
        tasks[0].cancel()
        results: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
        for history, result in zip(histories, results, strict=True):
            if isinstance(result, (asyncio.CancelledError, errors.DeadlineError, errors.OverloadedError)):
                self.count(type(result).__name__)
            elif isinstance(result, BaseException):
                raise result
            else:
                self.check(snapshot, result, snapshot.user_vectors(history)[0], history)

    def check(self, snapshot: Recommender, answer: Any, fused: np.ndarray, seen: list[str]) -> None:
        """The items are the best shown ones of the version named, with their scores."""
        if answer.version != snapshot.version:
            raise AssertionError(f"asked version {snapshot.version}, got {answer.version}")
        contents = self.record.of(answer.version)
        if contents is None:
            self.count("answers of forgotten versions")
            return
        scores = contents.vectors @ fused.astype(np.float64) + contents.bias
        tolerance = TOLERANCE * max(1.0, float(np.abs(scores).max()))
        row_of = {item: row for row, item in enumerate(contents.ids)}
        got = [row_of[item] for item in answer.items[0]]
        shown = contents.shown.copy()
        shown[[row_of[item] for item in seen]] = False
        if len(set(got)) != K or not contents.shown[got].all() or (seen and not shown[got].all()):
            raise AssertionError(f"version {answer.version}: hidden, seen or repeated items: {answer.items[0]}")
        if np.abs(answer.scores[0] - scores[got]).max() > tolerance:
            raise AssertionError(f"version {answer.version}: scores {answer.scores[0]}, expected {scores[got]}")
        if seen and np.sort(scores[shown])[-K:].min() > scores[got].min() + tolerance:
            raise AssertionError(f"version {answer.version}: better items are missing")
        self.count("answers")


def resident_mib() -> float:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main() -> None:
    """Runs until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--swaps", type=int, default=1000, help="changes of the catalogue in that time")
    parser.add_argument("--threads", type=int, default=16)
    options = parser.parse_args()
    sys.exit(0 if Soak(options.minutes, options.swaps, options.threads).run() else 1)


if __name__ == "__main__":
    main()
