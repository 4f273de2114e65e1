"""The choice of device: the CPU with native code, or a GPU with torch ops (docs/cuda.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from lsif_sdk.device.facts import gathered, problem
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, shown

__all__ = ["as_device", "memory_errors"]


def as_device(device: object) -> torch.device | None:
    """A checked GPU; None for the CPU.

    Raises:
        ArgumentError: there is no such device, or this SDK cannot use it; the message says what is missing.
        ArgumentTypeError: not the name of a device.
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
    if reason := problem(gathered()):
        raise ArgumentError("device", f"'cpu', since {reason}", repr(str(device)))
    count = torch.cuda.device_count()
    index = torch.cuda.current_device() if wanted.index is None else wanted.index
    if index >= count:
        raise ArgumentError("device", f"'cuda:0' to 'cuda:{count - 1}'" if count > 1 else "'cuda:0'", str(device))
    return torch.device("cuda", index)


@contextlib.contextmanager
def memory_errors(argument: str, device: torch.device, work: str) -> Iterator[None]:
    """Turns torch's out-of-memory errors into an error that names the `work`.

    Raises:
        ArgumentError: `work` does not fit the device's memory.
    """
    try:
        yield
    except RuntimeError as error:
        # For a failed allocation, torch's stable interface reports only the name of the call.
        text = str(error)
        if not isinstance(error, torch.OutOfMemoryError) and "new_empty" not in text and "out of memory" not in text:
            raise
        raise ArgumentError(argument, f"no more than fits the memory of {device}", work) from None
