"""Users of a live recommender: answers equal the newest snapshot's for all events."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pandas as pd
import pytest

from lsif_sdk import Events, LiveRecommender, Recommender, UserState
from lsif_sdk.integrations import SQLiteStore, Users
from recommender_cases import NUM_ITEMS, build, same


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
        check(users, live, store, "b")  # the event of the formerly unknown item counts now
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


def test_a_model_replaced_in_the_middle_of_a_request(stores, monkeypatch) -> None:
    # User ids are integers, whose hashes are fixed, because users with one hash share a lock.
    live, knows, replaced = LiveRecommender(build()), Recommender.knows, []
    with stores.open() as store, Users(live, store) as users:

        def knows_and_then(snapshot: Recommender, state: UserState) -> bool:
            answer = knows(snapshot, state)
            if not replaced:
                replaced.append(live.replace(build(seed=7)))
                other = threading.Thread(target=users.recommend, args=(1,))
                other.start()
                other.join()
            return answer

        monkeypatch.setattr(Recommender, "knows", knows_and_then)
        before = live.current
        assert same(users.recommend(2, 5), before.recommend([], 5)) and len(replaced) == 1
        assert same(users.recommend(2, 5), live.current.recommend([], 5))


def test_each_model_reads_the_ids_of_its_kind(stores) -> None:
    texts, numbers = build(), build(ids=list(range(NUM_ITEMS)), seed=3)
    live = LiveRecommender(texts)
    with stores.open() as store, Users(live, store, save_every=2) as users:
        users.record("anna", Events(["i1", "i2", "i3"], [10, 20, 30]))
        live.replace(numbers)
        assert same(users.recommend("anna", 5, budget_ms=60_000), live.current.recommend([], 5))
        users.record("anna", Events([7, 9], [15, 40], [0, 0]))
        state = live.current.new_state(Events([7, 9], [15, 40]))
        assert users.state("anna") == state
        assert same(users.recommend("anna", 5), live.current.recommend(state=state, k=5))
        live.rollback()
        users.record("anna", Events(["i4"], [50]))
        state = live.current.new_state(Events(["i1", "i2", "i3", "i4"], [10, 20, 30, 50]))
        assert same(users.recommend("anna", 5), live.current.recommend(state=state, k=5))
        assert list(store.read("anna").events.items) == ["i1", "i2", "i3", 7, 9, "i4"]
    with stores.open() as store, Users(live, store) as users:
        assert same(users.recommend("anna", 5), live.current.recommend(state=state, k=5))
        users.record("anna", Events(["i5"]))  # only some times are known, so the answer is from the events
        assert users.recommend("anna", 5).unknown[0] == 0


class ReadsArrays(SQLiteStore):
    """Like a store of somebody else: it returns ids as arrays and NumPy scalars."""

    def __init__(self, path, kind):
        super().__init__(path)
        self.kind = kind

    def read(self, user, **options):
        found = super().read(user, **options)
        ids = list(found.events.items)
        return dataclasses.replace(found, events=Events(self.kind(ids))) if ids else found


KINDS = [np.array, lambda ids: list(np.array(ids)), lambda ids: [*np.array(ids[:1]), *ids[1:]], pd.Series]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ids", [["i1", "i2"], [7, 9]])
def test_stores_of_others_may_read_arrays_and_numpy_values(kind, ids, tmp_path) -> None:
    recommender = build() if ids[0] == "i1" else build(ids=list(range(NUM_ITEMS)))
    with ReadsArrays(tmp_path / "users.db", kind) as store, Users(recommender, store) as users:
        users.record("anna", ids)
        assert users.state("anna") == recommender.new_state(ids)
