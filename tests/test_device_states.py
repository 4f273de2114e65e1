"""`DeviceStates`: states on a device get the same recommendations as native states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import encode_cases
from concurrency import run_together
from device_cases import DEVICES, assert_same, on_device, pair, prepare
from lsif_sdk import DeviceStates, Events, LiveRecommender
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from native import relative_error
from recommender_cases import build
from test_device_path import NOW, SHAPES, histories

pytestmark = pytest.mark.parametrize("device", DEVICES)

REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "seen may come": {"exclude_seen": False},
    "excluded and allowed": {"exclude": ["i1", "i5"], "allow": [f"i{row}" for row in range(0, 40, 3)]},
    "a share": {"interest": 0.3},
    "diverse": {"diversity": 0.5, "k": 5},
    "at a time": {"now": NOW + 3600},
    "in no time": {"budget_ms": 0},
}


@pytest.fixture(autouse=True)
def stand_in(device, monkeypatch):
    return prepare(device, monkeypatch)


def split(events: Events, at: int) -> tuple[Events, Events]:
    parts = slice(None, at), slice(at, None)
    columns = events.items, events.times, events.actions
    first, second = ([None if column is None else column[part] for column in columns] for part in parts)
    return Events(*first), Events(*second)


def grown(native: Any, device_rec: Any, users: list[Events], remember: int = 1000) -> tuple[Any, Any, Any]:
    """Native states, states on the device, and their slots; all built in two steps."""
    halves = [split(user, len(user.items) // 2) for user in users]
    first, second = ([half[part] for half in halves] for part in (0, 1))
    natives = native.append([native.new_state(user, remember=remember) for user in first], second)
    states = DeviceStates(device_rec, 50, remember=remember)
    slots = np.random.default_rng(1).permutation(50)[: len(users)]
    states.append(slots, first)
    shuffled = np.random.default_rng(2).permutation(len(users))
    states.append(slots[shuffled], [second[user] for user in shuffled])
    return natives, states, slots


@pytest.mark.parametrize("shape", SHAPES)
def test_answers_are_those_of_native_states(device, shape):
    fields = SHAPES[shape]
    native, device_rec = pair(device, **fields)
    natives, states, slots = grown(native, device_rec, histories(timed=native.config.use_times))
    for name, options in REQUESTS.items():
        if name == "a share" and native.config.num_long == 0:
            continue
        expected = native.recommend(state=natives, **options)
        more = native.recommend(state=natives, **{**options, "k": 40})
        assert_same(device, expected, device_rec.recommend(state=states[slots], **options), more)
    expected, actual = native.encode(state=natives, now=NOW), device_rec.encode(state=states[slots], now=NOW)
    for name in ("fused", "interests", "weights"):
        error = relative_error(getattr(actual, name), getattr(expected, name).astype(np.float64))
        assert error <= (0 if device == "cpu" else 2 * encode_cases.TOLERANCE)
    candidates = [f"i{row}" for row in (3, 0, 3, 39)]
    expected, actual = (
        rec.score(state=state, candidates=candidates, now=NOW)
        for rec, state in ((native, natives), (device_rec, states[slots]))
    )
    assert relative_error(actual, expected.astype(np.float64)) <= (0 if device == "cpu" else 1e-4)
    np.testing.assert_array_equal(states[slots].num_events, [state.num_events for state in natives])


@pytest.mark.parametrize("remember", [1, 4])
@pytest.mark.parametrize("shape", ["fused", "repeats"])
def test_only_so_many_events_are_remembered(device, shape, remember):
    native, device_rec = pair(device, **SHAPES[shape])
    users = histories(seed=3, timed=native.config.use_times)
    natives, states, slots = grown(native, device_rec, users, remember)
    for options in ({"k": 40}, {"k": 40, "exclude_seen": False}):
        assert_same(
            device, native.recommend(state=natives, **options), device_rec.recommend(state=states[slots], **options)
        )


def test_one_user_and_none(device):
    native, device_rec = pair(device)
    states = DeviceStates(device_rec, 4)
    states.append(2, ["i3", "nowhere", "i5"])
    expected = native.recommend(state=native.new_state(["i3", "nowhere", "i5"]))
    assert_same(device, expected, device_rec.recommend(state=states[2]))
    empty = device_rec.recommend(state=states[[0, 1]])
    assert empty.fallback.all() and (empty.counts == 10).all()
    assert len(device_rec.recommend(state=states[[]]).items) == 0
    twice = device_rec.recommend(state=states[[2, 0, 2]])
    np.testing.assert_array_equal(twice.items[0], twice.items[2])
    states.append([0, 1], [[], ["nowhere"]])
    assert states[[0, 1, 2]].num_events.tolist() == [0, 0, 2]
    assert states[[0, 1, 2]].num_unknown.tolist() == [0, 1, 1]
    states.clear([2])
    assert states[2].num_events == 0 and device_rec.recommend(state=states[2]).fallback.all()
    states.append(2, ["i3", "nowhere", "i5"])
    assert_same(device, expected, device_rec.recommend(state=states[2]))
    assert len(states) == states.capacity == 4 and states.nbytes % 4 == 0
    assert repr(states).startswith("DeviceStates(4 slots, ")


def test_times_are_refused_as_native_states_refuse_them(device):
    _, device_rec = pair(device, request_time=True)
    states = DeviceStates(device_rec, 4)
    states.append([0, 1], [Events(["i1"], times=[NOW]), ["i1"]])
    before = device_rec.encode(state=states[[0, 1]])
    for slot, events, message in (
        (0, Events(["i2", "i3"], times=[NOW - 5, NOW + 1]), f"times: expected none before the newest event's, {NOW}, "),
        (0, ["i2"], "times: expected all of a history known or all unknown, got some of each: clear slot 0"),
        (1, Events(["i2"], times=[NOW]), "times: expected all of a history known or all unknown, got some of each"),
    ):
        with pytest.raises(ArgumentError, match="^" + message):
            states.append([2, slot], [["i1"], events])
    assert states[[0, 1, 2]].num_events.tolist() == [1, 1, 0]
    np.testing.assert_array_equal(device_rec.encode(state=states[[0, 1]]).fused, before.fused)
    states.append(0, Events(["i2"], times=[NOW]))
    without = DeviceStates(pair(device, use_times=False)[1], 1)
    without.append(0, Events(["i1", "i2"], times=[NOW, NOW + 9]))
    without.append(0, Events(["i3"], times=[NOW - 9]))


def test_arguments_are_checked_by_name(device):
    native, device_rec = pair(device)
    states = DeviceStates(device_rec, 4)
    for slots, message in (
        ([0, 4], r"slots: expected values in \[0, 3\], got 4"),
        (-1, r"slots: expected values in \[0, 3\], got -1"),
        ([1, 2, 1], "slots: expected each slot once, got 1 several times"),
        ([0.5], "slots: expected whole numbers, got 0.5"),
    ):
        with pytest.raises(ArgumentError, match="^" + message):
            states.append(slots, ["i1"])
        with pytest.raises(ArgumentError, match="^" + message):
            states.clear(slots)
    with pytest.raises(ArgumentTypeError, match=r"^slots: expected"):
        states["i1"]
    with pytest.raises(ArgumentError, match=r"^history: expected one for each of 2 slots, got 1$"):
        states.append([0, 1], ["i1"])
    for options, message in (
        ({"capacity": -1}, "capacity: expected an integer in"),
        ({"capacity": 2**31 - 1}, "capacity: expected no more than fits the memory of"),
        ({"capacity": 1, "remember": 0}, "remember: expected an integer in"),
    ):
        if "fits" in message and device != "cuda":
            continue
        with pytest.raises(ArgumentError, match="^" + message):
            DeviceStates(device_rec, **options)
    for odd in (None, 5, LiveRecommender(device_rec), device_rec.catalog):
        with pytest.raises(
            ArgumentTypeError, match=rf"^recommender: expected a Recommender .*, got {type(odd).__name__}"
        ):
            DeviceStates(odd, 5)
    with pytest.raises(ArgumentError, match=r"^recommender: expected one on a GPU, got one with device='cpu'$"):
        DeviceStates(native, 4)
    with pytest.raises(ArgumentError, match=r"^state: expected a state of this model"):
        on_device(build(seed=9), device).recommend(state=states[0])
    with pytest.raises(ArgumentError, match=r"^history: expected None where a state is given"):
        device_rec.recommend(["i1"], state=states[0])


def test_what_does_not_fit_the_hosts_memory_names_remember(device, monkeypatch):
    def zeros(*_: object) -> None:
        raise MemoryError

    _, device_rec = pair(device)
    monkeypatch.setattr(np, "zeros", zeros)
    with pytest.raises(ArgumentError, match=r"^remember: expected no more than fits the host's memory, got 9 for each"):
        DeviceStates(device_rec, 4, remember=9)


def test_states_in_bfloat16_are_refused(device):
    if device == "cpu":
        pytest.skip("the CPU's states take every model")
    with pytest.raises(ArgumentError, match=r"^encoder: expected a model in float32 whose user states fit a GPU"):
        DeviceStates(on_device(build(), device, precision="bfloat16"), 4)


def test_later_snapshots_answer_for_them(device):
    native, device_rec = pair(device)
    states = DeviceStates(device_rec, 4)
    states.append([1, 3], [["i1", "i2"], ["i5"]])
    natives = [native.new_state(user) for user in (["i1", "i2"], ["i5"])]
    live, expected = LiveRecommender(device_rec), LiveRecommender(native)
    for step in range(2):
        for one in (live, expected):
            one.hide(["i7"]) if step == 0 else one.upsert(["new"], np.ones((1, 12), np.float32))
        assert live.current._path is not device_rec._path or step == 0
        answer = live.current.recommend(state=states[[1, 3]], k=41)
        assert_same(device, expected.current.recommend(state=natives, k=41), answer)
    states.append(1, ["new"])
    assert states[1].num_unknown == 1


def test_threads_share_them(device):
    native, device_rec = pair(device)
    states = DeviceStates(device_rec, 40)
    users = histories(seed=5)

    def serve(thread: int) -> None:
        for user in range(thread, 20, 4):
            for item in users[user].items:
                states.append(user, [item])
                device_rec.recommend(state=states[[user, 0]], k=3)

    run_together(4, serve)
    natives = [native.new_state(user) for user in users]
    assert_same(device, native.recommend(state=natives), device_rec.recommend(state=states[np.arange(20)]))
