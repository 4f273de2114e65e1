"""kill -9 at random moments: no acknowledged event is lost, doubled or torn, and no wrong state is served.

LSIF_KILLS is how often each victim is killed (5 by default; 100 takes some minutes). Data written by a killed process
stays in the operating system's memory, so this does not test power failures, against which stores sync.
"""

from __future__ import annotations

import collections
import multiprocessing
import os
import random
import select
import signal
import struct
import time
from typing import Any

import pytest

from lsif_sdk import Events, Recommender, errors
from lsif_sdk.integrations import HistoryStore, Users
from recommender_cases import IDS, build
from store_cases import RedisServer, Stores

KILLS = int(os.environ.get("LSIF_KILLS", "5"))
USERS = 3
Acknowledged = collections.Counter[int]  # number of acknowledged events of each user
_ACKNOWLEDGED = struct.Struct("<qq")  # user, number of events acknowledged so far


@pytest.mark.parametrize("victim", ["SQLite's process", "Redis' client", "Redis' server"])
def test_kills(victim, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kill")
    server = None if victim == "SQLite's process" else RedisServer(folder)
    stores, recommender = Stores(folder, server), build(num_layers=2)
    acknowledged: Acknowledged = collections.Counter()
    rng = random.Random(victim)
    saved = 0
    try:
        for kill in range(KILLS):
            begun = dict(acknowledged)
            run_until_killed(stores, recommender, acknowledged, rng, kill_server=victim == "Redis' server")
            with stores.open() as store:
                check_users(store, recommender, acknowledged)
                saved += sum(store.get_state(user) is not None for user in range(USERS))
            print(f"{victim} {kill + 1}: {sum(acknowledged.values()) - sum(begun.values())} events more")
    finally:
        if server is not None:
            server.kill()
    assert sum(acknowledged.values()) > 5 * KILLS and saved > 0, "something was written between the kills"


def run_until_killed(
    stores: Stores,
    recommender: Recommender,
    acknowledged: Acknowledged,
    rng: random.Random,
    kill_server: bool,
) -> None:
    """Starts a child that records, kills it or its server, and counts the events acknowledged to the child."""
    reader, writer = os.pipe()
    child = multiprocessing.get_context("fork").Process(
        target=record, args=(stores, recommender, dict(acknowledged), rng.random(), writer)
    )
    child.start()
    os.close(writer)
    select.select([reader], [], [], 60)
    time.sleep(rng.expovariate(1 / 0.03))  # after the first answer: at any moment of an append or a state's save
    if kill_server:
        assert stores.server is not None
        stores.server.kill()
    else:
        os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode == (0 if kill_server else -signal.SIGKILL)
    with os.fdopen(reader, "rb") as answers:
        for user, count in _ACKNOWLEDGED.iter_unpack(answers.read()):
            acknowledged[user] = count
    if kill_server:
        stores.server.start()


def record(stores: Stores, recommender: Recommender, counts: dict[int, int], seed: float, answers: int) -> None:
    """Records numbered events, 1 to 4 at a time, until this process or its server is killed."""
    rng = random.Random(seed)
    try:
        with stores.open() as store, Users(recommender, store, save_every=3) as users:
            while True:
                user, count = rng.randrange(USERS), rng.randint(1, 4)
                begin = counts.get(user, 0)
                users.record(user, numbered(begin, begin + count))
                counts[user] = begin + count
                os.write(answers, _ACKNOWLEDGED.pack(user, begin + count))
    except errors.StoreError:
        os._exit(0)


def numbered(begin: int, end: int) -> Events:
    """Each event has its number as time, and how many are recorded together as action."""
    numbers = range(begin, end)
    return Events([IDS[n % len(IDS)] for n in numbers], list(numbers), [end - begin] * (end - begin))


def check_users(store: HistoryStore, recommender: Recommender, acknowledged: Acknowledged) -> None:
    users = Users(recommender, store)
    for user in range(USERS):
        events: Any = store.read(user).events
        count = len(events)
        assert count >= acknowledged[user], "an acknowledged event is lost"
        assert count <= acknowledged[user] + 4, "more than the one call that was in flight"
        if count > acknowledged[user]:
            assert int(events.actions[-1]) == count - acknowledged[user], "an append was torn"
        assert list(events.items) == [IDS[n % len(IDS)] for n in range(count)]
        assert events.times is None or events.times.tolist() == list(range(count))
        assert users.state(user) == recommender.new_state(events)
        acknowledged[user] = count
    assert users.stats()["refused"] == 0, "a state was torn"
