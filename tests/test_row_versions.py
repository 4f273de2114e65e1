"""Matrices that become others by a change of some rows: what they hold, and what they share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lsif_sdk import Artifact, ItemTable, LiveRecommender, Recommender, _core, row_versions
from lsif_sdk.row_versions import replaced
from live_cases import answers, from_scratch
from recommender_cases import build

LARGE = 1 << 16
"""Rows of 16 numbers that are 4 MiB, which versions begin to share."""


def version_of(tensor: torch.Tensor) -> _core.RowVersion:
    return row_versions._VERSIONS[tensor.numpy().ctypes.data]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), num_rows=st.sampled_from([0, 1, 50, LARGE, LARGE + 77]), width=st.sampled_from([0, 1, 16]))
def test_versions_are_what_numpy_makes_of_them(seed, num_rows, width):
    rng = np.random.default_rng(seed)
    shape = (width,) if width else ()
    expected = [rng.normal(size=(num_rows, *shape)).astype(np.float32)]
    tensors = [torch.from_numpy(expected[0].copy())]
    for _ in range(4):
        place = rng.integers(len(tensors))
        added = int(rng.choice([0, 1, 3000]))
        rows = np.concatenate([expected[place], np.zeros((added, *shape), np.float32)])
        changed = rng.choice(len(rows), min(len(rows), 5), replace=False).tolist()
        values = rng.normal(size=(len(changed), *shape)).astype(np.float32)
        rows[changed] = values
        tensors.append(replaced(tensors[place], added, changed, values))
        expected.append(rows)
        for tensor, rows in zip(tensors, expected, strict=True):
            assert tensor.dtype == torch.float32 and np.array_equal(tensor.numpy(), rows)


def test_a_change_of_one_row_shares_the_others():
    first = replaced(torch.ones(LARGE, 16), 0, [], [])
    second = replaced(first, 1, [3], np.zeros((1, 16)))
    if version_of(first).shared() + version_of(second).shared() == 0:
        pytest.skip("memory cannot be shared here")
    assert version_of(first).shared() == 0 and version_of(second).shared() > 0.9
    assert first[3].tolist() == [1] * 16 and second[3].tolist() == [0] * 16
    del first
    assert second[4].tolist() == [1] * 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"old": np.zeros((2, 3))}, "old: expected dtype float32, got float64"),
        ({"num_added": -1}, "old: expected rows, and none or further ones, got -1"),
        ({"rows": np.array([5])}, r"rows: expected rows in \[0, 5\), got 5"),
        ({"rows": np.array([-1])}, r"rows: expected rows in \[0, 5\), got -1"),
        ({"values": np.zeros((2, 3), np.float32)}, r"values: expected shape \[1, 3\], got \[2, 3\]"),
        ({"values": np.zeros((1, 2), np.float32)}, r"values: expected shape \[1, 3\], got \[1, 2\]"),
    ],
)
def test_what_is_no_change_is_refused(arguments, message):
    given = {"old": np.zeros((4, 3), np.float32), "before": None, "num_added": 1, "rows": np.array([0]),
             "values": np.ones((1, 3), np.float32)}  # fmt: skip
    _core.RowVersion(**given)
    with pytest.raises(ValueError, match="^" + message + "$"):
        _core.RowVersion(**{**given, **arguments})
    other = _core.RowVersion(**given)
    with pytest.raises(ValueError, match="^before: expected the version that `old` is, got another$"):
        _core.RowVersion(**{**given, "before": other})


def test_snapshots_of_a_large_catalogue_share_their_memory():
    base = build(dim=16)
    rng = np.random.default_rng(0)
    ids = [f"item {row}" for row in range(LARGE)]
    weights = dict(base.artifact.weights)
    weights |= {"item_embedding": torch.from_numpy(rng.normal(size=(LARGE, 16)).astype(np.float32))}
    weights |= {"catalog.bias": torch.zeros(LARGE)}
    config = base.config.__class__(**{**base.config.to_dict(), "num_items": LARGE})
    live = LiveRecommender(Recommender(Artifact(config, weights, ItemTable(ids))), keep=2)
    snapshots = [live.current]
    for change in (["item 5"], ["new 1"], ["new 2", "item 7"]):
        live.upsert(change, rng.normal(size=(len(change), 16)).astype(np.float32))
        snapshots.append(live.current)
    live.rollback()
    snapshots.append(live.current)
    for snapshot in snapshots:
        history = ["item 5", "item 9", "item 11"]
        assert answers(snapshot, history) == answers(from_scratch(snapshot), history)
    shared = [version_of(snapshot.catalog.vectors).shared() for snapshot in snapshots[2:]]
    assert shared == [0, 0, 0] or min(shared) > 0.8
