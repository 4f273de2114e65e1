"""Fork-safe locks, and a base class of objects that cannot be sent to other processes."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, NoReturn, Self, TypeVar, overload

from lsif_sdk.errors import PickleError

__all__ = ["ForkSafeLock", "OfOneProcess", "OwnedLock", "made_once"]

T = TypeVar("T")


class OfOneProcess:
    """Refuses to be pickled or deep-copied, with a message that says what to do instead. `copy.copy` works."""

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise PickleError(
            f"{name}: neither pickled nor copied deeply: make or load one in each process; threads share one"
        )


class ForkSafeLock:
    """`threading.Lock` as a context manager that is free in a forked child, even if another thread held it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _LOCKS.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def acquire(self, seconds: float) -> bool:
        """Whether the lock could be taken within `seconds`; any thread may then `release` it."""
        return self._lock.acquire(timeout=seconds)

    def release(self) -> None:
        """Releases the lock after `acquire`."""
        self._lock.release()

    def free(self) -> None:
        """Replaces the lock by a new one."""
        self._lock = threading.Lock()


class OwnedLock(ForkSafeLock):
    """A lock that knows whether the calling thread holds it."""

    def __init__(self) -> None:
        super().__init__()
        self._owner: int | None = None

    @property
    def is_mine(self) -> bool:
        """Whether the calling thread holds the lock."""
        return self._owner == threading.get_ident()

    def __enter__(self) -> None:
        super().__enter__()
        self._owner = threading.get_ident()

    def __exit__(self, *error: object) -> None:
        self._owner = None
        super().__exit__(*error)

    def free(self) -> None:
        """Like `ForkSafeLock.free`, unless the thread that forked, which the child has, holds the lock."""
        if not self.is_mine:
            super().free()
            self._owner = None


class made_once(Generic[T]):  # noqa: N801 (as functools.cached_property)
    """`functools.cached_property` without its lock in Python 3.11.

    That lock is shared by all instances of a class, and a forked child would wait for ever if another thread held it.
    Here several threads may compute a value at the same time, but all get the same one.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        made: T = instance.__dict__.setdefault(self._name, self._make(instance))
        return made


_LOCKS: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()


def _free_all() -> None:
    for lock in list(_LOCKS):
        lock.free()


os.register_at_fork(after_in_child=_free_all)
