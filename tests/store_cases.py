"""Stores for tests: SQLite files, and a Redis server of our own, as durable as `RedisStore` requires."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from lsif_sdk.integrations import RedisStore, SQLiteStore

KINDS = ["sqlite", "redis"]


class RedisServer:
    """redis-server on a unix socket in a folder; after `kill`, it can start again from the folder's data."""

    def __init__(self, folder: Path, **options: str) -> None:
        pytest.importorskip("redis", reason="the package redis is not installed")
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
        self._folder = folder
        # A socket's path may have at most 107 bytes: the server's is relative to the folder, the client's is absolute.
        self.url = f"unix://{folder / 'redis.sock'}"
        settings = {"port": "0", "unixsocket": "redis.sock", "dir": ".", "appendonly": "yes", "appendfsync": "always"}
        settings |= {"save": "", "maxmemory-policy": "noeviction"} | options
        self._command = [program, *(word for name, value in settings.items() for word in (f"--{name}", value))]
        self.start()

    def start(self) -> None:
        (self._folder / "redis.sock").unlink(missing_ok=True)
        with open(self._folder / "redis.log", "a") as log:
            self._process = subprocess.Popen(self._command, cwd=self._folder, stdout=log, stderr=log)
        import redis

        client: Any = redis.Redis.from_url(self.url)
        deadline = time.monotonic() + 60
        while True:
            try:
                client.ping()  # raises also while the server loads its data
                break
            except redis.RedisError:
                log_text = (self._folder / "redis.log").read_text()
                assert self._process.poll() is None and time.monotonic() < deadline, log_text
                time.sleep(0.005)
        client.close()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Stores:
    """Opens stores in a folder or on a server; stores with the same name have the same users."""

    def __init__(self, folder: Path, server: RedisServer | None) -> None:
        self.folder, self.server = folder, server

    def open(self, name: str = "users", **options: Any) -> SQLiteStore | RedisStore:
        if self.server is None:
            return SQLiteStore(self.folder / f"{name}.db", **options)
        return RedisStore(self.server.url, prefix=f"{self.folder}:{name}:", **options)
