"""The work of a request on a device: encode, search, score."""

from __future__ import annotations

import torch
from torch import Tensor

from lsif_sdk.config import ModelConfig
from lsif_sdk.device.layout import Results, Shape, flat_bytes
from lsif_sdk.device.model import DeviceCatalog, DeviceEncoder, Queries
from lsif_sdk.device.ranking import rebalanced

__all__ = ["DeviceWork"]


class DeviceWork:
    """From a request's integers on the device to the bytes of its answer there, without waiting. Immutable.

    It has no reference to its graphs, so that no cycle keeps a dropped snapshot in the device's memory.
    """

    def __init__(
        self, encoder: DeviceEncoder, catalog: DeviceCatalog, config: ModelConfig, device: torch.device
    ) -> None:
        self.encoder = encoder
        self.catalog = catalog
        self._config = config
        self._device = device

    def __call__(
        self, shape: Shape, ints: Tensor, balance: float = -1.0, encoded: list[Tensor] | None = None
    ) -> Tensor:
        """`balance`: the share of long-term interests, or below 0 for the model's; `encoded`: users already encoded."""
        parts = shape.unpack(ints)
        if encoded is None:
            fused, interests, weights = (part[: shape.batch] for part in self.encoder.encode(parts))
        else:
            fused, interests, weights = (part.to(self._device, non_blocking=True) for part in encoded)
        arrays = {"fused": fused, "interests": interests, "weights": weights, "newest": interests[:, -1]}
        if shape.k == 0:
            return flat_bytes(self.results(shape), arrays)
        if balance >= 0:
            fused, weights = rebalanced(interests, weights, self._config.num_long, balance)
        several = self._config.scoring == "multi_interest"
        queries = Queries(interests, weights, self._config.temperature) if several else Queries(fused[:, None])
        arrays["scores"], arrays["indices"], arrays["counts"] = self.catalog.score_topk(queries, shape.k, parts)
        if parts["own"] is not None:
            arrays["own_scores"] = self.catalog.score_items(queries, parts["own"])
        arrays["is_finite"] = queries.vectors.isfinite().flatten(1).all(dim=1)
        return flat_bytes(self.results(shape), arrays)

    def results(self, shape: Shape) -> Results:
        """The arrays of the answer."""
        return shape.results(self._config.dim, self._config.num_interests)
