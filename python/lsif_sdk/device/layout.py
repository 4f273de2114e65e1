"""A request as one array of integers and its answer as one array of bytes: one copy to the device, one back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Ints", "Results", "Shape", "flat_bytes", "named"]

Ints = npt.NDArray[np.int64]
Results = list[tuple[str, Any, tuple[int, ...]]]
"""Name, dtype and shape of each array of an answer, in order; those with 8-byte values come first."""

_LEAST = 16


class Shape(NamedTuple):
    """Everything except values that the work of a request depends on: requests of one shape can share a CUDA graph.

    batch: users. histories: encoded histories, the users' first, then padding. total: events of all histories. k:
    results per user; 0: only encode. excluded: excluded rows of all users; -1: none. own: columns of the users' own
    rows, which are scored separately. has_...: which optional parts there are.
    """

    batch: int
    histories: int = 0
    total: int = 0
    has_times: bool = False
    has_actions: bool = False
    has_now: bool = False
    k: int = 0
    excluded: int = -1
    own: int = 0
    has_allowed: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """Number of integers of each part, in order; -1: the part is missing."""
        return {
            "items": self.total,
            "times": self.total if self.has_times else -1,
            "actions": self.total if self.has_actions else -1,
            "offsets": self.histories + 1,
            "now": self.histories if self.has_now else -1,
            "exclude_items": self.excluded,
            "exclude_offsets": -1 if self.excluded < 0 else self.batch + 1,
            "own": self.batch * self.own if self.own else -1,
            "allowed": self.batch if self.has_allowed else -1,
        }

    @property
    def num_ints(self) -> int:
        """Number of integers of all parts."""
        return sum(size for size in self.sizes.values() if size > 0)

    def padded(self) -> Shape:
        """A larger shape out of a small set, so that graphs are shared: one more history has the padding events."""
        excluded = self.excluded if self.excluded < 0 else _rounded(self.excluded)
        return self._replace(histories=self.batch + 1, total=_rounded(self.total), excluded=excluded)

    def pack(self, values: Mapping[str, Ints | None], into: Ints) -> None:
        """Writes the parts, padded to this shape."""
        begin = 0
        for name, size in self.sizes.items():
            if size < 0:
                continue
            value, place = values[name], into[begin : begin + size]
            assert value is not None
            place[: len(value)] = value
            place[len(value) :] = self.total if name == "offsets" else 0
            begin += size

    def unpack(self, ints: Tensor) -> dict[str, Tensor | None]:
        """Views of the parts."""
        there = {name: size for name, size in self.sizes.items() if size >= 0}
        parts: dict[str, Tensor | None] = dict.fromkeys(self.sizes)
        parts |= zip(there, torch.split(ints, list(there.values())), strict=True)
        if (own := parts["own"]) is not None:
            parts["own"] = own.view(self.batch, self.own)
        return parts

    def results(self, dim: int, num_interests: int) -> Results:
        """The arrays of the answer."""
        encoded: Results = [
            ("fused", np.float32, (self.batch, dim)),
            ("interests", np.float32, (self.batch, num_interests, dim)),
            ("weights", np.float32, (self.batch, num_interests)),
        ]
        if self.k == 0:
            return encoded
        own: Results = [
            ("newest", np.float32, (self.batch, dim)),
            ("own_scores", np.float32, (self.batch, self.own)),
        ]
        return [
            ("indices", np.int64, (self.batch, self.k)),
            ("counts", np.int64, (self.batch,)),
            ("scores", np.float32, (self.batch, self.k)),
            ("weights", np.float32, (self.batch, num_interests)),
            *(own if self.own else []),
            ("is_finite", np.bool_, (self.batch,)),
        ]


def _rounded(size: int) -> int:
    return max(_LEAST, 1 << (size - 1).bit_length())


def flat_bytes(results: Results, arrays: Mapping[str, Tensor]) -> Tensor:
    """The arrays concatenated as bytes: uint8, on the device."""
    return torch.cat([arrays[name].contiguous().view(torch.uint8).flatten() for name, _, _ in results])


def named(results: Results, data: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
    """The inverse of `flat_bytes`: views."""
    arrays, begin = {}, 0
    for name, dtype, shape in results:
        arrays[name] = np.ndarray(shape, dtype, data, begin)  # twice as fast as reshaping a view of a slice
        begin += arrays[name].nbytes
    return arrays
