"""A store in Redis: two keys per user; every change is one atomic command or script."""

from __future__ import annotations

import contextlib
import secrets
import struct
from collections.abc import Iterator
from typing import Any, Self

from lsif_sdk.arguments import as_number
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ClosedError, MissingExtraError, StoreError
from lsif_sdk.events import History
from lsif_sdk.ids import Id
from lsif_sdk.integrations.history_store import (
    EventRow,
    StoredEvents,
    StoredState,
    as_event_rows,
    as_part,
    as_state,
    as_user,
    events_of,
)
from lsif_sdk.locks import OfOneProcess

__all__ = ["RedisStore"]

# A list of events begins with "lsif1" and a random number; the event at index i has that number + i, so that sequence
# numbers of a deleted history are not reused. Below 2**52 they are exact in Lua, whose numbers are float64.
_FORMAT = b"lsif1 "
_NUMBERS = 1 << 51
_EVENT = struct.Struct("<qq")  # time, action; then "i" and an int64, or "s" and UTF-8
_INTEGER = struct.Struct("<q")

_BASE = """
local function base(key)
  local first = redis.call('LINDEX', key, 0)
  if not first then return nil end
  if string.sub(first, 1, 6) ~= 'lsif1 ' then error('expected a history of lsif_sdk, version 1') end
  return tonumber(string.sub(first, 7))
end
"""
# KEYS: events. ARGV: the first element for a new list, then events, which are pushed in parts that fit Lua's stack.
_APPEND = (
    _BASE
    + """
if not base(KEYS[1]) then redis.call('RPUSH', KEYS[1], ARGV[1]) end
for i = 2, #ARGV, 1000 do redis.call('RPUSH', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
return base(KEYS[1]) + redis.call('LLEN', KEYS[1]) - 1
"""
)
# KEYS: events. ARGV: since; last or -1. Returns the number before the first event, whether that is an event, events.
_READ = (
    _BASE
    + """
local before = base(KEYS[1])
if not before then return {0, 0, {}} end
local count, index = redis.call('LLEN', KEYS[1]) - 1, tonumber(ARGV[1]) - before
if ARGV[2] ~= '-1' then index = count - tonumber(ARGV[2]) end
if index < 1 or index > count then index = 0 end
return {before + index, index, redis.call('LRANGE', KEYS[1], index + 1, -1)}
"""
)
# KEYS: events, state. ARGV: sequence, packed state.
_PUT_STATE = (
    _BASE
    + """
local before = base(KEYS[1])
local index = before and tonumber(ARGV[1]) - before
if not index or index < 1 or index >= redis.call('LLEN', KEYS[1]) then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""
)


class RedisStore(OfOneProcess):
    """A `HistoryStore` in a Redis server (extra `redis`).

    Requests are never retried: if the connection breaks, `StoreError` is raised, and the request may have taken effect.

    Args:
        url: URL of the server, as `redis.Redis.from_url` takes it: redis://, rediss:// or unix://.
        prefix: prefix of all keys.
        timeout: seconds to wait for a connection or an answer.
        check_durability: refuse a server that may lose acknowledged data. It must have `appendonly yes`, `appendfsync
            always` and a `maxmemory-policy` that only evicts keys with an expiry. False if the CONFIG command is not
            allowed, or if such a loss is acceptable.

    Raises:
        ArgumentError: `timeout` is out of range, or `url` is not a Redis URL.
        ArgumentTypeError: `url` or `prefix` is not a string.
        MissingExtraError: the package redis is not installed.
        StoreError: the server cannot be reached, or is not durable.
    """

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        *,
        prefix: str = "lsif:",
        timeout: float = 5.0,
        check_durability: bool = True,
    ) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise MissingExtraError("RedisStore", "redis", "redis") from error
        for name, text in (("url", url), ("prefix", prefix)):
            if not isinstance(text, str):
                raise ArgumentTypeError(name, "a string", text)
        timeout = as_number("timeout", timeout, 0.001, 1e6)
        self._prefix = prefix
        self._error: type[Exception] = redis.RedisError
        self._closed = False
        try:
            # Clients retry requests by default, which would repeat an append whose answer was lost.
            self._client: Any = redis.Redis.from_url(
                url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
            )
        except ValueError as error:
            raise ArgumentError("url", "that of a Redis server", error) from None
        self._append, self._read, self._put_state = map(self._client.register_script, (_APPEND, _READ, _PUT_STATE))
        try:
            with self._errors():
                self._client.ping()
                if check_durability:
                    self._check_durability()
        except BaseException:
            self.close()
            raise

    def append(self, user: Id, history: History) -> int:
        """See `HistoryStore.append`."""
        user, rows = as_user(user), as_event_rows(history)
        if not rows:
            return self.read(user, last=1).newest
        first = _FORMAT + str(1 + secrets.randbelow(_NUMBERS)).encode()
        with self._errors():
            return int(self._append([self._key(user, "events")], [first, *map(_pack, rows)]))

    def read(self, user: Id, *, last: int | None = None, since: int = 0) -> StoredEvents:
        """See `HistoryStore.read`."""
        user, (last, since) = as_user(user), as_part(last, since)
        with self._errors():
            asked = [min(since, 1 << 53), -1 if last is None else min(last, 1 << 53)]
            before, index, packed = self._read([self._key(user, "events")], asked)
        return StoredEvents(events_of(map(_unpack, packed)), before if index else 0, before + len(packed))

    def get_state(self, user: Id) -> StoredState | None:
        """See `HistoryStore.get_state`."""
        with self._errors():
            packed = self._client.get(self._key(as_user(user), "state"))
        if packed is None or len(packed) < _INTEGER.size:
            return None
        return StoredState(packed[_INTEGER.size :], *_INTEGER.unpack_from(packed))

    def put_state(self, user: Id, data: bytes, sequence: int) -> bool:
        """See `HistoryStore.put_state`."""
        user, state = as_user(user), as_state(data, sequence)
        keys = [self._key(user, "events"), self._key(user, "state")]
        with self._errors():
            return bool(self._put_state(keys, [state.sequence, _INTEGER.pack(state.sequence) + state.data]))

    def delete(self, user: Id) -> None:
        """See `HistoryStore.delete`. The append-only file keeps what is deleted until Redis rewrites it."""
        user = as_user(user)
        with self._errors():
            self._client.delete(self._key(user, "events"), self._key(user, "state"))

    def close(self) -> None:
        """See `HistoryStore.close`."""
        self._closed = True
        self._client.close()
        self._client.connection_pool.disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RedisStore(prefix={self._prefix!r})"  # the URL may hold a password

    def _key(self, user: Id, kind: str) -> bytes:
        # Redis Cluster hashes only {...}, so that both keys of a user are on one server.
        return f"{self._prefix}{{{'s' if isinstance(user, str) else 'i'}{user}}}:{kind}".encode()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        if self._closed:
            raise ClosedError(f"{self!r} is closed")
        try:
            yield
        except self._error as error:
            raise StoreError(f"{self!r}: {error}") from error

    def _check_durability(self) -> None:
        wanted = {
            "appendonly": ("yes",),
            "appendfsync": ("always",),
            "maxmemory-policy": ("noeviction", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"),
        }
        for name, good in wanted.items():
            got = self._client.config_get(name).get(name)
            if got not in good:
                raise StoreError(
                    f"{self!r}: expected a server with {name} {good[0]}, got {got}: it may lose acknowledged events "
                    "(check_durability=False takes it all the same)"
                )


def _pack(row: EventRow) -> bytes:
    item = b"s" + row.item.encode() if isinstance(row.item, str) else b"i" + _INTEGER.pack(row.item)
    return _EVENT.pack(row.time, row.action) + item


def _unpack(packed: bytes) -> EventRow:
    time, action = _EVENT.unpack_from(packed)
    kind, item = packed[_EVENT.size : _EVENT.size + 1], packed[_EVENT.size + 1 :]
    return EventRow(item.decode() if kind == b"s" else _INTEGER.unpack(item)[0], time, action)
