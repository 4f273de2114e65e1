"""Random models and histories for tests of the native engine, and the float64 torch module to compare with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lsif_sdk import _core
from lsif_sdk.artifact import Artifact
from lsif_sdk.catalog import Catalog
from lsif_sdk.config import ModelConfig
from lsif_sdk.items import ItemTable
from lsif_sdk.model import UNKNOWN_TIME, Encoded, InterestFusionModel
from lsif_sdk.ops import ops

NOW = 1_700_000_000
REFUSED = (ValueError, RuntimeError)
"""What torch makes of an op's std::invalid_argument: the first with torch 2.13, the second with torch 2.15."""

Arrays = tuple[np.ndarray, ...]
Weights = dict[str, torch.Tensor]


def make_config(**changes: Any) -> ModelConfig:
    values: dict[str, Any] = {
        "num_items": 53, "dim": 12, "num_layers": 2, "num_heads": 3, "ffn_dim": 20, "window": 7, "num_long": 3,
        "num_short": 2, "short_window": 5, "pooling_dim": 9, "fusion_dim": 10, "num_time_boundaries": 40,
        "num_actions": 4,
    }  # fmt: skip
    return ModelConfig(**{**values, **changes})


def random_weights(config: ModelConfig, seed: int = 0, spread: float = 0.5) -> Weights:
    """The artifact's tensors with every parameter moved away from its initial value, so that every term counts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # the module's initial values come from torch's global generator
        torch.manual_seed(seed)
        model = InterestFusionModel(config).to(torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            # A matrix keeps the norm of what it multiplies; biases, norms, logits and decay rates move by `spread`.
            scale = spread * parameter.shape[-1] ** -0.5 if parameter.dim() == 2 and "_bias" not in name else spread
            parameter.add_(2 * scale * noise if "embedding" not in name else spread * noise)
    return model.export_weights()


def make_artifact(config: ModelConfig, seed: int = 0, ids: Sequence[Any] | None = None) -> Artifact:
    counts = np.random.default_rng(seed).integers(0, 20, config.num_items)
    table = ItemTable(np.arange(config.num_items) if ids is None else ids, counts=counts)
    return Artifact(config, random_weights(config, seed), table)


def request_path(artifact: Artifact, precision: str = "float32") -> _core.RequestPath:
    """Only the native object, whose calls take `threads` as an argument."""
    c = Catalog.from_vectors(artifact.catalog_vectors, artifact.items, artifact.catalog_bias)
    return _core.RequestPath(
        artifact.config.to_dict(),
        [weight.numpy() for weight in artifact.encoder_weights],
        *[tensor.numpy() for tensor in (c.vectors, c.bias, c.codes)],
        multi_interest=artifact.config.scoring == "multi_interest",
        temperature=artifact.config.temperature,
        precision=precision,
    )


@dataclasses.dataclass(frozen=True)
class Batch:
    """Ragged histories, docs/model.md "Inputs"."""

    items: np.ndarray
    times: np.ndarray | None
    actions: np.ndarray | None
    offsets: np.ndarray
    now: np.ndarray | None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def replace(self, **changes: Any) -> Batch:
        return dataclasses.replace(self, **changes)

    def select(self, users: Sequence[int]) -> Batch:
        empty = np.zeros(0, np.int64)
        index = np.concatenate([empty, *[np.arange(self.offsets[u], self.offsets[u + 1]) for u in users]])
        lengths = np.diff(self.offsets)[list(users)]
        return Batch(
            self.items[index],
            None if self.times is None else self.times[index],
            None if self.actions is None else self.actions[index],
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            None if self.now is None else self.now[list(users)],
        )

    def encode(self, path: _core.RequestPath, threads: int = 1) -> Arrays:
        arrays: Arrays = path.encode(self.items, self.times, self.actions, self.offsets, self.now, threads)
        return arrays


TIME_KINDS = ("sorted", "unsorted", "identical", "mixed", "unknown", "huge", "none")
NOW_KINDS = ("known", "past", "mixed", "none")


def random_times(kind: str, lengths: Sequence[int], rng: np.random.Generator) -> np.ndarray | None:
    """Event times of one kind: gaps of seconds to weeks, unless `kind` says otherwise."""
    if kind == "none":
        return None
    parts = [np.zeros(0, np.int64)]
    for length in lengths:
        gaps = np.exp(rng.uniform(0, 14, length)).astype(np.int64)
        times = NOW - gaps[::-1].cumsum()[::-1]
        if kind == "unsorted":
            times = rng.permutation(times)
        elif kind == "identical":
            times[:] = NOW - 3600
        elif kind == "mixed":
            times[rng.random(length) < 0.3] = UNKNOWN_TIME
        elif kind == "unknown":
            times[:] = UNKNOWN_TIME
        elif kind == "huge":
            ends = np.iinfo(np.int64)  # the difference of two times may not fit an int64
            times = np.sort(rng.integers(ends.min + 1, ends.max, length, endpoint=True))
        parts.append(times)
    return np.concatenate(parts)


def random_now(kind: str, batch: int, rng: np.random.Generator) -> np.ndarray | None:
    if kind == "none":
        return None
    now = NOW + np.exp(rng.uniform(0, 18, batch)).astype(np.int64)
    if kind == "past":
        now -= 10**7
    elif kind == "mixed":
        now[rng.random(batch) < 0.5] = UNKNOWN_TIME
    return now


def random_batch(
    config: ModelConfig,
    lengths: Sequence[int],
    seed: int = 0,
    times: str = "sorted",
    now: str = "known",
    actions: bool = True,
) -> Batch:
    rng = np.random.default_rng(seed)
    total = sum(lengths)
    return Batch(
        rng.integers(config.num_items, size=total),
        random_times(times, lengths, rng),
        rng.integers(config.num_actions + 1, size=total) if actions else None,
        np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        random_now(now, len(lengths), rng),
    )


def encode_op(artifact: Artifact, batch: Batch, threads: int = 1) -> Arrays:
    out = ops.encode(*encode_op_args(artifact, batch, threads))
    return tuple(tensor.numpy() for tensor in out)


def encode_op_args(artifact: Artifact, batch: Batch, threads: int = 1) -> tuple[Any, ...]:
    def tensor(values: np.ndarray | None) -> torch.Tensor | None:
        return None if values is None else torch.from_numpy(values)

    config = artifact.config
    return (
        artifact.encoder_weights, _core.config_ints(config.to_dict()), config.norm_eps, tensor(batch.items),
        tensor(batch.times), tensor(batch.actions), tensor(batch.offsets), tensor(batch.now), threads,
    )  # fmt: skip


@torch.inference_mode()
def reference(artifact: Artifact, batch: Batch) -> Arrays:
    """(fused, interests, weights) of the torch module in float64, from the same float32 weights."""
    fused, interests, weights, _ = _module_encodes(artifact, batch)[1]
    return fused.numpy(), interests.numpy(), weights.numpy()


@torch.inference_mode()
def reference_scores(artifact: Artifact, batch: Batch) -> np.ndarray:
    """The torch module's scores of all items, float64 [batch, num_items]; for users without events, the biases."""
    model, encoded = _module_encodes(artifact, batch)
    scores: np.ndarray = model.scores(encoded).numpy()
    scores[np.diff(batch.offsets) == 0] = artifact.catalog_bias.numpy()
    return scores


def _module_encodes(artifact: Artifact, batch: Batch) -> tuple[InterestFusionModel, Encoded]:
    model = InterestFusionModel.from_weights(artifact.config, artifact.weights, dtype=torch.float64).eval()
    _, _, _, items, times, actions, offsets, now, _ = encode_op_args(artifact, batch)
    return model, model.encode(items, times, actions, offsets=offsets, now=now)


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest |actual - expected| / |expected| (Euclidean norms along the last axis); zeros must match."""
    missed = np.linalg.norm(actual.astype(np.float64) - expected, axis=-1)
    size = np.linalg.norm(expected, axis=-1)
    ratio = np.divide(missed, size, out=np.where(missed == 0, 0.0, np.inf), where=size > 0)
    return float(ratio.max(initial=0.0))


def encode_error(artifact: Artifact, batch: Batch, actual: Arrays) -> float:
    """`relative_error` of fused vectors, of each interest and of the interest weights: the largest of the three."""
    return max(relative_error(a, e) for a, e in zip(actual, reference(artifact, batch), strict=True))
