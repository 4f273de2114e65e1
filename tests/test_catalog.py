"""Catalog.top_k: exact against a float64 oracle, and the same for any batch, number of threads and ISA."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_cases import (
    EXACT,
    FAMILIES,
    assert_exact,
    assert_same,
    duplicate,
    gaussian,
    heavy_tailed,
    huge,
    random_case,
    zero,
)
from lsif_sdk import Catalog, TopK, _core
from lsif_sdk.ops import ops

PROPERTY = settings(max_examples=25, deadline=None, derandomize=True)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("d", [1, 2, 3, 7, 8, 16, 17, 31, 64, 65, 128, 512])
def test_equals_the_oracle(family: Callable[..., np.ndarray], d: int) -> None:
    rng = np.random.default_rng(d)
    for n, k in ((0, 3), (1, 1), (1, 5), (2, 1), (33, 33), (600, 1), (600, 10), (600, 700), (1500, 1000)):
        vectors, queries = random_case(family, n, d, batch=3)
        catalog = Catalog.from_vectors(vectors)
        assert_exact(catalog.top_k(queries, k), vectors, None, queries, k)
        # A bias as large as the scores, so that it matters; and different rows excluded for each query.
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
    for form in (ragged, [{1, 2}, None, {3}], [[1, 2], None, frozenset([3])]):
        assert_exact(catalog.top_k(queries, 9, form), vectors, None, queries, 9, ragged)
    assert_same(catalog.top_k(queries, 40, set(shared)), catalog.top_k(queries, 40, shared))
    assert_same(catalog.top_k(queries, 9, [None] * 3), catalog.top_k(queries, 9))
    for form in (*flat, [shared], np.array([shared]), padded[:1]):
        assert_exact(catalog.top_k(queries[:1], 40, form), vectors, None, queries[:1], 40, [shared])
    assert_same(catalog.top_k(queries[0], 9, []), catalog.top_k(queries[0], 9))
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
        assert torch.equal(other.codes, catalog.codes)
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
        parts[f"{name}.codes"] = catalog.codes.numpy()
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
    assert len(here) == 5 * len(FAMILIES) * 4
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
    command = [sys.executable, "-c", "import lsif_sdk"]
    done = subprocess.run(command, env={**os.environ, "LSIF_CPU_ISA": "mmx"}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("lsif_sdk.errors.SettingError: LSIF_CPU_ISA: expected one of")
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
            untied &= scores != scores[-1]  # the last may be tied with a row that is not among the k best
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


if __name__ == "__main__":  # run by test_results_do_not_depend_on_the_instruction_set
    np.savez(sys.argv[2], isa=_core.build_info()["isa"], **all_parts(np.load(sys.argv[1])))
