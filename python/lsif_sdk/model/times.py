"""Differences of Unix times, some of which may be unknown (docs/model.md sections 2 to 4)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["UNKNOWN_TIME", "elapsed"]

UNKNOWN_TIME: int = torch.iinfo(torch.int64).min
"""Stands for "time not known" in every int64 time array."""
_MOST_SECONDS = torch.iinfo(torch.int64).max


def elapsed(later: Tensor, earlier: Tensor) -> tuple[Tensor, Tensor]:
    """Seconds from `earlier` to `later`, never negative, and whether both are known.

    Args:
        later: int64 Unix seconds, broadcastable with `earlier`.
        earlier: int64 Unix seconds.

    Returns:
        int64 seconds (0 where a time is unknown, at most 2**63 - 1) and a bool mask that is true where both times are
        known.
    """
    known = (later != UNKNOWN_TIME) & (earlier != UNKNOWN_TIME)
    seconds = torch.where(known & (later > earlier), later - earlier, 0)
    return torch.where(seconds < 0, _MOST_SECONDS, seconds), known  # below 0: the difference did not fit
