"""The native encoder against the float64 torch module, on every instruction set, and bit for bit against itself."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import encode_cases
import native
from lsif_sdk import _core
from lsif_sdk.errors import ArgumentError
from lsif_sdk.model import UNKNOWN_TIME
from lsif_sdk.recommender import Recommender

ISA = _core.build_info()["isa"]
OTHER_ISAS = [isa for isa in _core.build_info()["runnable_isas"] if isa != ISA]

quick = settings(max_examples=30, deadline=None, derandomize=True)


def run_with_isa(isa: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with another LSIF_CPU_ISA, because a process chooses its kernels only once."""
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
    for part in ("SettingError: LSIF_CPU_ISA: expected one of", ISA, "got 'nonsense'"):
        assert part in result.stderr.splitlines()[-1]


@st.composite
def models_and_batches(draw):
    """Any config, and histories of lengths around its window."""
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
    batch = native.random_batch(config, (9, 30, 17, 40, 25), 3)
    expected = native.reference(artifact, batch)
    for name in [name for name, _, _ in _core.weight_specs(config.to_dict()) if name != "time_boundaries"]:
        changed = native.make_artifact(config)
        changed.weights[name].copy_(native.random_weights(config, seed=5)[name])
        moved = max(map(native.relative_error, native.reference(changed, batch), expected))
        assert moved > 20 * encode_cases.TOLERANCE, name


def test_random_weights_depend_on_their_seed_alone():
    config = native.make_config()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = native.random_weights(config, seed=3)
        torch.manual_seed(2)
        state = torch.get_rng_state()
        second = native.random_weights(config, seed=3)
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(native.random_weights(config, seed=4)["item_embedding"], first["item_embedding"])


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
    # Differences of integer times are exact, and so are all results computed from them.
    assert same(later.encode(PATHS[name]), batch.encode(PATHS[name]))


# ---- The receptive field


def receptive_field(config) -> int:
    """How many newest events the states can depend on (docs/model.md, 2 and 3)."""
    return config.num_layers * (config.window - 1) + (config.short_window if config.num_short else 1)


def with_other_past(batch: native.Batch, kept: int, seed: int) -> native.Batch:
    """The batch with other items, times and actions for all but the newest `kept` events of every user."""
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
    recommender = Recommender(native.make_artifact(native.make_config()))
    batch = native.random_batch(recommender.config, [1, 2]).replace(**changes)
    with pytest.raises(ArgumentError, match="^" + message + "$"):
        recommender.encode_rows(batch.items, batch.times, batch.actions, batch.offsets, batch.now)


@pytest.mark.parametrize("threads", [-1, 2**40])
def test_a_number_of_threads_that_cannot_be_is_refused(threads):
    batch = native.random_batch(native.make_config(), [1])
    with pytest.raises(ValueError, match=rf"^threads: expected an integer in \[0, 4096\], got {threads}$"):
        batch.encode(PATHS["hstu"], threads)
