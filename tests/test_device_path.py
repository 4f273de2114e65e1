"""Requests answered by torch ops on a device, compared item by item with the native request path."""

from __future__ import annotations

import concurrent.futures
import gc
import weakref

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import native as native_cases
import test_precision
from device_cases import DEVICES, assert_same, kept_ops_of, memory_of, on_device, pair, prepare
from lsif_sdk import Events, LiveRecommender, Recommender, catalog_edit
from lsif_sdk.device.layout import Shape
from lsif_sdk.device.work import DeviceWork
from lsif_sdk.errors import ArgumentError
from recommender_cases import HISTORIES, build

pytestmark = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def stand_in(device, monkeypatch):
    return prepare(device, monkeypatch)


@pytest.fixture
def without_gc():
    gc.disable()
    yield
    gc.enable()


SHAPES = {
    "fused": {},
    "several interests": {"scoring": "multi_interest"},
    "transformer": {"block": "transformer", "num_heads": 2},
    "request time": {"use_times": True, "request_time": True, "num_actions": 3},
    "repeats": {"repeats": True},
    "repeats, several interests": {"repeats": True, "scoring": "multi_interest", "request_time": True},
    "newest state alone": {"num_long": 0, "num_short": 0},
}
NOW = 1_700_000_000


def histories(seed: int = 0, users: int = 20, timed: bool = False) -> list[Events]:
    """Random histories; some have no events, some only unknown items."""
    rng = np.random.default_rng(seed)
    result = []
    for user in range(users):
        count = int(rng.integers(0, 30)) if user % 5 else 0
        items = [f"i{row}" for row in rng.integers(0, 50, count)]  # rows from 40 on are unknown
        times = np.sort(NOW - rng.integers(0, 10**7, count)) if timed else None
        actions = rng.integers(1, 3, count) if timed else None
        result.append(Events(items, times=times, actions=actions))
    return result


REQUESTS = {
    "plain": {},
    "seen may come": {"exclude_seen": False},
    "excluded": {"exclude": ["i1", "i5", "nowhere"]},
    "excluded for each": {"exclude": [["i1"], None] * 10, "exclude_seen": False},
    "allowed": {"allow": [f"i{row}" for row in range(0, 40, 3)]},
    "allowed for each": {"allow": [["i2", "i3", "i4"], None] * 10},
    "few allowed": {"allow": ["i1", "i2"], "k": 7},
    "long-term": {"interest": "long"},
    "a share": {"interest": 0.3, "exclude_seen": False},
    "all": {"k": 60},
    "diverse": {"diversity": 0.5, "k": 5},
    "at a time": {"now": NOW + 3600},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("request_name", REQUESTS)
def test_the_answer_is_the_native_one(device, shape, request_name):
    fields = SHAPES[shape]
    native, device_rec = pair(device, **fields)
    options = dict(REQUESTS[request_name])
    if fields.get("num_long") == 0 and options.get("interest") not in (None, 0):
        for recommender in (native, device_rec):
            with pytest.raises(ArgumentError, match=r"^interest: expected 0, for this model has no long"):
                recommender.recommend(HISTORIES, **options)
        return
    users = histories(timed="num_actions" in fields)
    # A diverse answer is not the beginning of the answer for a larger k.
    more = None if "diversity" in options else native.recommend(users, **options | {"k": options.get("k", 10) + 1})
    assert_same(device, native.recommend(users, **options), device_rec.recommend(users, **options), more)
    users = [users[1]]  # a batch of one
    if not isinstance(options.get("exclude", options.get("allow")), list) or "for each" not in request_name:
        assert_same(device, native.recommend(users, **options), device_rec.recommend(users, **options))


@pytest.mark.parametrize("shape", ["fused", "request time", "repeats", "repeats, several interests"])
@pytest.mark.parametrize("request_name", REQUESTS)
def test_nobody_has_to_be_left_out(device, shape, request_name):
    """If all users have events, the answer is the search's, unchanged."""
    native, device_rec = pair(device, **SHAPES[shape])
    timed = "num_actions" in SHAPES[shape]
    users = [user for user in histories(7, users=60, timed=timed) if len(user) > 8][:20]
    assert len(users) == 20
    options = dict(REQUESTS[request_name])
    more = None if "diversity" in options else native.recommend(users, **options | {"k": options.get("k", 10) + 1})
    expected, actual = native.recommend(users, **options), device_rec.recommend(users, **options)
    assert not expected.fallback.any()
    assert_same(device, expected, actual, more)
    assert actual.scores.base is None and actual.counts.base is None  # nothing else is kept
    if not timed:
        states = [native.new_state(user) for user in users]
        expected, actual = (rec.recommend(state=states, **options) for rec in (native, device_rec))
        assert_same(device, expected, actual, more)


@pytest.mark.parametrize("shape", SHAPES)
def test_interests_scores_and_explanations(device, shape):
    native, device_rec = pair(device, **SHAPES[shape])
    users = histories(1)
    tolerance = {"rtol": 0, "atol": 0} if device == "cpu" else {"rtol": 1e-4, "atol": 1e-4}
    for expected, actual in zip(native.encode(users), device_rec.encode(users), strict=True):
        np.testing.assert_allclose(actual, expected, **tolerance)
    candidates = ["i0", "i7", "i39"]
    np.testing.assert_allclose(device_rec.score(users, candidates), native.score(users, candidates), **tolerance)
    assert device_rec.explain(["i1", "i2"], "i3") == native.explain(["i1", "i2"], "i3")
    assert_same(device, native.similar_items(["i1", "i2"], 5), device_rec.similar_items(["i1", "i2"], 5))


@pytest.mark.parametrize("shape", ["fused", "repeats", "repeats, several interests"])
@pytest.mark.parametrize("request_name", ["plain", "seen may come", "excluded", "a share", "at a time"])
def test_states_are_kept_on_the_host_and_searched_for_on_the_device(device, shape, request_name):
    native, device_rec = pair(device, **SHAPES[shape])
    users = histories(2, timed=True)
    users = [Events(user.items, times=user.times) for user in users]
    states = [native.new_state(user, remember=4) for user in users]
    assert states == [device_rec.new_state(user, remember=4) for user in users]
    options = REQUESTS[request_name]
    assert_same(device, native.recommend(state=states, **options), device_rec.recommend(state=states, **options))


def test_nobody_and_nothing(device):
    native, device_rec = pair(device)
    for users in ([[]], [[], ["new"]], np.zeros((0, 0), np.int64)):
        if len(users) == 0:
            native, device_rec = pair(device, ids=np.arange(40))
        assert_same(device, native.recommend(users), device_rec.recommend(users))
    encoded = device_rec.encode([[], []])
    assert [part.shape[0] for part in encoded] == [2, 2, 2] and not encoded.fused.any()


# ---- Live catalogues


def test_the_devices_copy_follows_the_catalogue(device):
    native, device_rec = pair(device)
    lives = LiveRecommender(native), LiveRecommender(device_rec)
    rng = np.random.default_rng(0)
    users = histories(3)
    held = lives[1].current, lives[1].current.recommend(users)
    for step in range(4):
        vectors = rng.standard_normal((2, 12)).astype(np.float32)
        for live in lives:
            live.upsert(["i3", f"added {step}"], vectors)
            live.hide(["i5"] if step == 0 else ["i6"])
            if step == 2:
                live.remove(["i7", "added 0"])
            if step == 3:
                live.rollback()
        assert_same(device, *(live.current.recommend(users, k=45) for live in lives))
    assert_same(device, held[1], held[0].recommend(users))  # the first snapshot has not changed


def test_what_did_not_change_is_not_copied_again(device):
    _, device_rec = pair(device)
    live = LiveRecommender(device_rec)
    live.hide(["i5"])
    assert live.current._path is device_rec._path
    live.upsert(["i5"], np.ones((1, 12), np.float32))
    path = live.current._path
    assert path is not device_rec._path
    assert path._work.encoder is device_rec._path._work.encoder  # the encoder's tensors are the same
    live.upsert(["added"], np.ones((1, 12), np.float32))
    assert live.current._path._work.encoder is not path._work.encoder
    norm = live.current.artifact.weights["norm.weight"]
    assert live.current._path._tensors.on_device(norm) is device_rec._path._tensors.on_device(norm)


def test_threads_that_ask_while_the_catalogue_changes(device):
    _, device_rec = pair(device)
    live = LiveRecommender(device_rec, keep=0)
    users = histories(4, users=8)
    answers = {}

    def ask(_):
        snapshot = live.current
        return snapshot, snapshot.recommend(users, k=5)

    def change(step):
        vector = np.full((1, 12), 0.1 * step, np.float32)
        live.upsert([f"added {step % 3}"], vector)
        return None

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        done = [pool.submit(change if i % 10 == 0 else ask, i) for i in range(100)]
        for future in done:
            if (result := future.result()) is not None:
                answers.setdefault(result[0].version, []).append(result)
    for given in answers.values():
        alone = on_device(given[0][0], device).recommend(users, k=5)
        for snapshot, answer in given:
            np.testing.assert_array_equal(answer.items, alone.items)
            np.testing.assert_array_equal(answer.scores, alone.scores)
            assert answer.version == snapshot.version


@pytest.mark.parametrize("block", ["hstu", "transformer"])
def test_bfloat16_is_near_float32(device, block):
    native = build(block=block)
    rounded = Recommender(native.artifact, precision="bfloat16")
    device_rec = on_device(native, device, precision="bfloat16")
    users = histories(timed=True)
    exact, expected = native.encode(users), rounded.encode(users)
    assert device_rec.precision == "bfloat16"
    if device == "cpu":
        assert_same(device, rounded.recommend(users), device_rec.recommend(users))
    for name in ("fused", "interests", "weights"):
        actual = getattr(device_rec.encode(users), name)
        error = native_cases.relative_error(actual, getattr(exact, name).astype(np.float64))
        assert error < test_precision.TOLERANCE
        if device == "cpu":
            np.testing.assert_array_equal(actual, getattr(expected, name))
    assert not np.array_equal(device_rec.encode(users).fused, exact.fused)


# ---- What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batching": True}, "batching: expected None or False with device='cpu', got Batching.*"),
    ],
)
def test_what_a_device_does_not_do_is_refused_at_loading(device, options, message):
    name = "cuda:0" if device == "cuda" else "cpu"
    with pytest.raises(ArgumentError, match="^" + message.replace("'cpu'", f"'{name}'") + "$"):
        on_device(build(), device, **options)


def test_what_a_device_does_not_do_is_refused_by_name(device):
    _, device_rec = pair(device)
    with pytest.raises(ArgumentError, match=r"^recall_target: expected 1 with device='(cpu|cuda:0)', got 0.9$"):
        device_rec.recommend(["i1"], recall_target=0.9)
    with pytest.raises(ArgumentError, match=r"^recall_target: expected 1 with device="):
        device_rec.calibrate(0.9)


def test_what_does_not_fit_the_memory_names_k(device):
    _, device_rec = pair(device)
    path = device_rec._path
    with pytest.raises(ArgumentError, match=r"^k: expected no more than fits the memory of \w+(:0)?, got 1 users, "):
        path._done(Shape(1, 1, 1, k=2**50), {"items": np.zeros(1, np.int64), "offsets": np.array([0, 1])})


def test_scores_beyond_float32_are_refused(device, monkeypatch):
    monkeypatch.setattr(catalog_edit, "_LARGEST", np.inf)  # `upsert` refuses such values, but a catalogue may have them
    native, device_rec = pair(device)
    huge = np.full((1, 12), 3e38, np.float32)
    lives = LiveRecommender(native), LiveRecommender(device_rec)
    for live in lives:
        live.upsert(["i3"], huge)
        with pytest.raises(ArgumentError, match=r"^queries: expected scores within float32, got one beyond it"):
            live.current.recommend([["i9"], ["i11"], ["i2", "i1"]], k=40)


def test_a_budget_that_is_spent_is_answered_by_popularity(device):
    native, device_rec = pair(device)
    for recommender in (native, device_rec):
        recommender._pace.took(1, 10.0)
    answers = [recommender.recommend(["i1"], budget_ms=1) for recommender in (native, device_rec)]
    assert_same(device, *answers)
    assert answers[0].degraded == "popularity"


def test_nothing_is_left_behind(device, without_gc):
    kept, memory = kept_ops_of(device), memory_of(device)
    _, device_rec = pair(device)
    numbers = device_rec._path._work.encoder._kept.number, device_rec._path._work.catalog._kept.number
    ints = torch.zeros(1, dtype=torch.int64, device=memory)
    for _ in range(3):
        device_rec.recommend(["i1"])
    assert device_rec._path.captures == 1
    del device_rec
    with pytest.raises(native_cases.REFUSED, match="encoder: expected the number of one that is kept"):
        kept.encode(numbers[0], ints, None, None, torch.zeros(2, dtype=torch.int64, device=memory), None, 1)
    queries = torch.zeros(1, 1, 12, device=memory)
    with pytest.raises(native_cases.REFUSED, match="catalog: expected the number of one that is kept"):
        kept.score_topk(numbers[1], queries, None, 1.0, 1, None, None, None, 1)


def test_a_snapshot_with_graphs_goes_with_its_last_holder(device, without_gc):
    live = LiveRecommender(pair(device)[1], keep=0)
    live.upsert(["i5"], np.ones((1, 12), np.float32))
    for _ in range(3):
        live.current.recommend(["i1"])
    graphs = weakref.ref(live.current._path._graphs)
    live.upsert(["i5"], np.zeros((1, 12), np.float32))
    assert graphs() is None


class NoWaiting(TorchDispatchMode):
    """Refuses calls that read the device's memory on the host or copy it there: a CUDA graph cannot contain them."""

    READ = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "equal", "is_nonzero")
    seen: int = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        assert name not in self.READ and "device" not in (kwargs or {}), func
        self.seen += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("shape", ["fused", "several interests", "request time"])
def test_the_devices_work_waits_for_nothing(device, shape, monkeypatch):
    _, device_rec = pair(device, **SHAPES[shape])
    seen = []

    def watched(*args, **options):
        with NoWaiting() as mode:
            answer = work(*args, **options)
        seen.append(mode.seen)
        return answer

    work = DeviceWork.__call__
    monkeypatch.setattr(DeviceWork, "__call__", watched)
    device_rec.recommend(histories(6), exclude=["i1"], allow=["i2", "i3"])
    device_rec.encode(histories(6))
    assert len(seen) == 2 and min(seen) > 5
