"""lsif_sdk._core.CatalogPath, the native call behind Catalog.top_k, refuses arrays that it cannot read in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from catalog_cases import assert_same, gaussian, random_case
from lsif_sdk import Catalog, TopK, _core
from lsif_sdk.ops import ops

VECTORS, QUERIES = random_case(gaussian, 40, 6, batch=3)
CATALOG = Catalog.from_vectors(VECTORS, bias=VECTORS[:, 0].copy())
PATH = CATALOG._path
REQUEST: dict[str, Any] = {
    "queries": QUERIES, "weights": None, "temperature": 1.0, "k": 5,
    "exclude_rows": np.array([4, -1, 2, 2]), "exclude_offsets": np.array([0, 2, 2, 4]),
}  # fmt: skip


def as_op(queries: np.ndarray, weights: np.ndarray | None = None, temperature: float = 1.0) -> TopK:
    codes = (CATALOG.vectors, CATALOG.bias, CATALOG.codes)
    asked = (torch.from_numpy(queries), None if weights is None else torch.from_numpy(weights), temperature)
    rows, offsets = torch.tensor([4, 2, 2]), torch.tensor([0, 1, 1, 3])
    return TopK(*(part.numpy() for part in ops.score_topk(*asked, *codes, 5, rows, offsets, 1)))


def test_it_answers_as_the_torch_op_does():
    assert_same(TopK(*PATH.top_k(**REQUEST)), as_op(QUERIES[:, None]))
    interests = np.random.default_rng(0).standard_normal((3, 4, 6), np.float32)
    weights = np.full((3, 4), 0.25, np.float32)
    several = PATH.top_k(**{**REQUEST, "queries": interests, "weights": weights, "temperature": 0.5})
    assert_same(TopK(*several), as_op(interests, weights, 0.5))


def test_only_rows_of_the_bitmaps_are_found():
    bitmaps = [None, np.array([0b1011000], np.uint64), np.zeros(1, np.uint64)]
    found = TopK(*PATH.top_k(**REQUEST, allowed=bitmaps))
    assert_same(TopK(*(part[:1] for part in found)), TopK(*(part[:1] for part in PATH.top_k(**REQUEST))))
    assert found.counts.tolist() == [5, 3, 0]
    assert sorted(found.indices[1, :3].tolist()) == [3, 4, 6]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": QUERIES.astype(float)}, "queries: expected dtype float32, got float64"),
        ({"queries": QUERIES[:, :5].copy()}, r"queries: expected shape \[3, 6\], got \[3, 5\]"),
        ({"queries": QUERIES[0].copy()}, r"queries: expected shape \[6, 6\], got \[6\]"),
        ({"queries": np.ones((), np.float32)}, r"queries: expected shape \[0, 6\], got \[\]"),
        ({"queries": QUERIES[:, None, :5].copy()}, r"queries: expected shape \[3, 1, 6\], got \[3, 1, 5\]"),
        ({"queries": np.asfortranarray(QUERIES)}, "queries: expected a C-contiguous array"),
        ({"weights": np.ones((3, 2), np.float32)}, r"weights: expected shape \[3, 1\], got \[3, 2\]"),
        ({"k": 0}, r"k: expected an integer in \[1, 1048576\], got 0"),
        ({"threads": -1}, r"threads: expected an integer in \[0, 4096\], got -1"),
        ({"exclude_rows": np.array([0, 1, 2, 40])}, r"exclude: expected rows in \[0, 39\] \(or -1, ignored\), got 40"),
        ({"exclude_rows": np.array([0, 1, -2, 4])}, r"exclude: expected rows in \[0, 39\] \(or -1, ignored\), got -2"),
        ({"exclude_rows": np.array([0.0])}, "exclude: expected dtype int64, got float64"),
        ({"exclude_offsets": np.array([0, 1, 2, 3])}, "exclude offsets: expected a last value of 4"),
        ({"allowed": [None, None]}, "allowed: expected 3 bitmaps, got 2"),
        ({"allowed": [None, np.zeros(1), None]}, "allowed: expected dtype uint64, got float64"),
        ({"allowed": [np.zeros(2, np.uint64)] * 3}, r"allowed: expected shape \[1\], got \[2\]"),
        ({"exclude_offsets": np.array([0, 4])}, r"exclude offsets: expected shape \[4\], got \[2\]"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match="^" + message):
        PATH.top_k(**{**REQUEST, **changes})


def test_excluded_rows_want_offsets():
    with pytest.raises(TypeError, match=r"^exclude offsets: expected a NumPy array, got NoneType$"):
        PATH.top_k(**{**REQUEST, "exclude_offsets": None})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (2, 1, 5), (1, 0, 3)])
def test_values_that_are_not_finite_are_refused_with_their_place(bad, place):
    queries = np.ones((3, 2, 6), np.float32)
    queries[place] = bad
    weights = np.ones((3, 2), np.float32)
    expected = "^queries: expected finite float32 values, got "
    with pytest.raises(ValueError, match=rf"{expected}NaN or infinity in user {place[0]}, interest {place[1]}$"):
        PATH.top_k(**{**REQUEST, "queries": queries, "weights": weights})
    with pytest.raises(ValueError, match=rf"{expected}{bad} at position \[{place[0]}, {place[2]}\]$"):
        PATH.top_k(**{**REQUEST, "queries": np.ascontiguousarray(queries[:, place[1]])})


def test_catalogues_that_are_none_are_refused():
    arrays = [getattr(CATALOG, name).numpy() for name in ("vectors", "bias", "codes")]
    with pytest.raises(ValueError, match=r"^vectors: expected 2 dimensions, got 1$"):
        _core.CatalogPath(arrays[0][0], *arrays[1:])
    with pytest.raises(ValueError, match=r"^bias: expected shape \[40\], got \[39\]$"):
        _core.CatalogPath(arrays[0], arrays[1][1:], *arrays[2:])
