"""lsif_sdk.model against docs/model.md, written out event by event in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lsif_sdk.config import ModelConfig
from lsif_sdk.errors import ArgumentError, ArtifactError
from lsif_sdk.model import UNKNOWN_TIME, InterestFusionModel, time_boundaries
from lsif_sdk.model.interest_pooling import LongTermPooling
from model_cases import CONFIGS, NUM_ITEMS, Oracle, assert_encoded, make_config, make_history, make_model


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_encode_equals_oracle(name: str) -> None:
    config = make_config(**CONFIGS[name])
    model = make_model(config)
    oracle = Oracle(config, model)
    histories = [
        make_history(length, seed, unknown=0.3 * (seed % 2)) for seed, length in enumerate((1, 0, 3, 4, 5, 13, 2))
    ]
    now = [int(t[-1]) + 5000 * s if len(t) and s != 4 else UNKNOWN_TIME for s, (_, t, _) in enumerate(histories)]
    now = [n if n > 0 else UNKNOWN_TIME for n in now]
    columns = [torch.cat(column) for column in zip(*histories, strict=True)]
    offsets = torch.tensor([0, *(len(items) for items, _, _ in histories)]).cumsum(0)
    encoded = model.encode(*columns, offsets=offsets, now=torch.tensor(now))
    scores = model.scores(encoded)
    for b, (items, times, actions) in enumerate(histories):
        mine = encoded.select(b)
        if len(items) == 0:
            assert all(not part.any() for part in mine[:3])
            continue
        expected = oracle.encode(items.tolist(), times.tolist(), actions.tolist(), now[b])
        assert_encoded(mine, expected)
        for item in (0, NUM_ITEMS - 1):
            torch.testing.assert_close(scores[b, item], oracle.score(expected, item), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_forward_gives_every_prefix(name: str) -> None:
    config = make_config(**CONFIGS[name])
    model = make_model(config, seed=1)
    oracle = Oracle(config, model)
    histories = [make_history(9, 1), make_history(6, 2), make_history(1, 3)]
    padded = [
        torch.nn.utils.rnn.pad_sequence(list(column), batch_first=True) for column in zip(*histories, strict=True)
    ]
    start = torch.tensor([0, 20, 3])
    now = torch.tensor([2_000_000_000, UNKNOWN_TIME, 1_500_000_000])
    lengths = torch.tensor([9, 6, 1])
    out = model(*padded, lengths=lengths, start=start, now=now)
    for b, history in enumerate(histories):
        items, times, actions = (column.tolist() for column in history)
        for i in range(len(items)):
            following = int(now[b]) if i + 1 == len(items) else times[i + 1]
            expected = oracle.encode(items[: i + 1], times[: i + 1], actions[: i + 1], following, int(start[b]))
            assert_encoded(out.select((b, i)), expected)
        assert not out.fused[b, len(items) :].any()


@pytest.mark.parametrize("name", ["hstu", "transformer_request_time"])
@torch.no_grad()
def test_forward_without_times_equals_unknown_times(name: str) -> None:
    config = make_config(**CONFIGS[name])
    model = make_model(config, seed=2)
    items, times, _ = make_history(7, 5)
    lengths = torch.tensor([7])
    without = model(items[None], lengths=lengths)
    unknown = model(
        items[None], torch.full_like(times, UNKNOWN_TIME)[None], torch.zeros_like(items)[None], lengths=lengths
    )
    assert_encoded(without, unknown)
    encoded = model.encode(items, offsets=torch.tensor([0, 7]))
    assert_encoded(without.select((slice(None), 6)), encoded)
    with_times = model(items[None], times[None], lengths=lengths)
    assert not torch.allclose(with_times.fused, without.fused)


@pytest.mark.parametrize("name", ["hstu", "transformer"])
def test_padding_changes_neither_outputs_nor_gradients(name: str) -> None:
    config = make_config(**CONFIGS[name])
    model = make_model(config, seed=3)
    lengths = torch.tensor([5, 2])
    columns = [torch.stack([a, b]) for a, b in zip(make_history(5, 1), make_history(5, 2), strict=True)]
    results = []
    for extra, fill in ((0, 0), (11, 3)):
        padded = [functional.pad(column, (0, extra), value=fill) for column in columns]
        for column in padded:
            column[1, 2:] = fill
        model.zero_grad()
        out = model(*padded, lengths=lengths)
        valid = out.select(torch.arange(5 + extra) < lengths[:, None])
        model.scores(valid).sin().sum().backward()
        results.append((valid, {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}))
    (first, first_grads), (second, second_grads) = results
    assert_encoded(second, first)
    assert first_grads.keys() == second_grads.keys() == dict(model.named_parameters()).keys()
    for key, grad in first_grads.items():
        torch.testing.assert_close(second_grads[key], grad, rtol=1e-8, atol=1e-10, msg=lambda text, key=key: key + text)


@torch.no_grad()
def test_events_before_the_receptive_field_change_no_state() -> None:
    config = make_config(num_long=0, num_short=0)
    model = make_model(config)
    items, times, actions = make_history(20, 4)
    reach = config.num_layers * (config.window - 1) + 1
    whole = model.encode(items, times, actions, offsets=torch.tensor([0, 20]))
    tail = model.encode(items[-reach:], times[-reach:], actions[-reach:], offsets=torch.tensor([0, reach]))
    torch.testing.assert_close(tail.interests, whole.interests, rtol=1e-10, atol=1e-12)
    shorter = model.encode(
        items[-reach + 1 :], times[1 - reach :], actions[1 - reach :], offsets=torch.tensor([0, reach - 1])
    )
    assert not torch.allclose(shorter.interests, whole.interests)


@torch.no_grad()
def test_dropout_hides_an_event_from_the_encoder_and_the_poolings_alike() -> None:
    torch.manual_seed(0)
    model = InterestFusionModel(make_config(), dropout=0.5).train()
    read: dict[str, Tensor] = {}

    def recording(name: str, method: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def record(x: Tensor, *rest: Tensor) -> Tensor:
            read[name] = x
            return method(x, *rest)

        return record

    first = model.encoder.layers[0]
    first.forward = recording("encoder", first.forward)
    model.long_pooling.every_position = recording("poolings", model.long_pooling.every_position)
    items, times, actions = make_history(40, 6)
    interests = model(items[None], times[None], actions[None], lengths=torch.tensor([40])).interests
    assert read["encoder"] is read["poolings"]
    assert 0.4 < (read["encoder"] == 0).double().mean() < 0.6
    pooled, newest = interests[:, :, :-1], interests[:, :, -1]
    assert 0.4 < (pooled == 0).double().mean() < 0.6
    assert (newest != 0).all(), "the newest state is read by the fusion as the encoder gives it"


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_nothing_is_dropped_outside_training(name: str) -> None:
    config = make_config(**CONFIGS[name])
    plain = make_model(config)
    model = InterestFusionModel(config, dropout=0.5).double().eval()
    model.load_state_dict(plain.state_dict())
    items, times, actions = make_history(12, 6)
    offsets, lengths = torch.tensor([0, 12]), torch.tensor([12])
    assert_encoded(
        model.encode(items, times, actions, offsets=offsets).select(0),
        plain.encode(items, times, actions, offsets=offsets).select(0),
    )
    batch = items[None], times[None], actions[None]
    assert_encoded(model(*batch, lengths=lengths).select((0, 5)), plain(*batch, lengths=lengths).select((0, 5)))
    for mine, expected in zip(
        model.embed_and_encode(items, times, actions), plain.embed_and_encode(items, times, actions), strict=True
    ):
        torch.testing.assert_close(mine, expected)


@torch.no_grad()
def test_training_starts_at_the_encoder_alone() -> None:
    model = InterestFusionModel(make_config()).eval()
    items, times, actions = make_history(12, 6)
    weights = model.encode(items, times, actions, offsets=torch.tensor([0, 4, 12])).weights
    torch.testing.assert_close(weights[:, -1], torch.full((2,), 0.99))


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_export_and_from_weights_are_inverse(name: str) -> None:
    config = make_config(**CONFIGS[name])
    model = make_model(config).float()
    weights = model.export_weights()
    assert all(
        value.dtype == (torch.int64 if key == "time_boundaries" else torch.float32) for key, value in weights.items()
    )
    assert ("catalog.vectors" in weights) == config.has_two_tables
    if config.num_long:
        assert (weights["long_pooling.decay"] >= 0).all()
        assert weights["long_pooling.decay"].shape == (config.num_long,)
    rebuilt = InterestFusionModel.from_weights(config, weights, dtype=torch.float64).eval()
    items, times, actions = make_history(9, 3)
    offsets = torch.tensor([0, 9])
    expected = model.double().encode(items, times, actions, offsets=offsets)
    encoded = rebuilt.encode(items, times, actions, offsets=offsets)
    for part, reference in zip(encoded[:3], expected[:3], strict=True):
        torch.testing.assert_close(part, reference, rtol=1e-5, atol=1e-5)
    again = rebuilt.export_weights()
    assert again.keys() == weights.keys()
    for key, value in weights.items():
        torch.testing.assert_close(again[key], value, rtol=1e-6, atol=0)


def test_export_has_the_documented_names_and_shapes() -> None:
    c = make_config()
    shapes = {key: tuple(value.shape) for key, value in InterestFusionModel(c).export_weights().items()}
    expected: dict[str, tuple[int, ...]] = {
        "item_embedding": (NUM_ITEMS, 8), "action_embedding": (4, 8), "time_boundaries": (30,), "norm.weight": (8,),
        "norm.bias": (8,), "long_pooling.hidden.weight": (5, 8), "long_pooling.hidden.bias": (5,),
        "long_pooling.logits.weight": (3, 5), "long_pooling.decay": (3,), "long_pooling.value.weight": (8, 8),
        "short_pooling.hidden.weight": (5, 8), "short_pooling.hidden.bias": (5,),
        "short_pooling.logits.weight": (2, 5), "fusion.hidden.weight": (6, 6 * 8 + 3), "fusion.hidden.bias": (6,),
        "fusion.logits.weight": (6, 6), "fusion.logits.bias": (6,), "catalog.bias": (NUM_ITEMS,),
    }  # fmt: skip
    for layer in ("layers.0.", "layers.1."):
        expected |= {
            layer + "norm.weight": (8,), layer + "norm.bias": (8,), layer + "input.weight": (32, 8),
            layer + "input.bias": (32,), layer + "position_bias": (2, 4), layer + "time_bias": (2, 32),
            layer + "output_norm.weight": (8,), layer + "output_norm.bias": (8,), layer + "output.weight": (8, 8),
            layer + "output.bias": (8,),
        }  # fmt: skip
    assert shapes == expected


def test_from_weights_refuses_what_does_not_fit() -> None:
    config = make_config()
    weights = InterestFusionModel(config).export_weights()
    del weights["norm.bias"]
    with pytest.raises(ArtifactError, match=r"norm\.bias"):
        InterestFusionModel.from_weights(config, weights)
    with pytest.raises(ArtifactError, match="position_bias"):
        InterestFusionModel.from_weights(make_config(window=5), InterestFusionModel(config).export_weights())


def test_catalogue_vectors_that_are_not_those_of_the_embedding_are_refused() -> None:
    config = make_config(normalize_items=True, item_scale=3.0)
    weights = InterestFusionModel(config).export_weights()
    for dtype in (torch.float16, torch.float32, torch.float64):
        InterestFusionModel.from_weights(config, weights, dtype=dtype)
    other = weights["catalog.vectors"].clone()
    other[2] *= 1.1
    for vectors in (other, weights["catalog.vectors"][:-1], weights["catalog.vectors"] * torch.nan):
        with pytest.raises(ArtifactError, match=r"catalog\.vectors: expected the rows of item_embedding at length 3"):
            InterestFusionModel.from_weights(config, {**weights, "catalog.vectors": vectors})
    plain = make_config()
    with pytest.raises(ArtifactError, match=r"catalog\.vectors: expected none"):
        InterestFusionModel.from_weights(plain, weights)
    with pytest.raises(ArtifactError, match=r"catalog\.vectors: expected a tensor"):
        InterestFusionModel.from_weights(config, InterestFusionModel(plain).export_weights())


def test_inputs_that_are_not_those_of_the_vectors_are_refused() -> None:
    config = make_config(normalize_inputs=True, dim=16)
    weights = InterestFusionModel(config).export_weights()
    lengths = weights["item_embedding"].norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 4.0))
    assert not torch.allclose(weights["catalog.vectors"], weights["item_embedding"])
    other = weights["item_embedding"].clone()
    other[2] *= 1.1
    with pytest.raises(ArtifactError, match=r"item_embedding: expected the rows of catalog\.vectors at length 4"):
        InterestFusionModel.from_weights(config, {**weights, "item_embedding": other})
    with pytest.raises(ArtifactError, match=r"catalog\.vectors: expected a tensor"):
        InterestFusionModel.from_weights(config, InterestFusionModel(make_config(dim=16)).export_weights())


@pytest.mark.parametrize("offsets", [[0, 3], [1, 4], [0, 5, 4], []])
def test_encode_refuses_bad_offsets(offsets: list[int]) -> None:
    model = InterestFusionModel(make_config())
    with pytest.raises(ArgumentError, match="offsets"):
        model.encode(torch.arange(4), offsets=torch.tensor(offsets, dtype=torch.int64))


@pytest.mark.parametrize("count", [1, 2, 64, 128, 1000])
def test_time_boundaries_are_geometric_integers(count: int) -> None:
    boundaries = time_boundaries(count)
    assert boundaries.dtype == torch.int64
    assert boundaries[0] == 1
    assert len(boundaries) == count
    assert (boundaries.diff() > 0).all()
    if count == 64:
        assert boundaries[-1] > 5 * 365 * 86400
        ratios = boundaries[40:].double().log().diff()
        torch.testing.assert_close(ratios, torch.full_like(ratios, 0.301), rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["hstu", "transformer"])
def test_float32_and_empty_batches(name: str) -> None:
    model = InterestFusionModel(make_config(**CONFIGS[name]))
    empty = torch.zeros(0, dtype=torch.int64)
    encoded = model.encode(empty, offsets=torch.tensor([0]))
    assert encoded.fused.shape == (0, 8)
    both = model.encode(empty, offsets=torch.tensor([0, 0, 0]))
    assert both.fused.dtype == torch.float32
    assert both.interests.shape == (2, 6, 8)
    assert not both.interests.any()


def _times_of(kind: str, batch: int, seq_len: int) -> Tensor:
    times = torch.randint(0, 40 * 86400, (batch, seq_len)).sort(dim=1).values + 10**9
    if kind == "unknown":
        times[0] = UNKNOWN_TIME
    if kind == "mixed" and seq_len > 1:
        times[0, ::2] = UNKNOWN_TIME
    if kind == "falling" and seq_len > 1:
        times[-1] = times[-1].flip(0)
    return times


@pytest.mark.parametrize("kind", ["rising", "unknown", "mixed", "falling"])
@pytest.mark.parametrize("seq_len", [1, 2, 31, 32, 33, 64, 100])
@pytest.mark.parametrize("use_times", [True, False])
def test_long_term_interests_of_every_position_are_those_of_its_history(
    kind: str, seq_len: int, use_times: bool
) -> None:
    torch.manual_seed(seq_len)
    pooling = LongTermPooling(ModelConfig(num_items=5, dim=6, num_long=4, use_times=use_times)).double()
    torch.nn.init.normal_(pooling.logits.weight)
    x = torch.randn(3, seq_len, 6, dtype=torch.float64, requires_grad=True)
    times = _times_of(kind, 3, seq_len)
    at = torch.arange(seq_len)
    one_by_one = [pooling(x, times, (at <= end).expand(3, -1), times[:, end, None]) for end in range(seq_len)]
    expected, got = torch.cat(one_by_one, dim=1), pooling.every_position(x, times)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    # The same function has the same gradients, of inputs and of every parameter.
    weights = torch.randn_like(expected)
    wanted = [part for part in (x, *pooling.parameters()) if use_times or part is not pooling.rate]
    gradients = [torch.autograd.grad((out * weights).sum(), wanted) for out in (expected, got)]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["normalized_inputs", "both_normalized", "long_only", "hstu"])
def test_item_embeddings_are_trained_through_all_they_are_used_for(name: str) -> None:
    """The gradient of a score with respect to one embedding, used as input, as vector and scaled; by differences."""
    config = make_config(**CONFIGS[name])
    model = make_model(config)
    items, times, actions = make_history(6, 4)
    row = int(items[-1])

    def score(model: InterestFusionModel) -> torch.Tensor:
        encoded = model.encode(items, times, actions, offsets=torch.tensor([0, 6]))
        return model.scores(encoded)[0, [row, 1]].sum()

    score(model).backward()
    gradient = model.item_embedding.grad[row]
    step = 1e-6
    for column in range(config.dim):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                model.item_embedding[row, column] += sign * step
                values.append(float(score(model)))
                model.item_embedding[row, column] -= sign * step
        # Central differences have an error of step^2 times the third derivative, and of the scores' rounding over step.
        assert float(gradient[column]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-7)
