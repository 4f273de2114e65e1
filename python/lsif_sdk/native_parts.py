"""Errors of native libraries that cannot be loaded."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterable
from importlib.machinery import EXTENSION_SUFFIXES

from lsif_sdk.errors import InstallationError

__all__ = ["not_loaded"]


def not_loaded(name: str, folders: Iterable[str], reason: object) -> InstallationError:
    """The error for a library, _core or _ops, that should be in one of the folders; `reason` is the loader's."""
    modules = {path.name for folder in folders for path in pathlib.Path(folder).glob("_core.*.so")}
    foreign = sorted(name for name in modules if name.removeprefix("_core") not in EXTENSION_SUFFIXES)
    built = f"; there is {', '.join(foreign)}, and this is {sys.implementation.cache_tag}" if foreign else ""
    return InstallationError(
        f"lsif_sdk's native part {name} cannot be loaded ({reason}{built}): "
        "install a wheel for this Python again, or run `make dev` in the source folder"
    )
