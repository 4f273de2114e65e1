"""bench/: answers are checked before anything is timed, and rows describe what was measured."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import time

import numpy as np
import pytest
import torch

import lsif_sdk
from bench_modules import bench_run
from checks import agree, close, recall
from implementations import Implementation, build_all
from live import changes, latencies
from lsif_sdk import Recommender
from lsif_sdk.integrations import SQLiteStore
from lsif_sdk.training import read_events
from measure import Timing, calls_per_turn, interleave, turn_order
from own_model import own_vectors
from recommender_cases import build
from request_cases import random_artifact
from serve import highest_rate, implementations, sustain
from stores import calls, timed
from topk import quality
from topk_approximate import tuned
from topk_problem import exact_scores, make_problem, sample

FIELDS = {
    "case", "impl", "params", "threads", "isa", "median_us", "p10_us", "p90_us", "p99_us", "samples", "ratio", "bytes",
    "flops", "unit", "pct_ceiling", "max_error", "recall", "build_s", "index_bytes", "commit", "cpu",
}  # fmt: skip
run_script = bench_run()


def options(case: str, *more: str):
    sizes = ["--num-items", "500", "--dim", "16", "--seq-len", "6", "--seconds", "0.01", "--impl", "lsif,torch"]
    return run_script.options_of([case, *sizes, *more])


@pytest.fixture(scope="module")
def problem():
    return make_problem(num_items=700, dim=16, data="clustered", batch=4, num_interests=1, k=5, threads=1)


def found(problem, indices, **others):
    """An implementation that answers every batch with the given rows."""
    answers = np.split(np.asarray(indices), len(indices) // problem.batch)
    return Implementation(call=lambda index: answers[index], inputs=range(len(answers)), **others)


@pytest.mark.parametrize(
    ("case", "more"),
    [
        ("score_topk", ()),
        ("score_topk", ("--batch", "3", "--data", "isotropic")),
        ("score_topk", ("--interests", "3", "--impl", "lsif,lsif_one")),
        ("score_topk", ("--allowed", "0.1", "--batch", "2", "--impl", "lsif,torch_mask,torch_gather,torch_subset")),
        ("encode", ()),
        ("encode", ("--model", "hstu", "--batch", "2")),
        ("append", ("--model", "hstu", "--batch", "2", "--impl", "lsif,lsif_whole")),
        ("recommend", ("--batch", "2")),
        ("recommend", ("--model", "transformer")),
        ("load", ("--impl", "lsif")),
    ],
)
def test_rows_of_every_case(case, more):
    chosen = options(case, *more)
    rows = run_script.rows_of(case, chosen, None)
    assert [row["impl"] for row in rows] == chosen.impl.split(",")
    for row in rows:
        assert set(row) == FIELDS
        assert json.loads(json.dumps(row)) == row
        assert row["p10_us"] <= row["median_us"] <= row["p90_us"] <= row["p99_us"]
        assert row["samples"] >= 7
        assert row["pct_ceiling"] is None
        if case in ("score_topk", "recommend"):
            assert row["recall"] > 0.998
        if case in ("score_topk", "encode", "append"):
            assert row["max_error"] < 1e-5
    assert rows[0]["ratio"] == 1
    assert len(rows) == 1 or rows[1]["ratio"] == pytest.approx(rows[1]["median_us"] / rows[0]["median_us"])


def test_bytes_and_flops_of_a_scan():
    ours, theirs = run_script.rows_of("score_topk", options("score_topk", "--batch", "2"), None)
    catalog = lsif_sdk.Catalog.from_vectors(np.ones((500, 16), np.float32))
    assert ours["bytes"] == catalog.code_bytes
    assert theirs["bytes"] == 500 * 16 * 4
    assert ours["flops"] == theirs["flops"] == 2 * 500 * 16 * 2


def test_a_peer_with_a_wrong_answer_is_not_timed(problem):
    best = problem.exact.indices
    wrong = best.copy()
    wrong[7, 2] = (set(range(700)) - set(best[7])).pop()  # one of 1,280 results: a tie may cause that
    assert quality("peer", found(problem, wrong), problem).recall == pytest.approx(1 - 1 / 1280)
    wrong[9, 0] = (set(range(700)) - set(best[9])).pop()
    with pytest.raises(SystemExit, match=r"peer: 0\.2% of the results are not the exact ones"):
        quality("peer", found(problem, wrong), problem)
    with pytest.raises(SystemExit, match=r"expected results of shape \(256, 5\), got \(256, 4\)"):
        quality("peer", found(problem, best[:, :4]), problem)


def test_items_and_users_may_be_those_of_a_model(shop_model, shop_events, tmp_path):
    recommender = Recommender.load(shop_model)
    strangers = tmp_path / "events.csv"
    strangers.write_text(shop_events.read_text() + "nobody,unknown,1\n")
    log = read_events(strangers)
    drawn = np.random.default_rng(0).permutation(log.num_users)
    rows = [row for row in drawn if log.user_ids[row] != "nobody"]
    items, users = own_vectors(shop_model, strangers, 200)  # the shop has 60 users
    scores = users @ items.T
    expected = recommender.score(log.history(int(rows[0])), list(recommender.items))
    np.testing.assert_allclose(scores[0], expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(users[: 200 - len(rows)], users[len(rows) :])
    of_model = "--artifact", str(shop_model), "--events", str(shop_events)
    run = options("score_topk", *of_model, "--k", "3")
    of_us, of_torch = run_script.rows_of("score_topk", run, None)
    assert of_us["params"] == of_us["params"] | {"num_items": 30, "dim": 16, "data": "model"}
    assert of_us["recall"] == of_torch["recall"] == 1
    for more in (("--artifact", str(shop_model)), ("--events", "x"), (*of_model, "--interests", "2")):
        with pytest.raises(SystemExit, match="--artifact, --events: expected both, and one interest"):
            run_script.rows_of("score_topk", options("score_topk", *more), None)
    with pytest.raises(SystemExit):
        options("recommend", *of_model)
    with pytest.raises(SystemExit, match="without repeats"):
        build(repeats=True).save(tmp_path / "repeats")
        own_vectors(tmp_path / "repeats", shop_events, 2)
    with pytest.raises(SystemExit, match="with scoring='fused'"):
        build("multi_interest").save(tmp_path / "several")
        own_vectors(tmp_path / "several", shop_events, 2)


def test_order_within_a_result_does_not_matter(problem):
    result = quality("peer", found(problem, problem.exact.indices[:, ::-1]), problem)
    assert result.recall == 1
    assert result.max_error == 0


def test_an_approximate_peer_gets_its_recall_and_is_refused_below_its_least(problem):
    indices = problem.exact.indices.copy()
    indices[:, -1] = -1  # four of five found
    assert quality("graph", found(problem, indices, min_recall=0.5), problem).recall == pytest.approx(0.8)
    with pytest.raises(SystemExit, match=r"graph: recall 0\.800, below 0\.9; nothing timed"):
        quality("graph", found(problem, indices, min_recall=0.9), problem)


def test_max_error_is_what_the_items_found_fall_short_by(problem):
    indices = problem.exact.indices.copy()
    worst = np.array([np.argmin(problem.vectors @ q) for q in problem.interests[:, 0]])
    indices[:, 0] = worst
    result = quality("rough", found(problem, indices, min_recall=0.1), problem)
    scores = exact_scores(problem.vectors, problem.interests, None, worst[:, None])[:, 0]
    shortest = (problem.exact.scores[:, -1] - scores).max() / np.abs(problem.exact.scores).max()
    assert result.max_error == pytest.approx(shortest)


@pytest.mark.parametrize("num_interests", [1, 4])
def test_the_exact_answer_is_that_of_float64(num_interests):
    one = make_problem(num_items=17_000, dim=8, data="isotropic", batch=3, num_interests=num_interests, k=7, threads=1)
    products = one.interests.astype(np.float64) @ one.vectors.astype(np.float64).T
    scores = products[:, 0] if one.weights is None else np.log((one.weights[..., None] * np.exp(products)).sum(1))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(one.exact.indices, order)
    np.testing.assert_allclose(one.exact.scores, np.take_along_axis(scores, order, 1), rtol=1e-7)


def test_vectors_have_clusters_or_not_and_their_norms():
    clustered, isotropic = (sample(4000, 32, data, seed=1) for data in ("clustered", "isotropic"))
    for vectors in (clustered, isotropic):
        logs = np.log(np.linalg.norm(vectors, axis=1))
        assert abs(logs.mean()) < 0.02
        assert logs.std() == pytest.approx(0.3, rel=0.05)

    def nearest_cosines(vectors):
        directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        queries = sample(50, 32, "clustered", seed=2)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        return np.sort(queries @ directions.T, axis=1)[:, -5:]

    assert nearest_cosines(clustered).min() > 0.6  # users are near items
    assert nearest_cosines(isotropic).max() < 0.85
    unit = sample(4000, 32, "unit", seed=1)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    assert nearest_cosines(unit).max() < 0.85


def test_values_beyond_rounding_are_refused():
    exact = np.array([[1.0, -4.0]])
    assert close("peer", exact + 2e-4, exact, 1e-4) == pytest.approx(5e-5)
    with pytest.raises(SystemExit, match=r"peer: differs by 2\.5e-04 of the largest value, above 1e-04"):
        close("peer", exact + 1e-3, exact, 1e-4)
    with pytest.raises(SystemExit, match="differs by nan"):
        close("peer", exact * np.nan, exact, 1e-4)
    with pytest.raises(SystemExit, match=r"expected values of shape \(1, 2\), got \(2, 1\)"):
        close("peer", exact.T, exact, 1e-4)


def test_a_wrong_encoder_is_not_timed():
    case = run_script.CASES["encode"](options("encode"))
    right = case.implementations["torch"]
    wrong = dataclasses.replace(right, call=lambda items: right.call(items.flip(1)))  # newest first
    with pytest.raises(SystemExit, match=r"reversed: differs by .* nothing timed"):
        case.check("reversed", wrong)
    half = dataclasses.replace(right, read=lambda answer: answer.to(torch.bfloat16).float().numpy())
    with pytest.raises(SystemExit):
        case.check("half", half)
    assert 1e-4 < case.check("half", dataclasses.replace(half, tolerance=2e-2)).max_error < 1e-2


def test_recall_counts_items_once_and_not_the_missing_ones():
    expected = np.array([[1, 2], [3, 4]])
    assert recall(np.array([[2, 1], [4, 3]]), expected) == 1
    assert recall(np.array([[2, 2], [-1, 3]]), expected) == 0.5
    agree("peer", np.array([[2, 1], [4, 3]]), expected)


def test_an_index_is_set_to_the_least_effort_that_reaches_the_recall(problem):
    def make(effort):
        indices = np.where(np.arange(problem.k) < effort / 8, problem.exact.indices, -1)
        return found(problem, indices, settings={"effort": effort})

    assert tuned("index", make, problem, 0.5).settings["effort"] == 24
    assert tuned("index", make, problem, 0.99).settings["effort"] == 48
    assert tuned("index@8", make, problem, 0.99).settings["effort"] == 8


def test_a_kept_index_is_that_of_its_vectors(problem, tmp_path):
    def kept_sum(vectors):
        one = dataclasses.replace(problem, vectors=vectors, kept=tmp_path, indexes={})
        build, save = (lambda: float(vectors.sum())), (lambda index, path: pathlib.Path(path).write_text(str(index)))
        return one.kept_index("tree-1.2.3", build, save, lambda path: float(pathlib.Path(path).read_text()))[0]

    for _ in range(2):  # built, then read
        for vectors in (problem.vectors, problem.vectors + 1):
            assert kept_sum(vectors) == float(vectors.sum())
    assert len(list(tmp_path.iterdir())) == 4


def test_names_unknown_or_not_installed(capsys):
    def absent(name):
        raise ImportError("No module named 'absent'")

    one = Implementation(call=len, inputs=["x"])
    builders = {"here": lambda name: one, "absent": absent}
    assert build_all(builders, ["here@3", "absent"]) == {"here@3": one}
    assert "absent left out: No module named 'absent'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="expected some of here, absent, got nowhere"):
        build_all(builders, ["here", "nowhere"])
    with pytest.raises(SystemExit, match="expected an installed one, got absent"):
        build_all(builders, ["absent"])


def test_turns_and_percentiles():
    called = []
    runs = {name: (lambda name=name: called.append(name)) for name in "ab"}
    timings = interleave(runs, seconds=0.0, min_turns=9)
    calls = called.count("a")
    assert timings["a"].samples.size >= 9
    assert calls >= timings["a"].samples.size + 9  # one call of each turn is not counted
    assert "".join(called).count("ab") >= 9  # interleaved
    timing = Timing(np.arange(101.0))
    assert [timing.percentile(q) for q in (10, 50, 99)] == [10, 50, 99]
    assert calls_per_turn(lambda: None) == 500


def test_first_calls_do_not_say_how_many_fill_a_turn(monkeypatch):
    clock = {"now": 0.0, "costs": iter([2e-3, *[1e-5] * 1000])}

    def run():
        clock["now"] += next(clock["costs"])

    monkeypatch.setattr("measure.time.perf_counter", lambda: clock["now"])
    assert calls_per_turn(run) in (200, 201)  # not 1, although the slow first call fills a turn


def test_settings_of_an_index_do_not_follow_each_other():
    names = ["lsif", "tree@4", "tree@8", "tree@16", "graph@4", "graph@8", "graph@16"]
    assert turn_order(names) == ["lsif", "tree@4", "graph@4", "tree@8", "graph@8", "tree@16", "graph@16"]
    assert list(interleave({name: (lambda: None) for name in names}, seconds=0.0)) == names  # rows keep their order


def test_inputs_take_turns():
    seen = []
    run = Implementation(call=seen.append, inputs=[1, 2, 3]).run()
    for _ in range(5):
        run()
    assert seen == [1, 2, 3, 1, 2]


def test_latencies_count_from_the_arrival_and_rates_rise_until_the_bound(tmp_path):
    slow = sustain(lambda number: time.sleep(0.004), rate=1000.0, seconds=0.05, callers=1)
    assert slow.p99_ms > 50  # about 50 arrivals in 50 ms take 200 ms one after another
    chosen = argparse.Namespace(seconds=0.05, callers=2, p99_ms=20.0, json=tmp_path / "steps.jsonl", num_items=1)
    best = highest_rate(lambda number: time.sleep(0.002), chosen, "sleeper")
    steps = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert steps[-1]["p99_ms"] > 20 and [step["rate"] for step in steps] == sorted(step["rate"] for step in steps)
    assert best is None if len(steps) == 1 else best.rate == steps[-2]["rate"]


def test_serving_implementations_answer_alike():
    options = argparse.Namespace(
        num_items=400, dim=8, seq_len=5, model="sasrec", k=5, batch=1, num_heads=1, callers=2, p99_ms=1.0
    )
    calls = implementations(options)
    assert np.array_equal(np.asarray(calls["lsif"](3), np.int64), np.asarray(calls["torch"](3)))


def test_stores_are_timed_with_and_without(tmp_path):
    recommender = Recommender(random_artifact(argparse.Namespace(model="hstu", dim=8), 50), threads=1)
    with SQLiteStore(tmp_path / "users.db") as store:
        times = timed(calls(recommender, {"sqlite": store}, seq_len=5), rounds=2)
        assert len(times) == 6 and all(len(values) == 2 and min(values) > 0 for values in times.values())
        assert len(store.read("recorded").events) == len(store.read("appended").events) == 7


def test_changes_of_a_live_catalogue_are_changes():
    recommender = Recommender(random_artifact(argparse.Namespace(model="hstu", dim=8), 1500), threads=1)
    live = lsif_sdk.LiveRecommender(recommender, keep=2)
    versions = []
    for change in changes(live, argparse.Namespace(num_items=1500, dim=8)).values():
        took = latencies(live, [lsif_sdk.Events([1, 2])], lambda change=change: [change(i) for i in range(2)])
        assert min(took, default=1.0) > 0
        versions.append(live.version)
    assert versions == [2, 4, 6, 8, 10, 14]
    assert len(live.current.items) == 1500 + 2 * 1 + 2 * 1000
