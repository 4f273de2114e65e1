"""Requests answered on a GPU: torch ops in place of native code, behind the same interface (docs/cuda.md)."""

from lsif_sdk.device.choice import as_device
from lsif_sdk.device.path import DevicePath

__all__ = ["DevicePath", "as_device"]
