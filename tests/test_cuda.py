"""Every CUDA op against the CPU op of the same name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lsif_sdk.ops import ops
from op_cases import CASES, first_args
from test_ops_refusals import NAMES, REFUSED

UNKNOWN_TIME = -(2**63)


def _missing() -> str | None:
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    if not torch._C._dispatch_has_kernel_for_dispatch_key("lsif::score_topk", "CUDA"):
        return "lsif_sdk was built without its CUDA ops (docs/cuda.md)"
    return None


pytestmark = pytest.mark.skipif(_missing() is not None, reason=_missing() or "")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def to_cuda(value: object) -> object:
    if isinstance(value, list):
        return [to_cuda(one) for one in value]
    return value.to("cuda") if isinstance(value, Tensor) else value


def on_both(op: Callable[..., object], *args: object) -> tuple[list[Tensor], list[Tensor]]:
    """The op's results on the CPU and on CUDA, both as lists of CPU tensors."""
    expected, got = op(*args), op(*map(to_cuda, args))
    if isinstance(expected, Tensor):
        expected, got = [expected], [got]
    assert all(tensor.is_cuda for tensor in got)
    return list(expected), [tensor.cpu() for tensor in got]


def assert_equal(op: Callable[..., object], *args: object) -> None:
    for expected, got in zip(*on_both(op, *args), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


def assert_close(op: Callable[..., object], *args: object) -> None:
    for expected, got in zip(*on_both(op, *args), strict=True):
        largest = float(expected.abs().max()) if expected.numel() else 0.0
        torch.testing.assert_close(got, expected, rtol=0, atol=2e-5 * largest)


@pytest.mark.parametrize("num_rows", [0, 1, 33])
@pytest.mark.parametrize("dim", [1, 7, 64, 300])
def test_rowwise_ops(num_rows: int, dim: int) -> None:
    items, actions, x, gate = (
        normal(20, dim),
        normal(4, dim, seed=1),
        normal(num_rows, dim),
        normal(num_rows, dim, seed=1),
    )
    item, action = torch.arange(num_rows) % 20, torch.arange(num_rows) % 4
    assert_equal(ops.embedding, items, None, item, None)
    assert_equal(ops.embedding, items, actions, item, action)
    assert_equal(ops.embedding, items, actions, item, None)
    assert_close(ops.layer_norm, x, normal(dim), normal(dim, seed=1), 1e-5, None)
    assert_close(ops.layer_norm, x, normal(dim), normal(dim, seed=1), 1e-5, gate)
    for out_dim in (1, 16, 50):
        layer = (x, normal(out_dim, dim, seed=2), normal(out_dim))
        for residual in (None, normal(num_rows, out_dim, seed=3)):
            assert_equal(ops.linear, *layer, residual, "identity")
            assert_equal(ops.linear, *layer, residual, "relu")
            assert_close(ops.linear, *layer, residual, "gelu")
            assert_close(ops.linear, *layer, residual, "silu")


OFFSETS = torch.tensor([0, 0, 1, 4, 4, 54, 354, 354])


def make_times() -> Tensor:
    times = torch.randint(5000, (354,), generator=torch.Generator().manual_seed(5)).cumsum(0)
    times[::11] = UNKNOWN_TIME
    return times


@pytest.mark.parametrize("kind", ["softmax", "silu"])
@pytest.mark.parametrize("window", [1, 3, 50, 400])
@pytest.mark.parametrize("head_dim", [5, 32])
def test_attention(kind: str, window: int, head_dim: int) -> None:
    q, k, v = (normal(354, 2 * head_dim, seed=seed) for seed in range(3))
    position_bias, time_bias, boundaries = normal(2, window), normal(2, 14), 4 ** torch.arange(12)
    times = make_times()
    query_times = torch.where(times == UNKNOWN_TIME, 7, times + 60)
    assert_close(ops.attention, q, k, v, OFFSETS, None, None, position_bias, None, None, kind)
    timed = (q, k, v, OFFSETS, times, query_times, position_bias, time_bias, boundaries, kind)
    assert_close(ops.attention, *timed)
    whole = ops.attention(*map(to_cuda, timed))
    alone = ops.attention(
        *map(to_cuda, (q[54:], k[54:], v[54:], torch.tensor([0, 300]), times[54:], query_times[54:], *timed[6:]))
    )
    assert torch.equal(whole[54:], alone), "a sequence's result depends on its batch"


@pytest.mark.parametrize("num_interests", [1, 5])
def test_interest_ops(num_interests: int) -> None:
    dim, pooling_dim, fusion_dim, batch = 20, 24, 33, 6
    hidden = (normal(pooling_dim, dim), normal(pooling_dim), normal(num_interests, pooling_dim, seed=1))
    x, decay = normal(354, dim), normal(num_interests).abs()
    assert_close(ops.interest_pooling, x, OFFSETS, None, *hidden, None)
    assert_close(ops.interest_pooling, x, OFFSETS, make_times(), *hidden, decay)
    interests = normal(batch, num_interests, dim)
    layers = (
        0.1 * normal(fusion_dim, num_interests * dim + 3, seed=2), normal(fusion_dim),
        normal(num_interests, fusion_dim, seed=3), normal(num_interests),
    )  # fmt: skip
    assert_close(ops.interest_fusion, interests, normal(batch), normal(batch, seed=1), *layers)


@pytest.mark.parametrize("case", list(CASES["encode"]))
def test_encode(case: str) -> None:
    assert_close(ops.encode, *CASES["encode"][case]())


def make_catalog(kind: str, num_items: int, dim: int) -> tuple[Tensor, ...]:
    vectors, bias = normal(num_items, dim, seed=7), normal(num_items, seed=8)
    if kind == "duplicate":
        vectors, bias = vectors[torch.arange(num_items) % 7], torch.zeros(num_items)
    elif kind == "huge":
        vectors = vectors.round() * 1e20
    elif kind == "tiny":
        vectors, bias = vectors * 1e-20, torch.zeros(num_items)
    return vectors, bias, ops.code_catalog(vectors, bias, 1)


@pytest.mark.parametrize("batch", [1, 9, 70])
def test_score_topk_reads_codes_in_an_order(batch: int) -> None:
    vectors, bias = normal(50_000, 24, seed=7), normal(50_000, seed=8)
    codes = ops.code_catalog(vectors, bias, 1, True)
    assert_equal(ops.score_topk, normal(batch, 1, 24), None, 1.0, vectors, bias, codes, 20, None, None, 1)


def test_score_topk_reads_codes_at_any_address() -> None:
    vectors, bias, codes = make_catalog("normal", 3000, 24)
    queries = normal(9, 1, 24)
    expected = ops.score_topk(queries, None, 1.0, vectors, bias, codes, 20, None, None, 1)
    shifted = torch.cat([codes[:1], codes]).cuda()[1:]
    got = ops.score_topk(queries.cuda(), None, 1.0, vectors.cuda(), bias.cuda(), shifted, 20, None, None, 1)
    assert all(torch.equal(a, b.cpu()) for a, b in zip(expected, got, strict=True))


def make_exclusions(batch: int, num_items: int) -> tuple[Tensor, Tensor]:
    """Unordered and with repeats; a third of the rows remain for the last user."""
    lists = [
        torch.randint(num_items, (40 * user,), generator=torch.Generator().manual_seed(user)) for user in range(batch)
    ]
    lists[-1] = torch.arange(num_items)[torch.arange(num_items) % 3 > 0]
    lengths = torch.tensor([0] + [len(rows) for rows in lists])
    return torch.cat(lists), lengths.cumsum(0)


@pytest.mark.parametrize("kind", ["normal", "duplicate", "huge", "tiny"])
@pytest.mark.parametrize("num_items", [1, 2048, 10_007])
@pytest.mark.parametrize("k", [1, 10, 3000])
def test_score_topk_is_exact(kind: str, num_items: int, k: int) -> None:
    queries = normal(5, 1, 13)
    catalog = make_catalog(kind, num_items, 13)
    assert_equal(ops.score_topk, queries, None, 1.0, *catalog, k, None, None, 1)
    excluded = make_exclusions(5, num_items)
    assert_equal(ops.score_topk, queries, None, 1.0, *catalog, k, *excluded, 1)
    on_cuda = [to_cuda(tensor) for tensor in catalog]
    together = ops.score_topk(queries.cuda(), None, 1.0, *on_cuda, k, None, None, 1)
    for user in range(5):
        alone = ops.score_topk(queries[user : user + 1].cuda(), None, 1.0, *on_cuda, k, None, None, 1)
        assert all(torch.equal(a[0], b[user]) for a, b in zip(alone, together, strict=True))


def test_scores_of_several_interests() -> None:
    queries, weights = normal(5, 4, 13), normal(5, 4).softmax(1)
    weights[:, 2] = 0
    vectors, bias, codes = make_catalog("normal", 3000, 13)
    items = torch.arange(500).view(5, 100)
    assert_equal(ops.score_items, queries[:, :1].contiguous(), None, 1.0, vectors, bias, items)
    for expected, got in zip(*on_both(ops.score_items, queries, weights, 0.7, vectors, bias, items), strict=True):
        torch.testing.assert_close(got, expected, rtol=2e-7, atol=1e-12)
    args = (queries, weights, 0.7, vectors, bias, codes, 20, None, None, 1)
    (expected, _, expected_counts), (scores, rows, counts) = on_both(ops.score_topk, *args)
    torch.testing.assert_close(scores, expected, rtol=2e-7, atol=1e-12)
    assert torch.equal(counts, expected_counts)
    again = ops.score_items(*map(to_cuda, (queries, weights, 0.7, vectors, bias, rows)))
    assert torch.equal(again.cpu(), scores), "the rows are not those of the scores"


@pytest.mark.parametrize(
    ("op", "changes", "message"),
    [case for case in REFUSED if case[0] not in ("code_catalog", "update_codes")],
)
def test_what_the_cpu_refuses_is_refused_in_the_same_words(op: str, changes: dict[str, object], message: str) -> None:
    args = {**dict(zip(NAMES[op], first_args(op), strict=True)), **changes}
    with pytest.raises(ValueError, match="^" + message + "$"):
        getattr(ops, op)(**{name: to_cuda(value) for name, value in args.items()})


def test_tensors_on_another_device_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^weight: expected a tensor on cuda:0, got one on the CPU$"):
        ops.linear(normal(20, 8).cuda(), normal(4, 8), None, None, "identity")
