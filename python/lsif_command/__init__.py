"""The command `lsif`, outside `lsif_sdk`: what keeps that from being imported is told as its other errors are."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Runs `lsif_sdk.cli.main`; 2 with a message on standard error where a setting or the torch here cannot be used."""
    try:
        from lsif_sdk.cli import main as run
    except (ImportError, RuntimeError) as error:
        if type(error).__module__ != "lsif_sdk.errors":  # which could not be imported either
            raise
        print(f"lsif: {error}", file=sys.stderr)
        return 2
    return run()
