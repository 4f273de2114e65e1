"""Random damage to bytes and to JSON values."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

_INTEGERS = [
    0, 1, -1, 2, 7, 8, 63, 64, 127, 128, 255, 256, 1000, 65535, 65536, 65537, 2**20, 2**20 + 1, 2**24, 2**31 - 1, 2**31,
    2**32, 2**53 + 1, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**31), -(2**63), -(2**63) - 1,
]  # fmt: skip
_FLOATS = [
    0.0, -0.0, 0.5, 1.0, -1.0, 1e-45, 1e-38, -1e-30, 1e-300, 1e10, 3e38, -3e38, 3.5e38, 1e300, float("inf"),
    float("-inf"), float("nan"),
]  # fmt: skip
_TEXTS = ["", "x", "lsif_sdk", "hstu", "F32", "I64", "codes", "../x", "\ud800", "\x00", "é数", "y" * 3000]


def integer(rng: random.Random) -> int:
    """An integer at or near a boundary value."""
    return rng.choice(_INTEGERS) + rng.choice((0, 0, 0, 1, -1))


def number(rng: random.Random) -> float:
    return rng.choice(_FLOATS)


def json_value(rng: random.Random, depth: int = 0) -> Any:
    """Anything JSON (or Python's reading of it) can hold."""
    kind = rng.randrange(9 if depth < 3 else 7)
    if kind == 7:
        return [json_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 8:
        return {rng.choice(_TEXTS): json_value(rng, depth + 1) for _ in range(rng.randrange(4))}
    values = (None, True, False, integer(rng), number(rng), rng.choice(_TEXTS), 10 ** rng.choice((20, 400, 4000)))
    return values[kind]


def mutated_json(rng: random.Random, value: Any) -> Any:
    """A copy with one value, key or branch, anywhere in it, changed."""
    value = json.loads(json.dumps(value))
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.02:
        return json_value(rng)
    place = value
    while True:
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        inner = place[key]
        if not isinstance(inner, (dict, list)) or not inner or rng.random() < 0.2:
            break
        place = inner
    _change(rng, place, key)
    return value


def _change(rng: random.Random, place: Any, key: Any) -> None:
    old, kind = place[key], rng.randrange(10)
    if kind == 0:
        del place[key]
    elif kind == 1 and isinstance(place, dict):
        place[rng.choice([*_TEXTS, str(key) + "x", str(key).upper()])] = place.pop(key)
    elif kind == 2 and isinstance(place, dict):
        place[rng.choice(_TEXTS)] = json_value(rng)
    elif kind == 3:
        place[key] = {str(key): old} if rng.random() < 0.5 else [old]
    elif kind == 4:
        place[key] = str(old)
    elif kind < 8 and isinstance(old, (int, float)):
        changed = (old + rng.choice((-2, -1, 1, 2)), -old, old * 2, f"{old}", integer(rng), number(rng), not old)
        place[key] = rng.choice(changed)
    else:
        place[key] = json_value(rng)


def mutated_bytes(rng: random.Random, data: bytes) -> bytes:
    """A copy with one change, of any length."""
    result = bytearray(data)
    rng.choice(_CHANGES)(rng, result)
    return bytes(result)


def _place(rng: random.Random, data: bytearray) -> int:
    """A random position: often near the start, where headers are, and often where a number may begin."""
    place = rng.randrange(min(len(data), 400) if rng.random() < 0.4 else len(data)) if data else 0
    return place if rng.random() < 0.3 else place // 8 * 8


def _span(rng: random.Random, data: bytearray) -> slice:
    begin = _place(rng, data)
    return slice(begin, begin + rng.choice((1, 4, 8, rng.randrange(1, 65), rng.randrange(1, len(data) + 2))))


def _put(data: bytearray, place: int, value: bytes) -> None:
    data[place : place + len(value)] = value[: max(0, len(data) - place)]


def _flip(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set_number(rng: random.Random, data: bytearray) -> None:
    value = integer(rng) % 2**64
    packed = (
        struct.pack("<Q", value), struct.pack("<I", value % 2**32), bytes([value % 256]),
        struct.pack("<d", number(rng)), _float32(number(rng)),
    )  # fmt: skip
    _put(data, _place(rng, data), rng.choice(packed))


def _float32(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<I", 0x7F7FFFFF)  # the largest


def _randomise(rng: random.Random, data: bytearray) -> None:
    span = _span(rng, data)
    data[span] = rng.randbytes(len(data[span]))


def _fill(rng: random.Random, data: bytearray) -> None:
    span = _span(rng, data)
    data[span] = bytes([rng.choice((0, 255))]) * len(data[span])


def _copy_over(rng: random.Random, data: bytearray) -> None:
    _put(data, _place(rng, data), bytes(data[_span(rng, data)]))


def _truncate(rng: random.Random, data: bytearray) -> None:
    del data[_place(rng, data) :]


def _extend(rng: random.Random, data: bytearray) -> None:
    data += rng.randbytes(rng.choice((1, 8, 16, 100))) if rng.random() < 0.5 else data[_span(rng, data)]


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[_span(rng, data)]


def _insert(rng: random.Random, data: bytearray) -> None:
    place = _place(rng, data)
    data[place:place] = rng.randbytes(rng.randrange(1, 17)) if rng.random() < 0.5 else data[_span(rng, data)]


_CHANGES: list[Callable[[random.Random, bytearray], None]] = [
    _flip, _flip, _set_number, _set_number, _set_number, _randomise, _fill, _copy_over, _truncate, _extend, _cut,
    _insert,
]  # fmt: skip
