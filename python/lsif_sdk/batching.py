"""How concurrent requests share searches (docs/serving.md)."""

from __future__ import annotations

import dataclasses

from lsif_sdk import _core
from lsif_sdk.arguments import as_integer
from lsif_sdk.errors import ArgumentTypeError

__all__ = ["Batching", "as_batching"]

_MOST = 1 << 20
_MOST_WAIT_US = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batching:
    """Requests that arrive during a search are answered together by the next one, in one pass over the catalogue.

    There is no extra thread, and by default a request does not wait for others: if no search is running, its own begins
    at once, so that a single caller pays about a microsecond. Batches grow with the load.

    Args:
        max_batch: the most users in one search.
        max_queue: how many requests may wait; more are refused with `OverloadedError`.
        max_wait_us: microseconds that the first of several waiting requests waits for more, at most until its own
            timeout; 0: it does not wait.
        max_searches: how many searches may run at the same time, each with the recommender's `threads`; None: as many
            as keep the process's CPUs busy, which is one if `threads` is None.

    Raises:
        ArgumentError: a value is out of range.
        ArgumentTypeError: a value is not an integer.
    """

    max_batch: int = 64
    max_queue: int = 1024
    max_wait_us: int = 0
    max_searches: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_batch", 1, _MOST), ("max_queue", 1, _MOST), ("max_wait_us", 0, _MOST_WAIT_US),
            ("max_searches", 1, _MOST),
        ):  # fmt: skip
            if name != "max_searches" or self.max_searches is not None:
                object.__setattr__(self, name, as_integer(name, getattr(self, name), low, high))

    def limits(self, threads: int) -> tuple[int, int, int, int]:
        """The limits as native code takes them, for searches with `threads` threads (0: all)."""
        cpus = _core.default_threads()
        searches = max(1, cpus // (threads or cpus)) if self.max_searches is None else self.max_searches
        return self.max_batch, self.max_queue, self.max_wait_us, searches


def as_batching(batching: Batching | bool | None) -> Batching | None:
    """A checked `Batching`: True stands for the defaults, None and False for no batching (None).

    Raises:
        ArgumentTypeError: something else.
    """
    if batching is None or batching is False:
        return None
    if batching is True:
        return Batching()
    if not isinstance(batching, Batching):
        raise ArgumentTypeError("batching", "a Batching, True, False or None", batching)
    return batching
