"""Packs bytes that are mostly zero, as in states of users with few events."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from lsif_sdk.errors import ArgumentError

__all__ = ["pack", "pack_within", "unpack"]

_SIZE = struct.Struct("<Q")
_BLOCK = 64  # bytes that are kept or left out together


def pack(data: npt.NDArray[np.uint8]) -> bytes:
    """The size, one bit per block of 64 bytes that tells whether it has a nonzero byte, and these blocks."""
    return _packed(len(data), *_kept_of(data))


def pack_within(data: npt.NDArray[np.uint8], most: int) -> bytes | None:
    """`pack`, or None if the result would exceed `most` bytes, which takes half the time to find out."""
    words, is_kept = _kept_of(data)
    size = _SIZE.size + -(-len(is_kept) // 8) + _BLOCK * np.count_nonzero(is_kept)
    return None if size > most else _packed(len(data), words, is_kept)


def _kept_of(data: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    size, num_blocks = len(data), -(-len(data) // _BLOCK)
    data = np.ascontiguousarray(data)
    if size != num_blocks * _BLOCK:
        whole = np.zeros(num_blocks * _BLOCK, np.uint8)
        whole[:size] = data
        data = whole
    words = data.view(np.uint64)
    # A block has eight words; their eight bools are read as one word, faster than any(axis=1).
    return words, (words != 0).view(np.uint64) != 0


def _packed(size: int, words: npt.NDArray[np.uint64], is_kept: npt.NDArray[np.bool_]) -> bytes:
    kept = words.reshape(-1, _BLOCK // 8)[is_kept]
    return b"".join((_SIZE.pack(size), np.packbits(is_kept).tobytes(), kept.tobytes()))


def unpack(packed: bytes) -> npt.NDArray[np.uint8]:
    """The inverse of `pack`: uint8 [size], newly allocated.

    Raises:
        ArgumentError: not a result of `pack`. Before memory is allocated, the size is checked to be at most 512 times
            that of `packed`.
    """
    size = _SIZE.unpack_from(packed)[0] if len(packed) >= _SIZE.size else -1
    num_blocks = -(-size // _BLOCK)
    begin = _SIZE.size + -(-num_blocks // 8)
    if size < 0 or begin > len(packed):
        raise ArgumentError("data", "packed bytes with their size", f"{len(packed)} bytes")
    raw = np.frombuffer(packed, np.uint8)
    is_kept = np.unpackbits(raw[_SIZE.size : begin], count=num_blocks).view(np.bool_)
    kept, num_kept = raw[begin:], np.count_nonzero(is_kept)
    if len(kept) != num_kept * _BLOCK:
        raise ArgumentError("data", f"{num_kept} blocks of {_BLOCK} bytes", f"{len(kept)} bytes")
    blocks = np.zeros((num_blocks, _BLOCK), np.uint8)
    blocks[is_kept] = kept.reshape(-1, _BLOCK)
    return blocks.reshape(-1)[:size]
