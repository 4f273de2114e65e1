"""The torch module of docs/model.md, for training and, in float64, as the reference for tests of the native engine."""

from __future__ import annotations

from lsif_sdk.model.encoded import CatalogRows, Encoded
from lsif_sdk.model.encoder import SequenceEncoder, time_boundaries
from lsif_sdk.model.interest_fusion import InterestFusion
from lsif_sdk.model.interest_pooling import LongTermPooling, ShortTermPooling
from lsif_sdk.model.model import InterestFusionModel
from lsif_sdk.model.times import UNKNOWN_TIME

__all__ = [
    "UNKNOWN_TIME",
    "CatalogRows",
    "Encoded",
    "InterestFusion",
    "InterestFusionModel",
    "LongTermPooling",
    "SequenceEncoder",
    "ShortTermPooling",
    "time_boundaries",
]
