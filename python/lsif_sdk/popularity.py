"""Popularity penalties on items' biases; see `Artifact.with_popularity_penalty`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsif_sdk.arguments import is_real
from lsif_sdk.errors import ArtifactError

__all__ = ["centred_log_counts", "penalty_of"]


def centred_log_counts(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """log c_i - mean_j log c_j where c_i > 0, the mean over those j; 0 elsewhere. [num_items]."""
    met = counts > 0
    logs = np.log(counts[met])
    centred = np.zeros(len(counts))
    centred[met] = logs - logs.mean() if len(logs) else 0.0
    return centred


def penalty_of(training: Mapping[str, Any]) -> float:
    """The penalty that an artifact records; 0 if it records none."""
    penalty = training.get("popularity_penalty", 0.0)
    if not is_real(penalty) or not np.isfinite(penalty):
        raise ArtifactError(f"training: popularity_penalty: expected a number, got {penalty!r}")
    return float(penalty)
