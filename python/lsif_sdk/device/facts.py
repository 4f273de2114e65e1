"""Facts about GPUs from torch, this build and the driver, and mismatches between them."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch

from lsif_sdk import _core
from lsif_sdk.ops import cuda_ops_problem

__all__ = ["Facts", "gathered", "mismatches", "problem"]


class Facts(NamedTuple):
    """torch: its version. torch_cuda, built_for: CUDA versions of torch and of this build, "" for a CPU build.

    ops_problem: why the CUDA ops do not load, or "". driver: the newest CUDA version that the driver runs, or ""
    without a driver. has_gpu: whether torch finds a GPU.
    """

    torch: str
    torch_cuda: str
    built_for: str
    ops_problem: str
    driver: str
    has_gpu: bool


def gathered() -> Facts:
    """The facts of this process."""
    return Facts(
        torch.__version__,
        torch.version.cuda or "",
        _core.build_info()["built_for_cuda"],
        cuda_ops_problem(),
        _driver(),
        torch.cuda.is_available(),
    )


def problem(facts: Facts) -> str:
    """Why no GPU can be used, or ""."""
    if not facts.torch_cuda:
        return f"torch {facts.torch} has no CUDA build"
    if not facts.built_for:
        return f"this lsif_sdk is a CPU build, beside a torch for CUDA {facts.torch_cuda}"
    if facts.ops_problem:
        return f"the CUDA ops do not load: {facts.ops_problem}"
    if not facts.driver:
        return "there is no NVIDIA driver (libcuda.so.1)"
    if not facts.has_gpu:
        return f"torch finds no GPU; the driver runs CUDA up to {facts.driver}"
    if _numbers(facts.driver)[0] < _numbers(facts.built_for)[0]:
        return f"the driver runs CUDA up to {facts.driver}, and this lsif_sdk is built for CUDA {facts.built_for}"
    return ""


def mismatches(facts: Facts) -> list[str]:
    """Mismatches, each with advice; none if everything is a CPU build."""
    if not facts.torch_cuda and not facts.built_for:
        return []
    found = []
    if reason := problem(facts):
        found.append(f"device='cuda' is refused: {reason}; {_remedy(facts)}")
    if facts.torch_cuda and facts.built_for and _numbers(facts.torch_cuda)[0] != _numbers(facts.built_for)[0]:
        found.append(
            f"torch is built for CUDA {facts.torch_cuda} and this lsif_sdk for CUDA {facts.built_for}: the two "
            "together have not been tried on a GPU; install a torch for the same CUDA version"
        )
    return found


def _remedy(facts: Facts) -> str:
    if not facts.torch_cuda:
        return f"on a GPU machine install a torch for CUDA {facts.built_for}; on the CPU nothing is missing"
    if not facts.built_for:
        return "on a GPU machine install the wheel for CUDA (docs/cuda.md, 'Wheels'); on the CPU nothing is missing"
    if facts.ops_problem:
        return "install a torch for the CUDA version that this lsif_sdk is built for"
    if not facts.driver:
        return "install NVIDIA's driver, or make it visible in the container"
    return "nvidia-smi says what the driver finds; a newer driver runs newer CUDA versions"


def _driver() -> str:
    """The newest CUDA version the driver runs, or ""."""
    version = ctypes.c_int(0)
    try:
        status = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return ""
    return "" if status != 0 else f"{version.value // 1000}.{version.value % 1000 // 10}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
