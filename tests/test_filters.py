"""Filters of every kind, alone and combined: the answer is exactly the best of the items that remain."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsif_sdk import Batching, Events, LiveRecommender, Recommender, errors
from lsif_sdk.attributes import allowed_bitmaps
from recommender_cases import IDS, NUM_ITEMS, build, same

GENRES = [["a"], ["b"], ["a", "b"], []]
COLUMNS: dict[str, Any] = {
    "genre": [GENRES[row % 4] for row in range(NUM_ITEMS)],
    "price": np.arange(NUM_ITEMS) / 2,
}
HISTORIES = [["i3", "i9", "i3"], ["i1"], [], ["i7", "i8", "i30"]]


def reason_of(count: int) -> str:
    items = "item" if count == 1 else "items"
    return f"only {count} {items} of the catalogue are not seen, excluded, filtered out or unavailable"


@pytest.fixture(scope="module", params=[{}, {"scoring": "multi_interest"}, {"repeats": True}], ids=str)
def recommender(request) -> Recommender:
    return Recommender(build(**request.param).artifact, attributes=COLUMNS)


def may(item: str, where: dict[str, Any] | None) -> bool:
    """The conditions, implemented literally."""
    row = IDS.index(item)
    if where is None:
        return True
    genres = where.get("genre")
    wanted = {genres} if isinstance(genres, str) else set(genres or ())
    low, high = where.get("price", (None, None))
    price = row / 2
    return (
        (not wanted or bool(wanted & set(GENRES[row % 4])))
        and (low is None or price >= low)
        and (high is None or price <= high)
    )


conditions = st.one_of(
    st.none(),
    st.fixed_dictionaries({"genre": st.sampled_from(["a", ["a", "b"]])}),
    st.fixed_dictionaries({"price": st.tuples(st.sampled_from([None, 1, 2.2]), st.sampled_from([None, 2.4, 15.5]))}),
    st.just({"genre": "b", "price": (1, 12)}),
)
ids = st.lists(st.sampled_from(IDS), max_size=30)


@settings(max_examples=60, deadline=None)
@given(
    where=st.lists(conditions, min_size=4, max_size=4),
    allow=st.none() | st.lists(ids, min_size=4, max_size=4),
    exclude=st.lists(ids, min_size=4, max_size=4),
    exclude_seen=st.booleans(),
    k=st.integers(1, NUM_ITEMS),
)
def test_the_answer_is_the_best_of_what_is_left(recommender, where, allow, exclude, exclude_seen, k):
    everything = recommender.recommend(HISTORIES, k=NUM_ITEMS, exclude_seen=False)
    out = recommender.recommend(HISTORIES, k=k, where=where, allow=allow, exclude=exclude, exclude_seen=exclude_seen)
    for user, history in enumerate(HISTORIES):
        left = [
            (item, score)
            for item, score in everything[user]
            if may(item, where[user])
            and (allow is None or item in allow[user])
            and item not in exclude[user]
            and not (exclude_seen and item in history)
        ]
        assert list(out[user]) == left[:k]
        assert out.counts[user] == min(k, len(left))
        short = reason_of(len(left))
        assert out[user].reason == ("" if len(left) >= k else short)
    assert np.isfinite(out.scores).all()


def test_more_items_than_there_are():
    plain = build()
    for out, count in (
        (plain.recommend(HISTORIES, k=NUM_ITEMS + 5, exclude_seen=False), NUM_ITEMS),
        (plain.similar_items(["i1", "i2"], k=NUM_ITEMS), NUM_ITEMS - 1),
    ):
        assert all(len(user) == count and user.reason == reason_of(count) for user in out)


def test_filters_for_all_users_and_with_states(recommender):
    history = HISTORIES[3]
    expected = recommender.recommend(history, k=5, where={"genre": "a"}, allow={"i0", "i2", "i4", "i5", "new"})
    assert set(expected[0].items) == {"i0", "i2", "i4"} and expected[0].reason
    state = recommender.new_state(history)
    got = recommender.recommend(state=state, k=5, where={"genre": "a"}, allow=["i0", "i2", "i4", "i5"])
    assert got[0].items.tolist() == expected[0].items.tolist()
    both = recommender.recommend([history, history], k=5, where={"genre": "a"})
    assert both[0].items.tolist() == both[1].items.tolist()
    assert all(may(item, {"genre": "a"}) for item in both[0].items)


def test_filters_survive_batching(recommender):
    together = Recommender(recommender.artifact, attributes=COLUMNS, batching=Batching(max_wait_us=100))
    for where in ({"genre": "a"}, None, {"price": (2, 5)}):
        got, expected = (r.recommend(HISTORIES[0], k=9, where=where) for r in (together, recommender))
        assert list(got[0]) == list(expected[0])


def test_a_fallback_far_down_the_list_is_found():
    recommender = Recommender(build().artifact, attributes={"row": np.arange(NUM_ITEMS)})
    out = recommender.recommend([], k=2, where={"row": [NUM_ITEMS - 1, 1, 30]}, exclude=["i1"])
    assert out[0].items.tolist() == ["i30", f"i{NUM_ITEMS - 1}"] and out.fallback[0]


def test_filters_that_make_no_sense_are_refused(recommender):
    for options, message in (
        ({"where": {"color": "red"}}, "where: expected attributes among"),
        ({"where": [{"genre": "a"}]}, r"where: expected one mapping, or one per user \(2\), got 1"),
        ({"where": "genre"}, "where: expected a mapping"),
        ({"allow": [["i1"]]}, r"allow: expected one list of ids, or one per user \(2\)"),
        ({"allow": [1, 2]}, r"allow\[0\]: expected strings"),
    ):
        with pytest.raises(errors.LsifError, match=message):
            recommender.recommend([["i1"], ["i2"]], **options)
    with pytest.raises(errors.ArgumentError, match=r"where: expected attributes given to load\("):
        build().recommend(["i1"], where={"genre": "a"})
    with pytest.raises(errors.ArgumentError, match=r"attributes\['x'\]: expected 40 entries"):
        Recommender(recommender.artifact, attributes={"x": [1]})


def test_a_large_catalogue_and_few_items_left():
    rng = np.random.default_rng(0)
    from lsif_sdk import Artifact, ItemTable, ModelConfig
    from native import random_weights

    config = ModelConfig(num_items=20_000, dim=16, num_layers=1)
    artifact = Artifact(config, random_weights(config, seed=3), ItemTable(np.arange(20_000)))
    group = rng.integers(0, 500, size=20_000)
    recommender = Recommender(artifact, attributes={"group": group})
    everything = recommender.recommend([5, 6], k=20_000)[0]
    for wanted in range(0, 500, 83):
        out = recommender.recommend([5, 6], k=10, where={"group": wanted})[0]
        expected = [item for item in everything.items.tolist() if group[item] == wanted][:10]
        assert out.items.tolist() == expected


def test_each_user_may_have_a_set_or_none(recommender):
    def ask(**options):
        return recommender.recommend([["i1"], ["i2"]], k=NUM_ITEMS, **options)

    for name in ("exclude", "allow"):
        listed = ask(**{name: [["i5", "i7"], ["i6"]]})
        for lists in ([{"i5", "i7"}, {"i6"}], ({"i5", "i7"}, ["i6"]), [frozenset({"i5", "i7"}), np.array(["i6"])]):
            assert same(ask(**{name: lists}), listed)
    assert same(ask(exclude=[{"i5"}, None]), ask(exclude=[["i5"], []]))
    assert same(ask(exclude=[None, None]), ask())
    assert same(ask(allow=[{"i5"}, None]), ask(allow=[["i5"], IDS]))
    assert same(ask(allow=[None, None]), ask())
    assert same(ask(allow=[None, []], where={"genre": "a"}), ask(allow=[IDS, []], where={"genre": "a"}))
    alone = recommender.recommend(["i1"], k=5, exclude=[{"i5"}], allow=[None])
    assert same(alone, recommender.recommend(["i1"], k=5, exclude=["i5"]))
    events = Events(["i5"], [7])
    assert same(recommender.recommend(["i1"], allow=events), recommender.recommend(["i1"], allow=["i5"]))
    for name in ("exclude", "allow"):
        with pytest.raises(errors.ArgumentError, match=rf"{name}: expected one list of ids, or one per user \(2\)"):
            ask(**{name: [{"i5"}]})
        for odd in (["i5", None], ["i5", {"i6"}]):
            with pytest.raises(errors.ArgumentTypeError, match=rf"^{name}\[1\]: expected strings"):
                ask(**{name: odd})


def test_a_column_of_lists_is_one_list_a_user(recommender):
    histories, lists = [["i1"], ["i2"]], [["i5", "i6"], ["i7"]]
    arrays = np.empty(2, object)
    arrays[:] = [np.array(ids) for ids in lists]
    for name in ("exclude", "allow"):
        expected = recommender.recommend(histories, k=9, **{name: lists})
        for column in (pd.Series(lists), np.array(lists, object), arrays):
            assert same(recommender.recommend(histories, k=9, **{name: column}), expected)
            with pytest.raises(errors.ArgumentError, match=rf"{name}: expected one list of ids, or one per user \(3\)"):
                recommender.recommend([*histories, []], **{name: column})
        for_all = recommender.recommend(histories, k=9, **{name: lists[0]})
        assert same(recommender.recommend(histories, k=9, **{name: pd.Series(lists[0])}), for_all)


class ListColumn:
    """A column of lists like Arrow's and polars': NumPy sees objects, but the column's own dtype says lists."""

    dtype = "list[str]"

    def __init__(self, lists: list[list[str]]) -> None:
        self.lists = lists

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        array = np.empty(len(self.lists), object)
        for place, entry in enumerate(self.lists):
            array[place] = np.array(entry, object)
        return array


@settings(max_examples=40, deadline=None)
@given(
    lists=st.lists(st.lists(st.sampled_from(IDS), max_size=4), min_size=2, max_size=2),
    kind=st.sampled_from([ListColumn, pd.Series]),
)
def test_columns_of_lists_are_one_a_user(lists, kind):
    recommender = build()
    histories = [["i3", "i9"], ["i1"]]
    for name in ("exclude", "allow"):
        expected = recommender.recommend(histories, k=3, **{name: lists})
        assert same(recommender.recommend(kind(histories), k=3, **{name: kind(lists)}), expected)


def test_columns_of_lists_for_other_users_are_refused():
    recommender = build()
    histories = pd.Series([["i3"], ["i4"]], index=["anna", "ben"])
    lists = pd.Series([["i7"], ["i8"]], index=["ben", "anna"])
    for name in ("exclude", "allow"):
        with pytest.raises(errors.ArgumentError, match=f"^{name}: .* an index that begins with 'ben'$"):
            recommender.recommend(histories, k=3, **{name: lists})
        ordered = recommender.recommend(histories, k=3, **{name: lists.reindex(histories.index)})
        assert same(ordered, recommender.recommend(histories, k=3, **{name: [["i8"], ["i7"]]}))
        as_they_come = recommender.recommend(histories.to_list(), k=3, **{name: lists})
        assert same(as_they_come, recommender.recommend(histories, k=3, **{name: [["i7"], ["i8"]]}))


def test_times_and_candidates_for_other_users_are_refused():
    recommender = build()
    histories = pd.Series([["i3"], ["i4"]], index=["anna", "ben"])
    times = pd.Series([200, 100], index=["ben", "anna"])
    candidates = pd.Series([["i7"], ["i8"]], index=times.index)
    for ask in (recommender.recommend, recommender.encode, partial(recommender.score, candidates=["i7"])):
        with pytest.raises(errors.ArgumentError, match=r"^now: .* an index that begins with 'ben'$"):
            ask(histories, now=times)
        ask(histories, now=times.reindex(histories.index))
        ask(histories.to_list(), now=times)
    with pytest.raises(errors.ArgumentError, match=r"^candidates: .* an index that begins with 'ben'$"):
        recommender.score(histories, candidates)
    scores = recommender.score(histories, candidates.reindex(histories.index))
    assert np.array_equal(scores, recommender.score(histories.to_list(), [["i8"], ["i7"]]))


def test_columns_that_are_for_all_users_may_be_of_any_length_and_index():
    recommender = build()
    frame = pd.DataFrame({"item": ["i3", "i9", "i1"]}, index=[7, 8, 9])
    listed = pd.Series(["i7", "i8", "i30"])
    for name in ("exclude", "allow"):
        expected = recommender.recommend(frame.item.tolist(), k=3, **{name: listed.tolist()})
        assert same(recommender.recommend(frame.item, k=3, **{name: listed}), expected)
        histories = pd.Series([["i3"], ["i9"], ["i1"]], index=["a", np.nan, "b"])
        expected = recommender.recommend(histories.tolist(), k=3, **{name: listed.tolist()})
        assert same(recommender.recommend(histories, k=3, **{name: listed}), expected)
        own = pd.Series([["i7"], ["i8"], None], index=histories.index)
        expected = recommender.recommend(histories.tolist(), k=3, **{name: own.tolist()})
        assert same(recommender.recommend(histories, k=3, **{name: own}), expected)


def test_users_of_one_filter_share_its_bitmap():
    live = LiveRecommender(Recommender(build().artifact, attributes=COLUMNS))
    live.hide(["i5"])
    now, wanted = live.current, [{"genre": "a"}, {"genre": "b"}, {"genre": "a"}]
    for allow in (None, ["i1", "i2", "i3"]):
        found = allowed_bitmaps(allow, wanted, now._attributes, now.items, 3, 1e9)
        assert found is not None and found[0] is found[2] is not found[1]
