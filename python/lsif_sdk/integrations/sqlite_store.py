"""A store in one SQLite file: without a server, safe for many threads and processes of one machine."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from typing import Any, Literal, Self

from lsif_sdk.arguments import as_choice, as_number
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ClosedError, StoreError
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
from lsif_sdk.locks import ForkSafeLock, OfOneProcess
from lsif_sdk.times import UNKNOWN_TIME

__all__ = ["SQLiteStore"]

_APPLICATION = int.from_bytes(b"lsif", "big")  # PRAGMA application_id, which identifies our files
_VERSION = 1
# Columns of ids have no type, so that 1 and '1' stay different users. One counter for all users, so that no sequence
# number is reused when a user is deleted.
_SCHEMA = (
    """CREATE TABLE events (user NOT NULL, sequence INTEGER NOT NULL, item NOT NULL, time INTEGER,
       action INTEGER NOT NULL, PRIMARY KEY (user, sequence)) WITHOUT ROWID""",
    "CREATE TABLE states (user PRIMARY KEY NOT NULL, sequence INTEGER NOT NULL, data BLOB NOT NULL)",
    "CREATE TABLE numbering (newest INTEGER NOT NULL)",
    "INSERT INTO numbering VALUES (0)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)
_READ = "SELECT sequence, item, time, action FROM events WHERE user = ?"
_HAS_EVENT = "EXISTS (SELECT 1 FROM events WHERE user = ? AND sequence = ?)"


class SQLiteStore(OfOneProcess):
    """A `HistoryStore` in one file (with `-wal` and `-shm` files next to it), which is created if it is missing.

    Args:
        path: path of the file, on a local disk.
        synchronous: "FULL": an acknowledged event survives a power failure. "NORMAL": it survives a crash of the
            process, and appending does not wait for the disk.
        timeout: seconds to wait for other writers.

    Raises:
        ArgumentError: `synchronous` or `timeout` is out of range, or `path` has ":memory:" in it.
        ArgumentTypeError: an argument is of the wrong type.
        StoreError: the file cannot be opened, is not a store, or is of another version.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        timeout: float = 10.0,
    ) -> None:
        as_choice("synchronous", synchronous, ("FULL", "NORMAL"))
        timeout = as_number("timeout", timeout, 0.0, 1e6)
        if not isinstance(path, (str, os.PathLike)):
            raise ArgumentTypeError("path", "a path", path)
        if ":memory:" in os.fsdecode(path):  # each connection would have a database of its own
            raise ArgumentError("path", "a file: threads and processes share it", repr(path))
        self._path = os.path.abspath(path)
        self._synchronous = synchronous
        self._timeout = timeout
        self._lock = ForkSafeLock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._process = os.getpid()
        try:
            with self._connection() as connection:
                self._prepare(connection)
        except BaseException:
            self.close()
            raise

    def append(self, user: Id, history: History) -> int:
        """See `HistoryStore.append`."""
        user, rows = as_user(user), as_event_rows(history)
        if not rows:
            return self.read(user, last=1).newest
        with self._transaction() as connection:
            connection.execute("UPDATE numbering SET newest = newest + ?", (len(rows),))
            (newest,) = connection.execute("SELECT newest FROM numbering").fetchone()
            first = newest - len(rows) + 1
            connection.executemany(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
                [
                    (user, first + i, row.item, None if row.time == UNKNOWN_TIME else row.time, row.action)
                    for i, row in enumerate(rows)
                ],
            )
        return int(newest)

    def read(self, user: Id, *, last: int | None = None, since: int = 0) -> StoredEvents:
        """See `HistoryStore.read`."""
        user, (last, since) = as_user(user), as_part(last, since)
        with self._connection() as connection:
            if last is not None:
                # One more than asked for, to know the sequence number before the first.
                query = f"{_READ} ORDER BY sequence DESC LIMIT ?"
                rows = connection.execute(query, (user, min(last, 2**62) + 1)).fetchall()[::-1]
                return _stored(rows, skip_first=len(rows) > last)
            query = f"{_READ} AND sequence >= ? ORDER BY sequence"
            rows = connection.execute(query, (user, since)).fetchall()
            if since and (not rows or rows[0][0] != since):
                rows, since = connection.execute(query, (user, 0)).fetchall(), 0
            return _stored(rows, skip_first=since > 0)

    def get_state(self, user: Id) -> StoredState | None:
        """See `HistoryStore.get_state`."""
        with self._connection() as connection:
            row = connection.execute("SELECT data, sequence FROM states WHERE user = ?", (as_user(user),)).fetchone()
        return None if row is None else StoredState(*row)

    def put_state(self, user: Id, data: bytes, sequence: int) -> bool:
        """See `HistoryStore.put_state`."""
        user, state = as_user(user), as_state(data, sequence)
        with self._transaction() as connection:
            query = f"INSERT OR REPLACE INTO states SELECT ?, ?, ? WHERE {_HAS_EVENT}"
            return connection.execute(query, (user, state.sequence, state.data, user, state.sequence)).rowcount > 0

    def delete(self, user: Id) -> None:
        """See `HistoryStore.delete`. Deleted data is overwritten in the file, and later in the `-wal` file too."""
        user = as_user(user)
        with self._transaction() as connection:
            connection.execute("DELETE FROM events WHERE user = ?", (user,))
            connection.execute("DELETE FROM states WHERE user = ?", (user,))

    def close(self) -> None:
        """See `HistoryStore.close`. Calls in flight in other threads finish."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        if os.getpid() == self._process:  # closing a connection in a forked child would give up the parent's locks
            for connection in idle:
                connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SQLiteStore({self._path!r})"

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            # IMMEDIATE waits for other writers now, before anything is read that they could change.
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for one thread at a time: an idle one, or a new one."""
        try:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from error

    def _take(self) -> sqlite3.Connection:
        if os.getpid() != self._process:
            raise ClosedError(f"{self!r} was made before a fork: make one in the child")
        with self._lock:
            if self._closed:
                raise ClosedError(f"{self!r} is closed")
            if self._idle:
                return self._idle.pop()
        connection = sqlite3.connect(self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA secure_delete = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        try:
            connection.rollback()  # what an error left unfinished
            with self._lock:
                if not self._closed:
                    self._idle.append(connection)
                    return
        except sqlite3.Error:
            connection.close()
            raise
        connection.close()

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Makes the tables in an empty file; refuses a foreign file before anything is written."""
        connection.execute("BEGIN")  # a consistent view, since another process may be creating the file
        try:
            is_ours = self._is_ours(connection)
        finally:
            connection.execute("ROLLBACK")
        if is_ours:
            return
        self._use_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        if not self._is_ours(connection):  # another process may have been faster
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute("COMMIT")

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """Whether the tables are there; False for an empty file."""

        def number(query: str) -> int:
            return int(connection.execute(query).fetchone()[0])

        application, version = number("PRAGMA application_id"), number("PRAGMA user_version")
        if application == _APPLICATION:
            if version != _VERSION:
                raise StoreError(f"{self._path}: expected a store of version {_VERSION}, got version {version}")
            return True
        if application or version or number("SELECT count(*) FROM sqlite_master"):
            raise StoreError(f"{self._path}: expected a store of lsif_sdk, got another SQLite database")
        return False

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError:  # SQLite does not wait here if two processes switch at once
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        if mode != "wal":
            raise StoreError(f"{self._path}: SQLite cannot keep a write-ahead log there (a network file system?)")


def _stored(rows: list[Any], skip_first: bool) -> StoredEvents:
    after = rows[0][0] if skip_first else 0
    events = [
        EventRow(item, UNKNOWN_TIME if when is None else when, action) for _, item, when, action in rows[skip_first:]
    ]
    return StoredEvents(events_of(events), after, rows[-1][0] if rows else 0)
