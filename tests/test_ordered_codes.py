"""Codes with ordered rows give the same results as codes without an order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lsif_sdk import Catalog
from lsif_sdk.errors import ArgumentError
from lsif_sdk.ops import codes_size, ops

KINDS = ("clustered", "isotropic", "equal", "zero", "huge", "tiny", "duplicates", "mixed")


def make_rows(kind: str, num_rows: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    rows = rng.standard_normal((num_rows, dim))
    if kind == "clustered":
        rows = 0.3 * rows + rng.standard_normal((8, dim))[rng.integers(8, size=num_rows)]
        rows *= np.exp(0.3 * rng.standard_normal((num_rows, 1)))
    elif kind == "equal":
        rows[:] = 0.7
    elif kind == "duplicates":
        rows = rows[rng.integers(min(5, num_rows), size=num_rows)]
    elif kind == "mixed":
        rows *= np.array([1e18, 1e-18, 1.0, 0.0])[rng.integers(4, size=(num_rows, 1))]
    else:
        rows *= {"isotropic": 1, "zero": 0, "huge": 1e18, "tiny": 1e-18}[kind]
    return rows.astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    num_rows=st.integers(1, 1500),
    dim=st.integers(1, 20),
    k=st.integers(1, 30),
    with_bias=st.booleans(),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_results_are_those_without_an_order(kind, num_rows, dim, k, with_bias, threads, seed):
    rng = np.random.default_rng(seed)
    vectors, queries = make_rows(kind, num_rows, dim, rng), make_rows("clustered", 5, dim, rng)
    bias = rng.standard_normal(num_rows).astype(np.float32) if with_bias else None
    ordered = Catalog.from_vectors(vectors, bias=bias, ordered=True)
    plain = Catalog.from_vectors(vectors, bias=bias, ordered=False)
    assert ordered.code_bytes == codes_size(num_rows, dim, True)
    exclude = [rng.integers(num_rows, size=i) for i in range(5)]
    whole, expected = (c.top_k(queries, k, exclude, threads) for c in (ordered, plain))
    for a, b in zip(whole, expected, strict=True):
        assert np.array_equal(a, b)
    for q in range(5):  # a batch of one
        one = ordered.top_k(queries[q], k, exclude[q])
        assert np.array_equal(one.indices[0], whole.indices[q])
        assert np.array_equal(one.scores[0], whole.scores[q])
    scores = queries.astype(np.float64) @ vectors.T.astype(np.float64) + (0 if bias is None else bias)
    for q in range(5):
        allowed = np.setdiff1d(np.arange(num_rows), exclude[q])
        best = np.sort(scores[q, allowed])[::-1][:k].astype(np.float32)
        size = np.abs(vectors.astype(np.float64)) @ np.abs(queries[q].astype(np.float64))
        assert np.all(np.abs(whole.scores[q, : len(best)] - best) <= 1e-6 * (size.max() + 3) + 1e-30)


@settings(deadline=None, max_examples=30)
@given(num_old=st.integers(1, 1500), num_new=st.integers(0, 600), seed=st.integers(0, 2**32 - 1))
def test_changed_and_new_rows_are_found(num_old, num_new, seed):
    rng = np.random.default_rng(seed)
    old = make_rows("clustered", num_old, 12, rng)
    vectors = np.concatenate([old, make_rows("isotropic", num_new, 12, rng)])
    changed = rng.integers(num_old, size=4)
    vectors[changed] *= 5
    bias = rng.standard_normal(len(vectors)).astype(np.float32)
    codes = ops.code_catalog(torch.from_numpy(old), torch.from_numpy(bias[:num_old]), 1, True)
    tensors = torch.from_numpy(vectors), torch.from_numpy(bias)
    codes = ops.update_codes(*tensors, codes, num_old, torch.from_numpy(changed), 1)
    plain = Catalog.from_vectors(vectors, bias=bias)
    updated = Catalog.from_checked(*tensors, plain.items, codes=codes)
    queries = make_rows("clustered", 6, 12, rng)
    for a, b in zip(updated.top_k(queries, 20), plain.top_k(queries, 20), strict=True):
        assert np.array_equal(a, b)


def test_codes_of_a_clustered_catalogue_have_an_order_by_themselves():
    rng = np.random.default_rng(1)
    sizes = {
        kind: Catalog.from_vectors(make_rows(kind, 20000, 32, rng)).code_bytes for kind in ("clustered", "isotropic")
    }
    assert sizes == {"clustered": codes_size(20000, 32, True), "isotropic": codes_size(20000, 32)}


def test_codes_of_rows_of_different_lengths_have_an_order_by_themselves():
    rng = np.random.default_rng(2)
    vectors = make_rows("isotropic", 20000, 64, rng) * np.exp(0.4 * rng.standard_normal((20000, 1)))
    catalog = Catalog.from_vectors(vectors.astype(np.float32))
    assert catalog.is_ordered
    plain = Catalog.from_vectors(vectors.astype(np.float32), ordered=False)
    queries = make_rows("isotropic", 90, 64, rng)
    for threads in (1, 3):
        for a, b in zip(catalog.top_k(queries, 10, threads=threads), plain.top_k(queries, 10), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize(("noise", "is_ordered"), [(0.3, True), (0.9, False)])
def test_biases_are_weighed_as_users_weigh_them_who_are_longer_than_items(noise, is_ordered):
    """If rows stood for users, biases would decide, and few cells have high ones: an order would always seem to pay."""
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((8, 32))[rng.integers(8, size=20000)] + noise * rng.standard_normal((20000, 32))
    vectors *= 0.3 / np.linalg.norm(vectors, axis=1, keepdims=True)
    bias = 0.05 * rng.standard_normal(20000)
    assert Catalog.from_vectors(vectors, bias=bias).is_ordered == is_ordered


@pytest.mark.parametrize(("slope", "is_ordered"), [(-1.0, False), (0.0, True), (1.0, True)])
def test_long_rows_do_not_come_first_where_they_have_the_lower_biases(slope, is_ordered):
    rng = np.random.default_rng(4)
    lengths = np.exp(0.4 * rng.standard_normal(20000)).astype(np.float32)
    vectors = make_rows("isotropic", 20000, 64, rng)
    vectors *= lengths[:, None] / np.linalg.norm(vectors, axis=1, keepdims=True)
    bias = (0.1 * (slope * lengths + rng.standard_normal(20000))).astype(np.float32)
    assert Catalog.from_vectors(vectors, bias=bias).is_ordered == is_ordered


def test_an_order_that_is_none_is_refused():
    vectors = torch.randn(40, 9)
    catalog = Catalog.from_vectors(vectors, ordered=True)
    codes = catalog.codes.clone()
    codes[-192:].view(torch.int32)[3] = 40
    with pytest.raises(ArgumentError, match=r"codes: expected an order with each row in \[0, 40\) once, got 40"):
        Catalog.from_checked(catalog.vectors, catalog.bias, catalog.items, codes=codes).top_k(vectors[:1], 3)
