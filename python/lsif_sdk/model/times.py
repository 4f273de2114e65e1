"""Differences of Unix times, some of which may be unknown (docs/model.md sections 2 to 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from lsif_sdk.times import UNKNOWN_TIME

__all__ = ["UNKNOWN_TIME", "elapsed"]

_MOST = torch.iinfo(torch.int64).max


def elapsed(later: Tensor, earlier: Tensor) -> tuple[Tensor, Tensor]:
    """Seconds from `earlier` to `later`, never negative, and whether both are known.

    Args:
        later: int64 Unix seconds, broadcastable with `earlier`.
        earlier: int64 Unix seconds.

    Returns:
        int64 seconds (0 where a time is unknown; saturated, since the difference may not fit int64) and a bool mask
        that is true where both times are known.
    """
    known = (later != UNKNOWN_TIME) & (earlier != UNKNOWN_TIME)
    seconds = torch.maximum(later, earlier) - earlier  # negative only if it wraps around
    return torch.where(known, torch.where(seconds < 0, _MOST, seconds), 0), known
