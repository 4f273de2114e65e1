"""The state that is kept of a user between requests, so that the cost of an event does not grow with the history."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.packed_zeros import pack, unpack
from lsif_sdk.times import UNKNOWN_TIME

__all__ = ["DEFAULT_REMEMBER", "MOST_REMEMBERED", "UserState", "as_states"]

DEFAULT_REMEMBER = 1000
MOST_REMEMBERED = 2**20

_DIGEST_BYTES = 16
# StateHeader of csrc/engine/user_state.h.
_HEADER = struct.Struct("<8s32s10q")
_MODEL = slice(8, 40)
_FORMAT = b"lsifusr2"  # of stored bytes, whatever the format in memory


class UserState:
    """What the model needs of a user's history (docs/user_state.md), in a fixed size. Immutable and thread-safe.

    Made by `Recommender.new_state` and `Recommender.append`. It can only be used with the model that made it, which it
    identifies by `NativeModel.fingerprint`.
    """

    __slots__ = ("_data",)

    def __init__(self, data: npt.NDArray[np.uint8]) -> None:
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 1:
            raise ArgumentTypeError("data", "bytes as uint8 [n]; UserState.from_bytes reads others", data)
        data.flags.writeable = False
        self._data = data

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        """The bytes, read-only; native code checks them at every use."""
        return self._data

    @property
    def model(self) -> bytes:
        """`NativeModel.fingerprint` of the model that made it."""
        return self._data.data[_MODEL].tobytes()

    @property
    def num_events(self) -> int:
        """Number of events of known items in the whole history."""
        return self._field(4)

    @property
    def num_unknown(self) -> int:
        """Number of events that were ignored because the catalogue did not know their item."""
        return self._field(5)

    @property
    def remember(self) -> int:
        """How many of the newest events are kept individually, for `exclude_seen` and models with `repeats`."""
        return self._field(3)

    @property
    def newest_time(self) -> int | None:
        """Unix seconds of the newest event; None if there is none, its time is unknown or the model uses no times."""
        time = self._field(10)
        return None if time == UNKNOWN_TIME else time

    @property
    def nbytes(self) -> int:
        """Size in memory, in bytes."""
        return int(self._data.nbytes)

    def to_bytes(self) -> bytes:
        """Serialises the state for a store or another process, with a checksum.

        Zeros are packed, so that the states of users with few events are small. Little-endian; the first eight bytes
        contain the version.
        """
        payload = _FORMAT + pack(self._data)
        return payload + _digest(payload)

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> UserState:
        """The inverse of `to_bytes`. A model checks whether the state belongs to it when it uses the state.

        Raises:
            ArgumentError: not a user state, of another version, or damaged.
            ArgumentTypeError: not bytes.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ArgumentTypeError("data", "bytes", data)
        data = bytes(data)
        if len(data) < len(_FORMAT) + _DIGEST_BYTES or not data.startswith(_FORMAT[:-1]):
            raise ArgumentError("data", "a user state", f"{len(data)} other bytes")
        if not data.startswith(_FORMAT):
            raise ArgumentError("data", f"a user state of version {_FORMAT[-1:].decode()}", "another version")
        payload, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if _digest(payload) != digest:
            raise ArgumentError("data", "a whole user state", "a damaged one: its checksum differs")
        unpacked = unpack(payload[len(_FORMAT) :])
        if len(unpacked) < _HEADER.size:
            raise ArgumentError("data", "a user state", f"one of {len(unpacked)} bytes")
        return cls(unpacked)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UserState) and np.array_equal(self._data, other._data)

    def __hash__(self) -> int:
        return hash(self._data.tobytes())

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return UserState.from_bytes, (self.to_bytes(),)

    def __repr__(self) -> str:
        return f"UserState({self.num_events:,} events, {self.nbytes:,} bytes)"

    def _field(self, index: int) -> int:
        return int(_HEADER.unpack_from(self._data.data)[index])


def as_states(state: UserState | Sequence[UserState]) -> list[UserState]:
    """One state or several, as a list.

    Raises:
        ArgumentTypeError: something else.
    """
    states = [state] if isinstance(state, UserState) else state
    if not isinstance(states, (list, tuple)):
        raise ArgumentTypeError("state", "a UserState or a list of them", state)
    for user, entry in enumerate(states):
        if not isinstance(entry, UserState):
            raise ArgumentTypeError(f"state[{user}]", "a UserState", entry)
    return list(states)


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_DIGEST_BYTES).digest()
