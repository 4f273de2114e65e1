"""A user's state and how far into the stored history it reaches."""

from __future__ import annotations

import dataclasses
import hashlib
import struct

import numpy as np

from lsif_sdk.arguments import is_integer
from lsif_sdk.errors import ArgumentError
from lsif_sdk.events import Events
from lsif_sdk.integrations.history_store import StoredState
from lsif_sdk.packed_zeros import pack_within, unpack
from lsif_sdk.times import UNKNOWN_TIME
from lsif_sdk.user_state import UserState

__all__ = ["KeptState", "ServedState", "newest_time", "oldest_time"]

_TIME = struct.Struct("<q")
_DIGEST_BYTES = 16
_LARGE = 1 << 18  # bytes, that take longer to look through than an event to append


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class ServedState:
    """What `Users` keeps of a user.

    Args:
        state: includes the events up to `sequence`.
        sequence: the store's number of the newest of them.
        newest_time: the greatest time of any of them, of unknown items too; `UNKNOWN_TIME` if all are unknown. A model
            without times does not know it.
        unsaved: how many of them the state in the store does not include.
    """

    state: UserState
    sequence: int
    newest_time: int
    unsaved: int = 0

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return self.state.nbytes

    def kept(self) -> KeptState | ServedState:
        """For the memory: packed where that halves it at least, as it does for users of few events. Otherwise it would
        only cost time, some 20 us at every use."""
        if self.nbytes > _LARGE and 2 * self.state.num_events > self.state.remember:  # more than half is events
            return self
        packed = pack_within(self.state.data, self.nbytes // 2)
        return self if packed is None else KeptState(packed, self.sequence, self.newest_time, self.unsaved)

    def served(self) -> ServedState:
        """Itself; see `KeptState`."""
        return self

    def to_bytes(self) -> bytes:
        """For a store, which keeps `sequence` beside them."""
        data = self.state.to_bytes()
        return data + _TIME.pack(self.newest_time) + self._digest(data, self.sequence, self.newest_time)

    @classmethod
    def from_stored(cls, stored: StoredState) -> ServedState:
        """The inverse of `to_bytes`.

        Raises:
            ArgumentError: the bytes or the sequence number are not what was written.
        """
        if not isinstance(stored.data, bytes) or not is_integer(stored.sequence):  # SQLite keeps what it is given
            raise ArgumentError("stored", "bytes and an integer", f"{stored.data!r:.40} and {stored.sequence!r:.40}")
        data, rest = stored.data[: -_TIME.size - _DIGEST_BYTES], stored.data[-_TIME.size - _DIGEST_BYTES :]
        state = UserState.from_bytes(data)
        (newest,) = _TIME.unpack_from(rest)
        if cls._digest(data, stored.sequence, newest) != rest[_TIME.size :]:
            raise ArgumentError("stored", "a whole state", "a damaged one: its checksum differs")
        return cls(state, stored.sequence, newest)

    @staticmethod
    def _digest(data: bytes, sequence: int, newest: int) -> bytes:
        # The state's own checksum, at its end, stands for it.
        rest = struct.pack("<qq", sequence, newest)
        return hashlib.blake2b(data[-_DIGEST_BYTES:] + rest, digest_size=_DIGEST_BYTES).digest()


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class KeptState:
    """A `ServedState` as it lies in memory, its state packed."""

    packed: bytes
    sequence: int
    newest_time: int
    unsaved: int

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return len(self.packed)

    def served(self) -> ServedState:
        """The inverse of `ServedState.kept`."""
        return ServedState(UserState(unpack(self.packed)), self.sequence, self.newest_time, self.unsaved)


def newest_time(events: Events) -> int:
    """The greatest time; `UNKNOWN_TIME`, which is less than all others, if none is known."""
    return UNKNOWN_TIME if events.times is None else int(np.asarray(events.times).max(initial=UNKNOWN_TIME))


def oldest_time(events: Events) -> int:
    """The least time of at least one event, `UNKNOWN_TIME` if any is unknown."""
    return UNKNOWN_TIME if events.times is None else int(np.asarray(events.times).min())
