"""The Redis store: keys of others, servers that may lose events, lost answers, unreachable servers."""

from __future__ import annotations

import os
import socket
import sys
import threading
from typing import Any

import pytest

from lsif_sdk import errors
from lsif_sdk.integrations import RedisStore
from store_cases import RedisServer


def test_redis_keys_of_something_else_are_refused(redis_server, tmp_path):
    import redis

    client: Any = redis.Redis.from_url(redis_server.url)
    with RedisStore(redis_server.url, prefix=f"{tmp_path}:") as store:
        client.set(f"{tmp_path}:{{su}}:events", "text")
        client.rpush(f"{tmp_path}:{{sv}}:events", "lsif2 7", "of a newer version")
        for user, message in (("u", "WRONGTYPE"), ("v", "expected a history of lsif_sdk, version 1")):
            for call in (lambda u=user: store.append(u, ["a"]), lambda u=user: store.read(u)):
                with pytest.raises(errors.StoreError, match=message):
                    call()
        assert client.llen(f"{tmp_path}:{{sv}}:events") == 2
    client.close()


@pytest.mark.parametrize(
    "setting", [{"appendonly": "no"}, {"appendfsync": "everysec"}, {"maxmemory-policy": "allkeys-lru"}]
)
def test_a_redis_that_may_lose_events_is_refused(tmp_path_factory, setting):
    server = RedisServer(tmp_path_factory.mktemp("r"), **setting)
    try:
        (name,) = setting
        with pytest.raises(errors.StoreError, match=f"expected a server with {name} .*, got {setting[name]}"):
            RedisStore(server.url)
        with RedisStore(server.url, check_durability=False) as store:
            assert store.append("u", ["a"]) > 0
    finally:
        server.kill()


def test_an_append_whose_answer_is_lost_is_not_repeated(redis_server, tmp_path):
    """A relay between client and server hangs up once instead of passing on an answer."""
    path = f"{tmp_path}/relay.sock" if len(str(tmp_path)) < 90 else f"/tmp/relay-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        lost = threading.Event()

        def relay() -> None:
            while True:
                try:
                    near, _ = listener.accept()
                except OSError:
                    return
                with near, socket.socket(socket.AF_UNIX) as far:
                    far.connect(redis_server.url.removeprefix("unix://"))
                    while request := near.recv(1 << 20):
                        far.sendall(request)
                        answer = far.recv(1 << 20)
                        if lost.is_set():
                            lost.clear()
                            break
                        near.sendall(answer)

        threading.Thread(target=relay, daemon=True).start()
        with RedisStore(f"unix://{path}", prefix=f"{tmp_path}:") as store:
            store.append("u", ["a"])
            lost.set()
            with pytest.raises(errors.StoreError):
                store.append("u", ["b"])
            listener.shutdown(socket.SHUT_RDWR)
    os.unlink(path)
    with RedisStore(redis_server.url, prefix=f"{tmp_path}:") as store:
        assert store.read("u").events.items == ["a", "b"], "executed, once, though nobody was told"


def test_redis_that_is_not_there(tmp_path, monkeypatch):
    pytest.importorskip("redis")
    with pytest.raises(errors.StoreError, match="RedisStore"):
        RedisStore(f"unix://{tmp_path}/none.sock")
    for url, message in (("http://x", "url: expected that of a Redis server"), (5, "url: expected a string, got int")):
        with pytest.raises(errors.LsifError, match=message):
            RedisStore(url)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(
        errors.MissingExtraError, match=r"RedisStore the package 'redis' is needed: pip install 'lsif_sdk\[redis\]'"
    ):
        RedisStore()
