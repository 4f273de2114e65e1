"""User states in a GPU's memory, which are updated and queried there in batches."""

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

    Each user has a slot, a number from 0 to `capacity` - 1; the caller keeps track of which user has which slot. Unlike
    a `UserState`, a slot changes in place. Thread-safe. Later snapshots of a `LiveRecommender` can also answer for
    these users, but items added there are unknown to `append`.

    Args:
        recommender: a recommender on a GPU, in float32. It maps the ids of events and answers requests.
        capacity: number of slots.
        remember: how many of a user's newest events `exclude_seen` and models with `repeats` see. They are kept in host
            memory, 8 bytes each (16 with `repeats` and times), which is allocated page by page as needed.

    Raises:
        ArgumentError: a value is out of range, the recommender is on the CPU, its model's states do not fit a GPU, or
            there is not enough memory.
        ArgumentTypeError: `recommender` is not a recommender, or a number is not an integer.
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
        """Number of slots."""
        return self._capacity

    @property
    def nbytes(self) -> int:
        """Size in the GPU's memory, in bytes."""
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
        """Appends events of the users in these slots. The cost does not depend on the number of earlier events.

        Does not wait for the GPU, which gets one launch for all users' first events, one for the second ones, and so
        on.

        Args:
            slots: one or more slots, each once.
            history: the user's new events (a list, even for one item), or a list with those of each user.

        Raises:
            ArgumentError: a slot does not exist or comes twice, the numbers of slots and histories differ, an action is
                out of range, an event is older than the newest one, or some times of a history are known and others
                are not. Nothing was appended; `clear` the slot and append the sorted history.
            ArgumentTypeError: an argument is of the wrong type, or ids are not of the catalogue's kind.
        """
        rows, events = self._once(slots), self._recommender._events(history)
        if len(rows) != len(events):
            raise ArgumentError("history", f"one for each of {len(rows)} slots", f"{len(events)}")
        self.table.append(rows, events)
        self._recommender._metrics.called("append")

    def clear(self, slots: Slots) -> None:
        """Resets these slots to users without events.

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
    """Some of the users of a `DeviceStates`; a request reads their states at its time."""

    __slots__ = ("slots", "states")

    def __init__(self, states: DeviceStates, slots: Ints) -> None:
        self.states = states
        self.slots = slots

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def num_events(self) -> Ints:
        """Number of events of known items of each user, int64 [batch]."""
        return self.states.table.num_events[self.slots]

    @property
    def num_unknown(self) -> Ints:
        """Number of ignored events of each user, whose item the catalogue did not know, int64 [batch]."""
        return self.states.table.num_unknown[self.slots]
