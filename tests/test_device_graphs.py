"""Requests that share captured work (CUDA graphs). Without a GPU, a stand-in repeats the work on the same memory."""

from __future__ import annotations

import concurrent.futures
import threading

import numpy as np
import pytest
import torch

from device_cases import DEVICES, assert_same, capture_by, memory_of, pair, prepare
from lsif_sdk import Events
from lsif_sdk.device import graphs
from lsif_sdk.device.graphs import Graphs
from lsif_sdk.device.layout import Shape

pytestmark = pytest.mark.parametrize("device", DEVICES)
NOW = 1_700_000_000


@pytest.fixture(autouse=True)
def stand_in(device, monkeypatch):
    return prepare(device, monkeypatch)


def graphs_of(device_rec):
    return dict(device_rec._path._graphs._graphs.items())


def histories(rng, users, most, timed):
    result = []
    for _ in range(users):
        count = int(rng.integers(0, most))
        times = np.sort(NOW - rng.integers(0, 10**7, count)) if timed else None
        result.append(Events([f"i{row}" for row in rng.integers(0, 45, count)], times=times))
    return result


@pytest.mark.parametrize("fields", [{}, {"scoring": "multi_interest", "request_time": True}, {"repeats": True}])
def test_answers_are_those_of_work_done_step_by_step(device, fields):
    native, device_rec = pair(device, **fields)
    rng = np.random.default_rng(0)
    requests = [{}, {"exclude": ["i1", "i2"]}, {"exclude_seen": False}, {"allow": ["i3", "i4", "i8"]}, {"k": 3}]
    for i in range(60):
        users = histories(rng, int(rng.integers(1, 4)), int(rng.integers(2, 40)), i % 3 == 0)
        options = requests[i % len(requests)] | ({"now": NOW} if i % 2 else {})
        assert_same(device, native.recommend(users, **options), device_rec.recommend(users, **options))
        tolerance = 0.0 if device == "cpu" else 1e-4
        for expected, actual in zip(native.encode(users), device_rec.encode(users), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def test_requests_of_about_one_size_share_a_graph(device, stand_in):
    _, device_rec = pair(device)
    for count, expected in ((5, 0), (9, 1), (16, 1), (17, 1), (3, 1), (32, 2)):  # a graph is made at the second request
        device_rec.recommend([f"i{row}" for row in range(count)])
        assert len(graphs_of(device_rec)) == device_rec._path.captures == expected
    if device != "cuda":
        assert [shape.total for shape in stand_in.made] == [16, 32]
        assert {shape.histories - shape.batch for shape in stand_in.made} == {1}


@pytest.mark.parametrize(
    ("fits", "too_much"),
    [
        (Shape(16), Shape(17)),
        (Shape(1, 2, 4096), Shape(1, 2, 4097)),
        (Shape(1, 2, 16, excluded=16384 - 16 - 3 - 2), Shape(1, 2, 16, excluded=16384 - 16 - 3 - 1)),
        (Shape(16, k=1024), Shape(16, k=1025)),
    ],
)
def test_what_is_small(device, fits, too_much):
    assert Graphs.is_small(fits) and not Graphs.is_small(too_much)


def test_large_and_rare_requests_go_without(device):
    _, device_rec = pair(device)
    for _ in range(3):
        device_rec.recommend([["i1"]] * (graphs.MOST_USERS + 1))
        device_rec.recommend(["i1"] * (graphs.MOST_EVENTS + 1))
        device_rec.recommend(["i1"], interest=0.5)
        device_rec.recommend(state=device_rec.new_state(["i1"]))
    assert not graphs_of(device_rec)


def test_only_so_many_are_kept(device, monkeypatch):
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 2)
    native, device_rec = pair(device)
    for k in (1, 1, 2, 2, 1, 3, 3):
        assert_same(device, native.recommend(["i1"], k=k), device_rec.recommend(["i1"], k=k))
    assert [shape.k for shape in graphs_of(device_rec)] == [1, 3]


def test_threads_that_share_a_graph_get_their_own_answers(device):
    native, device_rec = pair(device)
    users = [[f"i{row}", f"i{(3 * row) % 40}"] for row in range(40)]
    expected = [native.recommend(user) for user in users]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for wanted, actual in zip(expected * 5, pool.map(device_rec.recommend, users * 5), strict=True):
            assert_same(device, wanted, actual)
    assert len(graphs_of(device_rec)) == device_rec._path.captures == 1


@pytest.mark.parametrize("another", [False, True])
def test_who_comes_while_another_captures_does_not_wait(device, stand_in, monkeypatch, another):
    if device == "cuda":
        pytest.skip("capturing is made slow by the stand-in alone")
    going, may_go_on = threading.Event(), threading.Event()

    class Slow(stand_in):
        def __init__(self, *args):
            going.set()
            assert may_go_on.wait(60)
            super().__init__(*args)

    capture_by(Slow, monkeypatch)
    native, device_rec = pair(device)
    second_rec = pair(device)[1] if another else device_rec
    for recommender in {device_rec, second_rec}:
        recommender.recommend(["i3"])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(device_rec.recommend, ["i1"])
        assert going.wait(60)
        second = second_rec.recommend(["i2"])  # not captured now, even if its graph is due
        assert not first.done(), "the first was still captured then"
        may_go_on.set()
        assert_same(device, native.recommend(["i2"]), second)
        assert_same(device, native.recommend(["i1"]), first.result())
    assert len(stand_in.made) == 1
    second_rec.recommend(["i2"])
    assert len(stand_in.made) == 1 + another


def test_where_no_graph_can_be_made_a_log_line_says_so_and_requests_are_answered_without(device, monkeypatch, caplog):
    tried = []

    def failing(work, shape, device, example):
        tried.append(shape)
        raise torch.OutOfMemoryError("no memory for a graph")

    capture_by(failing, monkeypatch)
    native, device_rec = pair(device)
    for i in range(5):
        assert_same(device, native.recommend([f"i{i}"]), device_rec.recommend([f"i{i}"]))
    assert len(tried) == device_rec._path.captures == 1
    for k in (3, 3, 3):
        assert_same(device, native.recommend(["i1"], k=k), device_rec.recommend(["i1"], k=k))
    assert len(tried) == 2
    (line,) = (record.getMessage() for record in caplog.records if record.name == "lsif_sdk.device.graphs")
    assert "no CUDA graph" in line and "no memory for a graph" in line


def test_captures_are_not_counted_among_the_times_of_requests(device, monkeypatch):
    _, device_rec = pair(device)
    took = []
    monkeypatch.setattr(device_rec._pace, "took", lambda batch, seconds: took.append(batch))
    for expected in (1, 1, 2, 3):  # the second captures
        device_rec.recommend(["i1"])
        assert len(took) == expected


# ---- The layout


def test_parts_come_back_as_they_were_packed(device):
    shape = Shape(2, 2, 3, True, False, True, k=4, excluded=2, own=2, has_allowed=True)
    values = {
        "items": np.array([5, 6, 7]), "times": np.array([1, 2, 3]), "actions": None, "offsets": np.array([0, 1, 3]),
        "now": np.array([8, 9]), "exclude_items": np.array([4, 1]), "exclude_offsets": np.array([0, 2, 2]),
        "own": np.array([5, 0, 6, 7]), "allowed": np.array([0, 17]),
    }  # fmt: skip
    ints = np.full(shape.num_ints, -7)
    shape.pack(values, ints)
    parts = shape.unpack(torch.from_numpy(ints).to(memory_of(device)))
    for name, part in parts.items():
        assert (part is None) == (values[name] is None)
        if part is not None:
            assert part.flatten().tolist() == values[name].tolist()
    assert parts["own"].shape == (2, 2)


def test_padding_belongs_to_one_more_history_alone(device):
    shape = Shape(2, 2, 3, True, False, True, k=4, excluded=2)
    wide = shape.padded()
    assert (wide.batch, wide.histories, wide.total, wide.excluded) == (2, 3, 16, 16)
    assert wide.padded()._replace(histories=3) == wide
    ints = np.full(wide.num_ints, -7)
    wide.pack(
        {
            "items": np.array([5, 6, 7]), "times": np.array([1, 2, 3]), "offsets": np.array([0, 1, 3]),
            "now": np.array([8, 9]), "exclude_items": np.array([4, 1]), "exclude_offsets": np.array([0, 2, 2]),
        },
        ints,
    )  # fmt: skip
    parts = wide.unpack(torch.from_numpy(ints))
    assert parts["offsets"].tolist() == [0, 1, 3, 16]
    assert parts["items"].tolist() == [5, 6, 7] + [0] * 13
    assert parts["exclude_offsets"].tolist() == [0, 2, 2]
