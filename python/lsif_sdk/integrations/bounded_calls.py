"""Calls with a limit on the time that the caller waits; late calls go on in the background."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from lsif_sdk.locks import ForkSafeLock

__all__ = ["BoundedCalls"]

T = TypeVar("T")


class BoundedCalls:
    """Threads for calls that cannot be interrupted.

    Args:
        threads: how many calls may run at the same time, including those that no caller waits for any more.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._lock = ForkSafeLock()
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._free = threading.Semaphore(self._threads)
        self._executor = concurrent.futures.ThreadPoolExecutor(self._threads, thread_name_prefix="lsif-store")

    def within(self, seconds: float, lock: ForkSafeLock, call: Callable[[], T]) -> T | None:
        """call() under the lock; None if the lock, a free thread and the call together take longer than `seconds`.

        A call that has begun goes on, and holds the lock until it ends.
        """
        end = time.monotonic() + min(seconds, threading.TIMEOUT_MAX / 2)

        def left() -> float:
            return max(0.0, end - time.monotonic())

        with self._lock:
            if os.getpid() != self._process:  # a forked child does not have the parent's threads
                self._start()
            free, executor = self._free, self._executor
        if not lock.acquire(left()):
            return None
        if not free.acquire(timeout=left()):
            lock.release()
            return None

        def make() -> T:
            try:
                return call()
            finally:
                free.release()
                lock.release()

        future = executor.submit(make)
        concurrent.futures.wait([future], left())
        return future.result() if future.done() else None
