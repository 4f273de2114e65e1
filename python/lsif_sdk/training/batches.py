"""Cuts an event log into training sequences, and groups them into shuffled, right-padded batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsif_sdk.errors import ArgumentError
from lsif_sdk.event_log import EventLog
from lsif_sdk.model.times import UNKNOWN_TIME
from lsif_sdk.ragged import offsets_of

__all__ = ["Batch", "Sequences"]

_BATCHES_PER_POOL = 16


class Batch(NamedTuple):
    """Right-padded sequences and the event that follows each position.

    Attributes:
        items: int64 [batch, seq_len].
        targets: item of the following event, int64 [batch, seq_len]; -1 in the padding and for skipped targets.
        times: int64 [batch, seq_len], or None.
        actions: int64 [batch, seq_len], or None.
        lengths: int64 [batch].
        start: number of events of the history before the sequence, int64 [batch].
        now: time of the event that follows the sequence, int64 [batch], or None.
    """

    items: Tensor
    targets: Tensor
    times: Tensor | None
    actions: Tensor | None
    lengths: Tensor
    start: Tensor
    now: Tensor | None

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        moved: Any = (None if part is None else part.to(device) for part in self)
        return Batch(*moved)


class Sequences:
    """The training sequences of a log: every event except a user's first is a target exactly once, unless skipped.

    A longer history is cut into pieces of `max_len` events, starting at its newest end, so that the newest piece is
    full.

    Args:
        log: the events.
        max_len: the most events of a sequence (not counting its last target).
        batch_size: sequences per batch.
        time_dropout: probability that all times of a sequence are hidden.
        skip_ties: an event at the same time as the one before is not a target.
        skip_seen: an event with an item that an earlier event of the user has is not a target.

    Raises:
        ArgumentError: `skip_ties` without times, or nothing is left to train on.
    """

    def __init__(
        self,
        log: EventLog,
        max_len: int,
        batch_size: int,
        time_dropout: float,
        skip_ties: bool = False,
        skip_seen: bool = False,
    ) -> None:
        self._log = log
        self._batch_size = batch_size
        self._time_dropout = time_dropout
        inputs = np.maximum(log.lengths - 1, 0)
        pieces = -(-inputs // max_len)
        user = np.repeat(np.arange(log.num_users), pieces)
        from_newest = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        end = inputs[user] - from_newest * max_len
        self._start = np.maximum(end - max_len, 0)
        self._length = end - self._start
        self._first = log.offsets[user] + self._start
        self._skipped: NDArray[np.bool_] | None = None
        if skip_ties:
            self._skip(_ties(log), "skip_ties", "False where no event is later than the one before it")
        if skip_seen:
            self._skip(_seen(log), "skip_seen", "False where all that people come to is what they had before")

    def _skip(self, events: NDArray[np.bool_], argument: str, expected: str) -> None:
        """Removes these events from the targets, and sequences without any target left."""
        self._skipped = events if self._skipped is None else self._skipped | events
        targets = offsets_of(~self._skipped)
        kept = targets[self._first + self._length + 1] > targets[self._first + 1]
        if not kept.any():
            raise ArgumentError(argument, expected, True)
        self._start, self._length, self._first = self._start[kept], self._length[kept], self._first[kept]

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self._first) // self._batch_size)

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        """One epoch in random order; sequences of similar length share a batch, to reduce padding."""
        order = rng.permutation(len(self._first))
        pool = self._batch_size * _BATCHES_PER_POOL
        groups: list[NDArray[np.int64]] = []
        for begin in range(0, len(order), pool):
            members = order[begin : begin + pool]
            members = members[np.argsort(self._length[members], kind="stable")]
            groups.extend(members[i : i + self._batch_size] for i in range(0, len(members), self._batch_size))
        for group in rng.permutation(len(groups)):
            yield self._batch(groups[group], rng)

    def _batch(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        lengths, first = self._length[rows], self._first[rows]
        positions = np.arange(lengths.max())
        valid = positions < lengths[:, None]
        # Padding repeats the newest event: any valid row would do.
        index = first[:, None] + np.minimum(positions, lengths[:, None] - 1)
        if self._skipped is not None:
            valid &= ~self._skipped[index + 1]
        times, now = self._times(index, first + lengths, rng)
        return Batch(
            items=torch.from_numpy(self._log.items[index]),
            targets=torch.from_numpy(np.where(valid, self._log.items[index + 1], -1)),
            times=times,
            actions=None if self._log.actions is None else torch.from_numpy(self._log.actions[index]),
            lengths=torch.from_numpy(lengths),
            start=torch.from_numpy(self._start[rows]),
            now=now,
        )

    def _times(
        self, index: NDArray[np.int64], following: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[Tensor | None, Tensor | None]:
        if self._log.times is None:
            return None, None
        hidden = rng.random(len(index)) < self._time_dropout
        times = np.where(hidden[:, None], UNKNOWN_TIME, self._log.times[index])
        return torch.from_numpy(times), torch.from_numpy(np.where(hidden, UNKNOWN_TIME, self._log.times[following]))


def _ties(log: EventLog) -> NDArray[np.bool_]:
    """Which events have the same time as the user's previous event, bool [total]."""
    if log.times is None:
        raise ArgumentError("skip_ties", "False for events without times", True)
    tied = np.zeros(len(log.items), dtype=np.bool_)
    tied[1:] = log.times[1:] == log.times[:-1]
    tied[log.offsets[:-1][log.lengths > 0]] = False
    return tied


def _seen(log: EventLog) -> NDArray[np.bool_]:
    """Which events repeat an item of an earlier event of the user, bool [total]."""
    seen = np.ones(len(log.items), dtype=np.bool_)
    seen[np.unique(log.users * log.num_items + log.items, return_index=True)[1]] = False
    return seen
