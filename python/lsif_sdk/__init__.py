"""lsif_sdk: an embeddable recommender that fuses long-term and short-term interests.

    rec = lsif_sdk.Recommender.load("model/")
    rec.recommend(["item a", "item b"], k=10)

Inference needs torch, numpy and safetensors. `train` and `evaluate` need more packages (extra "train"), which are
imported when these functions are called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lsif_sdk import errors
from lsif_sdk.native_parts import not_loaded

try:
    importlib.import_module("lsif_sdk._core")  # `from lsif_sdk import _core` would report a circular import
except ImportError as error:
    raise not_loaded("_core", __path__, error) from error

from lsif_sdk import _core
from lsif_sdk.artifact import Artifact
from lsif_sdk.attributes import Not
from lsif_sdk.batching import Batching
from lsif_sdk.catalog import Catalog, TopK
from lsif_sdk.config import ModelConfig
from lsif_sdk.content import ContentAdapter
from lsif_sdk.device_states import DeviceStates
from lsif_sdk.events import Events
from lsif_sdk.ids import Id
from lsif_sdk.items import ItemTable
from lsif_sdk.live import LiveRecommender
from lsif_sdk.recommendations import Recommendations, UserRecommendations
from lsif_sdk.recommender import Recommender
from lsif_sdk.user_state import UserState

if TYPE_CHECKING:
    from lsif_sdk.evaluation.evaluate import compare as compare
    from lsif_sdk.evaluation.evaluate import evaluate as evaluate
    from lsif_sdk.training import train

__all__ = [
    "Artifact",
    "Batching",
    "Catalog",
    "ContentAdapter",
    "DeviceStates",
    "Events",
    "Id",
    "ItemTable",
    "LiveRecommender",
    "ModelConfig",
    "Not",
    "Recommendations",
    "Recommender",
    "TopK",
    "UserRecommendations",
    "UserState",
    "__version__",
    "compare",
    "errors",
    "evaluate",
    "train",
]

try:
    __version__: str = _core.build_info()["version"]
except RuntimeError as error:  # the native code refuses the value of LSIF_CPU_ISA
    raise errors.SettingError(str(error)) from None

_LAZY = {"train": "lsif_sdk.training", "evaluate": "lsif_sdk.evaluation", "compare": "lsif_sdk.evaluation"}
_SUBPACKAGES = frozenset({"evaluation", "integrations", "training"})


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f"lsif_sdk.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
