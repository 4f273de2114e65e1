"""Blocking calls for asyncio: a limited number in flight, with timeouts that include waiting for a thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lsif_sdk.arguments import as_duration
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ClosedError, DeadlineError, OverloadedError
from lsif_sdk.locks import ForkSafeLock

__all__ = ["WaitingRoom"]

T = TypeVar("T")


class WaitingRoom:
    """Threads that make blocking calls, with a limit on the calls in flight.

    Args:
        threads: calls at the same time.
        most: calls in flight, including those that wait for a thread.
    """

    def __init__(self, threads: int, most: int) -> None:
        self._threads, self._most = threads, most
        self._closed = False
        self._lock = ForkSafeLock()
        self._start()

    def _start(self) -> None:
        self._in_flight = 0
        self._executor = concurrent.futures.ThreadPoolExecutor(self._threads, thread_name_prefix="lsif")
        self._process = os.getpid()

    @property
    def in_flight(self) -> int:
        """Number of unfinished calls, including those that wait for a thread."""
        return self._in_flight if os.getpid() == self._process else 0

    async def run(self, call: Callable[..., T], options: Mapping[str, Any]) -> T:
        """Makes the call in a thread; "timeout" in `options` counts from now on.

        Raises:
            OverloadedError: too many calls are in flight.
            DeadlineError: no thread was free in time.
            ClosedError: after `close`, also for a call that still waits for a thread.
        """
        timeout, began = options.get("timeout"), time.monotonic()

        def make() -> T:
            self._check_open()
            left = _left(timeout, time.monotonic() - began)
            if left is None:
                return call()  # `call` itself refuses an invalid timeout
            if left < 0:
                raise DeadlineError("timeout: the request's turn did not come in time")
            return call(timeout=left)

        return await asyncio.wrap_future(self._enter(make))

    async def answer(
        self, recommend: Callable[..., T], options: Mapping[str, Any], failed: Callable[[Exception], None]
    ) -> T:
        """Makes the call recommend(**options) in a thread; its timeout and budget count from now on.

        A refused call with a budget (too many in flight, or no thread in time) is made at once with a budget of 0, for
        an answer without a search.

        Args:
            recommend: takes "timeout" in seconds and "budget_ms"; counts its own errors.
            options: options of the call.
            failed: counts the errors of calls that were not made.

        Raises:
            OverloadedError: too many calls are in flight, or `recommend` raises it; likewise DeadlineError and
                ClosedError.
        """
        began, budget = time.perf_counter(), options.get("budget_ms")
        has_budget, is_made = _left(budget, 0) is not None, False

        def call(**more: Any) -> T:
            nonlocal is_made
            is_made = True
            left = _left(budget, 1e3 * (time.perf_counter() - began))
            if left is not None:
                more["budget_ms"] = max(0.0, left)
            return recommend(**{**options, **more})

        try:
            return await self.run(call, options)
        except (ClosedError, DeadlineError, OverloadedError) as error:
            if is_made:
                raise
            if not has_budget or isinstance(error, ClosedError):
                failed(error)
                raise
        return recommend(**{**options, "budget_ms": 0})

    def _enter(self, make: Callable[[], T]) -> concurrent.futures.Future[T]:
        with self._lock:
            if os.getpid() != self._process:  # a forked child has the executor, but not its threads
                self._start()
            self._check_open()
            if self._in_flight >= self._most:
                raise OverloadedError(f"{self._most} asynchronous requests are in flight already")
            future = self._executor.submit(make)
            self._in_flight += 1
        future.add_done_callback(self._leave)
        return future

    def _leave(self, _: concurrent.futures.Future[Any]) -> None:
        with self._lock:
            self._in_flight -= 1

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the recommender is closed")

    def close(self) -> None:
        """Refuses later calls and those that wait for a thread; the threads end after their calls."""
        with self._lock:
            self._closed = True
        if os.getpid() == self._process:
            self._executor.shutdown(wait=False)


def _left(duration: Any, spent: float) -> float | None:
    """The remaining duration; None without a limit, or if it is not a duration."""
    try:
        whole = as_duration("duration", "a number", duration)
    except (ArgumentError, ArgumentTypeError):
        return None
    return None if whole is None else whole - spent
