"""Repeats: learned bonuses on the scores of items of the user's own history (docs/model.md section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lsif_sdk.config import ModelConfig
from lsif_sdk.model.times import elapsed

__all__ = ["NUM_DISTANCES", "NUM_PHASES", "RepeatBonus", "Repeats"]

NUM_DISTANCES = 16
"""Number of buckets of how many events ago: 1, 2, 3-4, 5-8, ..."""
NUM_PHASES = 24 * 7
"""Number of buckets of the time since an event modulo one week: its hours."""
SECONDS_PER_HOUR = 3600
_MAX_LOGIT = 30.0


class RepeatBonus(NamedTuple):
    """Bonuses on the scores of the items of a history; the leading dimensions are those of `Encoded`.

    Attributes:
        items: catalogue rows of the events, int64 [..., seq_len].
        values: float [..., seq_len]; an item's bonus is the sum over its events, 0 for events not yet seen.
    """

    items: Tensor
    values: Tensor

    def of(self, targets: Tensor) -> Tensor:
        """The bonus of ONE item for each query: int64 [...] -> [...]."""
        return torch.where(self.items == targets[..., None], self.values, 0).sum(dim=-1)

    def added_to(self, scores: Tensor, candidates: Tensor | None) -> Tensor:
        """Scores [..., n] of the candidates int64 [n], or of the whole catalogue, with the bonus added."""
        values = self.values.to(scores.dtype)
        if candidates is None:
            return scores.scatter_add(-1, self.items, values)
        # A candidate may occur more than once, as drawn negatives do.
        rows = candidates.sort().values
        column = torch.searchsorted(rows, self.items.contiguous()).clamp_max(len(rows) - 1)
        values = torch.where(rows[column] == self.items, values, 0)
        bonus = scores.new_zeros(*scores.shape[:-1], len(rows)).scatter_add(-1, column, values)
        return scores + bonus[..., torch.searchsorted(rows, candidates)]


class Repeats(nn.Module):
    """log(1 + exp(gate) sum_j exp(a_j)) over the events j of an item, with a_j learned by distance, age and hour.

    The values of distances and ages are learned as steps between buckets, so that a bucket that does not occur in
    training, such as a distance longer than training sequences, has the value of the last one that does.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.use_times = config.use_times
        self.gate = nn.Linear(config.dim, 1)
        nn.init.zeros_(self.gate.weight)
        self.distance_steps = nn.Parameter(torch.zeros(NUM_DISTANCES))
        if config.use_times:
            self.age_steps = nn.Parameter(torch.zeros(config.num_time_boundaries + 2))
            self.phase = nn.Parameter(torch.zeros(NUM_PHASES + 1))

    def tables(self) -> dict[str, Tensor]:
        """The learned tables by their name in an artifact: "repeats.distance" and, with times, "repeats.age"."""
        tables = {"repeats.distance": self.distance_steps.cumsum(0)}
        if self.use_times:
            # The first value is for unknown times, and not a neighbour of the others.
            tables["repeats.age"] = torch.cat([self.age_steps[:1], self.age_steps[1:].cumsum(0)])
        return tables

    @staticmethod
    def steps(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `tables`, of an artifact's weights: parameters by their name in a model."""
        parameters = {}
        if "repeats.distance" in weights:
            table = weights["repeats.distance"].double()
            parameters["repeats.distance_steps"] = table.diff(prepend=table.new_zeros(1))
        if "repeats.age" in weights:
            table = weights["repeats.age"].double()
            known = table[1:].diff(prepend=table.new_zeros(1))
            parameters["repeats.age_steps"] = torch.cat([table[:1], known])
        return parameters

    def forward(
        self, newest: Tensor, items: Tensor, times: Tensor, asked: Tensor, distance: Tensor, boundaries: Tensor | None
    ) -> RepeatBonus:
        """The bonus of every query.

        Args:
            newest: newest state of each query [batch, num_queries, dim].
            items: int64 [batch, seq_len].
            times: int64 Unix seconds [batch, seq_len].
            asked: request time of each query, int64 Unix seconds [batch, num_queries].
            distance: how many events each event is before the query's newest one, int64
                [batch or 1, num_queries, seq_len]; negative for events that the query does not see.
            boundaries: boundaries of the time buckets, int64; None without times.
        """
        tables = self.tables()
        visible = (distance >= 0).to(self.distance_steps.dtype)
        logits = tables["repeats.distance"][_distance_bucket(distance)]
        if self.use_times and boundaries is not None:
            seconds, known = elapsed(asked[:, :, None], times[:, None, :])
            bucket = torch.where(known, 1 + torch.bucketize(seconds, boundaries, right=True), 0)
            phase = torch.where(known, 1 + seconds // SECONDS_PER_HOUR % NUM_PHASES, 0)
            logits = logits + tables["repeats.age"][bucket] + self.phase[phase]
        gate = self.gate(newest)
        weights = torch.exp((logits + gate).clamp_max(_MAX_LOGIT)) * visible
        with torch.autocast(newest.device.type, enabled=False):  # half precision represents neither exp(30) nor counts
            total, count = _sums_by_item(items, weights, visible.expand_as(weights))
        values = torch.log1p(total) / count.clamp_min(1) * visible
        return RepeatBonus(items[:, None, :].expand(values.shape), values)


def _sums_by_item(items: Tensor, *values: Tensor) -> list[Tensor]:
    """For every event the sum over the events of its item: values [batch, num_queries, seq_len] -> the same shape."""
    if values[0].shape[1] > 1:
        same = (items[:, :, None] == items[:, None, :]).to(values[0].dtype)
        return [part @ same for part in values]
    # With one query per user the sequence is a whole history, which may be too long for seq_len squared.
    distinct, ranks = torch.unique(items, return_inverse=True)
    sums = values[0].new_zeros(len(items), 1, len(distinct))
    ranks = ranks[:, None, :]
    return [sums.scatter_add(-1, ranks, part).gather(-1, ranks) for part in values]


def _distance_bucket(distance: Tensor) -> Tensor:
    """0 for the newest event, 1 for the one before, then one bucket for each doubling."""
    events = distance.clamp_min(0).to(torch.float32)
    return torch.ceil(torch.log2(events + 1)).clamp_max(NUM_DISTANCES - 1).to(torch.int64)
