"""Calls nobody waits for longer than they like: what is late goes on without them."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from lsif_sdk.locks import ForkSafeLock

__all__ = ["BoundedCalls"]

T = TypeVar("T")
_Calls: TypeAlias = "queue.SimpleQueue[Callable[[], None] | None]"


class BoundedCalls:
    """Threads that make calls which cannot be broken off.

    Args:
        threads: calls at the same time, those included that nobody waits for any more.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._lock = ForkSafeLock()
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._free = threading.Semaphore(self._threads)
        self._calls: _Calls = queue.SimpleQueue()
        self._started = 0
        weakref.finalize(self, _end, self._calls, self._threads)

    def within(self, seconds: float, lock: ForkSafeLock, call: Callable[[], T]) -> T | None:
        """call() under the lock; None if the lock, a free thread and the call together take longer than that.

        A call that has begun goes on, and has the lock until it is over.
        """
        end = time.monotonic() + min(seconds, threading.TIMEOUT_MAX / 2)

        def left() -> float:
            return max(0.0, end - time.monotonic())

        with self._lock:
            if os.getpid() != self._process:  # a forked child has no threads of its parent
                self._start()
            free, calls = self._free, self._calls
            if self._started < self._threads:
                # Not those of concurrent.futures, which the interpreter waits for at its end: a store may never answer.
                threading.Thread(target=_work, args=(calls,), name="lsif-store", daemon=True).start()
                self._started += 1
        if not lock.acquire(left()):
            return None
        if not free.acquire(timeout=left()):
            lock.release()
            return None

        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def make() -> None:
            outcome: Callable[[], None]
            try:
                outcome = functools.partial(future.set_result, call())
            except BaseException as error:
                outcome = functools.partial(future.set_exception, error)
            free.release()
            lock.release()
            outcome()

        calls.put(make)
        concurrent.futures.wait([future], left())
        return future.result() if future.done() else None


def _work(calls: _Calls) -> None:
    while (call := calls.get()) is not None:
        call()


def _end(calls: _Calls, threads: int) -> None:
    for _ in range(threads):
        calls.put(None)
