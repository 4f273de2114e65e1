"""lsif_sdk.training.losses: the full softmax and the sampled one, against their formulas."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from lsif_sdk.model import UNKNOWN_TIME, CatalogRows, InterestFusionModel
from lsif_sdk.model.repeats import RepeatBonus
from lsif_sdk.training import full_softmax, losses
from lsif_sdk.training.batches import Batch, Sequences
from lsif_sdk.training.full_softmax import full_softmax_loss
from lsif_sdk.training.losses import NextEventLoss
from training_cases import NUM_ITEMS, all_batches, cyclic_log, small_config


def make_loss(
    scoring: str, num_negatives: int = 5, skip_seen: bool = False, repeats: bool = False
) -> tuple[NextEventLoss, Batch]:
    torch.manual_seed(3)
    log = cyclic_log()
    model = InterestFusionModel(small_config(scoring=scoring, repeats=repeats)).to(torch.float64)
    batch = all_batches(Sequences(log, max_len=6, batch_size=16, time_dropout=0.0, skip_seen=skip_seen))[0]
    counts = np.bincount(log.items, minlength=NUM_ITEMS)
    return NextEventLoss(model, counts, num_negatives, skip_seen=skip_seen), batch


def gradients(loss: NextEventLoss, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    loss.zero_grad()
    value = loss(batch)
    value.backward()
    return value.detach(), {name: p.grad.clone() for name, p in loss.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("skip_seen", [False, True])
@pytest.mark.parametrize("scoring", ["fused", "multi_interest"])
def test_full_loss_is_the_mean_negative_log_probability(
    scoring: str, skip_seen: bool, repeats: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, batch = make_loss(scoring, skip_seen=skip_seen, repeats=repeats)
    encoded = loss.model(
        batch.items, batch.times, batch.actions, lengths=batch.lengths, start=batch.start, now=batch.now
    )
    terms, hidden = [], 0
    for row, position in (batch.targets >= 0).nonzero().tolist():
        target = int(batch.targets[row, position])
        scores = loss.model.scores(encoded.select((row, position)))
        seen = set(batch.items[row, : position + 1].tolist())
        left = [item for item in range(NUM_ITEMS) if not skip_seen or item not in seen]
        hidden += NUM_ITEMS - len(left)
        terms.append(scores[target] - scores[left].logsumexp(dim=-1))
    assert (hidden > 0) == skip_seen
    expected = -torch.stack(terms).mean()
    loss.zero_grad()
    expected.backward()
    slopes = {name: p.grad.clone() for name, p in loss.named_parameters() if p.grad is not None}
    assert any("repeats" in name for name in slopes) == repeats
    for logits_per_chunk, kept_logits in ((1 << 19, 1 << 27), (100, 1)):
        # Neither the size of the chunks nor computing them twice changes anything.
        monkeypatch.setattr(full_softmax, "_SCORES_PER_CHUNK", logits_per_chunk)
        monkeypatch.setattr(losses, "_LOGITS_PER_CHUNK", logits_per_chunk)
        monkeypatch.setattr(losses, "_KEPT_LOGITS", kept_logits)
        value, grads = gradients(loss, batch)
        torch.testing.assert_close(value, expected.detach())
        torch.testing.assert_close(grads, slopes)


@dataclasses.dataclass
class Queries:
    """40 queries over 300 items; the leaves are fused, vectors, bias and the bonus of five items per query."""

    leaves: list[torch.Tensor]
    items: torch.Tensor
    targets: torch.Tensor

    @classmethod
    def random(cls, dtype: torch.dtype, spread: float = 1.0, shift: float = 0.0) -> Queries:
        generator = torch.Generator().manual_seed(4)
        leaves = [
            (spread * torch.randn(*shape, generator=generator, dtype=torch.float32)).to(dtype)
            for shape in ((40, 8), (300, 8), (300,), (40, 5))
        ]
        if shift:  # integers make scores exact in float32, however large
            leaves = [leaf.round() for leaf in leaves]
        leaves[2] += shift
        items = torch.randint(300, (40, 5), generator=generator)
        return cls([leaf.requires_grad_() for leaf in leaves], items, torch.randint(300, (40,), generator=generator))

    def loss(self, fused_dtype: torch.dtype | None = None) -> torch.Tensor:
        fused, vectors, bias, values = self.leaves
        bonus, catalog = RepeatBonus(self.items, values), CatalogRows(vectors, bias)
        return full_softmax_loss(fused.to(fused_dtype or fused.dtype), bonus, catalog, self.targets, lambda _: None)

    def formula(self) -> torch.Tensor:
        """The same from torch's own cross-entropy."""
        fused, vectors, bias, values = self.leaves
        scores = RepeatBonus(self.items, values).added_to(fused @ vectors.t() + bias, None)
        return functional.cross_entropy(scores, self.targets, reduction="sum")

    def slopes(self, loss: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(loss, self.leaves)


@pytest.fixture
def chunks_of_seven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_softmax, "_SCORES_PER_CHUNK", 7 * 300)


def assert_near(found: tuple[torch.Tensor, ...], right: tuple[torch.Tensor, ...], error: float) -> None:
    """Within a relative error of each tensor's norm."""
    for one, other in zip(found, right, strict=True):
        assert torch.linalg.vector_norm(one.double() - other.double()) <= error * torch.linalg.vector_norm(other)


@pytest.mark.usefixtures("chunks_of_seven")
@pytest.mark.parametrize(("spread", "shift"), [(1.0, 0.0), (10.0, 0.0), (1.0, 1e4)])
def test_full_softmax_keeps_its_digits_with_large_scores_and_unlikely_targets(spread: float, shift: float) -> None:
    exact, rounded = Queries.random(torch.float64, spread, shift), Queries.random(torch.float32, spread, shift)
    expected, value = exact.formula(), rounded.loss()
    assert torch.isfinite(expected)
    assert spread == 1 or expected > 40 * 200  # exp(-200) on average, which underflows float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=0)
    assert_near(rounded.slopes(value), exact.slopes(expected), 1e-4)


@pytest.mark.usefixtures("chunks_of_seven")
@pytest.mark.parametrize("fused_dtype", [torch.float32, torch.bfloat16])
def test_full_softmax_under_autocast_differs_by_the_rounding_of_its_products(fused_dtype: torch.dtype) -> None:
    queries = Queries.random(torch.float32)
    expected = queries.formula()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = queries.loss(fused_dtype)
    assert value.dtype == torch.float32
    assert value != expected
    torch.testing.assert_close(value, expected, rtol=2**-8, atol=0)
    assert_near(queries.slopes(value), queries.slopes(expected), 0.02)


@pytest.mark.usefixtures("chunks_of_seven")
def test_full_softmax_takes_its_products_in_float32_where_autocast_says_float16() -> None:
    queries = Queries.random(torch.float32)
    expected = queries.loss()
    with torch.autocast("cpu", dtype=torch.float16):
        value = queries.loss()
    assert value == expected
    assert_near(queries.slopes(value), queries.slopes(expected), 0.0)


@pytest.mark.parametrize("skip_seen", [False, True])
@pytest.mark.parametrize("scoring", ["fused", "multi_interest"])
def test_sampled_loss_approaches_the_full_loss(scoring: str, skip_seen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, batch = make_loss(scoring, skip_seen=skip_seen)
    value, grads = gradients(loss, batch)
    monkeypatch.setattr(losses, "FULL_SOFTMAX_ITEMS", NUM_ITEMS - 1)
    sampled, _ = make_loss(scoring, 100_000, skip_seen)
    assert sampled.sampled
    assert not loss.sampled
    torch.manual_seed(0)
    sampled_value, sampled_grads = gradients(sampled, batch)
    torch.testing.assert_close(sampled_value, value, rtol=5e-3, atol=0)
    for name in ("item_embedding", "catalog.bias", "fusion.logits.bias"):
        grad = grads[f"model.{name}"]
        assert (sampled_grads[f"model.{name}"] - grad).norm() < 0.05 * grad.norm(), name
    few, _ = make_loss(scoring, num_negatives=3)
    assert torch.isfinite(few(batch))


def test_target_scores_are_columns_of_scores() -> None:
    for scoring in ("fused", "multi_interest"):
        loss, batch = make_loss(scoring)
        with torch.no_grad():
            encoded = loss.model(batch.items, lengths=batch.lengths).select(batch.targets >= 0)
            targets = batch.targets[batch.targets >= 0]
            columns = loss.model.scores(encoded).gather(1, targets[:, None])[:, 0]
            torch.testing.assert_close(loss.model.target_scores(encoded, targets), columns)


def test_a_batch_without_times_equals_one_with_hidden_times() -> None:
    loss, batch = make_loss("fused")
    hidden = batch._replace(times=torch.full_like(batch.items, UNKNOWN_TIME), now=None)
    torch.testing.assert_close(loss(hidden), loss(batch._replace(times=None, now=None)))
