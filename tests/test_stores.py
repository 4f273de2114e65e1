"""History stores: acknowledged events are there, once and in order; foreign files and keys are refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from concurrency import run_together
from lsif_sdk import Events, errors
from lsif_sdk.integrations import HistoryStore, SQLiteStore, StoredEvents
from lsif_sdk.integrations.history_store import StoredState
from lsif_sdk.times import UNKNOWN_TIME


def rows(read: StoredEvents) -> list[tuple[Any, int, int]]:
    events = read.events
    times = [UNKNOWN_TIME] * len(events) if events.times is None else events.times
    actions = [0] * len(events) if events.actions is None else events.actions
    return [(item, int(t), int(a)) for item, t, a in zip(events.items, times, actions, strict=True)]


def test_events_come_back_as_they_were(stores):
    big = 2**63 - 1
    with stores.open() as store:
        assert store.append("u", ["a", "b"]) == store.read("u").newest
        store.append("u", Events(["c"], times=[5], actions=[2]))
        store.append("u", Events(np.array([7, -(2**63), big]), times=[-big, big, 0]))
        store.append("u", Events(["", "with \0, ' and é{}:"], actions=[big, 0]))
        expected = [
            ("a", UNKNOWN_TIME, 0), ("b", UNKNOWN_TIME, 0), ("c", 5, 2), (7, -big, 0), (-(2**63), big, 0), (big, 0, 0),
            ("", UNKNOWN_TIME, big), ("with \0, ' and é{}:", UNKNOWN_TIME, 0),
        ]  # fmt: skip
        assert rows(store.read("u")) == expected
        assert {type(item) for item, _, _ in rows(store.read("u"))} == {str, int}
        assert store.read("u", last=2).events.times is None
    with stores.open() as again:
        assert rows(again.read("u")) == expected


def test_parts_of_a_history(stores):
    with stores.open() as store:
        numbers = [store.append("u", [f"i{n}"]) for n in range(5)]
        store.append("other", ["x"])
        assert numbers == sorted(set(numbers)) and numbers[0] > 0
        for last in range(1, 7):
            read = store.read("u", last=last)
            assert read.events.items == [f"i{n}" for n in range(max(0, 5 - last), 5)]
            assert (read.after, read.newest) == (numbers[4 - last] if last < 5 else 0, numbers[-1])
        for n, number in enumerate(numbers):
            read = store.read("u", since=number)
            assert read.events.items == [f"i{later}" for later in range(n + 1, 5)]
            assert (read.after, read.newest) == (number, numbers[-1])
        assert store.read("u", last=np.int64(2)).events.items == ["i3", "i4"]
        assert store.read("u", since=np.int64(numbers[3])).events.items == ["i4"]
        for odd in (0, numbers[0] - 1 or 2**40, numbers[-1] + 1, 2**63 - 1):
            read = store.read("u", since=odd)
            assert (len(read.events), read.after, read.newest) == (5, 0, numbers[-1])
        for read in (store.read("nobody"), store.read("nobody", last=3), store.read("nobody", since=7)):
            assert (len(read.events), read.after, read.newest) == (0, 0, 0)
        assert store.append("nobody", []) == 0 and store.append("u", []) == numbers[-1]
        many = [f"i{n}" for n in range(20_001)]
        store.append("many", many)
        assert store.read("many").events.items == many


def test_users_are_told_apart(stores):
    users = [1, "1", -1, "", "i1", "s1", "}", "{", "a:b", "user\0", "é"]
    with stores.open() as store, stores.open("others") as others:
        for number, user in enumerate(users):
            store.append(user, [number])
        for number, user in enumerate(users):
            assert store.read(user).events.items == [number]
            assert len(others.read(user).events) == 0
        store.append(np.int64(1), ["more"])
        assert store.read(1).events.items == [0, "more"] and store.read(np.str_("1")).events.items == [1]


def test_states(stores):
    with stores.open() as store:
        assert store.get_state("u") is None and not store.put_state("u", b"early", 1)
        first, second = store.append("u", ["a"]), store.append("u", ["b"])
        for data, sequence in ((b"one", first), (b"\0" * 100_000, second), (b"", first)):
            assert store.put_state("u", data, sequence)
            stored = store.get_state("u")
            assert stored is not None and (stored.data, stored.sequence) == (data, sequence)
        assert not store.put_state("u", b"x", second + 1) and not store.put_state("nobody", b"x", first)
        assert store.get_state("u").data == b""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(({"data": odd}, "^data: expected bytes, got ") for odd in ("text", 5, None, bytearray(b"x"))),
        *(
            ({"sequence": odd}, r"^sequence: expected an integer in \[0, 9223372036854775807\], got ")
            for odd in ("1", 1.0, True, None, -1, 2**70)
        ),
        ({"user": None}, "^user: expected a string or an integer"),
    ],
)
def test_what_is_no_state_is_refused(stores, change, message):
    with stores.open() as store:
        sequence = store.append("u", ["a"])
        store.put_state("u", b"one", sequence)
        with pytest.raises((errors.ArgumentError, errors.ArgumentTypeError), match=message):
            store.put_state(**{"user": "u", "data": b"two", "sequence": sequence, **change})
        assert store.get_state("u").data == b"one"
        assert store.put_state("u", b"two", np.int64(sequence))


def test_a_deleted_user_is_forgotten(stores):
    with stores.open() as store:
        old = store.append("u", ["secret", "b"])
        store.append("v", ["kept"])
        store.put_state("u", b"state", old)
        store.delete("u")
        store.delete("u")
        assert store.get_state("u") is None and store.read("u", since=old).newest == 0
        assert not store.put_state("u", b"of before", old), "a slow writer brings nothing back"
        new = store.append("u", ["c", "d"])  # as many as before the deletion
        assert new != old
        assert not store.put_state("u", b"of before", old)
        read = store.read("u", since=old)
        assert (read.events.items, read.after) == (["c", "d"], 0), "an old number is not taken for a new one"
        assert store.read("v").events.items == ["kept"]


def test_a_deleted_user_leaves_no_bytes_in_the_file(tmp_path):
    with SQLiteStore(tmp_path / "users.db") as store:
        store.append("somebody", [f"secret item {n}" for n in range(500)])
        store.append("v", ["kept"])
        store.put_state("somebody", b"secret state" * 1000, store.read("somebody").newest)
    assert b"secret" in (tmp_path / "users.db").read_bytes()
    with SQLiteStore(tmp_path / "users.db") as store:
        store.delete("somebody")
    data = (tmp_path / "users.db").read_bytes()
    assert b"kept" in data and b"secret" not in data and b"somebody" not in data


EVENT = st.tuples(
    st.one_of(st.text(max_size=5), st.integers(-(2**63), 2**63 - 1)),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**63 - 1),
)
CALL = st.tuples(st.sampled_from(["u", "v"]), st.one_of(st.just("delete"), st.lists(EVENT, max_size=4)))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(CALL, max_size=8), last=st.integers(1, 9))
def test_any_calls_leave_what_a_list_would(stores, calls, last):
    """Compared with plain lists as the oracle."""
    lists: dict[str, list[Any]] = {"u": [], "v": []}
    with stores.open() as store:
        for user in lists:
            store.delete(user)
        for user, call in calls:
            if call == "delete":
                store.delete(user)
                lists[user].clear()
            else:
                items, times, actions = [list(column) for column in zip(*call, strict=True)] or [[], [], []]
                store.append(user, Events(items, np.array(times, np.int64), np.array(actions, np.int64)))
                lists[user] += call
        for user, expected in lists.items():
            assert rows(store.read(user)) == expected
            assert rows(store.read(user, last=last)) == expected[-last:]


def test_threads_lose_nothing(stores):
    """Many threads append to two users: each append is there once, in its thread's order, and not torn apart."""
    with stores.open() as store:

        def work(thread: int) -> None:
            for n in range(20):
                numbers[thread].append(store.append(thread % 2, Events([thread] * 3, times=[n] * 3, actions=[1, 2, 3])))

        numbers: list[list[int]] = [[] for _ in range(8)]
        run_together(8, work)
        check_appends(store, numbers_of={thread: numbers[thread] for thread in range(8)}, count=20)


def check_appends(store: HistoryStore, numbers_of: dict[int, list[int]], count: int) -> None:
    for user in (0, 1):
        stored = rows(store.read(user))
        writers = [writer for writer in numbers_of if writer % 2 == user]
        assert len(stored) == 3 * count * len(writers)
        for writer in writers:
            assert [row for row in stored if row[0] == writer] == [
                (writer, n, part) for n in range(count) for part in (1, 2, 3)
            ]
        for begin in range(0, len(stored), 3):
            assert len({row[:2] for row in stored[begin : begin + 3]}) == 1, "an append was torn apart"
        numbers = [number for writer in writers for number in numbers_of[writer]]
        assert len(set(numbers)) == len(numbers) and max(numbers, default=0) == store.read(user, last=1).newest


WRITER = """
import sys
from lsif_sdk import Events
from lsif_sdk.integrations import RedisStore, SQLiteStore
from lsif_sdk.integrations.history_store import StoredState
kind, where, prefix, writer = sys.argv[1:]
print("ready", flush=True)
input()
with (SQLiteStore(where) if kind == "sqlite" else RedisStore(where, prefix=prefix)) as store:
    for n in range(25):
        print(store.append(int(writer) % 2, Events([int(writer)] * 3, times=[n] * 3, actions=[1, 2, 3])))
"""


def test_processes_share_a_store(stores):
    """Four processes start at once, with a file that does not exist yet."""
    if stores.server is None:
        where = ["sqlite", str(stores.folder / "users.db"), ""]
    else:
        where = ["redis", stores.server.url, f"{stores.folder}:users:"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, *where, str(n)], **pipes) for n in range(4)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    numbers = {n: list(map(int, writer.communicate()[0].split())) for n, writer in enumerate(writers)}
    assert [writer.returncode for writer in writers] == [0] * 4
    with stores.open() as store:
        check_appends(store, numbers, count=25)


def test_what_does_not_fit_is_refused(stores):
    with stores.open() as store:
        cases: list[tuple[Any, str]] = [
            (lambda: store.append(None, ["a"]), "user: expected a string or an integer, got NoneType"),
            (lambda: store.append(True, ["a"]), "user: expected a string or an integer, got bool"),
            (lambda: store.read(2**63), "user: expected an integer that fits int64, got one of 64 bits"),
            (lambda: store.delete("\ud800"), "user: expected a text that UTF-8 can encode"),
            (lambda: store.append("u", [b"a"]), r"history\[0\]: expected a string or an integer, got bytes"),
            (lambda: store.append("u", [2.0]), r"history\[0\]: expected a string or an integer, got float"),
            (lambda: store.append("u", [["a"], ["b"]]), "history: expected events of one user, got 2 histories"),
            (lambda: store.append("u", "abc"), "history: expected Events or a sequence"),
            (lambda: store.read("u", last=0), r"last: expected an integer in \[1, 9223372036854775807\], got 0"),
            (lambda: store.read("u", last=2.0), r"last: expected an integer in \[1, 9223372036854775807\], got float"),
            (lambda: store.read("u", since=-1), r"since: expected an integer in \[0, 9223372036854775807\], got -1"),
            (lambda: store.read("u", since=None), r"since: expected an integer in \[0, \d+\], got NoneType"),
            (lambda: store.read("u", last=1, since=1), "last: expected None where since is given, got 1"),
        ]
        for call, message in cases:
            with pytest.raises(errors.LsifError, match=message):
                call()
        assert len(store.read("u").events) == 0


def test_a_closed_store_is_refused(stores):
    store = stores.open()
    store.append("u", ["a"])
    store.close()
    store.close()
    for call in (lambda: store.append("u", ["a"]), lambda: store.read("u"), lambda: store.get_state("u")):
        with pytest.raises(errors.ClosedError, match="closed"):
            call()


def test_a_stored_state_is_not_printed_whole():
    assert repr(StoredState(bytes(50_000), 7)) == "StoredState(50,000 bytes, sequence 7)"
    assert repr(StoredState(None, 7)) == "StoredState(NoneType, sequence 7)", "another program's"  # type: ignore[arg-type]
