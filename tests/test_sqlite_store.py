"""The SQLite store: foreign and damaged files, durability, waiting for other writers, forks."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading

import numpy as np
import pytest

from concurrency import run_in_forked_child
from lsif_sdk import errors
from lsif_sdk.integrations import SQLiteStore


def test_foreign_and_newer_files_are_refused_and_left_as_they_are(tmp_path, monkeypatch):
    (tmp_path / "text").write_text("no database, but long enough to have a header of a hundred bytes" * 10)
    with contextlib.closing(sqlite3.connect(tmp_path / "foreign")) as foreign:
        foreign.execute("CREATE TABLE events (user)")
    SQLiteStore(tmp_path / "newer").close()
    with contextlib.closing(sqlite3.connect(tmp_path / "newer")) as newer:
        newer.execute("PRAGMA user_version = 2")
    for name, message in (
        ("text", "text: file is not a database"),
        ("foreign", "foreign: expected a store of lsif_sdk, got another SQLite database"),
        ("newer", "newer: expected a store of version 1, got version 2"),
        ("missing/users.db", "unable to open"),
        ("", "unable to open"),
    ):
        path = tmp_path / name
        before = path.read_bytes() if path.is_file() else None
        with pytest.raises(errors.StoreError, match=message):
            SQLiteStore(path)
        assert before is None or path.read_bytes() == before
    with pytest.raises(errors.ArgumentError, match="synchronous: expected one of 'FULL', 'NORMAL', got 'OFF'"):
        SQLiteStore(tmp_path / "users.db", synchronous="OFF")
    with pytest.raises(errors.ArgumentTypeError, match="synchronous: expected one of 'FULL', 'NORMAL', got ndarray"):
        SQLiteStore(tmp_path / "users.db", synchronous=np.array(["FULL"] * 2))
    for path in (None, 5):
        with pytest.raises(errors.ArgumentTypeError, match=f"path: expected a path, got {type(path).__name__}"):
            SQLiteStore(path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.ArgumentError, match="path: expected a file: threads and processes share it, got ':mem"):
        SQLiteStore(":memory:")
    assert sorted(os.listdir(tmp_path)) == ["foreign", "newer", "text"]


def test_a_damaged_file_is_told(tmp_path):
    with SQLiteStore(tmp_path / "users.db") as store:
        store.append("u", [f"i{n}" for n in range(5000)])
    data = bytearray((tmp_path / "users.db").read_bytes())
    data[8192:] = os.urandom(len(data) - 8192)
    (tmp_path / "users.db").write_bytes(data)
    with pytest.raises(errors.StoreError, match=r"users\.db: "), SQLiteStore(tmp_path / "users.db") as store:
        store.read("u")


def test_durability_is_full_unless_asked_for_less(tmp_path):
    for level, number in (("FULL", 2), ("NORMAL", 1)):
        with SQLiteStore(tmp_path / "users.db", synchronous=level) as store, store._connection() as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (number,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_writer_waits_for_others_and_not_for_ever(tmp_path):
    with SQLiteStore(tmp_path / "users.db", timeout=0.05) as store, SQLiteStore(tmp_path / "users.db") as patient:
        with contextlib.closing(sqlite3.connect(tmp_path / "users.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(errors.StoreError, match="locked"):
                store.append("u", ["a"])
            assert len(store.read("u").events) == 0, "readers do not wait"
            waiting = threading.Thread(target=patient.append, args=("u", ["b"]))
            waiting.start()
            other.execute("COMMIT")
            waiting.join()
        store.append("u", ["c"])
        assert store.read("u").events.items == ["b", "c"]


def test_a_failed_append_leaves_nothing(tmp_path):
    with SQLiteStore(tmp_path / "users.db") as store:
        number = store.append("u", ["a"])
        with store._connection() as connection:
            connection.execute("CREATE TRIGGER full BEFORE INSERT ON events WHEN new.item = 'c' BEGIN "
                               "SELECT RAISE(ABORT, 'disk full'); END")  # fmt: skip
        with pytest.raises(errors.StoreError, match="disk full"):
            store.append("u", ["b", "c"])
        assert store.read("u").events.items == ["a"]
        assert store.append("u", ["d"]) == number + 1


def test_a_forked_child_is_told_to_open_its_own(tmp_path):
    store = SQLiteStore(tmp_path / "users.db")

    def append() -> None:
        with pytest.raises(errors.ClosedError, match="fork"):
            store.append("u", ["child"])
        store.close()

    run_in_forked_child(append)
    store.append("u", ["parent"])
    store.close()
