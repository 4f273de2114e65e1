"""What a `LiveRecommender` refuses, and that a refusal changes nothing."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import numpy as np
import pytest
import torch

from live_cases import DIM, HISTORY, live_of, vectors_of
from lsif_sdk import LiveRecommender, Recommender, errors
from recommender_cases import IDS, NUM_ITEMS, build


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ["a", "a"]}, "ids: expected each id once, got 'a' more often"),
        ({"ids": [1, 2]}, r"ids\[0\]: expected strings"),
        ({"ids": "ab"}, "ids: expected a sequence of item ids"),
        ({"vectors": [[np.nan] * DIM] * 2}, "vectors: expected finite"),
        ({"vectors": np.zeros((2, DIM + 1))}, r"vectors: expected shape \[2, 16\], got \[2, 17\]"),
        (
            {"vectors": [[0.0] * DIM, [-2e12] * DIM]},
            r"vectors: expected values within \+-1e\+12, got -2e\+12 of 'b'",
        ),
        ({"bias": [3e38, 0.0]}, r"bias: expected values within \+-1e\+12, got [23]\.?\d*e\+38 of 'a'"),
        ({"bias": [1.0]}, "bias: expected 2 entries, one per item, got 1"),
        ({"bias": [1.0, np.inf]}, "bias: expected finite"),
        ({"titles": ["one"]}, "titles: expected 2 entries"),
        ({"titles": ["one", 2]}, "titles: expected texts"),
        ({"titles": ["one", "\ud800"]}, "titles: expected texts that UTF-8"),
        ({"counts": [1, -1]}, "counts: expected values >= 0, got -1"),
        ({"counts": [1.5, 1]}, "counts: expected"),
        ({"until": [1, 2, 3]}, "until: expected one time, or 2 of them, got 3 times"),
        ({"until": "soon"}, "until: expected"),
        ({"attributes": {"genre": ["x", "y"]}}, r"attributes: expected attributes among \[\], got 'genre'"),
    ],
)
def test_bad_arguments_are_named_and_change_nothing(changes: dict[str, Any], message: str) -> None:
    live = live_of()
    args = {"ids": ["a", "b"], "vectors": vectors_of(2), **changes}
    with pytest.raises((errors.ArgumentError, errors.ArgumentTypeError), match=message):
        live.upsert(**args)
    assert live.version == 0
    live.upsert(["a"], vectors_of(1))
    assert live.current.items.row("a") == NUM_ITEMS


def test_what_is_no_recommender_is_refused() -> None:
    with pytest.raises(errors.ArgumentTypeError, match="recommender: expected a Recommender"):
        LiveRecommender("model/")  # type: ignore[arg-type]
    with pytest.raises(errors.ArgumentTypeError, match="recommender: expected a Recommender"):
        live_of().replace(None)  # type: ignore[arg-type]
    with pytest.raises(errors.ArgumentError, match="keep"):
        LiveRecommender(build(), keep=-1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda live: live.remove([IDS[0], torch.zeros(2)]), "ids: expected nothing but ids in the list, got Tensor"),
        (lambda live: live.hide([[IDS[0]], IDS[0]]), "ids: expected nothing but ids in the list, got list"),
        (lambda live: live.show([IDS[0], {}]), r"ids\[1\]: expected strings"),
        (lambda live: live.hide([IDS[0], IDS[0]]), "ids: expected each id once"),
        (lambda live: live.upsert([IDS[0]], vectors_of(1), titles=5), "titles: expected a sequence"),
        (lambda live: live.upsert([IDS[0]], vectors_of(1), titles="a"), "titles: expected a sequence"),
        (lambda live: live.upsert([IDS[0]], vectors_of(1), until=range(10**12)), "until: expected one dimension"),
        (lambda live: live.show([IDS[0]], until=-(2**63)), "until: expected times after -9223372036854775807, got -92"),
        (lambda live: live.show([IDS[0], IDS[1]], until=[5, 1 - 2**63]), "until: expected times after"),
    ],
)
def test_odd_changes_are_refused_by_name(call, message) -> None:
    live = live_of()
    with pytest.raises(errors.LsifError, match=message):
        call(live)
    assert live.version == 0


def test_times_in_milliseconds_are_refused() -> None:
    with pytest.raises(
        errors.ArgumentError, match="until: expected Unix seconds, or None, got what looks like milliseconds"
    ):
        live_of().show([IDS[0]], until=1_900_000_000_000)
    with pytest.raises(errors.ArgumentError, match=r"or None, got .*: 253370764800 \(as seconds in the year 9999\)"):
        live_of().show([IDS[0]], until=datetime.date(9999, 1, 1))
    with pytest.raises(errors.ArgumentError, match="until: expected Unix seconds before the year 5138, or None, got"):
        live_of().show([IDS[0]], until=10**17)


def test_a_closed_one_refuses_changes_and_its_snapshots_requests() -> None:
    plain = build(dim=DIM)
    live = LiveRecommender(Recommender(plain.artifact, batching=True), keep=1)
    snapshots = [live.current]
    for seed in range(3):
        live.upsert(["new"], vectors_of(1, seed))
        snapshots.append(live.current)
    live.rollback()
    snapshots.append(live.current)
    live.close()
    for snapshot in snapshots:
        with pytest.raises(errors.ClosedError):
            snapshot.recommend(HISTORY)
    changes: list[Any] = [
        lambda: live.upsert(["other"], vectors_of(1)),
        lambda: live.hide([IDS[0]]),
        lambda: live.replace(plain),
        live.rollback,
    ]
    for change in changes:
        with pytest.raises(errors.ClosedError, match="the LiveRecommender is closed"):
            change()
    assert live.current is snapshots[-1]
    live.close()


@pytest.mark.parametrize("batching", [True, None])
@pytest.mark.parametrize("is_asked_before", [True, False])
def test_what_closes_a_recommender_closes_the_snapshot_that_it_became(batching, is_asked_before) -> None:
    live, other = live_of(), Recommender(build(dim=DIM).artifact, batching=batching)
    if is_asked_before:
        other.stats()
    live.replace(other)
    live.hide([IDS[0]])
    with other:  # its end closes it
        pass
    with pytest.raises(errors.ClosedError):
        asyncio.run(live.current.recommend_async(HISTORY))


def test_a_change_inside_an_edit_of_the_same_thread_is_refused() -> None:
    live = live_of()
    changes: list[Any] = [
        lambda: live.hide([IDS[0]]),
        lambda: live.replace(build()),
        live.rollback,
        live.close,
        lambda: live.edit().__enter__(),
    ]
    for change in changes:
        with (
            pytest.raises(errors.ArgumentError, match="edit: expected the edit's own methods in its block"),
            live.edit(),
        ):
            change()
    with live.edit() as edit:
        edit.hide([IDS[0]])
    assert live.version == 1 and live.hide([IDS[1]]) == 2


def test_an_edit_that_has_ended_takes_no_changes() -> None:
    live = live_of()
    with live.edit() as ended:
        ended.hide([IDS[3]])
    with pytest.raises(ValueError, match="block"), live.edit() as failed:
        raise ValueError("block")
    for edit in (ended, failed):
        for call in (edit.hide, edit.show, edit.remove, lambda ids, edit=edit: edit.upsert(ids, vectors_of(1))):
            with pytest.raises(errors.ClosedError, match="the edit has ended, and further changes would be lost"):
                call([IDS[4]])
    assert live.version == ended.version == 1


def test_fit_item_names_its_own_arguments() -> None:
    live = live_of()
    good = [[IDS[0], IDS[1]]] * 3
    for options, message in (
        ({"others": [*good, [IDS[2], 5]]}, r"^others\[3\]\[1\]: expected strings"),
        ({"met": []}, "^met: expected histories with known events, of at least one user, got no histories"),
        ({"place": 0}, r"^place: expected an integer in \[1, "),
        ({"place": 10**9}, r"^place: expected an integer in \[1, "),
        ({"ridge": -1}, r"^ridge: expected a number in \(0, inf\], got -1"),
        ({"others_weight": 0.0}, r"^others_weight: expected a number in \(0, inf\), got 0\.0"),
        ({"met": None}, "^met: expected a list of histories, one per user, not one history, got NoneType"),
        ({"item": 9}, "^item: expected strings, as the catalogue's ids, got int 9"),
        ({"item": ["new"]}, "^item: expected strings, as the catalogue's ids, got list"),
        ({"item": "\ud800"}, "^item: expected texts that UTF-8 can encode"),
        ({"title": 5}, "^title: expected texts, got int 5"),
        ({"title": "\ud800"}, "^title: expected texts that UTF-8 can encode"),
        ({"attributes": 5}, "^attributes: expected a mapping of names to entries, one each, got int 5"),
        ({"attributes": {1: 2, "x": 3}}, r"^attributes: expected attributes among \[\], got 1"),
    ):
        with pytest.raises(errors.LsifError, match=message):
            live.fit_item(**{"item": "new", "met": good, "others": good, **options})
    assert live.version == 0
    numbered = LiveRecommender(build(dim=DIM, ids=range(NUM_ITEMS)))
    for options, message in (
        (
            {"item": 2**70},
            r"^item: expected an integer in \[-9223372036854775808, 9223372036854775807\], got 118",
        ),
        ({"title": "New"}, "^title: expected None, since the catalogue has no titles, got 'New'"),
    ):
        with pytest.raises(errors.LsifError, match=message):
            numbered.fit_item(**{"item": 99, "met": [[0]], "others": [[1]], **options})


def test_what_a_recommender_has_is_pointed_to() -> None:
    live = live_of()
    with pytest.raises(
        AttributeError, match=r"^a LiveRecommender has no 'recommend': take `current`, and `recommend` of"
    ):
        live.recommend(HISTORY)
    assert not hasattr(live_of(), "")
    with pytest.raises(AttributeError, match=r"^a LiveRecommender has no 'recomend'$"):
        live.recomend(HISTORY)
