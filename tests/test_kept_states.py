"""User states of torch.ops.lsif_kept: appending events one by one gives the same as encoding whole histories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import encode_cases
import native
from device_cases import DEVICES, kept_ops_of, memory_of

pytestmark = pytest.mark.parametrize("device", DEVICES)

CONFIGS: dict[str, dict[str, Any]] = {
    "hstu": {"request_time": True},
    "transformer": {"block": "transformer"},
    "no times, no actions": {"use_times": False, "num_actions": 0},
    "newest state only": {"num_long": 0, "num_short": 0, "window": 1},
    "short-term, four layers": {"num_long": 0, "num_layers": 4, "window": 3},
}
LENGTHS = (0, 1, 2, 4, 5, 6, 7, 8, 15, 23)
"""Around the windows of 5 (short-term) and 7, and longer than two and three of 7."""


class States:
    """An encoder on a device, and user states there; `slots` has each user's slot."""

    def __init__(self, device: str, artifact: Any, num_slots: int = 20) -> None:
        self.ops, self.memory = kept_ops_of(device), memory_of(device)
        weights, config, eps, *_ = native.encode_op_args(artifact, native.random_batch(artifact.config, ()))
        self.weights = [weight.to(self.memory) for weight in weights]
        self.encoder = self.ops.keep_encoder(self.weights, config, eps, "float32", 1)
        size = self.ops.state_size(self.encoder, self.weights[0])
        self.bytes = torch.full((num_slots, size), 0xFF, dtype=torch.uint8, device=self.memory)
        self.slots = np.random.default_rng(3).permutation(num_slots)
        self.ops.start_states(self.encoder, self.bytes, self.placed(self.slots))

    def placed(self, values: Any) -> torch.Tensor | None:
        return None if values is None else torch.from_numpy(np.ascontiguousarray(values)).to(self.memory)

    def append(self, batch: native.Batch, users: Any, event: int) -> None:
        at = batch.offsets[:-1][users] + event
        rows = [None if values is None else values[at] for values in (batch.items, batch.times, batch.actions)]
        self.ops.append(self.encoder, self.bytes, self.placed(self.slots[users]), *map(self.placed, rows), 2)

    def append_all(self, batch: native.Batch) -> None:
        """Appends one event per user at a time, with the users in another order each time."""
        lengths = np.diff(batch.offsets)
        for event in range(lengths.max(initial=0)):
            users = np.random.default_rng(event).permutation(np.flatnonzero(lengths > event))
            self.append(batch, users, event)

    def encode(self, users: Any, now: Any) -> tuple[np.ndarray, ...]:
        found = self.ops.encode_states(self.encoder, self.bytes, self.placed(self.slots[users]), self.placed(now), 2)
        return tuple(part.cpu().numpy() for part in found)

    def encode_histories(self, batch: native.Batch) -> tuple[np.ndarray, ...]:
        arrays = batch.items, batch.times, batch.actions, batch.offsets, batch.now
        return tuple(part.cpu().numpy() for part in self.ops.encode(self.encoder, *map(self.placed, arrays), 2))


def native_states(artifact: Any, batch: native.Batch) -> tuple[np.ndarray, ...]:
    path, model = native.request_path(artifact), bytes(32)
    empty = [path.new_state(model, 1) for _ in range(len(batch))]
    unknown = np.zeros(len(batch), np.int64)
    grown = path.append(model, empty, batch.items, batch.times, batch.actions, batch.offsets, unknown, 1)
    return path.encode_states(grown, batch.now, 1)


def assert_near(actual: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape
        assert native.relative_error(one, other.astype(np.float64)) < 2 * encode_cases.TOLERANCE


@pytest.mark.parametrize("times", ["sorted", "unknown", "none"])
@pytest.mark.parametrize("name", CONFIGS)
def test_appending_gives_what_encoding_the_histories_gives(device, name, times):
    artifact = native.make_artifact(native.make_config(**CONFIGS[name]), seed=2)
    states = States(device, artifact)
    batch = native.random_batch(artifact.config, LENGTHS, 4, times, "mixed", times != "none")
    states.append_all(batch)
    users = np.arange(len(batch))
    actual, whole = states.encode(users, batch.now), states.encode_histories(batch)
    assert_near(actual, whole)
    num_long = artifact.config.num_long
    np.testing.assert_array_equal(actual[1][:, num_long:], whole[1][:, num_long:])
    expected = native_states(artifact, batch)
    if device == "cpu":
        assert all(map(np.array_equal, actual, expected))
    assert_near(actual, expected)
    assert not any(part[0].any() for part in actual)  # the first user has no events


def test_a_user_depends_on_no_other(device):
    artifact = native.make_artifact(native.make_config(request_time=True))
    batch = native.random_batch(artifact.config, LENGTHS, 5)
    together, alone = States(device, artifact), States(device, artifact)
    together.append_all(batch)
    for user in range(len(batch)):
        for event in range(LENGTHS[user]):
            alone.append(batch, [user], event)
    order = np.array([7, 0, 9, 2, 7])
    for one, other in zip(together.encode(order, batch.now[order]), alone.encode(order, batch.now[order]), strict=True):
        np.testing.assert_array_equal(one, other)
    for place, user in enumerate(order):
        single = together.encode([user], batch.now[[user]])
        for one, other in zip(single, together.encode(order, batch.now[order]), strict=True):
            np.testing.assert_array_equal(one[0], other[place])


def test_calls_about_nobody_and_slots_begun_anew(device):
    artifact = native.make_artifact(native.make_config())
    batch = native.random_batch(artifact.config, (9, 4), 6)
    states = States(device, artifact)
    states.append_all(batch)
    before = states.bytes.cpu()
    nobody = np.zeros(0, np.int64)
    states.append(batch, nobody, 0)
    states.ops.start_states(states.encoder, states.bytes, states.placed(nobody))
    assert torch.equal(states.bytes.cpu(), before)
    assert [part.shape for part in states.encode(nobody, nobody)] == [(0, 12), (0, 6, 12), (0, 6)]
    states.ops.start_states(states.encoder, states.bytes, states.placed(states.slots[:1]))
    first, second = states.encode([0, 1], None)[0]
    assert not first.any() and second.any()
    states.append_all(batch.select([0]))
    assert_near(states.encode([0], batch.now[:1]), states.encode_histories(batch.select([0])))


def test_a_graph_does_it_again(device):
    if device != "cuda":
        pytest.skip("CUDA graphs need a GPU")
    artifact = native.make_artifact(native.make_config(request_time=True))
    batch = native.random_batch(artifact.config, (9, 9, 9), 7)
    users = np.array([2, 0, 1])
    expected, captured = States(device, artifact), States(device, artifact)
    expected.append_all(batch)  # also creates what only a first call creates, before the capture
    slots, now = captured.placed(captured.slots[users]), captured.placed(batch.now[users])
    columns = [torch.zeros(3, dtype=torch.int64, device=device) for _ in range(3)]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.ops.append(captured.encoder, captured.bytes, slots, *columns, 1)
        encoded = captured.ops.encode_states(captured.encoder, captured.bytes, slots, now, 1)
    for event in range(9):
        for column, values in zip(columns, (batch.items, batch.times, batch.actions), strict=True):
            column.copy_(torch.from_numpy(values[batch.offsets[users] + event]))
        graph.replay()
    for one, other in zip(encoded, expected.encode(users, batch.now[users]), strict=True):
        np.testing.assert_array_equal(one.cpu().numpy(), other)


def test_shapes_types_and_places_are_checked_always(device):
    states = States(device, native.make_artifact(native.make_config()))
    size = states.bytes.shape[1]
    slots, items = states.placed(np.array([3, 1])), states.placed(np.array([5, 6]))
    good = {"states": states.bytes, "slots": slots, "items": items, "times": None, "actions": None}
    past = torch.zeros(4 * size + 16, dtype=torch.uint8, device=states.memory)[8:][: 4 * size].view(4, size)
    for changes, message in (
        ({"states": states.bytes.long()}, "states: expected dtype uint8, got int64"),
        (
            {"states": states.bytes[:, :-8].contiguous()},
            rf"states: expected shape \[any, {size}\], got \[20, {size - 8}\]",
        ),
        ({"states": states.bytes[:, ::2]}, "states: expected shape"),
        ({"states": past}, "states: expected memory at a multiple of 16 bytes, got 8 bytes past one"),
        ({"slots": slots.float()}, "slots: expected dtype int64, got float32"),
        ({"slots": slots[:, None]}, r"slots: expected shape \[any\], got \[2, 1\]"),
        ({"items": items[:1]}, r"items: expected shape \[2\], got \[1\]"),
        ({"times": items[:1]}, r"times: expected shape \[2\], got \[1\]"),
        ({"actions": items.float()}, "actions: expected dtype int64, got float32"),
    ):
        with pytest.raises(native.REFUSED, match="^" + message):
            states.ops.append(states.encoder, *{**good, **changes}.values(), 1)
        if not {"states", "slots"} & changes.keys():
            continue
        arguments = list({**good, **changes}.values())[:2]
        with pytest.raises(native.REFUSED, match="^" + message):
            states.ops.start_states(states.encoder, *arguments)
        with pytest.raises(native.REFUSED, match="^" + message):
            states.ops.encode_states(states.encoder, *arguments, None, 1)
    with pytest.raises(native.REFUSED, match=r"^now: expected shape \[2\], got \[1\]"):
        states.ops.encode_states(states.encoder, states.bytes, slots, items[:1], 1)
    with pytest.raises(
        native.REFUSED, match=r"^encoder: expected the number of one that is kept on this device, got 0$"
    ):
        states.ops.state_size(0, slots)


def test_models_whose_states_do_not_fit_a_gpu_are_refused(device):
    if device == "cpu":
        pytest.skip("the CPU's states take every model")
    ops, memory = kept_ops_of(device), memory_of(device)
    for config, precision in (({}, "bfloat16"), ({"pooling_dim": 4096}, "float32"), ({"dim": 132}, "float32")):
        artifact = native.make_artifact(native.make_config(**config))
        weights, ints, eps, *_ = native.encode_op_args(artifact, native.random_batch(artifact.config, ()))
        weights = [weight.to(memory) for weight in weights]
        encoder = ops.keep_encoder(weights, ints, eps, precision, 1)
        with pytest.raises(native.REFUSED, match=r"^encoder: expected a model in float32 whose user states fit a GPU"):
            ops.state_size(encoder, weights[0])
        ops.drop(encoder, weights[0])
