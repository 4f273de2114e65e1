"""The native encoder against the torch module in float64, on every instruction set, and bit for bit against itself."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import encode_cases
import native
from lsif_sdk import _core
from lsif_sdk.errors import ArgumentError
from lsif_sdk.events import Events
from lsif_sdk.model import UNKNOWN_TIME
from lsif_sdk.recommender import Recommender

ISA = _core.build_info()["isa"]
OTHER_ISAS = [isa for isa in _core.build_info()["runnable_isas"] if isa != ISA]

quick = settings(max_examples=30, deadline=None, derandomize=True)


def run_with_isa(isa: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Python with another LSIF_CPU_ISA: a process decides once which kernels it uses."""
    env = {**os.environ, "LSIF_CPU_ISA": isa}
    return subprocess.run([sys.executable, *args], env=env, capture_output=True, text=True, timeout=300, check=False)


# ---- Against the torch module


@pytest.mark.parametrize("name", encode_cases.CASES)
def test_encode_is_the_torch_module_in_float64(name):
    case = encode_cases.CASES[name]
    artifact, batch = case.artifact(), case.batch()
    actual = batch.encode(native.request_path(artifact), 2)
    assert native.encode_error(artifact, batch, actual) < encode_cases.TOLERANCE
    recommender = Recommender(artifact, threads=1)
    by_rows = recommender.encode_rows(batch.items, batch.times, batch.actions, batch.offsets, batch.now)
    for native_part, rows_part, op_part in zip(actual, by_rows, native.encode_op(artifact, batch), strict=True):
        assert native_part.dtype == rows_part.dtype == op_part.dtype == np.float32
        assert np.array_equal(native_part, rows_part)
        assert np.array_equal(native_part, op_part)


@pytest.mark.parametrize("isa", OTHER_ISAS)
def test_encode_is_the_torch_module_on_every_other_isa_of_this_machine(isa):
    result = run_with_isa(isa, str(Path(encode_cases.__file__)))
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["isa"] == isa
    assert report["errors"].keys() == encode_cases.CASES.keys()
    assert {name: error for name, error in report["errors"].items() if not error < encode_cases.TOLERANCE} == {}


def test_an_unknown_isa_is_refused_with_the_ones_to_choose_from():
    result = run_with_isa("nonsense", "-c", "from lsif_sdk import _core; _core.build_info()")
    assert result.returncode != 0
    for part in ("RuntimeError: LSIF_CPU_ISA: expected one of", ISA, "got 'nonsense'"):
        assert part in result.stderr.splitlines()[-1]


@st.composite
def models_and_batches(draw):
    """Any config, and histories around its window."""
    heads = draw(st.integers(1, 4))
    use_times = draw(st.booleans())
    config = native.make_config(
        dim=heads * draw(st.integers(1, 9)),
        num_heads=heads,
        block=draw(st.sampled_from(["hstu", "transformer"])),
        activation=draw(st.sampled_from(["relu", "gelu", "silu"])),
        num_layers=draw(st.integers(1, 3)),
        window=draw(st.integers(1, 9)),
        num_long=draw(st.integers(0, 5)),
        num_short=draw(st.integers(0, 3)),
        short_window=draw(st.integers(1, 12)),
        pooling_dim=draw(st.integers(1, 20)),
        fusion_dim=draw(st.integers(1, 20)),
        ffn_dim=draw(st.integers(1, 40)),
        use_times=use_times,
        request_time=use_times and draw(st.booleans()),
        num_time_boundaries=draw(st.integers(1, 70)),
        num_actions=draw(st.integers(0, 3)),
        norm_eps=draw(st.sampled_from([1e-5, 1e-2])),
    )
    lengths = draw(st.lists(st.integers(0, 40), min_size=1, max_size=6))
    kinds = draw(st.sampled_from(native.TIME_KINDS)), draw(st.sampled_from(native.NOW_KINDS))
    seed = draw(st.integers(0, 10**6))
    batch = native.random_batch(config, lengths, seed, *kinds, actions=draw(st.booleans()))
    return native.make_artifact(config, seed), batch


@given(models_and_batches())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_encode_is_the_torch_module_for_any_config(problem):
    artifact, batch = problem
    assert native.encode_error(artifact, batch, native.encode_op(artifact, batch)) < encode_cases.TOLERANCE


@pytest.mark.parametrize("changes", [{}, encode_cases.TRANSFORMER], ids=["hstu", "transformer"])
def test_every_weight_matters_far_more_than_the_tolerance(changes):
    config = native.make_config(request_time=True, **changes)
    artifact = native.make_artifact(config)
    batch = native.random_batch(config, (9, 30), 3)
    expected = native.reference(artifact, batch)
    for name in [name for name, _, _ in _core.weight_specs(config.to_dict()) if name != "time_boundaries"]:
        changed = native.make_artifact(config)
        changed.weights[name].copy_(native.random_weights(config, seed=5)[name])
        moved = native.relative_error(native.reference(changed, batch)[0], expected[0])
        assert moved > 20 * encode_cases.TOLERANCE, name


# ---- Bit for bit: a user's result depends on the user alone


MODELS = {
    "hstu": native.make_artifact(native.make_config(request_time=True, dim=20, num_heads=2)),
    "transformer": native.make_artifact(native.make_config(request_time=True, dim=15, **encode_cases.TRANSFORMER)),
}
PATHS = {name: native.request_path(artifact) for name, artifact in MODELS.items()}
LENGTHS = (0, 1, 2, 6, 7, 8, 63, 64, 65, 129, 300, 3)


def same(a: native.Arrays, b: native.Arrays) -> bool:
    return all(map(np.array_equal, a, b))


def rows(arrays: native.Arrays, users) -> native.Arrays:
    return tuple(array[list(users)] for array in arrays)


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_is_its_users_one_by_one(name):
    batch = native.random_batch(MODELS[name].config, LENGTHS, 4, "mixed", "mixed")
    together = batch.encode(PATHS[name])
    for user in range(len(batch)):
        assert same(batch.select([user]).encode(PATHS[name]), rows(together, [user]))


@st.composite
def compositions(draw):
    lengths = draw(st.lists(st.integers(0, 90), min_size=1, max_size=10))
    order = draw(st.permutations(range(len(lengths))))
    cuts = sorted(draw(st.lists(st.integers(0, len(lengths)), max_size=3)))
    return lengths, order, [0, *cuts, len(lengths)], draw(st.integers(1, 6)), draw(st.integers(0, 999))


@pytest.mark.parametrize("name", MODELS)
@given(compositions())
@quick
def test_order_chunks_and_threads_do_not_change_a_bit(name, composition):
    lengths, order, cuts, threads, seed = composition
    batch = native.random_batch(MODELS[name].config, lengths, seed, "mixed", "mixed")
    expected = batch.encode(PATHS[name], 1)
    for count in (threads, 2, 4, 0):
        assert same(batch.encode(PATHS[name], count), expected)
    assert same(batch.select(order).encode(PATHS[name], threads), rows(expected, order))
    for begin, end in itertools.pairwise(cuts):
        users = range(begin, end)
        assert same(batch.select(users).encode(PATHS[name], threads), rows(expected, users))


@pytest.mark.parametrize("name", MODELS)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=4),
    st.integers(-(10**14), 10**14),
    st.sampled_from(native.TIME_KINDS[:-2]),
    st.integers(0, 999),
)
@quick
def test_only_differences_of_times_count(name, lengths, shift, kind, seed):
    batch = native.random_batch(MODELS[name].config, lengths, seed, kind, "mixed")

    def shifted(times):
        return np.where(times == UNKNOWN_TIME, times, times + shift)

    later = batch.replace(times=shifted(batch.times), now=shifted(batch.now))
    # Differences of integers are exact, and so is everything made of them.
    assert same(later.encode(PATHS[name]), batch.encode(PATHS[name]))


# ---- The receptive field


def receptive_field(config) -> int:
    """Events the states can depend on (docs/model.md, 2 and 3)."""
    return config.num_layers * (config.window - 1) + (config.short_window if config.num_short else 1)


def with_other_past(batch: native.Batch, kept: int, seed: int) -> native.Batch:
    """Other items, times and actions for all but the newest `kept` events of every user."""
    rng = np.random.default_rng(seed)
    age = np.repeat(batch.offsets[1:], np.diff(batch.offsets)) - np.arange(len(batch.items))
    old = age > kept
    items = np.where(old, (batch.items + rng.integers(1, 50, len(old))) % 53, batch.items)
    times = np.where(old, batch.times - rng.integers(0, 10**7, len(old)), batch.times)
    return batch.replace(items=items, times=times, actions=np.where(old, 4 - batch.actions, batch.actions))


@st.composite
def encoders(draw):
    return native.make_config(
        num_long=0,
        num_short=draw(st.integers(0, 2)),
        short_window=draw(st.integers(1, 6)),
        window=draw(st.integers(1, 6)),
        num_layers=draw(st.integers(1, 3)),
        block=draw(st.sampled_from(["hstu", "transformer"])),
        request_time=draw(st.booleans()),
    )


@given(encoders(), st.lists(st.integers(0, 60), min_size=1, max_size=4), st.integers(0, 999))
@quick
def test_without_long_term_interests_older_events_do_not_change_a_bit(config, lengths, seed):
    artifact = native.make_artifact(config, seed)
    batch = native.random_batch(config, lengths, seed)
    other = with_other_past(batch, receptive_field(config), seed)
    assert same(native.encode_op(artifact, other), native.encode_op(artifact, batch))


@pytest.mark.parametrize("num_short", [0, 2])
@pytest.mark.parametrize("block", ["hstu", "transformer"])
def test_the_receptive_field_is_used_in_full(block, num_short):
    config = native.make_config(num_long=0, num_short=num_short, block=block, window=3)
    artifact = native.make_artifact(config)
    batch = native.random_batch(config, [40])
    other = with_other_past(batch, receptive_field(config) - 1, 1)
    assert not same(native.encode_op(artifact, other), native.encode_op(artifact, batch))


def test_long_term_interests_read_every_event():
    config = native.make_config()
    artifact = native.make_artifact(config)
    batch = native.random_batch(config, [500], times="identical")
    other = batch.replace(items=np.concatenate([(batch.items[:1] + 1) % config.num_items, batch.items[1:]]))
    _, changed, _ = native.encode_op(artifact, other)
    _, interests, _ = native.encode_op(artifact, batch)
    assert not np.array_equal(changed[0, 0], interests[0, 0])
    assert np.array_equal(changed[0, config.num_long :], interests[0, config.num_long :])


# ---- Histories with ids


IDS = [f"item {row}" for row in range(53)]
RECOMMENDERS = {
    scoring: Recommender(
        native.make_artifact(
            native.make_config(request_time=True, scoring=scoring, temperature=0.3, normalize_items=scoring != "fused"),
            ids=IDS,
        )
    )
    for scoring in ("fused", "multi_interest")
}


@st.composite
def histories_with_unknown_items(draw):
    """Events, and the same without those of items the catalogue does not know."""
    known = draw(st.lists(st.booleans(), max_size=30))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    items = [IDS[rng.integers(53)] if k else f"nobody's {rng.integers(9)}" for k in known]
    times = native.NOW - rng.integers(0, 10**6, len(known)) if draw(st.booleans()) else None
    actions = rng.integers(0, 5, len(known)) if draw(st.booleans()) else None
    mask = np.array(known, bool)
    kept = Events(
        [item for item, k in zip(items, known, strict=True) if k],
        None if times is None else times[mask],
        None if actions is None else actions[mask],
    )
    return Events(items, times, actions), kept


@given(st.lists(histories_with_unknown_items(), min_size=1, max_size=3))
@quick
def test_events_of_unknown_items_are_as_if_they_were_not_there(pairs):
    recommender = RECOMMENDERS["fused"]
    histories, kept = (list(users) for users in zip(*pairs, strict=True))
    assert same(recommender.encode(histories, now=native.NOW), recommender.encode(kept, now=native.NOW))
    result, expected = (recommender.recommend(users, 5, now=native.NOW) for users in (histories, kept))
    assert np.array_equal(result.items, expected.items)
    assert np.array_equal(result.scores, expected.scores)
    assert result.unknown.tolist() == [len(h) - len(k) for h, k in zip(histories, kept, strict=True)]
    assert expected.unknown.tolist() == [0] * len(kept)


# ---- Recommendations


def brute_force(recommender: Recommender, encoded) -> np.ndarray:
    """Scores of all items, float64 [batch, num_items] (docs/model.md, 5), from float32 interests and weights."""
    vectors = recommender.artifact.catalog_vectors.double().numpy()
    bias = recommender.artifact.catalog_bias.double().numpy()
    if recommender.config.scoring == "fused":
        return encoded.fused.astype(np.float64) @ vectors.T + bias
    tau = recommender.config.temperature
    logits = encoded.interests.astype(np.float64) @ vectors.T / tau
    with np.errstate(divide="ignore"):
        logits += np.log(encoded.weights.astype(np.float64))[..., None]
    return tau * np.logaddexp.reduce(logits, axis=1) + bias


@pytest.mark.parametrize("k", [1, 7, 53, 60])
@pytest.mark.parametrize("exclude", ["nothing", "one list", "one a user"])
@pytest.mark.parametrize("exclude_seen", [True, False], ids=["unseen", "all"])
@pytest.mark.parametrize("scoring", RECOMMENDERS)
def test_recommend_is_brute_force_in_float64_over_all_items(scoring, exclude_seen, exclude, k):
    recommender = RECOMMENDERS[scoring]
    rng = np.random.default_rng(11)
    histories = [
        Events([IDS[row] for row in rng.integers(53, size=length)], native.NOW - np.arange(length)[::-1] * 40_000)
        for length in (1, 2, 8, 25, 120, 3, 5, 500)
    ]
    one_a_user = [IDS[user : 6 * user] for user in range(len(histories))]
    given_lists = {"nothing": None, "one list": IDS[:20], "one a user": one_a_user}[exclude]
    excluded = {"nothing": [[]] * 8, "one list": [IDS[:20]] * 8, "one a user": one_a_user}[exclude]

    result = recommender.recommend(histories, k, now=native.NOW, exclude_seen=exclude_seen, exclude=given_lists)
    scores = brute_force(recommender, recommender.encode(histories, now=native.NOW))
    assert not result.fallback.any()
    for user, history in enumerate(histories):
        unwanted = {*excluded[user], *(history.items if exclude_seen else [])}
        allowed = [row for row in range(53) if IDS[row] not in unwanted]
        got = result[user]
        found = [IDS.index(item) for item in got.items]
        assert len(found) == len(set(found)) == min(k, len(allowed))
        assert set(found) <= set(allowed)
        # The score is one rounding to float32 from the exact one; float64 sums in another order may tip it over.
        ulp = np.spacing(np.abs(scores[user]).astype(np.float32)).astype(np.float64)
        assert np.all(np.abs(got.scores - scores[user, found]) <= 0.51 * ulp[found])
        # Best first, and none left out that is better by more than a rounding.
        best = np.sort(scores[user, allowed])[::-1][: len(found)]
        assert np.all(np.diff(got.scores) <= 0)
        assert np.all(np.abs(scores[user, found] - best) <= ulp[found])
        assert result.items[user, len(found) :].tolist() == [None] * (k - len(found))


@pytest.mark.parametrize("scoring", RECOMMENDERS)
def test_scores_of_given_items_are_those_of_recommend(scoring):
    recommender = RECOMMENDERS[scoring]
    histories = [IDS[:9], IDS[30:31], []]
    scores = recommender.score(histories, IDS, now=native.NOW)
    result = recommender.recommend(histories[:2], 53, now=native.NOW, exclude_seen=False)
    for user in range(2):
        by_item = dict(result[user])
        assert [by_item[item] for item in IDS] == scores[user].tolist()
    assert np.array_equal(scores[2], recommender.artifact.catalog_bias.numpy())


def test_a_user_without_known_events_gets_the_most_popular_items():
    recommender = RECOMMENDERS["multi_interest"]
    counts = recommender.items.counts
    result = recommender.recommend([["nobody's"], IDS[:3], []], 53, exclude=IDS[5:9], now=native.NOW)
    assert result.fallback.tolist() == [True, False, True]
    order = [row for row in np.lexsort((np.arange(53), -counts)) if not 5 <= row < 9]
    for user in (0, 2):
        assert result[user].fallback == "popularity"
        assert result[user].items.tolist() == [IDS[row] for row in order]
        assert result[user].scores.tolist() == counts[order].tolist()
    alone = recommender.recommend(IDS[:3], 53, exclude=IDS[5:9], now=native.NOW)[0]
    assert list(alone) == list(result[1])


# ---- Arguments


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": np.array([0, 53, 1])}, r"items: expected values in \[0, 52\], got 53 at position 1"),
        ({"items": np.array([0, -1, 1])}, r"items: expected values in \[0, 52\], got -1 at position 1"),
        ({"actions": np.array([0, 4, 5])}, r"actions: expected values in \[0, 4\], got 5 at position 2"),
        ({"actions": np.array([0, 4])}, r"actions: expected shape \[3\], got \[2\]"),
        ({"times": np.array([0, 4, 5, 6])}, r"times: expected shape \[3\], got \[4\]"),
        ({"items": np.array([[0, 1, 2]])}, r"items: expected shape \[3\], got \[1, 3\]"),
        ({"now": np.array([1])}, r"now: expected shape \[2\], got \[1\]"),
        ({"offsets": np.array([0, 4, 3])}, "offsets: expected non-decreasing values, got a decrease at position 2"),
        ({"offsets": np.array([1, 2, 3])}, "offsets: expected a first value of 0, got 1"),
        ({"offsets": np.array([0, 1, 2])}, "offsets: expected a last value of 3 .*, got 2"),
        ({"offsets": np.array([0, 1, 2**62])}, "offsets: expected a last value of 3 .*, got 4611686018427387904"),
        ({"offsets": np.array([0, -5, 3])}, "offsets: expected non-decreasing values, got a decrease at position 1"),
        ({"offsets": np.zeros(0, np.int64)}, "offsets: expected at least one value, got none"),
    ],
)
def test_encode_rows_refuses_what_it_cannot_use_by_name(changes, message):
    batch = native.random_batch(native.make_config(), [1, 2]).replace(**changes)
    with pytest.raises(ArgumentError, match="^" + message + "$"):
        RECOMMENDERS["fused"].encode_rows(batch.items, batch.times, batch.actions, batch.offsets, batch.now)


@pytest.mark.parametrize("threads", [-1, 2**40])
def test_a_number_of_threads_that_cannot_be_is_refused(threads):
    batch = native.random_batch(native.make_config(), [1])
    with pytest.raises(ValueError, match=rf"^threads: expected an integer in \[0, 4096\], got {threads}$"):
        batch.encode(PATHS["hstu"], threads)
