"""Facts about this installation, for `lsif doctor` and bug reports."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import torch

from lsif_sdk import _core
from lsif_sdk.device.facts import gathered, mismatches

__all__ = ["diagnose"]

_NEEDED = ("numpy", "safetensors")
_EXTRAS = {
    "train": ("lightning-fabric", "pandas", "pyarrow", "tqdm"),
    "text": ("sentence-transformers",),
    "report": ("matplotlib",),
    "redis": ("redis",),
    "metrics": ("prometheus-client", "opentelemetry-api"),
}


def diagnose() -> dict[str, Any]:
    """Version, build, instruction set and the reason for it, threads, torch, GPU and packages, as plain values."""
    build: dict[str, Any] = _core.build_info()
    return {
        "lsif_sdk": build["version"],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "build": {
            "compiler": build["compiler"],
            "type": build["build_type"],
            "torch at build time": build["built_with_torch"],
            "CUDA": build["built_for_cuda"] or "no",
            "instruction sets": ", ".join(build["compiled_isas"]),
        },
        "instruction set": f"{build['isa']}: {build['isa_reason']}",
        "runnable here": ", ".join(build["runnable_isas"]) + " (LSIF_CPU_ISA chooses)",
        "threads": {
            "lsif_sdk default": build["default_threads"],
            "machine": os.cpu_count(),
            "torch": torch.get_num_threads(),
        },
        "torch": {"version": torch.__version__, "CUDA build": torch.version.cuda or "no"},
        "GPU": _gpu(),
        "mismatches": "; ".join(mismatches(gathered())) or "none",
        "packages": {name: _version(name) for name in _NEEDED},
        "extras": {extra: {name: _version(name) for name in names} for extra, names in _EXTRAS.items()},
    }


def _gpu() -> str:
    if torch.version.cuda is None:
        return "none usable: this torch is a CPU build"
    if not torch.cuda.is_available():
        return "none found by torch"
    return ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
