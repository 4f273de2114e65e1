"""Training: event logs, the trainer and its settings. Needs the extra "train"."""

from __future__ import annotations

from lsif_sdk.event_log import EventLog, UserEvents, read_events, read_titles
from lsif_sdk.training.config import TrainConfig
from lsif_sdk.training.pipeline import train
from lsif_sdk.training.recipe import Recipe, load_recipe
from lsif_sdk.training.trainer import FitResult, fit
from lsif_sdk.training.validation import Targets, validate

__all__ = [
    "EventLog",
    "FitResult",
    "Recipe",
    "Targets",
    "TrainConfig",
    "UserEvents",
    "fit",
    "load_recipe",
    "read_events",
    "read_titles",
    "train",
    "validate",
]
