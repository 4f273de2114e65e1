"""States packed without their zeros, and unpacked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsif_sdk import Recommender, UserState, errors
from lsif_sdk.integrations import SQLiteStore, Users
from lsif_sdk.integrations.served_state import KeptState, ServedState
from lsif_sdk.packed_zeros import pack, unpack
from recommender_cases import IDS, build

SPANS = st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 300), st.integers(1, 255)), max_size=6)


@settings(max_examples=200, deadline=None)
@given(size=st.integers(0, 3000), spans=SPANS)
def test_what_is_packed_comes_back(size, spans):
    data = np.zeros(size, np.uint8)
    for begin, length, value in spans:
        data[begin : begin + length] = value
    again = unpack(pack(data))
    assert np.array_equal(again, data) and again.flags.writeable
    blocks = -(-size // 64)
    kept = sum(bool(data[64 * block : 64 * block + 64].any()) for block in range(blocks))
    assert len(pack(data)) == 8 + -(-blocks // 8) + 64 * kept


def test_misaligned_and_foreign_memory():
    data = np.arange(1000, dtype=np.uint8)
    assert np.array_equal(unpack(pack(data[3:])), data[3:])
    data.flags.writeable = False
    assert np.array_equal(unpack(pack(data)), data)


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (b"", "with their size, got 0 bytes"),
        (b"1234567", "with their size, got 7 bytes"),
        ((2**64 - 1).to_bytes(8, "little") + bytes(1000), "with their size, got 1008 bytes"),
        ((2**40).to_bytes(8, "little") + bytes(1000), "with their size"),
        ((128).to_bytes(8, "little") + b"\x80" + bytes(63), "1 blocks of 64 bytes, got 63 bytes"),
        ((128).to_bytes(8, "little") + b"\x80" + bytes(128), "1 blocks of 64 bytes, got 128 bytes"),
        (bytes(8) + b"x", "0 blocks of 64 bytes, got 1 bytes"),
    ],
)
def test_other_bytes_are_refused(packed, message):
    with pytest.raises(errors.ArgumentError, match=f"data: expected .*{message}"):
        unpack(packed)


def _of_window_50() -> Recommender:
    return build(dim=64, num_heads=2, window=50, num_layers=2, short_window=10)


def test_states_of_few_events_take_little():
    recommender = _of_window_50()
    state = recommender.new_state(["i1", "i2"])
    whole = recommender.new_state([*IDS, *IDS[:20]])
    assert state.nbytes == whole.nbytes > 60_000
    assert len(state.to_bytes()) < 6_000 and len(whole.to_bytes()) > 0.8 * whole.nbytes
    for original in (state, whole, recommender.new_state([])):
        assert UserState.from_bytes(original.to_bytes()) == original


def test_only_what_packing_halves_is_packed():
    recommender = _of_window_50()
    few, many = (ServedState(recommender.new_state(items), 7, 8, 9) for items in (IDS[:5], IDS))
    kept = few.kept()
    assert isinstance(kept, KeptState) and kept.nbytes < few.nbytes / 4 and many.kept() is many
    again = kept.served()
    assert again.state == few.state and (again.sequence, again.newest_time, again.unsaved) == (7, 8, 9)


def test_users_in_memory_take_what_they_have(tmp_path):
    """A budget for three whole states is enough for forty users with few events."""
    recommender = _of_window_50()
    store = SQLiteStore(tmp_path / "users.db", synchronous="NORMAL")
    with Users(recommender, store, max_bytes=3 * recommender.new_state([]).nbytes) as users:
        for user in range(40):
            users.record(user, ["i1", "i2"])
        assert users.stats()["evictions"] == 0 and users.stats()["users"] == 40
        assert all(users.state(user) == recommender.new_state(["i1", "i2"]) for user in range(40))
        assert users.stats()["misses"] == 40, "once each, when it came first"
    store.close()
