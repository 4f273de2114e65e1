"""UserStates: keeps the most recently used states in memory, within a budget of bytes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from concurrency import run_together
from lsif_sdk import UserState, errors
from lsif_sdk.integrations import UserStates
from lsif_sdk.integrations.served_state import KeptState, ServedState
from recommender_cases import build


def test_the_least_recently_used_state_goes():
    state = build().new_state(["i1"])
    size = state.nbytes + 576
    states: UserStates[UserState] = UserStates(3 * size)
    for user in (1, "1", "b"):
        states.put(user, state)
    assert states.get(1) is state and states.peek("1") is state and states.get("nobody") is None
    states.put("d", state)
    assert states.users() == ["b", 1, "d"] and len(states) == 3
    assert states.stats() == {"hits": 1, "misses": 1, "evictions": 1, "users": 3, "bytes": 3 * size}
    states.put("b", state)
    states.remove(1)
    states.remove(1)
    assert states.users() == ["d", "b"] and states.stats()["bytes"] == 2 * size
    assert repr(states) == f"UserStates(2 users, {2 * size:,} of {3 * size:,} bytes)"
    states.put("large", build().new_state([], remember=100_000))
    assert states.users() == ["d", "b"] and states.stats()["bytes"] == 2 * size, "what is larger than all is not kept"
    with pytest.raises(errors.ArgumentTypeError, match="user: expected"):
        states.get(None)  # type: ignore[arg-type]
    with pytest.raises(errors.ArgumentError, match="max_bytes: expected an integer in"):
        UserStates(-1)


def test_the_budget_covers_what_python_takes():
    """Small states with long ids, as `Users` keeps them: all memory allocated for them is within the budget."""
    recommender = build(num_long=0, num_short=0, window=1)
    state = recommender.new_state(["i1"], remember=1)
    recommender.append(state, ["i2"])
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        # Enough for 1,366 states: the dictionary has just grown.
        states: UserStates[KeptState | ServedState] = UserStates(1_104_000)
        for number in range(2000):
            grown = recommender.append(state, ["i2"])
            states.put(f"{number:036}", ServedState(grown, 10**12 + number, 10**9 + number, 1000 + number).kept())
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert states.stats()["evictions"] == 634
    assert 0.85 * 1_104_000 < taken <= 1_104_000


def test_threads_share_states():
    states: UserStates[UserState] = UserStates(20_000)
    state = build().new_state()

    def work(thread: int) -> None:
        for n in range(300):
            states.put((thread * n) % 17, state)
            states.get(n % 17)
            states.remove(n % 5)

    run_together(6, work)
    stats = states.stats()
    assert stats["hits"] + stats["misses"] == 1800
    assert stats["bytes"] == len(states) * (state.nbytes + 576) <= 20_000


def test_what_has_no_size_is_refused_and_not_kept() -> None:
    state = build().new_state(["i1"])
    states: UserStates[Any] = UserStates(10 * (state.nbytes + 576))
    states.put("a", state)
    for bad in (None, "text", 5):
        with pytest.raises(errors.ArgumentTypeError, match="state: expected a UserState"):
            states.put("a", bad)
    assert states.users() == ["a"] and states.get("a") == state
    assert states.stats()["bytes"] == state.nbytes + 576
