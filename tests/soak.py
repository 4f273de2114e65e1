"""Threads recommend and append while catalogue and model change under them: `python tests/soak.py --minutes 5`.

Every answer is checked against a record, kept by the thread that makes the changes, of what the snapshot that the
answer names has: which items, with which vectors and colours, until when they are shown. Of the most popular items,
which `budget_ms` may give, only that they may be given is checked. Prints a line every ten seconds and, at the
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
COLOURS = ["red", "green", "blue"]
EDITS = ["upsert", "hide", "show", "show until", "remove", "add"]
KEEP = 2  # snapshots to roll back to
KEPT = 64  # number of versions whose contents are kept
TOLERANCE = 1e-4  # of scores, relative to the largest; as for states (tests/test_user_state.py)
GROWTH_MIB = 64


@dataclasses.dataclass
class Contents:
    """The recorded contents of a snapshot: its model, since which version rows were only added, and each row's values.

    vectors: float64 [rows, DIM]; until: Unix seconds, or infinite; colours: for `where=`, "" for none.
    """

    model: int
    ids: list[str]
    vectors: np.ndarray
    bias: np.ndarray
    until: np.ndarray
    removed: np.ndarray
    colours: np.ndarray
    rows_since: int = 0

    def copy(self) -> Contents:
        values = vars(self)
        return Contents(**{name: value if isinstance(value, int) else value.copy() for name, value in values.items()})

    def compacted(self, version: int) -> Contents:
        kept, rows = ~self.removed, np.flatnonzero(~self.removed)
        of_rows = (self.vectors[kept], self.bias[kept], self.until[kept], self.removed[kept], self.colours[kept])
        return Contents(self.model, [self.ids[row] for row in rows], *of_rows, version)

    def add(self, ids: list[str], removed: bool, colours: list[str]) -> None:
        count = len(ids)
        self.ids += ids
        self.vectors = np.concatenate([self.vectors, np.zeros((count, DIM))])
        self.bias = np.concatenate([self.bias, np.zeros(count)])
        self.until = np.concatenate([self.until, np.full(count, -np.inf if removed else np.inf)])
        self.removed = np.concatenate([self.removed, np.full(count, removed)])
        self.colours = np.concatenate([self.colours, np.array(colours, object)])


class Record:
    """The contents of the newest KEPT versions, by version."""

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


def build(seed: int) -> Recommender:
    """A small model with random weights, whose catalogue is large enough to be searched in parts."""
    torch.manual_seed(seed)
    config = ModelConfig(num_items=NUM_ITEMS, dim=DIM, num_layers=2, window=20, ffn_dim=32)
    weights = InterestFusionModel(config).export_weights()
    items = ItemTable([f"i{row}" for row in range(NUM_ITEMS)], counts=np.arange(NUM_ITEMS))
    limits = Batching(max_batch=8, max_queue=12)
    colours = [COLOURS[row % len(COLOURS)] for row in range(NUM_ITEMS)]
    return Recommender(Artifact(config, weights, items), batching=limits, attributes={"colour": colours})


def contents_of(model: int, recommender: Recommender) -> Contents:
    """The contents of a model whose catalogue has not been changed."""
    catalog = recommender.catalog
    return Contents(
        model,
        list(catalog.ids),
        catalog.vectors.double().numpy(),
        catalog.bias.double().numpy(),
        np.full(NUM_ITEMS, np.inf),
        np.zeros(NUM_ITEMS, bool),
        np.array([COLOURS[row % len(COLOURS)] for row in range(NUM_ITEMS)], object),
    )


class Soak:
    """One run. `counts` is what was done, `failures` what went wrong."""

    def __init__(self, minutes: float, swaps: int, threads: int) -> None:
        self.models = [build(seed) for seed in range(2)]
        self.live = LiveRecommender(self.models[0], keep=KEEP)
        self.record = Record(contents_of(0, self.models[0]))
        self.before: collections.deque[Contents] = collections.deque(maxlen=KEEP)
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
        """Resident memory in MiB, measured every second after the first fifth of the time."""
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
        """One change of the catalogue or of the model, recorded before it is published."""
        before = self.record.of(self.live.version)
        assert before is not None
        kind = rng.choice([*EDITS, *EDITS, "replace", "rollback", "compact"])
        if kind == "replace":
            model = 1 - before.model
            contents = contents_of(model, self.models[model])
            self.record.add(self.live.version + 1, dataclasses.replace(contents, rows_since=self.live.version + 1))
            self.live.replace(self.models[model])
            self.before.append(before)
        elif kind == "rollback":
            self.roll_back(before)
        elif kind == "compact":
            self.compact(before)
        else:
            self.edit(rng, kind, before)
        self.count("changes")
        due = self.end - 60 * self.minutes * (1 - self.live.version / self.swaps)
        time.sleep(max(0.0, min(due, self.end) - time.monotonic()))

    def edit(self, rng: random.Random, kind: str, before: Contents) -> None:
        version, after = self.live.version, before.copy()
        chosen = rng.sample(range(len(before.ids)), 5)
        if kind in ("hide", "show", "show until", "remove"):
            chosen = [row for row in chosen if not before.removed[row]]
        ids = [before.ids[row] for row in chosen]
        colours = None
        with self.live.edit() as edit:
            if kind in ("hide", "remove"):
                getattr(edit, kind)(ids)
                after.until[chosen] = -np.inf
                after.removed[chosen] = kind == "remove"
            elif kind == "show":
                edit.show(ids)
                after.until[chosen] = np.inf
            elif kind == "show until":
                end = int(time.time()) + rng.randrange(3)
                edit.show(ids, until=end)
                after.until[chosen] = end
            else:
                if kind == "add" and len(before.ids) < NUM_ITEMS + 300:
                    ids, colours = [f"n{version}-{i}" for i in range(3)], [rng.choice(COLOURS) for _ in range(3)]
                    chosen = list(range(len(before.ids), len(before.ids) + 3))
                    after.add(ids, removed=False, colours=colours)
                vectors = np.random.default_rng(rng.getrandbits(32)).normal(size=(len(ids), DIM)).astype(np.float32)
                attributes = None if colours is None else {"colour": colours}
                edit.upsert(ids, vectors, bias=np.zeros(len(ids), np.float32), attributes=attributes)
                after.vectors[chosen], after.bias[chosen], after.until[chosen] = vectors, 0.0, np.inf
                after.removed[chosen] = False
            if edit.version > version:
                self.record.add(edit.version, after)
        if self.live.version > version:
            self.before.append(before)

    def compact(self, before: Contents) -> None:
        version = self.live.version
        if before.removed.any():
            self.record.add(version + 1, before.compacted(version + 1))
            self.before.append(before)
            self.count("compactions")
        if self.live.compact() != version + before.removed.any():
            self.failures.append(f"compact published another version than {version} says")

    def roll_back(self, current: Contents) -> None:
        if not self.before:
            return
        after = self.before.pop().copy()
        if after.rows_since == current.rows_since:
            since = current.ids[len(after.ids) :]
            after.add(since, removed=True, colours=[""] * len(since))
        self.record.add(self.live.version + 1, after)
        self.live.rollback()
        self.count("rollbacks")

    def history(self, rng: random.Random) -> list[str]:
        return [f"i{rng.randrange(NUM_ITEMS)}" for _ in range(rng.randrange(1, 30))]

    def ask(self, rng: random.Random) -> None:
        history, snapshot, began = self.history(rng), self.live.current, time.time()
        colour = rng.choice([None, None, *COLOURS])
        options: dict[str, Any] = rng.choice([{}, {}, {"timeout": 0.0005}, {"budget_ms": rng.choice([0.2, 20])}])
        try:
            answer = snapshot.recommend(history, K, where=colour and {"colour": colour}, **options)
        except (errors.DeadlineError, errors.OverloadedError) as error:
            self.count(type(error).__name__)
            return
        self.check(snapshot, answer, snapshot.user_vectors(history)[0], history, began, colour)

    def ask_states(self, rng: random.Random) -> None:
        user = rng.randrange(len(self.states))
        state = self.states[user]
        snapshot, began = self.live.current, time.time()
        if not snapshot.knows(state):
            self.states[user] = snapshot.new_state(self.history(rng))
            self.count("states of another model")
            return
        try:
            answer = snapshot.recommend(state=state, k=K)
        except errors.OverloadedError:
            self.count("OverloadedError")
            return
        if state.num_events:
            self.check(snapshot, answer, snapshot.user_vectors(state=state)[0], [], began)

    def append(self, rng: random.Random) -> None:
        user = rng.randrange(len(self.states))
        state = self.states[user]
        snapshot = self.live.current
        if state.num_events > 500 or not snapshot.knows(state):
            state = snapshot.new_state()
        self.states[user] = snapshot.append(state, self.history(rng)[:2])
        self.count("appends")
        time.sleep(0.001)

    def ask_async(self, rng: random.Random) -> None:
        asyncio.run(self.ask_and_cancel(rng))

    async def ask_and_cancel(self, rng: random.Random) -> None:
        snapshot, began = self.live.current, time.time()
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
                self.check(snapshot, result, snapshot.user_vectors(history)[0], history, began)

    def check(
        self,
        snapshot: Recommender,
        answer: Any,
        fused: np.ndarray,
        seen: list[str],
        began: float,
        colour: str | None = None,
    ) -> None:
        """Checks the scores, and that the items are the version's best among those shown and of the colour."""
        if answer.version != snapshot.version:
            raise AssertionError(f"asked version {snapshot.version}, got {answer.version}")
        contents = self.record.of(answer.version)
        if contents is None:
            self.count("answers of forgotten versions")
            return
        row_of = {item: row for row, item in enumerate(contents.ids)}
        got = [row_of[item] for item in answer.items[0]]
        allowed = np.full(len(contents.ids), True) if colour is None else contents.colours == colour
        allowed[[row_of[item] for item in seen if item in row_of]] = False  # the others were removed by a compaction
        may_be = allowed & (contents.until > began)
        must_be = allowed & (contents.until > time.time())  # items that have expired meanwhile may be there or not
        if not seen or answer.degraded == "approximate":  # a state's seen items are not known here
            must_be[:] = False
        what = f"version {answer.version}, model {contents.model}"
        if len(set(got)) != K or not may_be[got].all():
            raise AssertionError(f"{what}: hidden, seen, repeated or other items: {answer.items[0]}")
        if answer.degraded == "popularity" or answer.fallback[0]:
            self.count("answers by popularity")
            return
        scores = contents.vectors @ fused.astype(np.float64) + contents.bias
        tolerance = TOLERANCE * max(1.0, float(np.abs(scores).max()))
        if np.abs(answer.scores[0] - scores[got]).max() > tolerance:
            raise AssertionError(f"{what}: scores {answer.scores[0]}, expected {scores[got]}")
        if must_be.any() and np.sort(scores[must_be])[-K:].min() > scores[got].min() + tolerance:
            raise AssertionError(f"{what}: better items are missing")
        self.count("answers")


def resident_mib() -> float:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--swaps", type=int, default=1000, help="changes of the catalogue in that time")
    parser.add_argument("--threads", type=int, default=16)
    options = parser.parse_args()
    sys.exit(0 if Soak(options.minutes, options.swaps, options.threads).run() else 1)


if __name__ == "__main__":
    main()
