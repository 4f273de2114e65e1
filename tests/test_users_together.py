"""Users: several threads, processes and forked children with one store."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import threading
from typing import Any

from concurrency import run_in_forked_child, run_together
from lsif_sdk import Events, UserState
from lsif_sdk.integrations import SQLiteStore, Users
from lsif_sdk.integrations.history_store import StoredEvents
from recommender_cases import IDS, build, same
from test_users import check_user


def test_threads_hammer_one_user(stores):
    """Threads record, ask and flush: nothing is lost, and every state is that of the user's first so many events."""
    recommender = build()
    with stores.open() as store, Users(recommender, store, save_every=3, max_bytes=40_000) as users:

        def work(thread: int) -> None:
            last = 0
            for n in range(30):
                if thread < 4:
                    users.record("u", Events([IDS[thread], IDS[n]], times=[100, 100]))
                elif thread < 7:
                    state = users.state("u")
                    assert state.num_events >= last and state.num_events % 2 == 0
                    last = state.num_events
                    seen.append(state)
                else:
                    users.flush()
                    users.recommend(f"other {n}")
                    users.record(f"other {n}", ["i1"])

        seen: list[UserState] = []
        run_together(8, work)
        events = store.read("u").events
        assert len(events) == 2 * 4 * 30
        for thread in range(4):
            own = [n for t, n in zip(events.items[::2], events.items[1::2], strict=True) if t == IDS[thread]]
            assert own == IDS[:30]
        check_user(users, recommender, store, "u")
        for state in seen[::10]:
            count = state.num_events
            assert state == recommender.new_state(Events(events.items[:count], events.times[:count]))
        assert users.stats()["evictions"] > 0 and users.stats()["bytes"] <= 40_000


RECORDER = """
import sys
sys.path.insert(0, sys.argv[1])
from lsif_sdk import Events
from lsif_sdk.integrations import SQLiteStore, Users
from recommender_cases import build
with SQLiteStore(sys.argv[2]) as store, Users(build(), store, save_every=3) as users:
    for n in range(30):
        users.record("u", Events([f"i{n}"], times=[n]))
        assert f"i{n}" in set(store.read("u").events.items) and users.state("u").num_events >= n + 1
"""


def test_processes_record_the_same_user(tmp_path):
    path = str(tmp_path / "users.db")
    tests = str(pathlib.Path(__file__).parent)
    command = [sys.executable, "-c", RECORDER, tests, path]
    recorders = [subprocess.Popen(command) for _ in range(3)]
    assert [recorder.wait() for recorder in recorders] == [0, 0, 0]
    recommender = build()
    with SQLiteStore(path) as store, Users(recommender, store) as users:
        assert check_user(users, recommender, store, "u").num_events == 90


def test_a_forked_child_asks_although_the_parent_was_asking() -> None:
    """Threads of the parent hold the locks of the user and of the states when it forks."""
    recommender = build()
    asked, answers = threading.Event(), threading.Event()

    class Store:
        def append(self, *args: Any) -> int:
            return 2

        def read(self, user: Any, *, last: int | None = None, since: int = 0) -> StoredEvents:
            asked.set()
            answers.wait(60)
            return StoredEvents(Events([] if since else ["i1", "i2"]), since, 2)

        def get_state(self, user: Any) -> None:
            return None

        def put_state(self, *args: Any) -> bool:
            return False

        def delete(self, user: Any) -> None: ...

    store: Any = Store()
    users = Users(recommender, store)
    threads = [
        threading.Thread(target=users.recommend, args=("u",), kwargs=options) for options in ({}, {"budget_ms": 60_000})
    ]

    def ask() -> None:
        answers.set()
        expected = recommender.recommend(state=recommender.new_state(["i1", "i2"]), k=5)
        for options in ({}, {"budget_ms": 60_000}):
            assert same(users.recommend("u", 5, **options), expected)

    for thread in threads:
        thread.start()
        asked.wait(60)
    with users._states._lock:
        run_in_forked_child(ask, seconds=30)
    answers.set()
    for thread in threads:
        thread.join()
