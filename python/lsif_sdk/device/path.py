"""The request path on a device: the host checks and merges, the device does the rest, and the host waits once."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lsif_sdk import _core
from lsif_sdk.catalog import Catalog
from lsif_sdk.config import ModelConfig
from lsif_sdk.device.choice import memory_errors
from lsif_sdk.device.graphs import Capture, Graphs, captured, done_at_once
from lsif_sdk.device.layout import Ints, Shape, named
from lsif_sdk.device.model import Bitmaps, DeviceCatalog, DeviceEncoder, Queries, Tensors
from lsif_sdk.device.ranking import OwnRows, Ranking, check_found, long_shares, merge_own
from lsif_sdk.device.states import StateTable, TableUsers
from lsif_sdk.device.work import DeviceWork
from lsif_sdk.errors import ArgumentError
from lsif_sdk.recommendations import nobody_searched

__all__ = ["DevicePath"]

Floats = npt.NDArray[np.float32]
Arrays = tuple[npt.NDArray[Any], ...]
_ANSWER = "scores", "indices", "counts", "long_share"


class DevicePath:
    """Answers like `_core.RequestPath`, on a device. Immutable and thread-safe.

    Args:
        host: the native path of the same model and catalogue, which checks events, encodes states and computes the
            bonuses of `repeats`.
        config: the model's.
        weights: the encoder's, on the CPU (`Artifact.encoder_weights`).
        catalog: on the CPU.
        device: the device.
        threads: CPU threads for the host's part, and for a device that is the CPU.
        precision: of the products in the blocks, "float32" or "bfloat16"; that of the host.
        before: the previous snapshot's path, of the same precision, whose device tensors are reused.
        capture: makes graphs of work on the device; None: CUDA graphs on a GPU, none elsewhere.

    Raises:
        ArgumentError: the catalogue does not fit the device's memory.
    """

    def __init__(
        self,
        host: _core.RequestPath,
        config: ModelConfig,
        weights: Sequence[Tensor],
        catalog: Catalog,
        device: torch.device,
        threads: int,
        precision: str = "float32",
        before: DevicePath | None = None,
        capture: Capture | None = None,
    ) -> None:
        self._host = host
        self._config = config
        self._device = device
        self._threads = threads
        self._num_items = len(catalog)
        with memory_errors("catalog", device, f"{len(catalog)} items"):
            self._tensors: Tensors = Tensors(device, None if before is None else before._tensors)
            placed = [self._tensors.on_device(weight) for weight in weights]
            encoder = None if before is None else before._work.encoder
            if encoder is None or not encoder.has(placed):
                encoder = DeviceEncoder(placed, config, threads, precision)
            on_device = DeviceCatalog(catalog, self._tensors, threads)
            self._work: DeviceWork = DeviceWork(encoder, on_device, config, device)
        self._tensors.settle()
        self._bitmaps = Bitmaps(device)
        if capture is None and device.type == "cuda":
            capture = captured
        self._graphs = None if capture is None else Graphs(self._work, device, capture)

    @property
    def captures(self) -> int:
        """Number of graphs made or tried so far."""
        return 0 if self._graphs is None else self._graphs.captures

    def encode(
        self,
        items: Ints,
        times: Ints | None,
        actions: Ints | None,
        offsets: Ints,
        now: Ints | None = None,
        threads: int = 0,
    ) -> Arrays:
        """`_core.RequestPath.encode`."""
        self._host.check_events(items, times, actions, offsets, now)
        events = _Events(items, times, actions, offsets, now)
        shape = events.shape()
        if shape.total == 0:
            return tuple(np.zeros(size, kind) for _, kind, size in self._work.results(shape))
        done = self._done(shape, events.parts())
        return done["fused"], done["interests"], done["weights"]

    def recommend(
        self, items: Ints, times: Ints | None, actions: Ints | None, offsets: Ints, now: Ints | None, *asked: Any
    ) -> Arrays:
        """`_core.RequestPath.recommend` by exact searches without batching; `asked` are the fields of a `Ranking`.

        Users without events get no rows here, since they get the most popular items instead.
        """
        self._host.check_events(items, times, actions, offsets, now)
        return self._ranked(_Events(items, times, actions, offsets, now), Ranking(*asked), None)

    def recommend_states(self, states: Sequence[npt.NDArray[np.uint8]], now: Ints | None, *asked: Any) -> Arrays:
        """`_core.RequestPath.recommend_states`. States are encoded on the host, where they are kept."""
        encoded = [torch.from_numpy(part) for part in self._host.encode_states(states, now, self._threads)]
        items, times, offsets = self._host.seen_events(states)
        return self._ranked(_Events(items, times, None, offsets, now), Ranking(*asked), encoded)

    def new_states(self, capacity: int, remember: int) -> StateTable:
        """Memory on the device for the states of `capacity` users."""
        return StateTable(self._work.encoder, self._config, self._device, capacity, remember)

    def recommend_encoded(self, users: TableUsers, now: Ints | None, *asked: Any) -> Arrays:
        """`recommend` for users whose interests are on this device."""
        return self._ranked(_Events(users.items, users.times, None, users.offsets, now), Ranking(*asked), users.encoded)

    @torch.inference_mode()
    def score_items(self, queries: Tensor, weights: Tensor | None, rows: Tensor) -> Floats:
        """`torch.ops.lsif.score_items` of the catalogue; tensors on the CPU, values checked by the caller."""
        moved = Queries(
            queries.to(self._device), None if weights is None else weights.to(self._device), self._config.temperature
        )
        with memory_errors("candidates", self._device, f"{len(rows)} users, {rows.shape[1]} candidates"):
            scores: Floats = self._work.catalog.score_items(moved, rows.to(self._device)).cpu().numpy()
        if not np.isfinite(scores).all():
            raise ArgumentError("queries", "scores within float32", "one beyond it")
        return scores

    def _ranked(self, events: _Events, ranking: Ranking, encoded: list[Tensor] | None) -> Arrays:
        self._host.check_balance(ranking.balance)
        batch = len(events.offsets) - 1
        (users,) = (events.offsets[1:] > events.offsets[:-1]).nonzero()
        if 0 < len(users) == batch:
            found = self._found(events, users, ranking, encoded)
            return tuple(found[name].copy() for name in _ANSWER)  # views would keep the whole buffer
        answer = nobody_searched(batch, ranking.k)
        if len(users) == 0:
            return answer
        if encoded is not None:
            encoded = [part[torch.from_numpy(users).to(part.device)] for part in encoded]
        found = self._found(events.of(users), users, ranking.of(users), encoded)
        for whole, name in zip(answer, _ANSWER, strict=True):
            whole[users] = found[name]
        return answer

    def _found(
        self, events: _Events, users: Ints, ranking: Ranking, encoded: list[Tensor] | None
    ) -> dict[str, npt.NDArray[Any]]:
        """The answer for users who all have events; `users` are their positions in the request, for messages."""
        own = events.items, events.offsets
        scored = None
        if self._config.repeats and not ranking.exclude_seen:
            scored = OwnRows.of(_core.ragged_union([own], self._num_items), ranking)
        unwanted = [own] if self._config.repeats or ranking.exclude_seen else []
        unwanted += ranking.excluded
        to_encode = events if encoded is None else _NONE
        values = to_encode.parts()
        shape = to_encode.shape()._replace(batch=len(users), k=ranking.k)
        if unwanted:
            rows, offsets = _core.ragged_union(unwanted, self._num_items)
            values |= {"exclude_items": rows, "exclude_offsets": offsets}
            shape = shape._replace(excluded=len(rows))
        if scored is not None:
            table = scored.table()
            values["own"] = table.ravel()
            shape = shape._replace(own=table.shape[1])
        held = None
        if ranking.allowed is not None:
            values["allowed"], held = self._bitmaps.addresses(ranking.allowed)
            shape = shape._replace(has_allowed=True)
        found = self._done(shape, values, ranking.balance, encoded)
        del held  # the device has read them
        check_found(found, users)
        if scored is not None:
            events_of_users = events.items, events.times, events.offsets, events.now
            _, bonuses, _ = self._host.repeat_bonus(*events_of_users, found["newest"], self._threads)
            merge_own(found, scored, bonuses)
        found["long_share"] = long_shares(found["weights"], self._config.num_long, ranking.balance)
        return found

    @torch.inference_mode()
    def _done(
        self, shape: Shape, values: dict[str, Ints | None], balance: float = -1.0, encoded: list[Tensor] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        with memory_errors("k", self._device, f"{shape.batch} users, {shape.total} events, k {shape.k}"):
            is_plain = balance < 0 and encoded is None and shape.own == 0
            padded = shape.padded()
            if self._graphs is not None and is_plain and self._graphs.is_small(padded):
                shape = padded
                data = self._graphs.do(shape, functools.partial(shape.pack, values))
            else:
                work = functools.partial(self._work, balance=balance, encoded=encoded)
                data = done_at_once(work, shape, functools.partial(shape.pack, values), self._device)
        return named(self._work.results(shape), data)


class _Events(NamedTuple):
    """Histories, ragged."""

    items: Ints
    times: Ints | None
    actions: Ints | None
    offsets: Ints
    now: Ints | None

    def of(self, users: Ints) -> _Events:
        """The histories of some users; the others have no events."""
        offsets = np.append(self.offsets[users], self.offsets[-1:])
        return self._replace(offsets=offsets, now=None if self.now is None else self.now[users])

    def shape(self) -> Shape:
        """Of a request to encode them."""
        there = self.times is not None, self.actions is not None, self.now is not None
        return Shape(len(self.offsets) - 1, len(self.offsets) - 1, len(self.items), *there)

    def parts(self) -> dict[str, Ints | None]:
        return dict(self._asdict())


_NONE = _Events(np.zeros(0, np.int64), None, None, np.zeros(1, np.int64), None)
