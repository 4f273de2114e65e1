"""User states: append and recommend give the same as the whole history; states that do not fit are refused."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concurrency import run_together
from lsif_sdk import Events, Recommender, UserState, errors
from lsif_sdk.native_model import _SCORING
from recommender_cases import IDS, NUM_ITEMS, build, same

CONFIGS: dict[str, dict[str, Any]] = {
    "hstu": {"num_layers": 2},
    "hstu, request time, actions": {"num_layers": 2, "request_time": True, "num_actions": 3},
    "transformer, multi_interest": {"block": "transformer", "scoring": "multi_interest", "num_layers": 2},
    "repeats": {"repeats": True, "request_time": True},
    "no times, short history only": {"use_times": False, "num_long": 0},
    "encoder alone": {"block": "transformer", "num_long": 0, "num_short": 0},
}
TOLERANCE = 1e-4
"""For scores and vectors, relative to their size; as for `encode` against float64 (tests/encode_cases.py)."""


@pytest.fixture(scope="module", params=CONFIGS)
def recommender(request) -> Recommender:
    return build(**CONFIGS[request.param])


def random_events(recommender: Recommender, count: int, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    items = [IDS[row] for row in rng.integers(NUM_ITEMS, size=count)]
    times = 1_700_000_000 + np.cumsum(rng.integers(0, 3, size=count) * rng.integers(0, 200_000, size=count))
    return Events(items, times, rng.integers(0, recommender.config.num_actions + 1, size=count))


def part(events: Events, begin: int, end: int) -> Events:
    return Events(events.items[begin:end], events.times[begin:end], events.actions[begin:end])


def check_same_answer(recommender: Recommender, state: UserState, events: Events, now: int) -> None:
    """A state and events give the same vectors and the same score of every item."""
    for option in (True, False):
        got = recommender.recommend(state=state, k=NUM_ITEMS, now=now, exclude_seen=option)
        expected = recommender.recommend(events, k=NUM_ITEMS, now=now, exclude_seen=option)
        assert got.counts == expected.counts and got.fallback == expected.fallback
        scores = [dict(zip(out[0].items, out[0].scores, strict=True)) for out in (got, expected)]
        assert scores[0].keys() == scores[1].keys()
        largest = float(max([1.0, *map(abs, scores[1].values())]))
        for item, score in scores[1].items():
            assert scores[0][item] == pytest.approx(score, abs=TOLERANCE * largest)
    vectors = recommender.user_vectors(state=state, now=now), recommender.user_vectors(events, now=now)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=TOLERANCE * (1 + np.abs(vectors[1]).max()))


def test_appending_gives_what_the_whole_history_gives(recommender):
    events = random_events(recommender, 90)
    state = recommender.new_state()
    for count in range(91):
        if count in (0, 1, 2, 5, 6, 20, 90):
            check_same_answer(recommender, state, part(events, 0, count), int(events.times[-1]) + 5000)
        if count < 90:
            state = recommender.append(state, part(events, count, count + 1))
    assert state == recommender.new_state(events)
    assert state.num_events == 90


@pytest.mark.parametrize("one_by_one", [False, True])
def test_five_thousand_events(recommender, one_by_one):
    events = random_events(recommender, 5000, seed=1)
    state = recommender.new_state([] if one_by_one else events, remember=5000)
    for count in range(5000 if one_by_one else 0):
        state = recommender.append(state, part(events, count, count + 1))
    check_same_answer(recommender, state, events, int(events.times[-1]) + 10**6)
    assert state.nbytes == recommender.new_state([], remember=5000).nbytes


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 40), max_size=5), seed=st.integers(0, 99))
def test_it_does_not_matter_how_a_history_is_cut(cuts, seed):
    recommender = build(num_layers=2, request_time=True)
    events = random_events(recommender, 40, seed)
    state, begin = recommender.new_state(), 0
    for end in [*sorted(cuts), 40]:
        state, begin = recommender.append(state, part(events, begin, end)), end
    assert state == recommender.new_state(events)


def test_a_batch_is_its_users(recommender):
    histories = [random_events(recommender, n, seed=n) for n in (0, 1, 7, 30)]
    states = [recommender.new_state(part(history, 0, len(history) // 2)) for history in histories]
    rest = [part(history, len(history) // 2, len(history)) for history in histories]
    grown = recommender.append(states, rest)
    assert grown == [recommender.new_state(history) for history in histories]
    out = recommender.recommend(state=grown, k=5, exclude=["i1"])
    for user, state in enumerate(grown):
        alone = recommender.recommend(state=state, k=5, exclude=["i1"])
        assert out[user].items.tolist() == alone[0].items.tolist()
        assert out[user].scores.tolist() == alone[0].scores.tolist()
    assert out.fallback.tolist() == [True, False, False, False]


def test_append_leaves_the_state_it_was_given_as_it_was(recommender):
    events = random_events(recommender, 12)
    state = recommender.new_state(part(events, 0, 6))
    before = state.to_bytes()
    grown = recommender.append(state, part(events, 6, 12))
    assert state.to_bytes() == before and grown != state
    with pytest.raises(ValueError, match="read-only"):
        state.data[0] = 1


def test_states_travel_as_bytes(recommender):
    state = recommender.new_state(random_events(recommender, 12))
    again = UserState.from_bytes(state.to_bytes())
    assert again == state and hash(again) == hash(state) and len({again, state}) == 1
    assert same(recommender.recommend(state=again, k=5), recommender.recommend(state=state, k=5))
    assert repr(state) == f"UserState(12 events, {state.nbytes:,} bytes)"


def test_what_a_state_tells():
    recommender = build()
    state = recommender.new_state(Events(["i1", "new", "i2"], times=[5, 6, 7]), remember=2)
    assert (state.num_events, state.num_unknown, state.newest_time, state.remember) == (2, 1, 7, 2)
    assert recommender.recommend(state=state).unknown.tolist() == [1]
    empty = recommender.new_state()
    assert (empty.num_events, empty.newest_time) == (0, None)
    assert recommender.new_state(["i1"]).newest_time is None


def test_copies_of_a_state_are_as_immutable(recommender):
    state = recommender.new_state(["i1", "i2"] if not recommender.config.use_times else Events(["i1"], times=[5]))
    for again in (pickle.loads(pickle.dumps(state)), copy.deepcopy(state)):
        assert again == state and not again.data.flags.writeable


def test_joining_counts_unknown_events_of_both():
    recommender = build(window=2, short_window=2)
    older, newer = recommender.new_state(["new", "new"]), recommender.new_state(["i1", "new", "i2", "i3", "i4"])
    assert recommender.join_states(older, newer).num_unknown == 3


def test_only_the_remembered_events_are_left_out():
    recommender = build()
    state = recommender.new_state(["i1", "i2", "i3"], remember=2)
    items = recommender.recommend(state=state, k=NUM_ITEMS)[0].items.tolist()
    assert "i1" in items and not {"i2", "i3"} & set(items)


def test_parts_of_a_long_history_can_be_joined(recommender):
    events = random_events(recommender, 200)
    parts = [recommender.new_state(part(events, *cut)) for cut in ((0, 70), (70, 140), (140, 200))]
    state = recommender.join_states(recommender.join_states(parts[0], parts[1]), parts[2])
    assert state.num_events == 200
    check_same_answer(recommender, state, events, int(events.times[-1]) + 7)
    short = recommender.new_state(part(events, 199, 200))
    with pytest.raises(errors.ArgumentError, match="newer: expected a state of at least"):
        recommender.join_states(parts[0], short)
    if recommender.config.use_times:
        with pytest.raises(errors.ArgumentError, match="times: expected none before the newest event's"):
            recommender.join_states(parts[1], parts[0])
        later = recommender.join_states(parts[1], parts[2])  # begins where the older state begins
        overlapping = recommender.new_state(part(events, 0, 100))
        assert events.times[70] < events.times[99]
        with pytest.raises(errors.ArgumentError, match="times: expected none before the newest event's"):
            recommender.join_states(overlapping, later)


def test_nobody_grows_by_nothing():
    recommender = build()
    assert recommender.append([], []) == [] and len(recommender.recommend(state=[]).items) == 0


def test_what_does_not_fit_is_refused():
    recommender = build(num_actions=2)
    state = recommender.new_state(Events(["i1"], times=[100]))
    cases: list[tuple[Any, str]] = [
        (lambda: recommender.append(state, Events(["i2"], times=[99])), "times: expected none before .* 100, got 99"),
        (
            lambda: recommender.append([state] * 3, [[], Events(["i2"], times=[99]), []]),
            r"history\[1\].times: expected none before .* 100, got 99",
        ),
        (lambda: recommender.append([state] * 2, [[], ["i2"]]), r"history\[1\].times: expected all of a history known"),
        (lambda: recommender.append(state, ["i2"]), "times: expected all of a history known or all unknown"),
        (lambda: recommender.append(state, Events(["i2"], [101], [3])), r"actions: expected values in \[0, 2\]"),
        (lambda: recommender.append(state, [["i2"], ["i3"]]), "history: expected one user's, got those of 2 users"),
        (
            lambda: recommender.append([state, state], ["i2"]),
            "history: expected one for each of 2 states, got those of 1 ",
        ),
        (lambda: recommender.append("state", ["i2"]), "state: expected a UserState or a list of them"),
        (lambda: recommender.new_state(remember=0), r"remember: expected an integer in \[1, 1048576\], got 0"),
        (lambda: recommender.new_state(remember=2.0), "remember: expected an integer"),
        (lambda: recommender.new_state(remember=2**63), "remember: expected an integer in .*, got 922"),
        (lambda: recommender.new_state(remember=np.timedelta64(5, "s")), "remember: expected an integer"),
        (lambda: recommender.recommend(), "history: expected a history, or state="),
        (lambda: recommender.recommend(["i1"], state=state), "history: expected None where a state is given"),
        (lambda: recommender.join_states(b"x", state), "older: expected a UserState, got bytes"),
        (
            lambda: recommender.join_states(state, build(seed=7).new_state(["i1"])),
            "newer: expected a state of",
        ),
        (lambda: recommender.recommend(state=[state, b"x"]), r"state\[1\]: expected a UserState, got bytes"),
    ]
    for call, message in cases:
        with pytest.raises(errors.LsifError, match=message):
            call()


def test_states_of_another_model_are_refused():
    recommender, other = build(), build(num_layers=2)
    state = recommender.new_state(["i1"])
    for call in (lambda: other.append(state, ["i2"]), lambda: other.recommend(state=state)):
        with pytest.raises(errors.ArgumentError, match="state: expected a state of this model"):
            call()
    with pytest.raises(errors.ArgumentError, match="state: expected a state of this model"):
        build(ids=IDS[::-1]).append(state, ["i2"])
    scored_otherwise = build(scoring="multi_interest")
    assert scored_otherwise.append(state, ["i2"]).num_events == 2  # accepted: the encoder is the same


def test_damaged_bytes_are_refused():
    state = build().new_state(["i1", "i2"])
    data = state.to_bytes()
    for place in (9, 60, len(data) // 2, len(data) - 1):
        broken = bytearray(data)
        broken[place] ^= 4
        with pytest.raises(errors.ArgumentError, match="damaged"):
            UserState.from_bytes(broken)
    for odd, message in (
        (b"", "a user state"),
        (data[:100], "a user state|damaged"),
        (data + b"x", "damaged"),
        (b"lsifusr9" + data[8:], "version 2, got another version"),
    ):
        with pytest.raises(errors.ArgumentError, match=message):
            UserState.from_bytes(odd)
    with pytest.raises(errors.ArgumentTypeError, match="data: expected bytes"):
        UserState.from_bytes("text")
    with pytest.raises(errors.ArgumentTypeError, match="from_bytes reads others, got bytes"):
        UserState(b"text")
    for odd in (None, np.float32(3), np.zeros(3), np.zeros((2, 3), np.uint8)):
        with pytest.raises(errors.ArgumentTypeError, match="data: expected bytes as uint8"):
            UserState(odd)  # type: ignore[arg-type]


def test_states_without_numbers_are_refused(recommender):
    """The checksum is valid, but a program wrote NaN: no result contains NaN, wherever it was."""
    data = recommender.new_state(random_events(recommender, 30), remember=4).data
    values = data[136 + 8 * 4 :].view(np.float32).copy()
    values[:] = np.nan
    broken = UserState(np.concatenate([data[: 136 + 8 * 4], values.view(np.uint8)]))
    for call in (recommender.encode, recommender.user_vectors, recommender.recommend):
        with pytest.raises(errors.ArgumentError, match="state: expected one of finite interests, got NaN or infinity"):
            call(state=broken)


def test_native_code_refuses_bytes_it_cannot_use_whatever_they_are():
    """Random bytes with a valid start: no crash, only a refusal or an answer."""
    recommender = build(request_time=True, repeats=True)
    whole = recommender.new_state(random_events(recommender, 20)).data
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        data = whole.copy()
        place = rng.integers(8 + 32, 300)
        data[place : place + 8] = rng.integers(0, 256, size=len(data[place : place + 8]))
        try:
            recommender.recommend(state=UserState(data), k=3)
            recommender.append(UserState(data), Events(["i1"], times=[2**62]))
        except errors.LsifError:
            refused += 1
    assert refused > 50


def test_threads_may_share_a_state(recommender):
    events = random_events(recommender, 50)
    state = recommender.new_state(part(events, 0, 49))
    expected = recommender.append(state, part(events, 49, 50))
    results: list[UserState] = []

    def work(number: int) -> None:
        for _ in range(20):
            results.append(recommender.append(state, part(events, 49, 50)))

    run_together(4, work)
    assert len(results) == 80 and set(results) == {expected}


def test_what_the_fingerprint_is_of() -> None:
    recommender = build()
    shape = {name: value for name, value in recommender.config.to_dict().items() if name not in _SCORING}
    head = json.dumps([shape, recommender.items.ids.tolist()], sort_keys=True).encode()
    expected = hashlib.blake2b(head, digest_size=32)
    for weight in recommender.artifact.encoder_weights:
        expected.update(weight.numpy().data)
    assert recommender.fingerprint == expected.digest()
    assert build(normalize_inputs=True).fingerprint != recommender.fingerprint
