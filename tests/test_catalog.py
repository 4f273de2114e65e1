"""Catalog.top_k: exact against a float64 oracle, the same for any batch, threads and ISA; what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lsif_sdk import Catalog, ItemTable, TopK, _core
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.ops import ops

Excluded = Sequence[Sequence[int]]
PROPERTY = settings(max_examples=25, deadline=None, derandomize=True)


def gaussian(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(n, d))


def clustered(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(7, d))[rng.integers(7, size=n)] + 1e-3 * rng.normal(size=(n, d))


def heavy_tailed(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_t(1.2, size=(n, d))


def duplicate(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(-3, 4, size=(max(1, n // 5), d))[rng.integers(max(1, n // 5), size=n)]


def constant(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return np.full((n, d), 3.0)


def zero(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return np.zeros((n, d))


def huge(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return 1e20 * rng.normal(size=(n, d))


def tiny(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return 1e-20 * rng.normal(size=(n, d))


def mixed(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return (
        rng.normal(size=(n, d)) * 10.0 ** rng.integers(-20, 18, size=(n, 1)) * 10.0 ** rng.integers(-3, 4, size=(1, d))
    )


def subnormal(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return 1e-41 * rng.normal(size=(n, d))


FAMILIES = (gaussian, clustered, heavy_tailed, duplicate, constant, zero, huge, tiny, mixed, subnormal)
# Sums of these are exact in float64, so that even equal scores have one right order.
EXACT = (duplicate, constant, zero)


def assert_exact(
    result: TopK,
    vectors: np.ndarray,
    bias: np.ndarray | None,
    queries: np.ndarray,
    k: int,
    exclude: Excluded | None = None,
) -> None:
    """`result` is the float64 oracle's top k: any difference must be one of rounding the two sums."""
    x, q = vectors.astype(np.float64), queries.astype(np.float64)
    b = np.zeros(len(x)) if bias is None else bias.astype(np.float64)
    scores = q @ x.T + b
    # Two float64 sums in any order, and the one rounding to float32 (of a normal or of the smallest number).
    sums = 1e-15 * (x.shape[1] + 2) * (np.abs(q) @ np.abs(x).T + np.abs(b))
    slack = sums + 2.0**-24 * np.abs(scores) + 2.0**-150
    assert result.scores.shape == result.indices.shape == (len(q), k)
    assert (result.scores.dtype, result.indices.dtype, result.counts.dtype) == (np.float32, np.int64, np.int64)
    for query in range(len(q)):
        allowed = np.ones(len(x), np.bool_)
        allowed[list(exclude[query] if exclude is not None else [])] = False
        count = min(k, int(allowed.sum()))
        assert result.counts[query] == count
        got, rows = result.scores[query, :count], result.indices[query, :count]
        assert (result.indices[query, count:] == -1).all()
        assert (result.scores[query, count:] == 0).all()
        assert allowed[rows].all()
        assert len(np.unique(rows)) == count
        assert (np.abs(got - scores[query, rows]) <= slack[query, rows]).all()
        assert (np.lexsort((rows, -got)) == np.arange(count)).all(), "not by score, then by row"
        allowed[rows] = False
        if count and allowed.any():
            left = np.flatnonzero(allowed)
            assert (scores[query, left] - slack[query, left] <= got[-1]).all(), "a better row was left out"


def assert_same(a: TopK, b: TopK) -> None:
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left.view(np.int32 if left.dtype == np.float32 else None), right.view(
            np.int32 if right.dtype == np.float32 else None
        ))  # fmt: skip


def random_case(
    family: Callable[..., np.ndarray], n: int, d: int, batch: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """float32 vectors [n, d] of a family, and queries [batch, d] of the same kind whose scores fit float32."""
    rng = np.random.default_rng([seed, n, d])
    vectors = np.clip(family(n, d, rng), -1e30, 1e30).astype(np.float32)
    likely = heavy_tailed if family is heavy_tailed else duplicate if family in EXACT else gaussian
    return vectors, np.clip(likely(batch, d, rng), -1e4, 1e4).astype(np.float32)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("d", [1, 2, 3, 7, 8, 16, 17, 31, 64, 65, 128, 512])
def test_equals_the_oracle(family: Callable[..., np.ndarray], d: int) -> None:
    rng = np.random.default_rng(d)
    for n, k in ((0, 3), (1, 1), (1, 5), (2, 1), (33, 33), (600, 1), (600, 10), (600, 700), (1500, 1000)):
        vectors, queries = random_case(family, n, d, batch=3)
        catalog = Catalog.from_vectors(vectors)
        assert_exact(catalog.top_k(queries, k), vectors, None, queries, k)
        # A bias as large as the scores, so that it matters; and other rows left out for each query.
        size = float(np.abs(queries @ vectors.T).max(initial=1.0)) if family is not zero else 1.0
        bias = (rng.integers(-2, 3, n) * size).astype(np.float32)
        exclude = [rng.integers(n, size=min(n, 40)).tolist(), [], list(range(n))]
        result = Catalog.from_vectors(vectors, bias=bias).top_k(queries, k, exclude)
        assert_exact(result, vectors, bias, queries, k, exclude)


@pytest.mark.parametrize("family", EXACT)
def test_equal_scores_come_in_row_order(family: Callable[..., np.ndarray]) -> None:
    vectors, queries = random_case(family, 3000, 24, batch=4)
    bias = np.random.default_rng(1).integers(0, 2, 3000).astype(np.float32)
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T + bias
    result = Catalog.from_vectors(vectors, bias=bias).top_k(queries, 500)
    for query in range(4):
        order = np.lexsort((np.arange(3000), -scores[query]))[:500]
        np.testing.assert_array_equal(result.indices[query], order)
        np.testing.assert_array_equal(result.scores[query], scores[query, order].astype(np.float32))


@pytest.mark.parametrize("family", [gaussian, duplicate])
def test_large_catalogue(family: Callable[..., np.ndarray]) -> None:
    vectors, queries = random_case(family, 200_000, 64, batch=3)
    bias = np.random.default_rng(2).normal(size=200_000).astype(np.float32)
    catalog = Catalog.from_vectors(vectors, bias=bias)
    exclude = [list(range(0, 200_000, 3)), [], [5]]
    for k in (1, 10, 1000):
        assert_exact(catalog.top_k(queries, k, exclude), vectors, bias, queries, k, exclude)


def test_forms_of_exclude() -> None:
    vectors, queries = random_case(gaussian, 40, 8, batch=3)
    catalog = Catalog.from_vectors(vectors)
    shared = [4, 4, 39, 0]
    padded = np.array([[*shared, -1, -1]] * 3, np.int32)
    flat = (shared, tuple(shared), np.array(shared), torch.tensor(shared), [*shared, -1], np.array([*shared, -1]))
    for form in (*flat, [shared] * 3, np.array([shared] * 3), padded):
        assert_exact(catalog.top_k(queries, 40, form), vectors, None, queries, 40, [shared] * 3)
    ragged: Any = [np.array([1, 2]), [], (3,)]
    assert_exact(catalog.top_k(queries, 9, ragged), vectors, None, queries, 9, ragged)
    for nothing in (None, [], [[], [], []], np.zeros((3, 0), np.int64), np.full((3, 2), -1), np.array([])):
        assert_same(catalog.top_k(queries, 9, nothing), catalog.top_k(queries, 9))
    everything = catalog.top_k(queries, 9, range(40))
    assert everything.counts.tolist() == [0, 0, 0]
    assert (everything.indices == -1).all()


@pytest.mark.parametrize("family", [gaussian, heavy_tailed, duplicate, huge])
def test_results_do_not_depend_on_batch_or_threads(family: Callable[..., np.ndarray]) -> None:
    vectors, queries = random_case(family, 40_000, 32, batch=70)
    catalog = Catalog.from_vectors(vectors, threads=1)
    exclude = np.random.default_rng(3).integers(-1, 40_000, size=(70, 5))
    whole = catalog.top_k(queries, 20, exclude, threads=1)
    for threads in (2, 5):
        other = Catalog.from_vectors(vectors, threads=threads)
        for name in ("codes", "scales", "errors", "norms"):
            assert torch.equal(getattr(other, name), getattr(catalog, name))
        assert_same(other.top_k(queries, 20, exclude, threads=threads), whole)
    for query in (0, 17, 69):
        one = catalog.top_k(queries[query], 20, exclude[query], threads=3)
        assert_same(one, TopK(*(part[query : query + 1] for part in whole)))


def all_parts(cases: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Codes and results of the cases, by case and part."""
    parts = {}
    for name in sorted({key.split(".")[0] for key in cases}):
        catalog = Catalog.from_vectors(cases[name + ".vectors"], bias=cases[name + ".bias"])
        result = catalog.top_k(cases[name + ".queries"], 50)
        parts |= {f"{name}.{part}": values for part, values in result._asdict().items()}
        parts |= {f"{name}.{part}": getattr(catalog, part).numpy() for part in ("codes", "scales", "errors", "norms")}
    return parts


def test_results_do_not_depend_on_the_instruction_set(tmp_path: Path) -> None:
    cases = {}
    for number, d in enumerate((1, 7, 64, 65, 200)):
        for family in FAMILIES:
            vectors, queries = random_case(family, 900, d, batch=4)
            bias = np.random.default_rng(number).normal(size=900).astype(np.float32)
            cases |= {f"{family.__name__}{d}.{part}": v for part, v in
                      (("vectors", vectors), ("queries", queries), ("bias", bias))}  # fmt: skip
    np.savez(tmp_path / "cases.npz", **cases)
    here, info = all_parts(cases), _core.build_info()
    assert len(here) == 5 * len(FAMILIES) * 7
    others = [isa for isa in info["runnable_isas"] if isa != info["isa"]]
    if not others:
        pytest.skip(f"this machine runs {info['isa']} only")
    for isa in others:
        command = [sys.executable, __file__, str(tmp_path / "cases.npz"), str(tmp_path / f"{isa}.npz")]
        subprocess.run(command, check=True, env={**os.environ, "LSIF_CPU_ISA": isa})
        there = dict(np.load(tmp_path / f"{isa}.npz"))
        assert there.pop("isa") == isa
        assert there.keys() == here.keys()
        for name, values in there.items():
            assert values.tobytes() == here[name].tobytes(), (isa, name)


def test_unknown_instruction_set_is_refused() -> None:
    # The extension module alone, which needs no torch.
    script = (
        "import importlib.util as u, sys; spec = u.spec_from_file_location('_core', sys.argv[1]); "
        "core = u.module_from_spec(spec); spec.loader.exec_module(core); core.build_info()"
    )
    command = [sys.executable, "-c", script, str(_core.__file__)]
    done = subprocess.run(command, env={**os.environ, "LSIF_CPU_ISA": "mmx"}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "LSIF_CPU_ISA: expected one of" in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].endswith("got 'mmx'")


@st.composite
def small_cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, d = draw(st.integers(1, 120)), draw(st.integers(1, 70))
    scale = 10.0 ** draw(st.integers(-15, 15))
    vectors = (scale * rng.normal(size=(n, d))).astype(np.float32)
    bias = (scale * rng.normal(size=n)).astype(np.float32) * draw(st.sampled_from([0.0, 1.0]))
    return vectors, bias.astype(np.float32), rng.normal(size=(2, d)).astype(np.float32), draw(st.integers(1, 130))


@given(small_cases(), st.randoms(use_true_random=False))
@PROPERTY
def test_renumbering_items_renumbers_results(case: Any, random: Any) -> None:
    vectors, bias, queries, k = case
    order = np.array(random.sample(range(len(vectors)), len(vectors)))
    before = Catalog.from_vectors(vectors, bias=bias).top_k(queries, k)
    after = Catalog.from_vectors(vectors[order], bias=bias[order]).top_k(queries, k)
    np.testing.assert_array_equal(before.scores, after.scores)
    for query, count in enumerate(before.counts):
        scores = before.scores[query, :count]
        untied = ~np.isin(
            scores, [s for s, times in zip(*np.unique(scores, return_counts=True), strict=True) if times > 1]
        )
        if count:
            untied &= scores != scores[-1]  # which may be tied with a row left out
        np.testing.assert_array_equal(
            before.indices[query, :count][untied], order[after.indices[query, :count][untied]]
        )


@given(small_cases())
@PROPERTY
def test_adding_an_excluded_item_changes_nothing(case: Any) -> None:
    vectors, bias, queries, k = case
    before = Catalog.from_vectors(vectors, bias=bias).top_k(queries, k)
    more = np.concatenate([vectors, 10 * queries[:1] * np.abs(vectors).max()]).astype(np.float32)
    catalog = Catalog.from_vectors(more, bias=np.append(bias, np.float32(0)))
    assert_same(catalog.top_k(queries, k, exclude=[len(vectors)]), before)


@given(small_cases(), st.integers(1, 20))
@PROPERTY
def test_a_shorter_list_is_the_beginning_of_a_longer_one(case: Any, more: int) -> None:
    vectors, bias, queries, k = case
    catalog = Catalog.from_vectors(vectors, bias=bias)
    short, long = catalog.top_k(queries, k), catalog.top_k(queries, k + more)
    assert_same(short, TopK(long.scores[:, :k], long.indices[:, :k], np.minimum(long.counts, k)))


@given(small_cases())
@PROPERTY
def test_scores_are_those_of_score_items(case: Any) -> None:
    vectors, bias, queries, k = case
    catalog = Catalog.from_vectors(vectors, bias=bias)
    result = catalog.top_k(queries, k)
    count = int(result.counts[0])
    rows = torch.from_numpy(result.indices[:, :count].copy())
    scores = ops.score_items(torch.from_numpy(queries)[:, None], None, 1.0, catalog.vectors, catalog.bias, rows)
    np.testing.assert_array_equal(scores.numpy(), result.scores[:, :count])


def as_memmap(array: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "vectors.npy", array)
    return np.load(folder / "vectors.npy", mmap_mode="r")


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
        torch.nn.Parameter(torch.from_numpy(vectors)), as_memmap(vectors, tmp_path),
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
    mapped = as_memmap(vectors, tmp_path)
    assert Catalog.from_vectors(mapped).vectors.data_ptr() == mapped.ctypes.data
    # The catalogue alone keeps the mapping alive.
    catalog = Catalog.from_vectors(as_memmap(vectors, tmp_path))
    assert_exact(catalog.top_k(queries, 5), vectors, None, queries, 5)


def test_empty_catalogue_and_empty_batch() -> None:
    empty = Catalog.from_vectors(np.zeros((0, 4), np.float32))
    assert (len(empty), empty.dim, empty.code_bytes) == (0, 4, 0)
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
    assert catalog.code_bytes == 3 * (64 + 3 * 4)


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
    # Nothing is returned, so nothing is too large.
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
    ({"vectors": np.ones((2, 2), complex)}, ArgumentTypeError, "vectors: expected an array of numbers"),
    ({"vectors": np.ones((2, 2), bool)}, ArgumentTypeError, "vectors: expected an array of numbers"),
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
    ({"ids": [1]}, ArgumentError, "ids: expected 2 ids, one a row, got 1"),
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
    ({"k": 0}, ArgumentError, r"k: expected an integer in \[1, 2147483647\], got 0"),
    ({"k": -1}, ArgumentError, "k: expected an integer in .*, got -1"),
    ({"k": 2**70}, ArgumentError, "k: expected an integer in"),
    ({"k": 1.5}, ArgumentTypeError, "k: expected an integer, got float"),
    ({"k": True}, ArgumentTypeError, "k: expected an integer, got bool"),
    ({"k": None}, ArgumentTypeError, "k: expected an integer, got NoneType"),
    ({"k": np.array(3)}, ArgumentTypeError, "k: expected an integer, got ndarray"),
    ({"threads": 0}, ArgumentError, "threads: expected an integer in .*, got 0"),
    ({"threads": -2}, ArgumentError, "threads: expected an integer in .*, got -2"),
    ({"threads": 2**70}, ArgumentError, "threads: expected an integer in"),
    ({"threads": True}, ArgumentTypeError, "threads: expected an integer or None, got bool"),
    ({"threads": "2"}, ArgumentTypeError, "threads: expected an integer or None, got str"),
    ({"exclude": [20]}, ArgumentError, r"exclude: expected rows in \[0, 19\] \(or -1, ignored\), got 20"),
    ({"exclude": [-2]}, ArgumentError, "exclude: expected rows in .*, got -2"),
    ({"exclude": [[1], [2]]}, ArgumentError, r"exclude: expected one list a query \(3\), got 2 lists"),
    ({"exclude": [[1], 2, [3]]}, ArgumentError, "exclude: expected row numbers, or one list of them a query"),
    (
        {"exclude": np.zeros((3, 1, 1), int)},
        ArgumentError,
        "exclude: expected row numbers, or one list of them a query",
    ),
    ({"exclude": np.array(1)}, ArgumentError, "exclude: expected row numbers, or one list of them a query"),
    ({"exclude": 1}, ArgumentTypeError, "exclude: expected row numbers, or one list of them a query, got int"),
    ({"exclude": {1, 2}}, ArgumentTypeError, "exclude: expected row numbers, or one list of them a query, got set"),
    ({"exclude": "12"}, ArgumentTypeError, "exclude: expected row numbers, or one list of them a query, got str"),
    ({"exclude": iter([1])}, ArgumentTypeError, "exclude: expected row numbers, or one list of them a query"),
    ({"exclude": [1.0]}, ArgumentTypeError, "exclude: expected row numbers, got float"),
    ({"exclude": [True]}, ArgumentTypeError, "exclude: expected row numbers, got bool"),
    ({"exclude": ["1"]}, ArgumentTypeError, "exclude: expected row numbers, got str"),
    ({"exclude": [None]}, ArgumentTypeError, "exclude: expected row numbers, got NoneType"),
]


@pytest.mark.parametrize(("changes", "error", "message"), TOP_K_ERRORS, ids=[m for _, _, m in TOP_K_ERRORS])
def test_top_k_errors(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    catalog = Catalog.from_vectors(np.ones((20, 4)))
    with pytest.raises(error, match=message):
        catalog.top_k(**{"queries": Q, "k": 3, **changes})


if __name__ == "__main__":  # of test_results_do_not_depend_on_the_instruction_set
    np.savez(sys.argv[2], isa=_core.build_info()["isa"], **all_parts(np.load(sys.argv[1])))
