"""The bonus for items of the user's own history on the native request path, against the float64 torch module."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import native
from encode_cases import TRANSFORMER
from lsif_sdk import _core
from lsif_sdk.artifact import Artifact
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ArtifactError
from lsif_sdk.evaluation import evaluate, leave_one_out
from lsif_sdk.evaluation.scorer import RecommenderScorer
from lsif_sdk.event_log import EventLog
from lsif_sdk.events import Events
from lsif_sdk.model import InterestFusionModel
from lsif_sdk.recommender import Recommender

NUM_ITEMS = 300  # more than the 53 of other tests, so that most are in no history
MULTI = {"scoring": "multi_interest", "temperature": 0.5, "normalize_items": True}
CONFIGS: dict[str, dict[str, Any]] = {
    "hstu": {},
    "hstu, request time": {"request_time": True},
    "transformer, request time": {**TRANSFORMER, "request_time": True},
    "transformer, no times": {**TRANSFORMER, "use_times": False},
    "multi_interest": {**MULTI, "request_time": True},
    "multi_interest, no times": {**MULTI, "use_times": False, "num_long": 0, "num_short": 0},
}
ARTIFACTS = {
    name: native.make_artifact(native.make_config(num_items=NUM_ITEMS, repeats=True, **changes))
    for name, changes in CONFIGS.items()
}
PATHS = {name: native.request_path(artifact) for name, artifact in ARTIFACTS.items()}
LENGTHS = (0, 1, 2, 17, 500, 0, 60, 5)
TOLERANCE = 1e-4
Exclude = tuple[np.ndarray | None, np.ndarray | None]
NOTHING: Exclude = (None, None)


def random_batch(name: str, seed: int = 3, times: str = "mixed", now: str = "mixed", lengths=LENGTHS) -> native.Batch:
    """Histories with repeated items: a user has about a third as many items as events."""
    batch = native.random_batch(ARTIFACTS[name].config, lengths, seed, times, now)
    rng = np.random.default_rng(seed)
    parts = [rng.integers(NUM_ITEMS, size=1 + n // 3)[rng.integers(1 + n // 3, size=n)] for n in lengths]
    return batch.replace(items=np.concatenate(parts))


def recommend(
    name: str, batch: native.Batch, k: int, exclude: Exclude = NOTHING, threads: int = 1, exclude_seen: bool = False
) -> native.Arrays:
    columns = batch.items, batch.times, batch.actions, batch.offsets, batch.now
    arrays: native.Arrays = PATHS[name].recommend(*columns, k, exclude_seen, *exclude, threads=threads)
    return arrays


def all_scores(name: str, batch: native.Batch) -> np.ndarray:
    """Scores of all items [batch, num_items], from `recommend`."""
    scores, rows, counts, _ = recommend(name, batch, NUM_ITEMS)
    assert (counts == NUM_ITEMS).all()
    assert (np.sort(rows, axis=1) == np.arange(NUM_ITEMS)).all()
    return np.take_along_axis(scores, rows.argsort(axis=1), axis=1)


def best(scores: np.ndarray, unwanted: np.ndarray, k: int) -> np.ndarray:
    """The answer `recommend` should give one user: rows by score, then by row."""
    order = np.lexsort((np.arange(len(scores)), -scores))
    return order[~np.isin(order, unwanted)][:k]


def same(a: native.Arrays, b: native.Arrays) -> bool:
    return all(map(np.array_equal, a, b))


# ---- Against the torch module


@pytest.mark.parametrize("times", native.TIME_KINDS)
@pytest.mark.parametrize("name", CONFIGS)
def test_scores_are_those_of_the_torch_module_in_float64(name, times):
    batch = random_batch(name, times=times, now="known" if times == "huge" else "mixed")
    expected = native.reference_scores(ARTIFACTS[name], batch)
    assert np.abs(all_scores(name, batch) - expected).max() < TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("now", native.NOW_KINDS)
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_the_bonus_is_that_of_the_torch_module_from_the_same_state(name, now):
    artifact, batch = ARTIFACTS[name], random_batch(name, seed=4, now=now)
    newest = np.ascontiguousarray(batch.encode(PATHS[name])[1][:, -1])
    arrays = batch.items, batch.times, batch.offsets, batch.now
    rows, values, offsets = PATHS[name].repeat_bonus(*arrays, newest, 2)
    module = InterestFusionModel.from_weights(artifact.config, artifact.weights, dtype=torch.float64).repeats
    for user, length in enumerate(LENGTHS):
        events, own = (slice(o[user], o[user + 1]) for o in (batch.offsets, offsets))
        assert rows[own].tolist() == sorted(set(batch.items[events].tolist()))
        if length == 0:
            continue
        items, times = (torch.from_numpy(column[events])[None] for column in (batch.items, batch.times))
        asked = times[:, -1:]
        if artifact.config.request_time and batch.now is not None and batch.now[user] != native.UNKNOWN_TIME:
            asked = torch.tensor([[batch.now[user]]])
        distance = torch.arange(length).flip(0)[None, None]
        state = torch.from_numpy(newest[user]).double()[None, None]
        bonus = module(state, items, times, asked, distance, artifact.weights.get("time_boundaries"))
        expected = [float(bonus.of(torch.tensor([[row]]))) for row in rows[own]]
        np.testing.assert_allclose(values[own], expected, rtol=2e-7, atol=1e-12)


@pytest.mark.parametrize("name", ["hstu, request time", "transformer, no times"])
def test_every_weight_of_the_bonus_matters_far_more_than_the_tolerance(name):
    artifact, batch = ARTIFACTS[name], random_batch(name)
    before = native.reference_scores(artifact, batch)
    names = [key for key, _, _ in _core.weight_specs(artifact.config.to_dict()) if key.startswith("repeats.")]
    assert len(names) == (5 if artifact.config.use_times else 3)
    for key in names:
        weights = {**artifact.weights, key: native.random_weights(artifact.config, seed=5)[key]}
        after = native.reference_scores(dataclasses.replace(artifact, weights=weights), batch)
        assert np.abs(after - before).max() > 20 * TOLERANCE * np.abs(before).max(), key


def test_times_as_far_apart_as_an_int64_allows_are_told_apart():
    """The difference of two int64 may not fit an int64; it saturates."""
    artifact = ARTIFACTS["hstu, request time"]
    ends = np.iinfo(np.int64)
    newest, offsets = np.zeros((1, artifact.config.dim), np.float32), np.array([0, 1])
    values = [
        PATHS["hstu, request time"].repeat_bonus(np.array([3]), np.array([then]), offsets, np.array([now]), newest)[1]
        for then, now in ((ends.min + 1, ends.max), (ends.max, ends.min + 1))
    ]
    w = {key: artifact.weights[f"repeats.{key}"].double() for key in ("gate.bias", "distance", "age", "phase")}
    common = w["gate.bias"][0] + w["distance"][0]
    hours = ends.max // 3600
    for value, bucket, phase in ((values[0], -1, 1 + hours % 168), (values[1], 1, 1)):
        expected = float((common + w["age"][bucket] + w["phase"][phase]).exp().log1p())
        assert value.tolist() == pytest.approx([expected], rel=2e-7)


# ---- The best k, exactly


@pytest.mark.parametrize("k", [1, 8, NUM_ITEMS - 20, NUM_ITEMS + 7])
@pytest.mark.parametrize("exclude", ["nothing", "own items", "own items and others", "everything"])
@pytest.mark.parametrize("name", ["hstu, request time", "multi_interest"])
def test_recommend_is_a_sort_of_all_scores(name, exclude, k):
    batch = random_batch(name)
    scores = all_scores(name, batch)
    rng = np.random.default_rng(1)
    lists = []
    for user in range(len(batch)):
        own = rng.permutation(batch.items[batch.offsets[user] : batch.offsets[user + 1]])[: 1 + user]
        others = rng.integers(NUM_ITEMS, size=30 * user)
        choice = {"nothing": own[:0], "own items": own, "everything": np.arange(NUM_ITEMS)}
        lists.append(choice.get(exclude, np.concatenate([others, own])))
    offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in lists])])
    got = recommend(name, batch, k, NOTHING if exclude == "nothing" else (np.concatenate(lists), offsets))
    for user, unwanted in enumerate(lists):
        expected = best(scores[user], unwanted, k)
        count = got[2][user]
        assert got[1][user, :count].tolist() == expected.tolist()
        assert got[0][user, :count].tolist() == scores[user, expected].tolist()
        assert (got[1][user, count:] == -1).all() and not got[0][user, count:].any()


@pytest.mark.parametrize("scoring", ["fused", "multi_interest"])
def test_items_with_equal_scores_come_by_row_own_or_not(scoring):
    config = native.make_config(repeats=True, num_long=0, num_short=0, scoring=scoring)
    artifact = native.make_artifact(config)
    artifact.weights["item_embedding"].zero_()  # an item's score is its bias
    bias = artifact.weights["catalog.bias"].zero_()
    batch = native.random_batch(config, (3,), 1).replace(items=np.array([30, 20, 30]))
    newest = np.ascontiguousarray(batch.encode(native.request_path(artifact))[1][:, -1])
    path = native.request_path(artifact)
    rows, values, _ = path.repeat_bonus(batch.items, batch.times, batch.offsets, None, newest)
    assert rows.tolist() == [20, 30] and values.min() > 0
    bias[20] = 1.0
    bias[30] = 2.0
    bias[[3, 25, 40]] = bias[20] + float(values[0])
    bias[[29, 31]] = bias[30] + float(values[1])
    path = native.request_path(artifact)
    columns = batch.items, batch.times, batch.actions, batch.offsets, batch.now
    groups = sorted([(bias[3].item(), [3, 20, 25, 40]), (bias[29].item(), [29, 30, 31])], reverse=True)
    expected = groups[0][1] + groups[1][1]
    for k in range(1, 8):
        scores, indices, counts, _ = path.recommend(*columns, k, False, None, None)
        assert (indices[0].tolist(), counts.tolist()) == (expected[:k], [k])
    assert len(set(scores[0].tolist())) == 2


@pytest.mark.parametrize("name", ["hstu", "multi_interest"])
def test_without_the_items_of_the_history_nothing_changes(name):
    artifact, batch = ARTIFACTS[name], random_batch(name)
    weights = {key: value for key, value in artifact.weights.items() if not key.startswith("repeats.")}
    config = dataclasses.replace(artifact.config, repeats=False)
    plain = native.request_path(Artifact(config, weights, artifact.items))
    columns = batch.items, batch.times, batch.actions, batch.offsets, batch.now
    assert same(recommend(name, batch, 9, exclude_seen=True), plain.recommend(*columns, 9, True, None, None))
    assert same(batch.encode(PATHS[name]), batch.encode(plain))


# ---- Bit for bit: a user's result depends on the user alone


@pytest.mark.parametrize("name", ["hstu, request time", "multi_interest"])
@given(st.lists(st.integers(0, 90), min_size=1, max_size=8), st.integers(1, 40), st.integers(2, 6), st.integers(0, 999))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_batch_order_and_threads_do_not_change_a_bit(name, lengths, k, threads, seed):
    batch = random_batch(name, seed, lengths=lengths)
    together = recommend(name, batch, k)
    assert same(recommend(name, batch, k, threads=threads), together)
    order = np.random.default_rng(seed).permutation(len(batch))
    assert same(recommend(name, batch.select(order), k, threads=threads), tuple(part[order] for part in together))
    alone = [recommend(name, batch.select([user]), k) for user in range(len(batch))]
    assert same(tuple(map(np.concatenate, zip(*alone, strict=True))), together)


# ---- Recommender, artifact and evaluation


@pytest.mark.parametrize("name", CONFIGS)
def test_scores_of_given_items_are_those_of_recommend(name):
    recommender = Recommender(ARTIFACTS[name])
    batch = random_batch(name, times="sorted")
    histories = []
    for user in range(len(batch)):
        events = slice(batch.offsets[user], batch.offsets[user + 1])
        histories.append(Events(batch.items[events], batch.times[events], batch.actions[events]))
    candidates = np.random.default_rng(0).integers(NUM_ITEMS, size=(len(batch), 50))
    candidates[:, :3] = [[h.items[0]] * 3 if len(h.items) else [1, 2, 1] for h in histories]
    scores = recommender.score(histories, candidates, now=native.NOW)
    result = recommender.recommend(histories, NUM_ITEMS, now=native.NOW, exclude_seen=False)
    for user, history in enumerate(histories):
        if len(history.items) == 0:
            bias = recommender.artifact.catalog_bias.numpy()
            assert scores[user].tolist() == bias[candidates[user]].tolist()
        else:
            by_item = dict(result[user])
            assert scores[user].tolist() == [by_item[item] for item in candidates[user].tolist()]
    assert recommender.score([], [1, 2]).shape == (1, 2)

    states = [recommender.new_state(history) for history in histories]
    of_states = recommender.score(state=states, candidates=candidates, now=native.NOW)
    result = recommender.recommend(state=states, k=NUM_ITEMS, now=native.NOW, exclude_seen=False)
    for user, history in enumerate(histories):
        by_item = dict(result[user])
        bias = dict(enumerate(recommender.artifact.catalog_bias.tolist()))
        expected = by_item if len(history.items) else bias
        assert of_states[user].tolist() == [expected[item] for item in candidates[user].tolist()]
    np.testing.assert_allclose(of_states, scores, rtol=1e-4, atol=1e-4)


def test_an_artifact_keeps_the_weights_of_the_bonus(tmp_path: Path):
    artifact = ARTIFACTS["hstu, request time"]
    first = Recommender(artifact)
    first.save(tmp_path / "model")
    second = Recommender.load(tmp_path / "model")
    history = Events([5, 9, 5, 12], native.NOW - np.array([90_000, 3600, 60, 0]))
    one, other = (r.recommend(history, 20, now=native.NOW, exclude_seen=False) for r in (first, second))
    assert np.array_equal(one.scores, other.scores) and np.array_equal(one.items, other.items)
    weights = {key: value for key, value in artifact.weights.items() if key != "repeats.phase"}
    with pytest.raises(ArtifactError, match=r"missing repeats\.phase"):
        dataclasses.replace(artifact, weights=weights)
    with pytest.raises(ArtifactError, match=r"unknown repeats\.age, repeats\.distance, repeats\.gate\.bias"):
        dataclasses.replace(artifact, config=dataclasses.replace(artifact.config, repeats=False))


class TorchScorer:
    """The torch module in float64 as a scorer; the log's item ids are rows of its catalogue."""

    def __init__(self, artifact: Artifact, history: EventLog, now: np.ndarray | None) -> None:
        self.artifact, self.history, self.now = artifact, history, now

    def scores(self, user_rows: np.ndarray) -> np.ndarray:
        users = [self.history.user(row) for row in user_rows]
        items, times = (np.concatenate([getattr(user, column) for user in users]) for column in ("items", "times"))
        offsets = np.concatenate([[0], np.cumsum([len(user.items) for user in users])])
        now = None if self.now is None else self.now[user_rows]
        items = self.history.item_ids[items]
        batch = native.Batch(items, times if self.artifact.config.use_times else None, None, offsets, now)
        return native.reference_scores(self.artifact, batch)[:, self.history.item_ids]


@pytest.mark.filterwarnings("ignore:recommender reads action types")
@pytest.mark.parametrize("name", CONFIGS)
def test_evaluation_is_that_of_the_torch_module(name):
    artifact = ARTIFACTS[name]
    batch = random_batch(name, lengths=(5, 9, 30, 12, 3, 3, 80, 7) * 5, times="sorted")
    ids = np.random.default_rng(0).permutation(NUM_ITEMS)  # in another order than the catalogue's
    log = EventLog(np.arange(len(batch)), ids, batch.offsets, ids.argsort()[batch.items], times=batch.times)
    split = leave_one_out(log)
    now = split.test_times if artifact.config.request_time else None
    recommender, scorer = Recommender(artifact), TorchScorer(artifact, split.test_history, now)
    users = np.arange(len(batch))
    expected = scorer.scores(users)
    got = RecommenderScorer(recommender, split.test_history, now).scores(users)
    assert np.abs(got - expected).max() < TOLERANCE * np.abs(expected).max()
    ours, theirs = (evaluate(model, split, exclude_seen=False, progress=False) for model in (recommender, scorer))
    assert ours.num_repeated > 0
    for key, value in theirs.metrics.items():
        assert ours.metrics[key] == pytest.approx(value, abs=2e-3), key


# ---- Refusals


def test_a_bonus_is_refused_by_name_where_there_is_none():
    plain = native.make_artifact(native.make_config())
    rows, offsets, newest = np.array([1, 2]), np.array([0, 2]), np.zeros((1, 12), np.float32)
    with pytest.raises(ArgumentError, match=r"^repeats: expected a model with this option, got one without$"):
        Recommender(plain).repeat_bonus_rows(rows, None, offsets, None, newest)
    recommender = Recommender(ARTIFACTS["hstu"])
    assert recommender.repeat_bonus_rows(rows, None, offsets, None, newest).rows.tolist() == [1, 2]
    for changes, message in (
        ({"newest": newest[:, 1:]}, r"newest: expected shape \[1, 12\], got \[1, 11\]"),
        ({"newest": newest.astype(float)}, "newest: expected dtype float32, got float64"),
        ({"items": np.array([1, NUM_ITEMS])}, r"items: expected values in \[0, 299\], got 300 at position 1"),
        ({"offsets": np.array([0, 1])}, r"offsets: expected a last value of 2 .*"),
    ):
        arguments = {"items": rows, "times": None, "offsets": offsets, "now": None, "newest": newest} | changes
        with pytest.raises(ArgumentError, match=f"^{message}$"):
            recommender.repeat_bonus_rows(**arguments)
    with pytest.raises(ArgumentTypeError, match=r"^times: expected a contiguous int64 array"):
        recommender.repeat_bonus_rows(rows, [1, 2], offsets, None, newest)


def test_the_torch_module_takes_the_weights_it_exports():
    artifact = ARTIFACTS["hstu"]
    # In float64, where the differences between a table's values, and their sums, are practically exact.
    again = InterestFusionModel.from_weights(artifact.config, artifact.weights, dtype=torch.float64).export_weights()
    assert all(torch.equal(again[key], value) for key, value in artifact.weights.items() if "repeats." in key)
    assert artifact.weights["repeats.phase"].shape == (169,)
