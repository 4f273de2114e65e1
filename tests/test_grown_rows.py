"""Matrices derived from others by changing some rows: their contents, and the memory they share."""

from __future__ import annotations

import gc
import threading

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concurrency import run_in_forked_child, run_together
from live_cases import DIM, answers, from_scratch, live_of, vectors_of
from lsif_sdk import Artifact, LiveRecommender, Recommender, grown_rows
from lsif_sdk.grown_rows import replaced
from recommender_cases import IDS


def shares(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.data_ptr() == b.data_ptr()


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), num_rows=st.sampled_from([0, 1, 8, 50]), width=st.sampled_from([0, 1, 3]))
def test_versions_are_what_numpy_makes_of_them(seed, num_rows, width):
    rng = np.random.default_rng(seed)
    shape = (width,) if width else ()
    expected = [rng.normal(size=(num_rows, *shape)).astype(np.float32)]
    tensors = [torch.from_numpy(expected[0].copy())]
    for _ in range(8):
        place = rng.integers(len(tensors))
        added = int(rng.choice([0, 1, 3]))
        rows = np.concatenate([expected[place], np.zeros((added, *shape), np.float32)])
        first = rng.choice([0, len(expected[place])])
        changed = first + rng.permutation(len(rows) - first)[:3]
        values = rng.normal(size=(len(changed), *shape)).astype(np.float32)
        rows[changed] = values
        tensors.append(replaced(tensors[place], added, changed, values))
        expected.append(rows)
        for tensor, rows in zip(tensors, expected, strict=True):
            assert tensor.dtype == torch.float32 and np.array_equal(tensor.numpy(), rows)


def test_rows_come_behind_the_last_without_a_copy_while_there_is_room():
    first = replaced(torch.ones(80, 4), 1, [80], np.full((1, 4), 2))
    second = replaced(first, 2, [82], np.full((1, 4), 3))
    assert shares(first, second) and first.shape == (81, 4)
    assert second[79:].tolist() == [[1] * 4, [2] * 4, [0] * 4, [3] * 4]
    other = replaced(first, 1, [81], np.full((1, 4), 5))  # the memory after `first` belongs to `second`
    assert not shares(first, other) and other[81].tolist() == [5] * 4 and second[81].tolist() == [0] * 4
    changed = replaced(second, 1, [0, 83], np.zeros((2, 4)))
    assert not shares(second, changed) and second[0].tolist() == [1] * 4
    assert not shares(second, replaced(second, 0, [], []))
    assert not shares(second, replaced(second, 100, [], []))
    assert shares(second, replaced(second, 7, [], [])), "room for 10 rows, 2 and 1 of which are used"


def test_memory_that_nobody_has_any_more_is_forgotten():
    gc.collect()
    replaced(torch.ones(1), 0, [], [])
    before = len(grown_rows._USED)
    for _ in range(5):
        replaced(torch.ones(100), 0, [], [])
    assert len(grown_rows._USED) <= before + 1


def test_of_threads_that_add_to_one_matrix_one_gets_the_room():
    for _ in range(20):
        first = replaced(torch.zeros(800, 2), 0, [], [])
        results = [first] * 4
        start = threading.Barrier(4)

        def add(number: int, results=results, first=first, start=start) -> None:
            start.wait(60)
            results[number] = replaced(first, 1, [800], np.full((1, 2), number))

        run_together(4, add)
        assert [result[800, 0].item() for result in results] == [0, 1, 2, 3]
        assert sum(shares(first, result) for result in results) == 1


def test_new_items_of_a_snapshot_lie_behind_those_of_the_one_before(tmp_path):
    live = live_of()
    live.upsert(["new 1"], vectors_of(1))
    first = live.current
    live.upsert(["new 2"], vectors_of(1, 2))
    second = live.current
    for weight in ("item_embedding", "catalog.bias"):
        assert shares(first.artifact.weights[weight], second.artifact.weights[weight])
    live.upsert([IDS[1]], vectors_of(1, 3))
    third = live.current
    assert not shares(second.catalog.vectors, third.catalog.vectors)
    assert shares(second.artifact.weights["item_embedding"], third.artifact.weights["item_embedding"])
    live.rollback()
    live.rollback()
    live.upsert(["new 3"], vectors_of(1, 4))
    for number, snapshot in enumerate((first, second, third, live.current)):
        assert answers(snapshot) == answers(from_scratch(snapshot))
        snapshot.save(tmp_path / str(number))  # its tensor is only a part of its memory
        loaded = Artifact.load(tmp_path / str(number))
        assert all(torch.equal(loaded.weights[name], weight) for name, weight in snapshot.artifact.weights.items())
    assert first.catalog.vectors.shape == (len(IDS) + 1, DIM)


def test_a_forked_child_adds_to_memory_of_its_own():
    live = live_of()
    live.upsert(["new 1"], vectors_of(1))
    live.upsert(["new 2"], vectors_of(1, 2))

    def add() -> None:
        live.upsert(["of the child"], vectors_of(1, 5))
        assert answers(live.current) == answers(from_scratch(live.current))

    run_in_forked_child(add, seconds=30)
    live.upsert(["new 3"], vectors_of(1, 3))
    assert answers(live.current) == answers(from_scratch(live.current))


def test_a_rollback_of_new_items_alone_copies_no_vectors():
    live = live_of()
    live.upsert(["new 1"], vectors_of(1))
    live.current.similar_items(IDS[0])
    live.upsert(["new 2"], vectors_of(1, 2))
    grown = live.current
    live.rollback()
    back = live.current
    assert shares(grown.catalog.vectors, back.catalog.vectors) and shares(grown.catalog.bias, back.catalog.bias)
    assert answers(back) == answers(from_scratch(back))
    assert list(back.similar_items(IDS[0], 9)[0]) == list(from_scratch(back).similar_items(IDS[0], 9)[0])


def test_one_matrix_that_an_artifact_has_under_both_names_grows():
    base = live_of().current
    weights = dict(base.artifact.weights)
    weights["catalog.vectors"] = weights["item_embedding"]
    live = LiveRecommender(Recommender(Artifact(base.config, weights, base.items)))
    live.upsert(["new 1"], vectors_of(1))
    live.upsert([IDS[1]], vectors_of(1, 2))
    assert answers(live.current) == answers(from_scratch(live.current))
