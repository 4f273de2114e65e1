"""Work on a device: put into its queue step by step, or captured in CUDA graphs, one a shape of small requests."""

from __future__ import annotations

import collections
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lsif_sdk.device.layout import Ints, Shape
from lsif_sdk.locks import ForkSafeLock

__all__ = ["Graphs", "Work", "captured", "done_at_once"]

Work = Callable[[Shape, Tensor], Tensor]
"""From a request as integers on the device (`Shape.pack`) to its answer as bytes there; waits for nothing."""
Bytes = npt.NDArray[np.uint8]

MOST_USERS = 16
MOST_EVENTS = 4096
"""Of a request that is worth a graph: a larger one takes longer than its launches do."""
MOST_GRAPHS = 64
"""Kept, those used last; each has the memory of its request's work, which small requests need little of."""


def done_at_once(work: Work, shape: Shape, fill: Callable[[Ints], None], device: torch.device) -> Bytes:
    """Does work for a request whose integers `fill` writes, and waits for the answer, once."""
    ints = torch.empty(shape.num_ints, dtype=torch.int64, pin_memory=device.type == "cuda")
    fill(ints.numpy())
    answer: Bytes = work(shape, ints.to(device, non_blocking=True)).cpu().numpy()
    return answer


class CapturedWork:
    """Work for requests of one shape, all of whose steps are put into the queue at once.

    Args:
        work: what to do.
        shape: of the requests.
        device: a GPU.
        example: a request, already answered.
    """

    def __init__(self, work: Work, shape: Shape, device: torch.device, example: Ints) -> None:
        self._lock = ForkSafeLock()
        self._device = device
        self._request = torch.from_numpy(example.copy()).pin_memory()
        self._ints = self._request.to(device)
        with torch.cuda.device(device):
            # Once in the stream of capturing: what is made at a first call is not made while capturing.
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                work(shape, self._ints)
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            # Other threads go on with requests of their own meanwhile.
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._answer = work(shape, self._ints)
        self._host_answer = torch.empty_like(self._answer, device="cpu", pin_memory=True)

    def __call__(self, fill: Callable[[Ints], None]) -> Bytes:
        """The answer to a request whose integers `fill` writes."""
        with self._lock, torch.cuda.device(self._device):
            fill(self._request.numpy())
            self._ints.copy_(self._request, non_blocking=True)
            self._graph.replay()
            self._host_answer.copy_(self._answer, non_blocking=True)
            torch.cuda.current_stream().synchronize()
            return self._host_answer.numpy().copy()


Capture = Callable[[Work, Shape, torch.device, Ints], Callable[[Callable[[Ints], None]], Bytes]]
captured: Capture = CapturedWork


class Graphs:
    """Does work, that of shapes that come again by graphs. Safe to share between threads.

    Args:
        work: what to do, which has to need nothing but its arguments and what never changes.
        device: a GPU.
        capture: makes a graph of it.
    """

    def __init__(self, work: Work, device: torch.device, capture: Capture = captured) -> None:
        self._work = work
        self._device = device
        self._capture = capture
        self._lock = ForkSafeLock()
        self._capturing = ForkSafeLock()
        self._graphs: collections.OrderedDict[Shape, Callable[[Callable[[Ints], None]], Bytes]] = (
            collections.OrderedDict()
        )

    def do(self, shape: Shape, fill: Callable[[Ints], None]) -> Bytes:
        """The answer to a request of a shape that `is_small`, whose integers `fill` writes.

        The first of its shape is answered step by step, and pays for capturing.
        """
        with self._lock:
            graph = self._graphs.get(shape)
            if graph is not None:
                self._graphs.move_to_end(shape)
        if graph is not None:
            return graph(fill)
        answer = done_at_once(self._work, shape, fill, self._device)
        if self._capturing.acquire(0):  # one at a time; who comes meanwhile goes on without
            try:
                self._add(shape, fill)
            finally:
                self._capturing.release()
        return answer

    def _add(self, shape: Shape, fill: Callable[[Ints], None]) -> None:
        example = np.empty(shape.num_ints, np.int64)
        fill(example)
        graph = self._capture(self._work, shape, self._device, example)
        with self._lock:
            self._graphs[shape] = graph
            while len(self._graphs) > MOST_GRAPHS:
                self._graphs.popitem(last=False)

    @staticmethod
    def is_small(shape: Shape) -> bool:
        """Whether a graph is worth its capture."""
        return shape.batch <= MOST_USERS and shape.total <= MOST_EVENTS
