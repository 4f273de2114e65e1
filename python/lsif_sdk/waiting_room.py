"""Blocking calls for asyncio: a bounded number in flight, each with what is left of its time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lsif_sdk.errors import DeadlineError, OverloadedError

__all__ = ["WaitingRoom"]

T = TypeVar("T")


class WaitingRoom:
    """Threads that make blocking calls, and a bound on the calls in flight.

    Args:
        threads: calls at the same time.
        most: calls in flight, those that wait for a thread included.
    """

    def __init__(self, threads: int, most: int) -> None:
        self._threads, self._most = threads, most
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._in_flight = 0
        self._executor = concurrent.futures.ThreadPoolExecutor(self._threads, thread_name_prefix="lsif")

    async def run(self, call: Callable[..., T], options: Mapping[str, Any]) -> T:
        """Makes the call in a thread; a number under "timeout" in `options` counts from now on.

        Raises:
            OverloadedError: too many calls are in flight.
            DeadlineError: no thread was free in time.
        """
        if os.getpid() != self._process:  # a forked child has the executor, but not its threads
            self._start()
        with self._lock:
            if self._in_flight >= self._most:
                raise OverloadedError(f"{self._most} asynchronous requests are in flight already")
            self._in_flight += 1
        timeout, began = options.get("timeout"), time.monotonic()

        def make() -> T:
            if not isinstance(timeout, (int, float)):
                return call()
            left = timeout - (time.monotonic() - began)
            if left < 0 <= timeout:
                raise DeadlineError("timeout: the request's turn did not come in time")
            return call(timeout=left)

        future = asyncio.get_running_loop().run_in_executor(self._executor, make)
        future.add_done_callback(lambda _: self._leave())
        return await future

    def _leave(self) -> None:
        with self._lock:
            self._in_flight -= 1

    def close(self) -> None:
        """Ends the threads when their calls are over; calls that have no thread yet are dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)
