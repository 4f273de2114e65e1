"""Users whose states stay in a GPU's memory: batches of them take in events there and are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lsif_sdk import _core
from lsif_sdk.arguments import as_int64, as_integer, is_integer
from lsif_sdk.device import DevicePath
from lsif_sdk.device.states import StateTable
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.events import Histories
from lsif_sdk.user_state import DEFAULT_REMEMBER, MOST_REMEMBERED

if TYPE_CHECKING:
    from lsif_sdk.native_model import NativeModel

__all__ = ["DeviceStates", "DeviceUsers"]

Slots = int | Sequence[int] | npt.NDArray[np.int64]
Ints = npt.NDArray[np.int64]

MOST_STATES = 2**31 - 1


class DeviceStates:
    """States of up to `capacity` users in the memory of a recommender's GPU (docs/cuda.md, "User states").

        states = DeviceStates(recommender, capacity=100_000)
        states.append([3, 17], [["a"], Events(["b", "c"], times=[...])])
        recommender.recommend(state=states[[3, 17]], k=10)

    A user is a slot, a number from 0 to `capacity` - 1; which user has which is the caller's to know. Unlike a
    `UserState` it changes in place. Safe to share between threads. A `LiveRecommender`'s later snapshots answer for
    these users, too, but items that are new there are unknown to `append`.

    Args:
        recommender: on a GPU, in float32. It maps the events' ids; requests go to it.
        capacity: how many slots.
        remember: how many of a user's newest events `exclude_seen` and models with `repeats` see. They are kept in the
            host's memory, 8 bytes each (16 with `repeats` and times), which is taken page by page as they fill.

    Raises:
        ArgumentError: a value is out of range, the recommender is on the CPU, its model's states do not fit a GPU, or
            there is not the memory.
        ArgumentTypeError: `recommender` is none, or a number no integer.
    """

    def __init__(self, recommender: NativeModel, capacity: int, *, remember: int = DEFAULT_REMEMBER) -> None:
        capacity = as_integer("capacity", capacity, 0, MOST_STATES)
        remember = as_integer("remember", remember, 1, MOST_REMEMBERED)
        path = getattr(recommender, "_path", None)
        if not isinstance(path, (DevicePath, _core.RequestPath)):
            raise ArgumentTypeError("recommender", "a Recommender (`current` of a LiveRecommender)", recommender)
        if not isinstance(path, DevicePath):
            raise ArgumentError("recommender", "one on a GPU", f"one with device={recommender.device!r}")
        self._recommender = recommender
        self._capacity = capacity
        self.table: StateTable = path.new_states(capacity, remember)

    @property
    def capacity(self) -> int:
        """How many slots."""
        return self._capacity

    @property
    def nbytes(self) -> int:
        """Of the GPU's memory."""
        return self.table.nbytes

    @property
    def model(self) -> bytes:
        """`NativeModel.fingerprint` of the model the states belong to."""
        return self._recommender.fingerprint

    @property
    def device(self) -> str:
        """The GPU's name."""
        return self._recommender.device

    def append(self, slots: Slots, history: Histories) -> None:
        """Further events of the users in these slots. Costs the same after ten events and after a million.

        Waits for nothing: the GPU has one launch for the first events of all, one for the second ones, and so on.

        Args:
            slots: one, or several, each once.
            history: what happened since: one user's events (one item is a list of one), or a list of those.

        Raises:
            ArgumentError: a slot does not exist or comes twice, the numbers of slots and histories differ, an action is
                out of range, an event is older than the newest one, or some times of a history are known and others
                are not. `clear` the slot and append the sorted history then; nothing was appended.
            ArgumentTypeError: an argument is of the wrong type, or ids are not of the catalogue's kind.
        """
        rows, events = self._once(slots), self._recommender._events(history)
        if len(rows) != len(events):
            raise ArgumentError("history", f"one for each of {len(rows)} slots", f"{len(events)}")
        self.table.append(rows, events)
        self._recommender._metrics.called("append")

    def clear(self, slots: Slots) -> None:
        """Makes them users without events.

        Raises:
            ArgumentError: a slot does not exist or comes twice.
            ArgumentTypeError: not whole numbers.
        """
        self.table.clear(self._once(slots))

    def __getitem__(self, slots: Slots) -> DeviceUsers:
        """The users in these slots, in this order, as `recommend(state=)` and `encode(state=)` take them."""
        return DeviceUsers(self, self._checked(slots))

    def __len__(self) -> int:
        return self._capacity

    def __repr__(self) -> str:
        return f"DeviceStates({self._capacity:,} slots, {self.nbytes:,} bytes on {self.device})"

    def _checked(self, slots: Slots) -> Ints:
        rows = as_int64("slots", [slots] if is_integer(slots) else slots)
        bad = (rows < 0) | (rows >= self._capacity)
        if bad.any():
            raise ArgumentError("slots", f"values in [0, {self._capacity - 1}]", f"{rows[bad][0]}")
        return rows

    def _once(self, slots: Slots) -> Ints:
        rows = self._checked(slots)
        distinct, counts = np.unique(rows, return_counts=True)
        if len(distinct) < len(rows):
            raise ArgumentError("slots", "each slot once", f"{distinct[counts > 1][0]} several times")
        return rows


class DeviceUsers:
    """Some of the users of a `DeviceStates`, as they are when a request comes."""

    __slots__ = ("slots", "states")

    def __init__(self, states: DeviceStates, slots: Ints) -> None:
        self.states = states
        self.slots = slots

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def num_events(self) -> Ints:
        """Events of known items of each, int64 [batch]."""
        return self.states.table.num_events[self.slots]

    @property
    def num_unknown(self) -> Ints:
        """Events of each that were left out because the catalogue did not know their item, int64 [batch]."""
        return self.states.table.num_unknown[self.slots]
