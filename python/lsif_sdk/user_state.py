"""What is kept of a user between requests, so that one more event costs the same after ten and after a million."""

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
_FORMAT = b"lsifusr2"  # of what is stored, of whatever is in memory


class UserState:
    """A user's history as the model needs it (docs/user_state.md): of fixed size, immutable, safe to share.

    Made by `Recommender.new_state` and `Recommender.append`; of use only with the model that made it, which the state
    knows by a fingerprint of its weights.
    """

    __slots__ = ("_data",)

    def __init__(self, data: npt.NDArray[np.uint8]) -> None:
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 1:
            raise ArgumentTypeError("data", "bytes as uint8 [n]; UserState.from_bytes reads others", data)
        data.flags.writeable = False
        self._data = data

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        """The bytes, read-only; native code checks them whenever it uses them."""
        return self._data

    @property
    def model(self) -> bytes:
        """`NativeModel.fingerprint` of the model that made it."""
        return self._data.data[_MODEL].tobytes()

    @property
    def num_events(self) -> int:
        """Events of known items in the whole history."""
        return self._field(4)

    @property
    def num_unknown(self) -> int:
        """Events left out because the catalogue did not know their item."""
        return self._field(5)

    @property
    def remember(self) -> int:
        """How many of the newest events are kept as such, for `exclude_seen` and models with `repeats`."""
        return self._field(3)

    @property
    def newest_time(self) -> int | None:
        """Unix seconds of the newest event; None if there is none, its time is unknown or the model uses no times."""
        time = self._field(10)
        return None if time == UNKNOWN_TIME else time

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return int(self._data.nbytes)

    def to_bytes(self) -> bytes:
        """For a store or another process: what is not zero, so that users of few events take little, and a checksum.

        Little-endian; the version is in the first eight bytes.
        """
        payload = _FORMAT + pack(self._data)
        return payload + _digest(payload)

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> UserState:
        """The inverse of `to_bytes`. Whether it belongs to a model is checked when that model uses it.

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
