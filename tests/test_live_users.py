"""Users of a live recommender: answers are those of the newest snapshot for all events."""

from __future__ import annotations

import numpy as np

from lsif_sdk import LiveRecommender
from lsif_sdk.integrations import Users
from recommender_cases import build, same


def vectors_of(count: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(count, 12)).astype(np.float32)


def check(users: Users, live: LiveRecommender, store, user: str) -> None:
    events = store.read(user).events
    expected = live.current.new_state(events)
    assert users.state(user) == expected
    assert same(users.recommend(user, 5), live.current.recommend(state=expected, k=5))


def test_states_follow_the_snapshots(stores) -> None:
    live = LiveRecommender(build(), keep=4)
    with stores.open() as store, Users(live, store, save_every=2) as users:
        for user, item in (("a", "i1"), ("a", "i2"), ("b", "new"), ("b", "i3"), ("c", "i9")):
            users.record(user, [item])
        for user in "abc":
            check(users, live, store, user)
        assert users.state("b").num_unknown == 1
        live.hide(["i5"])
        rebuilt = users.stats()["rebuilt"]
        check(users, live, store, "a")
        live.upsert(["new"], vectors_of(1))
        check(users, live, store, "b")  # the event that was left out counts now
        assert users.state("b").num_unknown == 0
        assert users.stats()["rebuilt"] == rebuilt + 1
        users.record("a", ["new"])
        assert "new" not in users.recommend("a", 41).items
        live.rollback()
        assert users.recommend("b").unknown[0] == 0
        assert users.stats()["rebuilt"] == rebuilt + 1
        live.replace(build(seed=7))
        for user in "abc":
            check(users, live, store, user)
        assert users.stats()["refused"] >= 3
    with stores.open() as store, Users(live, store, save_every=2) as users:
        for user in "abc":
            check(users, live, store, user)
