"""Types of keyword arguments that are passed on, for type checkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from lsif_sdk.attribute_columns import Column
from lsif_sdk.attributes import Where
from lsif_sdk.batching import Batching
from lsif_sdk.events import IdLists
from lsif_sdk.placed_model import Precision
from lsif_sdk.times import Now

__all__ = ["LoadOptions", "RequestOptions"]


class LoadOptions(TypedDict, total=False):
    """The keyword arguments of `Recommender.load`."""

    device: str
    threads: int | None
    batching: Batching | bool | None
    attributes: Mapping[str, Column] | None
    precision: Precision
    verify: bool


class RequestOptions(TypedDict, total=False):
    """The keyword arguments of `Recommender.recommend` beside the users."""

    now: Now | None
    exclude_seen: bool | None
    exclude: IdLists | None
    allow: IdLists | None
    where: Where | Sequence[Where | None] | None
    interest: Literal["long", "short"] | float | None
    diversity: float
    timeout: float | None
    budget_ms: float | None
    recall_target: float
