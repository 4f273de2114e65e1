"""Recommender: the forms its arguments may have, and what it refuses."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pytest

from lsif_sdk import Events, Recommender, errors
from recommender_cases import IDS, NUM_ITEMS, build, same


@pytest.fixture(scope="module", params=["fused", "multi_interest"])
def recommender(request) -> Recommender:
    return build(request.param)


def test_a_history_has_many_forms(recommender):
    rows = ["i3", "i9", "i4"]
    expected = recommender.recommend(rows, k=5)
    assert len(expected) == 1
    for history in (tuple(rows), np.array(rows), np.array(rows, object), Events(rows), Events(tuple(rows)), [rows]):
        assert same(recommender.recommend(history, k=5), expected)
    both = recommender.recommend([rows, ["i1", "i2", "i3"]], k=5)
    for histories in (
        np.array([rows, ["i1", "i2", "i3"]]),
        (Events(rows), ["i1", "i2", "i3"]),
        [np.array(rows), ("i1", "i2", "i3")],
    ):
        assert same(recommender.recommend(histories, k=5), both)
    dates = np.array(["2024-01-01T00:00:00", "2024-01-03T12:00:00"], "datetime64[s]")
    timed = recommender.recommend(Events(["i1", "i2"], dates), k=5)
    assert same(recommender.recommend(Events(["i1", "i2"], [1704067200, 1704283200.0]), k=5), timed)
    # Times of one user do not affect another user.
    mixed = recommender.recommend([Events(["i1", "i2"], dates), rows], k=5)
    assert mixed.scores.tolist() == [timed.scores[0].tolist(), expected.scores[0].tolist()]


def test_integer_ids_need_not_be_rows():
    ids = [1000 - 7 * row for row in range(NUM_ITEMS)]
    numbers, texts = build(ids=ids), build()
    out = numbers.recommend([[1000, 993], [5], []], k=NUM_ITEMS)
    expected = texts.recommend([["i0", "i1"], ["?"], []], k=NUM_ITEMS)
    assert out.items.dtype == np.int64
    assert out.scores.tolist() == expected.scores.tolist()
    assert out.unknown.tolist() == [0, 1, 0]
    assert out.counts.tolist() == [NUM_ITEMS - 2, NUM_ITEMS, NUM_ITEMS]
    assert out.items[0, -2:].tolist() == [-1, -1]
    assert out[0].items.tolist() == [ids[IDS.index(item)] for item in expected[0].items]
    assert same(numbers.recommend(np.array([1000, 993]), k=3), numbers.recommend([np.int32(1000), 993], k=3))
    for history in (["1000"], [1.0], [True], [None]):
        with pytest.raises(errors.ArgumentTypeError, match="history: expected integers"):
            numbers.recommend(history)


def test_k_may_be_more_than_there_is(recommender):
    out = recommender.recommend([["i3", "i9", "i3", "?"], []], k=NUM_ITEMS + 10, exclude=["i0", "i3", "i0"])
    assert out.items.shape == out.scores.shape == (2, NUM_ITEMS + 10)
    assert out.counts.tolist() == [NUM_ITEMS - 3, NUM_ITEMS - 2]
    for user, count in enumerate(out.counts):
        assert all(isinstance(item, str) for item in out.items[user, :count])
        assert out.items[user, count:].tolist() == [None] * (NUM_ITEMS + 10 - count)
        assert (out.scores[user, count:] == 0).all()
        assert len(out[user]) == len(list(out[user])) == count
    first = recommender.recommend(["i3", "i9"], k=np.int64(4))
    everything = recommender.recommend(["i3", "i9"], k=NUM_ITEMS)
    assert first[0].items.tolist() == everything[0].items[:4].tolist()


def test_nothing_of_the_callers_is_changed(recommender):
    arrays = {
        "items": np.array(["i1", "?", "i3"]),
        "times": np.array([300, 100, 200]),
        "exclude": np.array(["i5", "i6"]),
        "now": np.array([1000]),
    }
    before = {name: array.copy() for name, array in arrays.items()}
    for array in arrays.values():
        array.flags.writeable = False
    history = Events(arrays["items"], arrays["times"])
    recommender.recommend(history, k=5, exclude=arrays["exclude"], now=arrays["now"])
    recommender.score(history, arrays["exclude"])
    recommender.similar_items(arrays["exclude"])
    recommender.encode(history, now=arrays["now"])
    for name, array in arrays.items():
        assert array.tolist() == before[name].tolist()
    lists: list[Any] = [["i1"], ["i2", "i1"]]
    recommender.recommend(lists, exclude=lists)
    assert lists == [["i1"], ["i2", "i1"]]


def test_request_time_takes_seconds_and_dates():
    recommender = build(request_time=True)
    history = Events(["i1", "i2"], [1_600_000_000, 1_600_086_400])
    later = 1_600_700_000
    vector = recommender.user_vectors(history, now=later)
    date = datetime.datetime.fromtimestamp(later, datetime.UTC)
    elsewhere = date.astimezone(datetime.timezone(datetime.timedelta(hours=9)))
    dates = [date, elsewhere, date.replace(tzinfo=None), np.datetime64(later, "s")]
    for now in (float(later) + 0.5, np.array([later]), [later], *dates, *([one] for one in dates)):
        assert recommender.user_vectors(history, now=now).tolist() == vector.tolist()
    assert recommender.user_vectors(history).tolist() != vector.tolist()
    both = recommender.user_vectors([history, history], now=[later, later + 10**6])
    assert both[0].tolist() == vector[0].tolist()
    assert both[1].tolist() == recommender.user_vectors(history, now=later + 10**6)[0].tolist()
    assert recommender.user_vectors([history, history], now=later).tolist() == [vector[0].tolist()] * 2
    assert recommender.recommend(history, now=later).scores.tolist() != recommender.recommend(history).scores.tolist()
    assert build().user_vectors(history, now=later).tolist() == build().user_vectors(history).tolist()
    for bad, expected in [
        ([1, 2, 3], "now: expected one time"),
        ([], "now: expected one time"),
        (float("nan"), "now: expected finite numbers that fit int64"),
        (np.array([np.inf]), "now: expected finite numbers that fit int64"),
        (2**63, "now: expected numbers that fit int64"),
        ([[later]], "now: expected one dimension"),
        (1000 * later, "now: expected Unix seconds, got what looks like milliseconds: 1600700000000"),
        ([1e6 * later], "now: expected Unix seconds, got what looks like microseconds: 1600700000000000"),
        (10**17, "now: expected Unix seconds before the year 5138, got 100000000000000000"),
        (np.datetime64("NaT"), "now: expected known times"),
        ("today", "now: expected numbers, date, datetime or datetime64, got str"),
        (True, "now: expected numbers, date, datetime or datetime64, got bool"),
        ([True], "now: expected numbers, date, datetime or datetime64, got bool"),
        (None.__class__, "now: expected"),
        ({1: 2}, "now: expected"),
    ]:
        for call in (recommender.user_vectors, recommender.recommend, build().encode):
            with pytest.raises((errors.ArgumentError, errors.ArgumentTypeError), match=expected):
                call(history, now=bad)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda r: r.recommend(["i1"], k=0), errors.ArgumentError, "k: expected an integer .*, got 0"),
        (lambda r: r.recommend(["i1"], k=-1), errors.ArgumentError, "k: expected an integer .*, got -1"),
        (lambda r: r.recommend(["i1"], k=1.5), errors.ArgumentTypeError, "k: expected an integer in .*, got float"),
        (lambda r: r.recommend(["i1"], k=True), errors.ArgumentTypeError, "k: expected an integer in .*, got bool"),
        (lambda r: r.recommend(["i1"], k="3"), errors.ArgumentTypeError, "k: expected an integer in .*, got str"),
        (lambda r: r.recommend(["i1"], k=2**31 - 1), errors.ArgumentError, r"k: expected .*1048576\], got 2147483647"),
        (lambda r: r.recommend(["i1"], k=2**20 + 1), errors.ArgumentError, r"k: expected an integer in \[1, 1048576\]"),
        (lambda r: r.similar_items("i1", k=2**31), errors.ArgumentError, r"k: expected an integer in \[1, 1048576\]"),
        (lambda r: r.similar_items("i1", k=0), errors.ArgumentError, "k: expected an integer .*, got 0"),
        (
            lambda r: r.similar_items("i1", k=None),
            errors.ArgumentTypeError,
            "k: expected an integer in .*, got NoneType",
        ),
        (lambda r: r.similar_items(4), errors.ArgumentTypeError, "items: expected strings"),
        (lambda r: r.similar_items(None), errors.ArgumentTypeError, "items: expected a sequence"),
        (lambda r: r.score(["i1"], [1]), errors.ArgumentTypeError, "candidates: expected strings"),
        (lambda r: r.score(["i1"], "i1"), errors.ArgumentTypeError, "candidates: expected .* got str"),
        (lambda r: r.recommend(None), errors.ArgumentTypeError, "history: expected .* got NoneType"),
        (lambda r: r.recommend([["i1"], None]), errors.ArgumentTypeError, r"history\[1\]: expected .* got NoneType"),
        (lambda r: r.recommend(["i1"], exclude="i1"), errors.ArgumentTypeError, "exclude: expected .* got str"),
        (lambda r: r.recommend([["i1"]] * 2, exclude=[["i1"]]), errors.ArgumentError, "exclude: expected one list of"),
        (lambda r: r.recommend(["i1"], exclude={"i1": 1}), errors.ArgumentTypeError, "exclude: expected .* got dict"),
        (
            lambda r: r.encode_rows([1], None, None, np.array([0, 1])),
            errors.ArgumentTypeError,
            "items: expected a cont",
        ),
        (lambda r: Recommender("model"), errors.ArgumentTypeError, "artifact: expected an Artifact, got str"),
        (lambda r: Recommender(r.artifact, threads=1.0), errors.ArgumentTypeError, "threads: expected an integer"),
        (lambda r: r.recommend([1, 2]), errors.ArgumentTypeError, r"history\[0\]: expected strings"),
        (lambda r: r.recommend("i1"), errors.ArgumentTypeError, "history: expected .* got str"),
        (lambda r: r.recommend({"i1": 1}), errors.ArgumentTypeError, "history: expected .* got dict"),
        (lambda r: r.recommend(iter(["i1"])), errors.ArgumentTypeError, "history: expected"),
        (lambda r: r.recommend(["i1"], exclude=[1]), errors.ArgumentTypeError, "exclude: expected strings"),
        (lambda r: r.recommend(["i1"], exclude=[["i1"], ["i2"]]), errors.ArgumentError, "exclude: expected one list"),
        (lambda r: r.recommend(["i1"], exclude_seen="no"), errors.ArgumentTypeError, "exclude_seen: expected True"),
        (lambda r: r.similar_items("new"), errors.ArgumentError, "items: expected an item of the catalogue"),
        (lambda r: Events(["i1"], [1, 2]), errors.ArgumentError, "times: expected 1 values"),
        (lambda r: Events(["i1"], [float("nan")]), errors.ArgumentError, "times: expected finite numbers"),
        (lambda r: Events(["i1"], np.array(["NaT"], "datetime64[s]")), errors.ArgumentError, "times: expected known"),
        (lambda r: Events("i1"), errors.ArgumentTypeError, "items: expected a sequence"),
        (lambda r: Recommender(r.artifact, threads=0), errors.ArgumentError, "threads: expected an integer .*, got 0"),
        (lambda r: Recommender.load("/x", device="tpu"), errors.ArgumentError, "device: expected 'cpu', 'cuda' or"),
        (lambda r: Recommender.load("/x", device="mps"), errors.ArgumentError, "device: expected 'cpu', 'cuda' or"),
        (lambda r: Recommender.load("/x", device=0), errors.ArgumentTypeError, "device: expected 'cpu', 'cuda' or"),
        (lambda r: Recommender.load("/nowhere/at/all"), errors.ArtifactError, "no such directory"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(recommender, call, kind, message):
    with pytest.raises(kind, match=message):
        call(recommender)


def test_actions_are_used_and_checked():
    recommender = build(num_actions=2)
    plain, one = (recommender.user_vectors(Events(["i1", "i2"], actions=actions)) for actions in (None, [1, 2]))
    assert plain.tolist() != one.tolist()
    assert recommender.user_vectors(Events(["i1", "i2"], actions=[0, 0])).tolist() == plain.tolist()
    with pytest.raises(errors.ArgumentError, match=r"actions: expected values in \[0, 2\], got 3"):
        recommender.user_vectors(Events(["i1", "i2"], actions=[1, 3]))


def test_histories_in_milliseconds_are_refused():
    recommender = build()
    history = Events([IDS[1], IDS[2]], [1_700_000_000_000, 1_700_000_001_000])
    for call in (recommender.recommend, recommender.user_vectors):
        with pytest.raises(errors.ArgumentError, match="times: expected Unix seconds, got what looks like"):
            call(history)
