"""Where requests are answered: on the CPU by native code, or on a GPU by torch ops (docs/cuda.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from lsif_sdk import _core
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, shown
from lsif_sdk.ops import cuda_ops_problem

__all__ = ["as_device", "cuda_problem", "memory_errors"]


def as_device(device: object) -> torch.device | None:
    """A checked GPU; None for the CPU.

    Raises:
        ArgumentError: no such device here, or nothing of this SDK that runs on it; the message says what is missing.
        ArgumentTypeError: not a name of a device.
    """
    if not isinstance(device, (str, torch.device)):
        raise ArgumentTypeError("device", "'cpu', 'cuda' or 'cuda:0'", device)
    try:
        wanted = torch.device(device)
    except RuntimeError:
        wanted = torch.device("meta")
    if wanted.type == "cpu":
        return None
    if wanted.type != "cuda":
        raise ArgumentError("device", "'cpu', 'cuda' or 'cuda:0'", shown(str(device)))
    if problem := cuda_problem():
        raise ArgumentError("device", f"'cpu' ({problem})", repr(str(device)))
    count = torch.cuda.device_count()
    index = torch.cuda.current_device() if wanted.index is None else wanted.index
    if index >= count:
        raise ArgumentError("device", f"'cuda:0' to 'cuda:{count - 1}'" if count > 1 else "'cuda:0'", str(device))
    return torch.device("cuda", index)


def cuda_problem() -> str:
    """Why nothing can be answered on a GPU in this process, or ""."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} has no CUDA build"
    if not _core.build_info()["built_for_cuda"]:
        return "this lsif_sdk was built without CUDA; the wheel built for it has it"
    if cuda_ops_problem():
        return f"the CUDA ops do not load: {cuda_ops_problem()}"
    if not torch.cuda.is_available():
        return "torch finds no GPU or no driver for it"
    return ""


@contextlib.contextmanager
def memory_errors(argument: str, device: torch.device, work: str) -> Iterator[None]:
    """Says of `work` that does not fit a device's memory what it was.

    Raises:
        ArgumentError: in place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        # What torch's stable interface makes of an allocation that fails names the call and no more.
        text = str(error)
        if not isinstance(error, torch.OutOfMemoryError) and "new_empty" not in text and "out of memory" not in text:
            raise
        raise ArgumentError(argument, f"no more than fits the memory of {device}", work) from None
