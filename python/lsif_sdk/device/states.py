"""User states in a device's memory, one per slot, with the events on the host that requests need."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lsif_sdk.config import ModelConfig
from lsif_sdk.device.choice import memory_errors
from lsif_sdk.device.layout import Ints
from lsif_sdk.device.model import DeviceEncoder
from lsif_sdk.errors import ArgumentError
from lsif_sdk.event_batch import EventBatch
from lsif_sdk.locks import ForkSafeLock
from lsif_sdk.native_errors import native_errors
from lsif_sdk.ragged import offsets_of, owners_of
from lsif_sdk.times import UNKNOWN_TIME

__all__ = ["StateTable", "TableUsers"]


@dataclasses.dataclass(frozen=True)
class TableUsers:
    """Users at one moment: interests on the device, remembered events (ragged, oldest first) and counts."""

    encoded: list[Tensor]
    items: Ints
    times: Ints | None
    offsets: Ints
    num_events: Ints
    num_unknown: Ints

    def __len__(self) -> int:
        return len(self.num_events)


class StateTable:
    """States of one model. The caller checks slots. Thread-safe, whatever the threads' streams.

    Args:
        encoder: the model's.
        config: the model's.
        device: the encoder's.
        capacity: number of slots.
        remember: how many of the newest events are kept on the host, for exclusion and `repeats`.

    Raises:
        ArgumentError: states of this model do not fit a GPU, or there is not enough memory on the device or the host.
    """

    def __init__(
        self, encoder: DeviceEncoder, config: ModelConfig, device: torch.device, capacity: int, remember: int
    ) -> None:
        self._encoder = encoder
        self._config = config
        self._device = device
        self._remember = remember
        self._lock = ForkSafeLock()
        self._done: torch.cuda.Event | None = None
        with native_errors():
            size = encoder.state_size()
        with memory_errors("capacity", device, f"{capacity} states of {size} bytes"):
            self._states = torch.empty((capacity, size), dtype=torch.uint8, device=device)
        has_times = config.repeats and config.use_times
        try:
            self.num_events = np.zeros(capacity, np.int64)
            self.num_unknown = np.zeros(capacity, np.int64)
            self._newest_times = np.full(capacity, UNKNOWN_TIME)
            # Rings: event r of a history is at place r modulo `remember`. Pages that are never written take no memory.
            self._items = np.zeros((capacity, remember), np.int64)
            self._times = np.zeros((capacity, remember), np.int64) if has_times else None
        except MemoryError:
            got = f"{remember} for each of {capacity} slots"
            raise ArgumentError("remember", "no more than fits the host's memory", got) from None
        self.clear(np.arange(capacity))

    @property
    def nbytes(self) -> int:
        """Size in the device's memory, in bytes."""
        return self._states.nbytes

    @torch.inference_mode()
    def clear(self, slots: Ints) -> None:
        """Resets these slots to states without events."""
        with self._lock, self._in_order(), native_errors(), self._memory_for(slots):
            self._encoder.start_states(self._states, self._moved(slots))
            self.num_events[slots] = 0
            self.num_unknown[slots] = 0
            self._newest_times[slots] = UNKNOWN_TIME

    @torch.inference_mode()
    def append(self, slots: Ints, events: EventBatch) -> None:
        """Appends events to each slot, which are all different, without waiting for the device.

        Raises:
            ArgumentError: a time is before the previous one, or a history has both known and unknown times; nothing was
                appended. Or the device has too little memory; then, as after other errors of the device, states of
                these slots may include some of the events: `clear` them.
        """
        with self._lock, self._in_order(), native_errors(), self._memory_for(slots):
            counts = np.diff(events.offsets)
            users = owners_of(events.offsets)
            of_slots = slots[users]
            places = np.arange(len(users)) - events.offsets[:-1][users]
            times = events.times if self._config.use_times else None
            self._check_times(times, of_slots, places)
            self._launch(of_slots, places, events.items, times, events.actions)
            # Only the newest `remember` events, so that each place is written once.
            kept = places >= counts[users] - self._remember
            rings = of_slots[kept], (self.num_events[of_slots] + places)[kept] % self._remember
            self._items[rings] = events.items[kept]
            if self._times is not None:
                self._times[rings] = UNKNOWN_TIME if times is None else times[kept]
            if times is not None:
                self._newest_times[slots[counts > 0]] = times[events.offsets[1:][counts > 0] - 1]
            self.num_events[slots] += counts
            self.num_unknown[slots] += events.unknown

    @torch.inference_mode()
    def users(self, slots: Ints, now: Ints | None) -> TableUsers:
        """The users in these slots, which may repeat. `now`: request times, or None."""
        with self._lock, self._in_order(), native_errors(), self._memory_for(slots):
            on_device = None if now is None else self._moved(now)
            encoded = self._encoder.encode_states(self._states, self._moved(slots), on_device)
            return TableUsers(list(encoded), *self._seen(slots), self.num_events[slots], self.num_unknown[slots])

    def _seen(self, slots: Ints) -> tuple[Ints, Ints | None, Ints]:
        counts = np.minimum(self.num_events[slots], self._remember)
        offsets = offsets_of(counts)
        users = owners_of(offsets)
        first = (self.num_events[slots] - counts - offsets[:-1])[users]
        rings = slots[users], (first + np.arange(len(users))) % self._remember
        return self._items[rings], None if self._times is None else self._times[rings], offsets

    def _launch(self, slots: Ints, places: Ints, items: Ints, times: Ints | None, actions: Ints | None) -> None:
        """Appends all users' first events, then all second ones, ...: one launch each, and one copy to the device."""
        by_place = np.argsort(places, kind="stable")
        columns = [None if column is None else column[by_place] for column in (slots, items, times, actions)]
        there = [column for column in columns if column is not None]
        moved = iter(self._moved(np.concatenate(there)).view(len(there), -1))
        on_device = [None if column is None else next(moved) for column in columns]
        ends = np.cumsum(np.bincount(places)).tolist()
        for begin, end in zip([0, *ends], ends, strict=False):
            of_round = [None if column is None else column[begin:end] for column in on_device]
            self._encoder.append(self._states, *of_round)

    def _check_times(self, times: Ints | None, slots: Ints, places: Ints) -> None:
        """Raises the errors of engine/append.cpp."""
        if not self._config.use_times:
            return
        later = np.full(len(slots), UNKNOWN_TIME) if times is None else times
        earlier = np.concatenate([later[:1], later[:-1]])
        is_first = places == 0
        earlier[is_first] = np.where(
            self.num_events[slots[is_first]] > 0, self._newest_times[slots[is_first]], later[is_first]
        )
        is_mixed = (earlier == UNKNOWN_TIME) != (later == UNKNOWN_TIME)
        is_wrong = is_mixed | (later < earlier)
        if not is_wrong.any():
            return
        at = int(np.argmax(is_wrong))
        again = f"clear slot {slots[at]} and append the sorted history"
        if is_mixed[at]:
            raise ArgumentError("times", "all of a history known or all unknown", f"some of each: {again}")
        raise ArgumentError("times", f"none before the newest event's, {earlier[at]}", f"{later[at]}: {again}")

    def _moved(self, values: npt.NDArray[np.int64]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        if self._device.type == "cuda" and len(values):
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)

    def _memory_for(self, slots: Ints) -> contextlib.AbstractContextManager[None]:
        return memory_errors("slots", self._device, f"{len(slots)}")

    @contextlib.contextmanager
    def _in_order(self) -> Iterator[None]:
        """Orders work on the states after earlier work, whichever streams are used."""
        if self._device.type != "cuda":
            yield
            return
        with torch.cuda.device(self._device):
            if self._done is not None:
                torch.cuda.current_stream().wait_event(self._done)
            self._states.record_stream(torch.cuda.current_stream())
            try:
                yield
            finally:
                self._done = torch.cuda.current_stream().record_event()
