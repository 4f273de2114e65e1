"""An encoder and a catalogue on a device: tensors that the ops check once and keep under a number."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lsif_sdk import _core
from lsif_sdk.bitmaps import Bitmap
from lsif_sdk.catalog import Catalog
from lsif_sdk.config import ModelConfig
from lsif_sdk.native_errors import native_errors
from lsif_sdk.ops import kept_ops
from lsif_sdk.recent import Recent

__all__ = ["Bitmaps", "DeviceCatalog", "DeviceEncoder", "Queries", "Tensors"]

_MOST_BITMAPS = 64


class Tensors:
    """Copies of tensors on a device, one each, reused from `before` if it has them."""

    def __init__(self, device: torch.device, before: Tensors | None = None) -> None:
        self._device = device
        self._before = {} if before is None else before._copies
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}

    def on_device(self, tensor: Tensor) -> Tensor:
        """The copy of a tensor, made once."""
        known = self._copies.get(id(tensor)) or self._before.get(id(tensor))
        if known is None or known[0] is not tensor:
            known = tensor, tensor.detach().to(self._device)
        self._copies[id(tensor)] = known
        return known[1]

    def settle(self) -> None:
        """Releases `before`, when no more copies are needed from it."""
        self._before = {}


class _Kept:
    """An entry of the ops, dropped when this object is collected."""

    def __init__(self, number: int, like: Tensor) -> None:
        self.number = number
        weakref.finalize(self, kept_ops.drop, number, like).atexit = False


class DeviceEncoder:
    """The weights of an encoder.

    Args:
        weights: on the device, in the order of `Artifact.encoder_weights`.
        config: the model's.
        threads: for a device that is the CPU.
        precision: of the products in the blocks, "float32" or "bfloat16".
    """

    def __init__(
        self, weights: Sequence[Tensor], config: ModelConfig, threads: int, precision: str = "float32"
    ) -> None:
        self._weights = list(weights)
        self._threads = threads
        ints = _core.config_ints(config.to_dict())
        with torch.inference_mode(), native_errors():
            number = kept_ops.keep_encoder(self._weights, ints, config.norm_eps, precision, threads)
        self._kept = _Kept(number, self._weights[0])

    def has(self, weights: Sequence[Tensor]) -> bool:
        """Whether it was made from these very tensors."""
        return all(a is b for a, b in zip(weights, self._weights, strict=True))

    def encode(self, parts: dict[str, Tensor | None]) -> tuple[Tensor, Tensor, Tensor]:
        """(fused, interests, weights) of histories: `items`, `times`, `actions`, `offsets` and `now`."""
        names = "items", "times", "actions", "offsets", "now"
        encoded: tuple[Tensor, Tensor, Tensor] = kept_ops.encode(
            self._kept.number, *(parts[name] for name in names), self._threads
        )
        return encoded

    def state_size(self) -> int:
        """Bytes of a user state on the device."""
        size: int = kept_ops.state_size(self._kept.number, self._weights[0])
        return size

    def start_states(self, states: Tensor, slots: Tensor) -> None:
        """Resets these slots of `states`, uint8 [n, `state_size`], to states without events."""
        kept_ops.start_states(self._kept.number, states, slots)

    def append(
        self, states: Tensor, slots: Tensor | None, items: Tensor | None, times: Tensor | None, actions: Tensor | None
    ) -> None:
        """Appends one event to each of the slots, which are all different."""
        kept_ops.append(self._kept.number, states, slots, items, times, actions, self._threads)

    def encode_states(self, states: Tensor, slots: Tensor, now: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """`encode` of the slots' histories."""
        encoded: tuple[Tensor, Tensor, Tensor] = kept_ops.encode_states(
            self._kept.number, states, slots, now, self._threads
        )
        return encoded


class Queries(NamedTuple):
    """The queries of a search (docs/model.md, 5).

    vectors: [batch, num_interests, dim]. weights: [batch, num_interests], or None with one interest.
    """

    vectors: Tensor
    weights: Tensor | None = None
    temperature: float = 1.0


class DeviceCatalog:
    """The vectors, biases and codes of a catalogue.

    Args:
        catalog: on the CPU.
        tensors: the copies.
        threads: for a device that is the CPU.
    """

    def __init__(self, catalog: Catalog, tensors: Tensors, threads: int) -> None:
        self._threads = threads
        vectors, bias, codes = map(tensors.on_device, (catalog.vectors, catalog.bias, catalog.codes))
        with torch.inference_mode(), native_errors():
            self._kept = _Kept(kept_ops.keep_catalog(vectors, bias, codes), vectors)

    def score_topk(self, queries: Queries, k: int, parts: dict[str, Tensor | None]) -> tuple[Tensor, Tensor, Tensor]:
        """(scores, indices, counts) of the k best rows, filtered by `exclude_items` and `allowed` of the parts."""
        filters = parts["exclude_items"], parts["exclude_offsets"], parts["allowed"]
        found: tuple[Tensor, Tensor, Tensor] = kept_ops.score_topk(
            self._kept.number, *queries, k, *filters, self._threads
        )
        return found

    def score_items(self, queries: Queries, items: Tensor) -> Tensor:
        """Scores of rows int64 [batch, n]."""
        scores: Tensor = kept_ops.score_items(self._kept.number, *queries, items)
        return scores


class Bitmaps:
    """Copies of recently used bitmaps on a device. Thread-safe."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies: Recent[int, tuple[Bitmap, Tensor]] = Recent(_MOST_BITMAPS)

    def addresses(self, bitmaps: Sequence[Bitmap | None]) -> tuple[npt.NDArray[np.int64], list[Tensor]]:
        """Addresses of the bitmaps in the device's memory, 0 for None, for `lsif_kept.score_topk`.

        They are valid as long as the caller holds the returned tensors.
        """
        copies = {id(bitmap): self._copy(bitmap) for bitmap in bitmaps if bitmap is not None}
        addresses = [0 if bitmap is None else copies[id(bitmap)].data_ptr() for bitmap in bitmaps]
        return np.array(addresses, np.int64), list(copies.values())

    def _copy(self, bitmap: Bitmap) -> Tensor:
        known = self._copies.get(id(bitmap))
        if known is not None and known[0] is bitmap:
            return known[1]
        # Torch does not take read-only arrays, and has no bitwise operations on uint64.
        copy = torch.from_numpy(bitmap.view(np.int64).copy()).to(self._device)  # waits, so that any stream may read it
        self._copies.put(id(bitmap), (bitmap, copy))
        return copy
