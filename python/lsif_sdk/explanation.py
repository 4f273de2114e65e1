"""Why an item has its score: the exact share of each interest and of each past event."""

from __future__ import annotations

import concurrent.futures
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lsif_sdk.artifact import Artifact
from lsif_sdk.event_batch import EventBatch
from lsif_sdk.ids import Id
from lsif_sdk.times import UNKNOWN_TIME

if TYPE_CHECKING:
    from lsif_sdk.model import InterestFusionModel

__all__ = ["EventShare", "Explanation", "InterestShare", "explain"]


@dataclasses.dataclass(frozen=True)
class InterestShare:
    """The part of one interest in a score.

    kind: "long", "short" or "newest" (the newest state). weight: its weight in the fusion, 0 to 1. share: its part of
    the score.
    """

    kind: str
    weight: float
    share: float


@dataclasses.dataclass(frozen=True)
class EventShare:
    """The part of one past event in a score: its contributions to the interests, weighted by those of the interests.

    item: external id. time: Unix seconds, None if unknown. share: its part of the score. long: the part of `share` by
    long-term interests.
    """

    item: Id
    time: int | None
    share: float
    long: float


@dataclasses.dataclass(frozen=True)
class Explanation:
    """The parts of a score, in float64, which sum to `Recommender.score` within its rounding.

    They are those of the float32 model, also for a recommender with precision="bfloat16", whose scores differ from
    `score` here by the error of that precision (docs/model.md, 2: with MovieLens 1e-3 of a vector's length).

    score = bias + repeats + balance + the sum over interests = bias + repeats + balance + the sum over events.

    item: external id. score: the sum. bias: the item's bias, the same for all users. repeats: the bonus of an item of
    the user's history. balance: 0 for a model that scores with the fused vector; with "multi_interest" the cost of the
    choice between interests (formula: `explain`). interests: long-term, short-term, newest. events: oldest first.
    """

    item: Id
    score: float
    bias: float
    repeats: float
    balance: float
    interests: tuple[InterestShare, ...]
    events: tuple[EventShare, ...]


def explain(artifact: Artifact, events: EventBatch, item: int, now: int | None) -> Explanation:
    """Splits the score of a catalogue row into its parts.

    An interest is a weighted sum over events, v_j = sum_t p_jt y_t (docs/model.md, 3: y_t is the event's embedding
    transformed by `value`, or the event's state), so with weights W_j of the fusion, event t has the share
    sum_j W_j p_jt (y_t . x). The newest state is that of the newest event. A state also depends on earlier events, but
    counts as part of its own event.

    With "multi_interest", score - b = tau log sum_j W_j exp(v_j . x / tau). Let r_j be the j-th term's share of that
    sum; then score - b = sum_j r_j v_j . x - tau sum_j r_j log(r_j / W_j) exactly: interests count with r_j in place of
    W_j, and the last term, which is never positive, is `balance`.

    Args:
        artifact: the model.
        events: the events of one user, at least one.
        item: the item's row.
        now: request time, Unix seconds, or None.
    """
    # torch's (OpenMP's) thread pool belongs to the calling thread. After a fork its workers are missing, and torch
    # would wait for them for ever. A new thread gets a pool of its own.
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="lsif-explain") as thread:
        return thread.submit(_explained, artifact, events, item, now).result()


@torch.inference_mode()
def _explained(artifact: Artifact, events: EventBatch, item: int, now: int | None) -> Explanation:
    model, rows, target = _small_model(artifact, events.items, item)
    config = model.config
    times = np.full(len(rows), UNKNOWN_TIME) if events.times is None else events.times
    actions = None if events.actions is None else torch.from_numpy(events.actions)
    moments = torch.from_numpy(np.ascontiguousarray(times))
    asked = None if now is None else torch.tensor([now])
    offsets = torch.tensor([0, len(rows)])
    encoded = model.encode(rows, moments, actions, offsets=offsets, now=asked).select(0)
    values, weights = _parts(model, rows, moments, actions, asked)
    vector, bias = (part[item].double() for part in (artifact.catalog_vectors, artifact.catalog_bias))
    fusion, balance = encoded.weights, 0.0
    if config.scoring == "multi_interest":
        logits = encoded.weights.log() + encoded.interests @ vector / config.temperature
        chosen = logits.softmax(dim=0)
        divergence = torch.xlogy(chosen, chosen) - torch.xlogy(chosen, encoded.weights)
        balance = -config.temperature * max(0.0, float(divergence.sum()))  # it may be 0 but for rounding
        fusion = chosen
    shares = fusion[:, None] * weights * (values @ vector)  # [M, seq_len]
    repeats = 0.0 if encoded.bonus is None else float(encoded.bonus.of(torch.tensor(target)))
    total = float(bias) + repeats + balance + float(shares.sum())
    ids = artifact.items.take(np.append(events.items, item)).tolist()
    kinds = ["long"] * config.num_long + ["short"] * config.num_short + ["newest"]
    by_interest = zip(kinds, encoded.weights.tolist(), shares.sum(dim=1).tolist(), strict=True)
    long = shares[: config.num_long].sum(dim=0)
    by_event = zip(ids[:-1], times.tolist(), shares.sum(dim=0).tolist(), long.tolist(), strict=True)
    return Explanation(
        ids[-1],
        total,
        float(bias),
        repeats,
        balance,
        tuple(InterestShare(*entry) for entry in by_interest),
        tuple(EventShare(i, None if t == UNKNOWN_TIME else t, share, part) for i, t, share, part in by_event),
    )


def _small_model(artifact: Artifact, items: Any, item: int) -> tuple[InterestFusionModel, Tensor, int]:
    """A float64 model with only the rows of these items, the history as rows of that model, and the item's row."""
    used, places = np.unique(np.append(items, item), return_inverse=True)
    kept = torch.from_numpy(used)
    weights = {name: value for name, value in artifact.weights.items() if name != "catalog.vectors"}
    weights |= {name: weights[name][kept] for name in ("item_embedding", "catalog.bias")}
    # Vectors for scoring are taken from the artifact, since those of a live catalogue differ from the embeddings.
    config = dataclasses.replace(artifact.config, num_items=len(used), normalize_items=False, normalize_inputs=False)
    from lsif_sdk.model import InterestFusionModel  # imported here, since recommending does not need it

    model = InterestFusionModel.from_weights(config, weights, dtype=torch.float64).eval()
    return model, torch.from_numpy(places[:-1]), int(places[-1])


def _parts(
    model: InterestFusionModel, rows: Tensor, times: Tensor, actions: Tensor | None, now: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The terms y_t that the interests sum, [M, seq_len, dim], and their weights p_jt, [M, seq_len]."""
    config = model.config
    x, states = model.embed_and_encode(rows, times, actions, now)
    newest = torch.zeros(len(rows), dtype=x.dtype)
    newest[-1] = 1.0
    values, weights = [states[None]], [newest[None]]
    if config.num_short > 0:
        values.insert(0, states.expand(config.num_short, -1, -1))
        weights.insert(0, model.short_pooling.weights(states))
    if config.num_long > 0:
        pooling = model.long_pooling
        visible = torch.ones(1, len(rows), dtype=torch.bool)
        values.insert(0, pooling.value(x).expand(config.num_long, -1, -1))
        weights.insert(0, pooling.weights(x[None], times[None], visible, times[None, -1:])[0])
    return torch.cat(values), torch.cat(weights)
