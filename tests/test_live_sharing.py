"""What snapshots share with the caller, each other, other threads and forked children."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any

import pytest

import lsif_sdk.item_search as item_search
from concurrency import run_in_forked_child, run_together
from live_cases import DIM, HISTORY, TITLES, answers, from_scratch, live_of, vectors_of
from lsif_sdk import Batching, LiveRecommender, Recommender, errors
from lsif_sdk.items import ItemEdit
from lsif_sdk.locks import made_once
from recommender_cases import IDS, NUM_ITEMS, build


def test_the_callers_array_may_change_afterwards() -> None:
    live = live_of()
    vectors = vectors_of(1)
    live.upsert(["new"], vectors)
    before = answers(live.current)
    vectors[:] = 1e3
    assert answers(live.current) == before


def test_a_forked_child_changes_what_another_thread_was_changing() -> None:
    live = live_of()
    entered, leave = threading.Event(), threading.Event()

    def edit() -> None:
        with live.edit():
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=edit)
    thread.start()
    assert entered.wait(60)
    run_in_forked_child(lambda: live.hide([IDS[0]]), seconds=30)
    leave.set()
    thread.join()
    with live.edit() as own:
        own.hide([IDS[0]])
        run_in_forked_child(lambda: live.current.recommend(HISTORY), seconds=30)


def test_a_forked_child_asks_for_what_another_thread_was_making(monkeypatch) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> Any:
        entered.set()
        leave.wait(60)
        return directions_of(*arguments)

    directions_of = item_search.directions_of
    monkeypatch.setattr(item_search, "directions_of", slowly)
    first, second = build(), build(seed=2)
    thread = threading.Thread(target=lambda: first.similar_items(IDS[0]))
    thread.start()
    assert entered.wait(60)
    monkeypatch.setattr(item_search, "directions_of", directions_of)
    run_in_forked_child(lambda: second.similar_items(IDS[0]), seconds=30)
    run_in_forked_child(lambda: first.similar_items(IDS[0]), seconds=30)
    second.similar_items(IDS[0])  # also in this process, one recommender does not wait for another
    leave.set()
    thread.join()


def test_what_is_made_once_is_one_object_for_all_threads() -> None:
    class Maker:
        @made_once
        def value(self) -> object:
            """Doc."""
            time.sleep(0.01)
            return object()

    maker, found = Maker(), [None] * 8
    run_together(8, lambda number: found.__setitem__(number, maker.value))
    assert len(set(map(id, found))) == 1 and maker.value is found[0]
    assert Maker.value.__doc__ == "Doc." and "value" in maker.__dict__


def test_a_child_forked_within_an_edit_has_the_edit_still() -> None:
    live = live_of()
    with live.edit() as own:
        own.hide([IDS[0]])

        def change() -> None:
            with pytest.raises(errors.ArgumentError, match="edit"):  # as in the parent, no other change during an edit
                live.hide([IDS[1]])

        run_in_forked_child(change, seconds=30)


def test_another_model_has_its_own_bounds_of_asynchronous_requests() -> None:
    first, second = (Recommender(build(seed=n).artifact, batching=Batching(max_batch=1, max_queue=n)) for n in (1, 100))
    live = LiveRecommender(first)

    async def ask() -> int:
        asked = (live.current.recommend_async([IDS[1]], 2) for _ in range(30))
        results: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
        return [type(result) for result in results].count(errors.OverloadedError)

    assert asyncio.run(ask()) > 0
    live.hide([IDS[3]])
    assert asyncio.run(ask()) > 0
    live.replace(second)
    assert asyncio.run(ask()) == 0
    first.close()
    assert asyncio.run(ask()) == 0
    live.rollback()
    with pytest.raises(errors.ClosedError):
        asyncio.run(live.current.recommend_async([IDS[1]], 2))


def test_what_requests_need_of_availability_and_conditions_is_there_when_a_snapshot_is_published() -> None:
    live = LiveRecommender(Recommender(build(dim=DIM).artifact, attributes={"year": range(NUM_ITEMS)}))
    kept = live.current.attributes.bitmap({"year": (0, 20)})
    live.hide([IDS[3]])
    live.upsert([IDS[5]], vectors_of(1))
    assert live.current.attributes.bitmap({"year": (0, 20)}) is kept
    table = live.current.items
    assert table._available is not None
    begin, end, bitmap = table._available._known
    assert begin <= time.time() < end and bitmap is not None


def test_what_has_been_found_out_about_a_catalogue_is_kept_while_its_vectors_stay() -> None:
    live = LiveRecommender(Recommender(build(dim=DIM).artifact, attributes={"year": range(NUM_ITEMS)}), keep=9)
    first = live.current.catalog
    known = first._path, first._calibration
    for change in (
        lambda: live.hide([IDS[3]]),
        lambda: live.show([IDS[3]]),
        lambda: live.set_attributes([IDS[3]], {"year": [7]}),
        live.rollback,
    ):
        change()
        catalog = live.current.catalog
        assert catalog is not first and catalog.items is live.current.items
        assert (catalog._path, catalog._calibration) == known


def test_what_requests_needed_before_is_there_after_every_change() -> None:
    live = live_of()

    def made() -> set[str]:
        current = live.current
        owners = {"by_popularity": current.items, "_path": current.catalog, "_directions": current}
        return {name for name, owner in owners.items() if name in vars(owner)}

    live.upsert(["a"], vectors_of(1))
    live.replace(build(seed=5, dim=DIM))
    live.upsert(["b"], vectors_of(1))
    assert not made()
    live.current.similar_items(IDS[0])
    _ = live.current.catalog.is_ordered, live.current.items.by_popularity, live.current.fingerprint
    needed = made()
    assert len(needed) == 3
    live.upsert([IDS[4]], vectors_of(1))
    assert made() == needed and "_path" in vars(live.current._directions)
    for _ in range(3):  # the first two undo an edit each, the last one the change of model
        live.rollback()
        assert made() == needed and "_path" in vars(live.current._directions)
        assert "fingerprint" in vars(live.current)


def test_two_of_one_recommender_do_not_see_each_others_items() -> None:
    """Although both tables share one dictionary of ids for as long as they can."""
    first = build(dim=DIM, titles=TITLES)
    one, other = LiveRecommender(first), LiveRecommender(first)
    one.upsert(["a", "b"], vectors_of(2))
    other.hide([IDS[0]])
    other.upsert(["c"], vectors_of(1, seed=1))
    one.upsert(["d"], vectors_of(1, seed=2))
    other.upsert(["b"], vectors_of(1, seed=3))
    expected = {one: ["a", "b", "d"], other: ["c", "b"]}
    for live, new in expected.items():
        table = live.current.items
        assert table.ids.tolist() == [*IDS, *new]
        assert table.rows([*IDS, *new]).tolist() == list(range(NUM_ITEMS + len(new)))
        absent = [item for item in "abcd" if item not in new]
        assert table.rows(absent).tolist() == [-1] * len(absent)
        assert answers(live.current) == answers(from_scratch(live.current))
        assert first.items.rows(new).tolist() == [-1] * len(new)
    assert answers(first) == answers(build(dim=DIM, titles=TITLES))


def test_two_of_one_recommender_add_items_at_once() -> None:
    class Dictionary(dict[Any, int]):
        """After its length is read, waits until the other thread has read it, too, unless a lock keeps that one out."""

        def __len__(self) -> int:
            length = super().__len__()
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.5)
            return length

    first = build(dim=DIM)
    both = threading.Barrier(2)
    tables = {}

    def add(number: int) -> None:
        tables[number] = first.items.edited(ItemEdit([f"{number}"]))

    first.items._later = Dictionary(first.items._later)
    run_together(2, add)
    for number in range(2):
        assert tables[number].rows([f"{number}", f"{1 - number}"]).tolist() == [NUM_ITEMS, -1]
