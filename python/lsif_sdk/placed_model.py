"""A trained model and its catalogue, ready to answer requests in native code on the CPU, or on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

from lsif_sdk import _core
from lsif_sdk.arguments import as_choice, as_threads
from lsif_sdk.artifact import Artifact
from lsif_sdk.attribute_columns import Column, by_row
from lsif_sdk.attributes import Attributes
from lsif_sdk.batching import Batching, as_batching
from lsif_sdk.calibration import Calibration
from lsif_sdk.catalog import Catalog
from lsif_sdk.config import ModelConfig
from lsif_sdk.device import DevicePath, as_device
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.items import ItemTable
from lsif_sdk.locks import ForkSafeLock, OfOneProcess
from lsif_sdk.native_errors import native_errors
from lsif_sdk.pace import Pace
from lsif_sdk.stats import Metrics
from lsif_sdk.waiting_room import WaitingRoom

__all__ = ["PlacedModel", "Precision"]

Precision = Literal["float32", "bfloat16"]
"""Of the matrix products in the blocks, including attention; sums, norms, softmax and everything else are float32."""


class PlacedModel(OfOneProcess):
    """A trained model and its catalogue, with the native code or the GPU that answers for them.

    The arguments are those of `Recommender`.

    Raises:
        ArgumentError: a value is out of range, there is no such device, or the device does not support an option.
        ArgumentTypeError: an argument is of the wrong type.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        threads: int | None = None,
        batching: Batching | bool | None = None,
        attributes: Mapping[str, Column] | None = None,
        precision: Precision = "float32",
        device: str | torch.device = "cpu",
    ) -> None:
        if not isinstance(artifact, Artifact):
            raise ArgumentTypeError("artifact", "an Artifact", artifact)
        self._threads = as_threads(threads)
        self._metrics = Metrics()
        self._building = ForkSafeLock()
        self._pace, self._hurried_pace = Pace(), Pace()
        self._calibration = Calibration()
        batching = as_batching(batching)
        as_choice("precision", precision, ("float32", "bfloat16"))
        self._device = as_device(device)
        if self._device is not None:
            self._refuse_on_device("batching", "None or False", batching)
        self.precision = precision
        self.artifact = artifact
        self._attributes = Attributes(
            by_row({} if attributes is None else attributes, artifact.items), len(artifact.items)
        )
        self.catalog = Catalog.from_checked(
            artifact.catalog_vectors, artifact.catalog_bias, artifact.items, threads, artifact.codes
        )
        self._batching = batching
        limits = batching or Batching()
        # As many threads as users in a batch, since a caller blocks during its search. Snapshots share the room.
        self._waiting_room = WaitingRoom(limits.max_batch, limits.max_batch + limits.max_queue)
        self._place()

    @property
    def threads(self) -> int:
        """How many CPU threads a call may use; 0: as many as this process may use."""
        return self._threads

    @property
    def attributes(self) -> Attributes:
        """The item attributes that `recommend(where=)` can filter by."""
        return self._attributes

    @property
    def device(self) -> str:
        """Where requests are answered: "cpu", or a GPU's name."""
        return "cpu" if self._device is None else str(self._device)

    def _refuse_on_device(self, argument: str, expected: str, got: object) -> None:
        """Refuses an option that a GPU does not support; `got` is None if it was not given."""
        if self._device is not None and got is not None:
            raise ArgumentError(argument, f"{expected} with device={self.device!r}", got)

    def _place(self, before: PlacedModel | None = None) -> None:
        """Makes the paths that answer requests for this catalogue, sharing unchanged parts with `before`."""
        self._host: _core.RequestPath = self._new_host() if before is None else self._host_after(before._host)
        self._path: _core.RequestPath | DevicePath = self._host
        if self._device is None:
            return
        known = before._path if before is not None and isinstance(before._path, DevicePath) else None
        weights = self.artifact.encoder_weights
        with native_errors():
            self._path = DevicePath(
                self._host, self.config, weights, self.catalog, self._device, self._threads, self.precision, known
            )

    def _new_host(self) -> _core.RequestPath:
        c = self.catalog
        with native_errors():
            return _core.RequestPath(
                self.config.to_dict(),
                [weight.detach().numpy() for weight in self.artifact.encoder_weights],
                c.vectors.numpy(),
                c.bias.numpy(),
                c.codes.numpy(),
                multi_interest=self.config.scoring == "multi_interest",
                temperature=self.config.temperature,
                threads=self._threads,
                batching=None if self._batching is None else self._batching.limits(self._threads),
                precision=self.precision,
                input_table=self._device is None,
            )

    def _host_after(self, before: _core.RequestPath) -> _core.RequestPath:
        c = self.catalog
        embedding = self.artifact.weights["item_embedding"]
        with native_errors():
            return before.with_catalog(
                embedding.detach().numpy(), c.vectors.numpy(), c.bias.numpy(), c.codes.numpy(), self._threads
            )

    @property
    def config(self) -> ModelConfig:
        """The model's hyper-parameters."""
        return self.artifact.config

    @property
    def items(self) -> ItemTable:
        """Ids, titles and training counts of the catalogue."""
        return self.catalog.items
