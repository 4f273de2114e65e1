"""A small least-recently-used cache."""

from __future__ import annotations

import collections
from typing import Generic, TypeVar

from lsif_sdk.locks import ForkSafeLock

__all__ = ["Recent"]

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """At most `most` values by key; the least recently used one is dropped first. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = ForkSafeLock()
        self._values: collections.OrderedDict[K, V] = collections.OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, or None; counts as a use."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Stores a value in place of the key's old one."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._most:
                self._values.popitem(last=False)

    def items(self) -> list[tuple[K, V]]:
        """All keys and values, the most recently used last."""
        with self._lock:
            return list(self._values.items())
