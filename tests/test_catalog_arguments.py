"""Catalog: the forms its arguments may have, and what it refuses."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from catalog_cases import assert_exact, assert_same, gaussian, random_case
from lsif_sdk import Catalog, ItemTable, TopK
from lsif_sdk.errors import ArgumentError, ArgumentTypeError


def as_memmap(array: np.ndarray, folder: Path, mode: Literal["r", "c"]) -> np.ndarray:
    np.save(folder / "vectors.npy", array)
    return np.load(folder / "vectors.npy", mmap_mode=mode)


def test_input_forms_give_the_same_result(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).integers(-50, 50, (60, 12)).astype(np.float32)  # exact in every dtype below
    queries = vectors[:4].copy()
    expected = Catalog.from_vectors(vectors.copy()).top_k(queries.copy(), 7)
    read_only = vectors.copy()
    read_only.flags.writeable = False
    forms: list[Any] = [
        read_only, vectors.astype(np.float64), vectors.astype(np.float16), vectors.astype(np.int64), vectors.tolist(),
        vectors.astype(np.int8), vectors.astype(">f4"), np.asfortranarray(vectors), np.repeat(vectors, 2, 1)[:, ::2],
        vectors[::-1].copy()[::-1], torch.from_numpy(vectors), torch.from_numpy(vectors.T.copy()).T,
        torch.from_numpy(vectors).double(), torch.from_numpy(vectors).bfloat16(), torch.from_numpy(vectors).long(),
        torch.nn.Parameter(torch.from_numpy(vectors)), as_memmap(vectors, tmp_path, "r"),
        torch.complex(torch.zeros(60, 12), torch.from_numpy(-vectors)).conj().imag,  # a view that is negated on reading
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for form in forms:
            assert_same(Catalog.from_vectors(form).top_k(form[:4], 7), expected)
            assert_same(Catalog.from_vectors(vectors, bias=np.zeros(60, form.dtype) if hasattr(form, "flags") else None)
                        .top_k(queries, 7), expected)  # fmt: skip
    one = Catalog.from_vectors(vectors).top_k(queries[2], np.int32(7), threads=np.int64(1))
    assert_same(one, TopK(*(part[2:3] for part in expected)))


def test_arrays_are_used_in_place_and_never_changed(tmp_path: Path) -> None:
    vectors, queries = random_case(gaussian, 500, 16, batch=3)
    bias, exclude = vectors[:, 0].copy(), np.array([3, -1, 4])
    kept = [array.copy() for array in (vectors, queries, bias, exclude)]
    catalog = Catalog.from_vectors(vectors, bias=bias)
    catalog.top_k(queries, 5, exclude)
    for array, copy in zip((vectors, queries, bias, exclude), kept, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert catalog.vectors.data_ptr() == vectors.ctypes.data
    mapped = as_memmap(vectors, tmp_path, "c")
    assert Catalog.from_vectors(mapped).vectors.data_ptr() == mapped.ctypes.data
    # Only the catalogue keeps the mapping alive.
    catalog = Catalog.from_vectors(as_memmap(vectors, tmp_path, "c"))
    assert_exact(catalog.top_k(queries, 5), vectors, None, queries, 5)


def test_memory_that_is_read_only_is_never_handed_out_as_writable(tmp_path: Path) -> None:
    """Writing to a read-only memory map would end the process."""
    vectors = np.random.default_rng(0).standard_normal((20, 4), dtype=np.float32)
    frozen = vectors.copy()
    frozen.flags.writeable = False
    for array in (frozen, as_memmap(vectors, tmp_path, "r")):
        catalog = Catalog.from_vectors(array, bias=array[:, 0])
        assert not np.shares_memory(catalog.vectors.numpy(), array)
        assert not np.shares_memory(catalog.bias.numpy(), array)
        catalog.vectors.mul_(2)
        catalog.bias.mul_(2)
        np.testing.assert_array_equal(array, vectors)


def test_catalogues_compare_by_identity() -> None:
    catalog = Catalog.from_vectors(np.ones((3, 2)))
    assert catalog == catalog
    assert catalog != Catalog.from_vectors(np.ones((3, 2)))
    assert len({catalog, catalog}) == 1


def test_empty_catalogue_and_empty_batch() -> None:
    empty = Catalog.from_vectors(np.zeros((0, 4), np.float32))
    assert (len(empty), empty.dim, empty.code_bytes) == (0, 4, 64)
    result = empty.top_k(np.ones((2, 4)), 3)
    assert result.indices.tolist() == [[-1] * 3] * 2
    assert result.counts.tolist() == [0, 0]
    none = Catalog.from_vectors(np.ones((5, 4))).top_k(np.zeros((0, 4)), 3, exclude=[1])
    assert (none.scores.shape, none.indices.shape, none.counts.shape) == ((0, 3), (0, 3), (0,))


def test_ids_and_sizes() -> None:
    vectors = np.ones((3, 2), np.float32)
    assert Catalog.from_vectors(vectors).ids.tolist() == [0, 1, 2]
    for ids in (["a", "ü", ""], np.array(["a", "ü", ""]), ItemTable(["a", "ü", ""])):
        assert Catalog.from_vectors(vectors, ids).ids.tolist() == ["a", "ü", ""]
    catalog = Catalog.from_vectors(vectors, np.array([7, -1, 2**63 - 1]))
    assert catalog.ids.tolist() == [7, -1, 2**63 - 1]
    assert catalog.code_bytes == 3 * 64  # a header, a line of bounds, a line of codes


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_not_finite_is_refused(bad: float) -> None:
    catalog = Catalog.from_vectors(np.ones((5, 3)))
    values = np.ones((5, 3))
    values[3, 1] = bad
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            ArgumentError, match=r"vectors: expected finite float32 values, got .* at position \[3, 1\]"
        ):
            Catalog.from_vectors(values)
        with pytest.raises(
            ArgumentError, match=r"queries: expected finite float32 values, got .* at position \[3, 1\]"
        ):
            catalog.top_k(torch.from_numpy(values), 1)
        with pytest.raises(ArgumentError, match=r"bias: expected finite float32 values, got .* at position \[3\]"):
            Catalog.from_vectors(np.ones((5, 3)), bias=values[:, 1])


def test_scores_beyond_float32_are_refused() -> None:
    vectors, queries = random_case(gaussian, 50, 8, batch=2)
    large = Catalog.from_vectors(vectors * np.float32(1e20))
    with pytest.raises(ArgumentError, match="queries: expected scores within float32, got one beyond it for user 0"):
        large.top_k(queries * np.float32(1e20), 3)
    # No score is returned, so none is too large.
    assert large.top_k(queries * np.float32(1e20), 3, exclude=range(50)).counts.tolist() == [0, 0]
    assert_exact(large.top_k(queries, 3), vectors * np.float32(1e20), None, queries, 3)


CATALOG_ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"vectors": np.zeros(3)}, ArgumentError, "vectors: expected 2 dimensions"),
    ({"vectors": []}, ArgumentError, "vectors: expected 2 dimensions"),
    ({"vectors": np.zeros((2, 2, 2))}, ArgumentError, "vectors: expected 2 dimensions"),
    ({"vectors": np.zeros((3, 0))}, ArgumentError, "vectors: expected at least one dimension"),
    ({"vectors": np.zeros((2, 65_537), np.float32)}, ArgumentError, "vectors: expected 1 to 65536 dimensions"),
    ({"vectors": [[1.0, 2.0], [3.0]]}, ArgumentError, "vectors: expected an array of numbers, got rows of different"),
    ({"vectors": [["a", "b"]]}, ArgumentTypeError, "vectors: expected an array of numbers"),
    ({"vectors": None}, ArgumentTypeError, "vectors: expected an array of numbers, got NoneType"),
    (
        {"vectors": np.ones((2, 2), complex)},
        ArgumentTypeError,
        "vectors: expected an array of numbers, not of complex",
    ),
    ({"vectors": np.ones((2, 2), bool)}, ArgumentTypeError, "vectors: expected an array of numbers"),
    ({"vectors": np.ma.ones((2, 2))}, ArgumentTypeError, "vectors: expected an array of numbers without a mask"),
    (
        {"vectors": torch.ones(2, 2).to(torch.float8_e5m2)},
        ArgumentTypeError,
        "vectors: expected a tensor of numbers, as",
    ),
    ({"vectors": np.ones((2, 2), object)}, ArgumentTypeError, "vectors: expected an array of numbers"),
    ({"vectors": torch.ones((2, 2), dtype=torch.bool)}, ArgumentError, "vectors: expected real numbers"),
    ({"vectors": torch.ones((2, 2), dtype=torch.complex64)}, ArgumentError, "vectors: expected real numbers"),
    ({"vectors": torch.ones(2, 2).to_sparse()}, ArgumentError, "vectors: expected a dense tensor"),
    (
        {"vectors": torch.ones(2, 2, device="meta")},
        ArgumentError,
        "vectors: expected a tensor on the CPU, got one on meta",
    ),
    ({"bias": np.zeros(3)}, ArgumentError, r"bias: expected shape \[2\], got \[3\]"),
    ({"bias": np.zeros((2, 1))}, ArgumentError, "bias: expected 1 dimension, got"),
    ({"bias": "zero"}, ArgumentTypeError, "bias: expected an array of numbers, got str"),
    ({"ids": [1]}, ArgumentError, "ids: expected 2 ids, one per row, got 1"),
    ({"ids": ["x", "x"]}, ArgumentError, "ids: expected no two equal ids, got 'x' more than once"),
    ({"threads": 0}, ArgumentError, "threads: expected an integer in"),
]


@pytest.mark.parametrize(("changes", "error", "message"), CATALOG_ERRORS, ids=[m for _, _, m in CATALOG_ERRORS])
def test_catalogue_errors(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Catalog.from_vectors(**{"vectors": np.ones((2, 2)), **changes})


Q = np.ones((3, 4), np.float32)
TOP_K_ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"queries": np.ones((3, 5))}, ArgumentError, r"queries: expected shape \[batch, 4\], got \[3, 5\]"),
    ({"queries": np.ones((3, 1, 4))}, ArgumentError, r"queries: expected shape \[batch, 4\]"),
    ({"queries": np.float32(1)}, ArgumentError, r"queries: expected shape \[batch, 4\], got \[\]"),
    ({"queries": "abcd"}, ArgumentTypeError, "queries: expected an array of numbers, got str"),
    ({"queries": torch.ones(3, 4).to_sparse()}, ArgumentError, "queries: expected a dense tensor"),
    ({"k": 0}, ArgumentError, r"k: expected an integer in \[1, 1048576\], got 0"),
    ({"k": -1}, ArgumentError, "k: expected an integer in .*, got -1"),
    ({"k": 2**20 + 1}, ArgumentError, r"k: expected an integer in \[1, 1048576\], got 1048577"),
    ({"k": 2**31 - 1}, ArgumentError, "k: expected an integer in"),
    ({"k": 10**5000}, ArgumentError, "k: expected an integer in .*, got an integer of 16610 bits"),
    ({"k": 1.5}, ArgumentTypeError, "k: expected an integer in .*, got float"),
    ({"k": True}, ArgumentTypeError, "k: expected an integer in .*, got bool"),
    ({"k": None}, ArgumentTypeError, "k: expected an integer in .*, got NoneType"),
    ({"k": np.array(3)}, ArgumentTypeError, "k: expected an integer in .*, got ndarray"),
    ({"threads": 0}, ArgumentError, "threads: expected an integer in .*, got 0"),
    ({"threads": -2}, ArgumentError, "threads: expected an integer in .*, got -2"),
    ({"threads": 2**70}, ArgumentError, "threads: expected an integer in"),
    ({"threads": True}, ArgumentTypeError, "threads: expected an integer or None, got bool"),
    ({"threads": "2"}, ArgumentTypeError, "threads: expected an integer or None, got str"),
    ({"exclude": [20]}, ArgumentError, r"exclude: expected rows in \[0, 19\] \(or -1, ignored\), got 20"),
    ({"exclude": [-2]}, ArgumentError, "exclude: expected rows in .*, got -2"),
    ({"exclude": [[1], [2]]}, ArgumentError, r"exclude: expected one list per query \(3\), got 2 lists"),
    ({"exclude": [[1], 2, [3]]}, ArgumentError, "exclude: expected a list or set of row numbers"),
    (
        {"exclude": np.zeros((3, 1, 1), int)},
        ArgumentError,
        "exclude: expected a list or set of row numbers",
    ),
    ({"exclude": np.array(1)}, ArgumentError, "exclude: expected a list or set of row numbers"),
    ({"exclude": 1}, ArgumentTypeError, "exclude: expected a list or set of row numbers.*got int"),
    ({"exclude": {1: 2}}, ArgumentTypeError, "exclude: expected a list or set of row numbers"),
    ({"exclude": "12"}, ArgumentTypeError, "exclude: expected a list or set of row numbers.*got str"),
    ({"exclude": iter([1])}, ArgumentTypeError, "exclude: expected a list or set of row numbers"),
    ({"exclude": [1.0]}, ArgumentTypeError, "exclude: expected row numbers, got float"),
    ({"exclude": [True]}, ArgumentTypeError, "exclude: expected row numbers, got bool"),
    ({"exclude": ["1"]}, ArgumentTypeError, "exclude: expected row numbers, got str"),
    ({"exclude": [None]}, ArgumentError, r"exclude: expected one list per query \(3\), got 1 lists"),
]


@pytest.mark.parametrize(("changes", "error", "message"), TOP_K_ERRORS, ids=[m for _, _, m in TOP_K_ERRORS])
def test_top_k_errors(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    catalog = Catalog.from_vectors(np.ones((20, 4)))
    with pytest.raises(error, match=message):
        catalog.top_k(**{"queries": Q, "k": 3, **changes})


@pytest.mark.parametrize(
    ("exclude", "error", "message"),
    [
        ([20], ArgumentError, r"exclude: expected rows in \[0, 19\] \(or -1, ignored\), got 20"),
        ([-2], ArgumentError, "exclude: expected rows in .*, got -2"),
        ([2**63], ArgumentError, "exclude: expected row numbers that fit int64, got 9223372036854775808"),
        ([2**70], ArgumentTypeError, "exclude: expected row numbers, got int"),
        ([1, 2.0], ArgumentTypeError, "exclude: expected row numbers"),
        ([[1], [2]], ArgumentError, r"exclude: expected one list per query \(1\), got 2 lists"),
    ],
)
def test_top_k_errors_of_one_query(exclude: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Catalog.from_vectors(np.ones((20, 4))).top_k(Q[0], 3, exclude)


@pytest.mark.parametrize("ordered", ["yes", 2.5, []])
def test_an_order_is_wanted_or_not(ordered: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="ordered: expected True or False, got"):
        Catalog.from_vectors(np.ones((5, 3), np.float32), ordered=ordered)
