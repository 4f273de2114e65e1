"""A user's state, with the newest stored event that it includes."""

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
_LARGE = 1 << 18  # bytes; scanning more for zeros takes longer than appending an event


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class ServedState:
    """What `Users` keeps in memory for a user.

    Args:
        state: includes the events up to `sequence`.
        sequence: the sequence number of the newest of these events.
        newest_time: the greatest time of these events, also of unknown items; `UNKNOWN_TIME` if none is known. A model
            without times does not keep it.
        unsaved: how many of these events the stored state does not include.
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
        """The form to keep in memory: packed if that at least halves the size, as for users with few events.

        Otherwise packing would not be worth the time, about 20 us at every use.
        """
        if self.nbytes > _LARGE and 2 * self.state.num_events > self.state.remember:  # more than half is events
            return self
        packed = pack_within(self.state.data, self.nbytes // 2)
        return self if packed is None else KeptState(packed, self.sequence, self.newest_time, self.unsaved)

    def served(self) -> ServedState:
        """Returns itself; see `KeptState`."""
        return self

    def to_bytes(self) -> bytes:
        """The bytes for a store, which keeps `sequence` separately."""
        data = self.state.to_bytes()
        return data + _TIME.pack(self.newest_time) + self._digest(data, self.sequence, self.newest_time)

    @classmethod
    def from_stored(cls, stored: StoredState) -> ServedState:
        """The inverse of `to_bytes`.

        Raises:
            ArgumentError: the bytes or the sequence number are not what was written.
        """
        if not isinstance(stored.data, bytes) or not is_integer(stored.sequence):  # SQLite has untyped columns
            raise ArgumentError("stored", "bytes and an integer", f"{stored.data!r:.40} and {stored.sequence!r:.40}")
        data, rest = stored.data[: -_TIME.size - _DIGEST_BYTES], stored.data[-_TIME.size - _DIGEST_BYTES :]
        state = UserState.from_bytes(data)
        (newest,) = _TIME.unpack_from(rest)
        if cls._digest(data, stored.sequence, newest) != rest[_TIME.size :]:
            raise ArgumentError("stored", "a whole state", "a damaged one: its checksum differs")
        return cls(state, stored.sequence, newest)

    @staticmethod
    def _digest(data: bytes, sequence: int, newest: int) -> bytes:
        # `data` ends with its own checksum, which is enough to hash.
        rest = struct.pack("<qq", sequence, newest)
        return hashlib.blake2b(data[-_DIGEST_BYTES:] + rest, digest_size=_DIGEST_BYTES).digest()


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class KeptState:
    """A `ServedState` with its state packed."""

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
    """The greatest time; `UNKNOWN_TIME`, which is less than all others, if no time is known."""
    return UNKNOWN_TIME if events.times is None else int(np.asarray(events.times).max(initial=UNKNOWN_TIME))


def oldest_time(events: Events) -> int:
    """The least time of one or more events; `UNKNOWN_TIME` if any is unknown."""
    return UNKNOWN_TIME if events.times is None else int(np.asarray(events.times).min())
