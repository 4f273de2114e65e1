"""lsif_sdk.training.losses: the full softmax and the sampled one, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lsif_sdk.model import UNKNOWN_TIME, CatalogRows, InterestFusionModel
from lsif_sdk.model.repeats import RepeatBonus
from lsif_sdk.training import losses
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
        monkeypatch.setattr(losses, "_LOGITS_PER_CHUNK", logits_per_chunk)
        monkeypatch.setattr(losses, "_KEPT_LOGITS", kept_logits)
        value, grads = gradients(loss, batch)
        torch.testing.assert_close(value, expected.detach())
        torch.testing.assert_close(grads, slopes)


def full_softmax(dtype: torch.dtype, spread: float = 1.0) -> tuple[list[torch.Tensor], torch.Tensor]:
    """A loss of 40 queries over 300 items, in chunks of 7, from leaves in a type: those and the loss."""
    generator = torch.Generator().manual_seed(4)
    shapes = (40, 8), (300, 8), (300,), (40, 5)
    leaves = [(spread * torch.randn(*shape, generator=generator).double()).to(dtype) for shape in shapes]
    fused, vectors, bias, values = (leaf.requires_grad_() for leaf in leaves)
    items = torch.randint(300, (40, 5), generator=generator)
    targets = torch.randint(300, (40,), generator=generator)
    bonus = RepeatBonus(items, values)
    return leaves, full_softmax_loss(fused, bonus, CatalogRows(vectors, bias), targets, lambda _: None, 7)


def test_full_softmax_keeps_its_digits_where_the_target_has_no_probability_left() -> None:
    expected_leaves, expected = full_softmax(torch.float64, spread=10)
    leaves, value = full_softmax(torch.float32, spread=10)
    assert expected > 40 * 120  # on average exp(-120), which float32 does not have
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=0)
    slopes = torch.autograd.grad(expected, expected_leaves)
    for found, right in zip(torch.autograd.grad(value, leaves), slopes, strict=True):
        assert torch.linalg.vector_norm(found.double() - right) <= 1e-4 * torch.linalg.vector_norm(right)


def test_full_softmax_under_autocast_differs_by_the_rounding_of_its_products() -> None:
    leaves, expected = full_softmax(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half_leaves, value = full_softmax(torch.float32)
    assert value.dtype == torch.float32
    assert value != expected
    torch.testing.assert_close(value, expected, rtol=2**-8, atol=0)
    slopes = torch.autograd.grad(expected, leaves)
    for found, right in zip(torch.autograd.grad(value, half_leaves), slopes, strict=True):
        assert found.dtype == torch.float32
        assert torch.linalg.vector_norm(found - right) <= 0.02 * torch.linalg.vector_norm(right)


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
