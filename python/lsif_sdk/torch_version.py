"""Checks that the installed torch is new enough for the ops."""

from __future__ import annotations

import re

from lsif_sdk.errors import TorchVersionError

__all__ = ["OLDEST_TORCH", "check_torch"]

OLDEST_TORCH = (2, 10)
"""The first version whose stable interface has what csrc/ops uses (CMakeLists.txt, torch_target_version)."""


def check_torch(version: str) -> None:
    """Refuses a torch version that lacks symbols of the ops."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is not None and tuple(map(int, found.groups())) < OLDEST_TORCH:
        raise TorchVersionError(version, ".".join(map(str, OLDEST_TORCH)))
