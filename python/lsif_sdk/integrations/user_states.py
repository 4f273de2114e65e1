"""An in-memory cache of the states of recent users, limited in bytes."""

from __future__ import annotations

import collections
from typing import Generic, Protocol, TypeVar

from lsif_sdk.arguments import as_integer, is_integer
from lsif_sdk.errors import ArgumentTypeError
from lsif_sdk.ids import Id
from lsif_sdk.integrations.history_store import as_user
from lsif_sdk.locks import ForkSafeLock, OfOneProcess

__all__ = ["UserStates"]

_OVERHEAD = 576
"""Bytes of Python objects per entry: id, dictionary node, wrappers of the state's memory (tests/test_users.py)."""


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=_Sized)


class UserStates(OfOneProcess, Generic[T]):
    """A thread-safe least-recently-used cache from user ids to `UserState` (or anything with `nbytes`).

    Args:
        max_bytes: for all states; each counts with its size and 576 bytes. The least recently used ones are dropped if
            there is no room; a state larger than all of it is not kept.

    Raises:
        ArgumentError: `max_bytes` is negative or above 2**62.
        ArgumentTypeError: `max_bytes` is not an integer.
    """

    def __init__(self, max_bytes: int) -> None:
        max_bytes = as_integer("max_bytes", max_bytes, 0, 2**62)
        self._max_bytes = max_bytes
        self._lock = ForkSafeLock()
        self._states: collections.OrderedDict[Id, T] = collections.OrderedDict()
        self._bytes = self._hits = self._misses = self._evictions = 0

    def get(self, user: Id) -> T | None:
        """The user's state, or None; counts as a use."""
        with self._lock:
            state = self._states.get(as_user(user))
            if state is None:
                self._misses += 1
            else:
                self._hits += 1
                self._states.move_to_end(user)
            return state

    def peek(self, user: Id) -> T | None:
        """Like `get`, but does not count as a use nor in `stats`."""
        with self._lock:
            return self._states.get(as_user(user))

    def put(self, user: Id, state: T) -> None:
        """Stores the user's state in place of an earlier one.

        Raises:
            ArgumentTypeError: `state` has no `nbytes`.
        """
        user = as_user(user)
        if not is_integer(getattr(state, "nbytes", None)):
            raise ArgumentTypeError("state", "a UserState, or something else with nbytes", state)
        with self._lock:
            self._remove(user)
            if _size(state) > self._max_bytes:  # it would first evict all others
                self._evictions += 1
                return
            self._states[user] = state
            self._bytes += _size(state)
            while self._bytes > self._max_bytes:
                self._remove(next(iter(self._states)))
                self._evictions += 1

    def remove(self, user: Id) -> None:
        """Drops the user's state, if there is one."""
        with self._lock:
            self._remove(as_user(user))

    def users(self) -> list[Id]:
        """The users with a state in the cache, the least recently used first."""
        with self._lock:
            return list(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def __repr__(self) -> str:
        return f"UserStates({len(self):,} users, {self._bytes:,} of {self._max_bytes:,} bytes)"

    def stats(self) -> dict[str, int]:
        """Counters since creation (hits, misses, evictions), and the current content (users, bytes)."""
        with self._lock:
            return {
                "hits": self._hits,
                "misses": self._misses,
                "evictions": self._evictions,
                "users": len(self._states),
                "bytes": self._bytes,
            }

    def _remove(self, user: Id) -> None:
        state = self._states.pop(user, None)
        if state is not None:
            self._bytes -= _size(state)


def _size(state: _Sized) -> int:
    return state.nbytes + _OVERHEAD
