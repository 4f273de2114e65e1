"""Runs each target in separate processes, so that a crash or a hang only costs a process and is reported."""

from __future__ import annotations

import dataclasses
import faulthandler
import itertools
import multiprocessing
import os
import pathlib
import resource
import signal
import time
from collections.abc import MutableSequence

from fuzz.loop import ACCEPTED, CASE, FINDINGS, REFUSED, Target, fuzz, input_of, write_finding

MOST_MEMORY = 8 << 30
"""Bytes of address space a process may use; torch alone maps a few GiB."""


@dataclasses.dataclass(frozen=True)
class Options:
    """seed: of all inputs. first: number of the first case. cases: how many; None: as many as fit into `seconds`.
    limit: seconds one case may take. folder: for the findings. most_crashes: a target stops after so many.
    """

    folder: pathlib.Path
    seed: int = 0
    first: int = 0
    cases: int | None = None
    seconds: float = float("inf")
    limit: float = 10.0
    most_crashes: int = 20


@dataclasses.dataclass
class Result:
    cases: int = 0
    refused: int = 0
    accepted: int = 0
    findings: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        speed = self.cases / self.seconds if self.seconds else 0.0
        return (
            f"{self.cases:,} cases ({speed:,.0f}/s), {self.refused:,} refused, {self.accepted:,} accepted, "
            f"{self.findings} findings, {self.seconds / 60:.1f} minutes"
        )


def run(target: Target, options: Options, report_every: float = 60.0) -> Result:
    """Fuzzes one target until its time or its cases run out."""
    began, crashes = time.monotonic(), 0
    result, first = Result(), options.first
    end = None if options.cases is None else first + options.cases
    context = multiprocessing.get_context("spawn")
    while crashes < options.most_crashes:
        left = options.seconds - (time.monotonic() - began)
        counters = context.RawArray("q", [first - 1, 0, 0, 0])
        child = context.Process(target=_child, args=(target, options, first, end, left, counters))
        child.start()
        hung = _watch(child, counters, first, options.limit, report_every, target.name)
        died = child.exitcode != 0
        if counters[CASE] < first:
            raise RuntimeError(f"{target.name}: the process ended before its first case: {child.exitcode}")
        first = counters[CASE] + 1
        result.refused += counters[REFUSED]
        result.accepted += counters[ACCEPTED]
        result.findings += counters[FINDINGS] + died
        result.cases, result.seconds = first - options.first, time.monotonic() - began
        if not died:
            break
        crashes += 1
        _report_death(target, options, counters[CASE], f"hung for {options.limit} s" if hung else str(child.exitcode))
        if first == end or result.seconds > options.seconds:
            break
    return result


def _child(
    target: Target, options: Options, first: int, end: int | None, seconds: float, counters: MutableSequence[int]
) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if "asan" not in os.environ.get("LD_PRELOAD", ""):  # ASan maps terabytes
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    options.folder.mkdir(parents=True, exist_ok=True)
    with _trace_of(target, options).open("w") as trace:
        faulthandler.enable(trace)
        cases = itertools.count(first) if end is None else iter(range(first, end))
        fuzz(target, options.seed, cases, counters, options.folder, seconds)
        faulthandler.disable()


def _trace_of(target: Target, options: Options) -> pathlib.Path:
    return options.folder / f"{target.name}.trace"


def _watch(
    child: multiprocessing.process.BaseProcess,
    counters: MutableSequence[int],
    first: int,
    limit: float,
    report_every: float,
    name: str,
) -> bool:
    """Waits for the child and reports its progress; returns whether it had to be ended because a case hung."""
    began = reported = moved = time.monotonic()
    case = -1
    while child.is_alive():
        child.join(min(1.0, limit / 4))
        now = time.monotonic()
        if counters[CASE] != case or counters[CASE] < first:  # or the process is still loading torch
            case, moved = counters[CASE], now
        if now - reported > report_every:
            reported = now
            print(f"{name}: {now - began:.0f} s, case {case:,}, {counters[FINDINGS]} findings", flush=True)
        if now - moved > limit and child.pid is not None:
            os.kill(child.pid, signal.SIGABRT)  # faulthandler then writes its stack trace
            child.join()
            return True
    return False


def _report_death(target: Target, options: Options, case: int, how: str) -> None:
    text = (
        f"seed {options.seed}, case {case}: {how} (exit code; below 0 a signal)\n"
        + _trace_of(target, options).read_text()
    )
    write_finding(options.folder, target, case, input_of(target, options.seed, case), text)
    print(f"{target.name}: case {case}: {how}", flush=True)
