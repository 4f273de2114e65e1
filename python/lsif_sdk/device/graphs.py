"""Runs work on a device: step by step, or for small requests by CUDA graphs, one per request shape."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lsif_sdk.device.layout import Ints, Shape
from lsif_sdk.locks import ForkSafeLock
from lsif_sdk.recent import Recent

__all__ = ["Capture", "Graphs", "Work", "captured", "done_at_once"]

Work = Callable[[Shape, Tensor], Tensor]
"""From a request, as integers on the device (`Shape.pack`), to its answer, as bytes there; does not wait."""
Bytes = npt.NDArray[np.uint8]
_LOG = logging.getLogger(__name__)

MOST_USERS = 16
MOST_EVENTS = 4096
"""Limits of requests that are worth a graph: in larger ones the work takes longer than the launches."""
MOST_INTS = 16384
MOST_FOUND = 16384
"""Limits of integers, and of results of all users: a graph keeps memory for both, on the device and pinned."""
MOST_GRAPHS = 64
"""Most recently used graphs to keep; each keeps the memory of its work, which is small for small requests."""

_CAPTURING = ForkSafeLock()
"""One capture at a time: it begins with waiting for the device, which would break another capture."""


def done_at_once(work: Work, shape: Shape, fill: Callable[[Ints], None], device: torch.device) -> Bytes:
    """Runs work for a request whose integers `fill` writes, and waits once, for the answer."""
    ints = torch.empty(shape.num_ints, dtype=torch.int64, pin_memory=device.type == "cuda")
    fill(ints.numpy())
    answer: Bytes = work(shape, ints.to(device, non_blocking=True)).cpu().numpy()
    return answer


@functools.cache
def _stream_of_captures(device: torch.device) -> torch.cuda.Stream:
    """One stream for all captures. torch hands out 32 streams in turn: with a new one for each capture, the work of a
    thread with its own stream could be captured by another thread. It has the usual priority, which graphs inherit."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class CapturedWork:
    """Work for requests of one shape as a CUDA graph, which launches all steps at once.

    Args:
        work: the work.
        shape: the shape of the requests.
        device: a GPU.
        example: a request, already answered.
    """

    def __init__(self, work: Work, shape: Shape, device: torch.device, example: Ints) -> None:
        self._lock = ForkSafeLock()
        self._device = device
        self._request = torch.from_numpy(example.copy()).pin_memory()
        self._ints = self._request.to(device)
        with torch.cuda.device(device):
            # Run once in the capture stream, so that first-call initialisation does not happen while capturing.
            stream = _stream_of_captures(device)
            stream.wait_stream(torch.cuda.current_stream())
            # This context always returns to the caller's stream; that of a graph does not if capturing fails.
            with torch.cuda.stream(stream):
                work(shape, self._ints)
                stream.synchronize()
                self._graph = torch.cuda.CUDAGraph()
                # thread_local: other threads continue with their own requests meanwhile.
                with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                    self._answer = work(shape, self._ints)
        self._host_answer = torch.empty_like(self._answer, device="cpu", pin_memory=True)

    def __call__(self, fill: Callable[[Ints], None]) -> Bytes:
        """The answer to a request whose integers `fill` writes."""
        with self._lock, torch.cuda.device(self._device):
            fill(self._request.numpy())
            try:
                self._ints.copy_(self._request, non_blocking=True)
                self._graph.replay()
                self._host_answer.copy_(self._answer, non_blocking=True)
            finally:  # even if interrupted: the next request overwrites buffers that the device still reads
                torch.cuda.current_stream().synchronize()
            return self._host_answer.numpy().copy()


Graph = Callable[[Callable[[Ints], None]], Bytes]
Capture = Callable[[Work, Shape, torch.device, Ints], Graph]
captured: Capture = CapturedWork


class Graphs:
    """Runs work, by graphs for shapes that come repeatedly. Thread-safe.

    Args:
        work: the work, which may depend only on its arguments and on constant data.
        device: a GPU.
        capture: makes a graph of the work.

    captures: number of graphs made or tried so far.
    """

    def __init__(self, work: Work, device: torch.device, capture: Capture = captured) -> None:
        self._work = work
        self._device = device
        self._capture = capture
        self.captures = 0
        self._has_failed = False
        self._asked: Recent[Shape, bool] = Recent(MOST_GRAPHS)
        self._graphs: Recent[Shape, Graph] = Recent(MOST_GRAPHS)

    def do(self, shape: Shape, fill: Callable[[Ints], None]) -> Bytes:
        """The answer to a request of a shape that `is_small`, whose integers `fill` writes.

        The first two requests of a shape run step by step, and the second also captures the graph.
        """
        graph = self._graphs.get(shape)
        if graph is not None:
            return graph(fill)
        came_before = self._asked.get(shape)
        self._asked.put(shape, True)
        answer = done_at_once(self._work, shape, fill, self._device)
        if came_before and _CAPTURING.acquire(0):  # requests meanwhile run without a graph
            try:
                self._add(shape, fill)
            finally:
                _CAPTURING.release()
        return answer

    def _add(self, shape: Shape, fill: Callable[[Ints], None]) -> None:
        if self._graphs.get(shape) is not None:
            return
        example = np.empty(shape.num_ints, np.int64)
        fill(example)
        self.captures += 1
        try:
            graph = self._capture(self._work, shape, self._device, example)
        except RuntimeError as error:
            # For example no memory for a graph. This request has its answer; later ones also run step by step.
            if not self._has_failed:
                _LOG.warning("%s: no CUDA graph; requests go step by step, slower: %s (%s)", self._device, error, shape)
            self._has_failed = True
            graph = functools.partial(done_at_once, self._work, shape, device=self._device)
        self._graphs.put(shape, graph)

    @staticmethod
    def is_small(shape: Shape) -> bool:
        """Whether a graph is worth its capture and its memory."""
        return (
            shape.batch <= MOST_USERS
            and shape.total <= MOST_EVENTS
            and shape.num_ints <= MOST_INTS
            and shape.batch * shape.k <= MOST_FOUND
        )
