"""Float32 arrays from lists, arrays and tensors of any real numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lsif_sdk.arguments import as_array
from lsif_sdk.errors import ArgumentError, ArgumentTypeError

__all__ = ["as_float_array", "as_floats"]


def as_floats(argument: str, values: torch.Tensor | npt.ArrayLike, num_dims: int | None) -> torch.Tensor:
    """`values` as a contiguous, finite float32 CPU tensor, in the same memory if possible (not read-only memory)."""
    tensor = _dense_floats(argument, values, num_dims)
    array = tensor.numpy()  # NumPy, since torch's thread pool does not survive a fork
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0].tolist()
        raise ArgumentError(argument, "finite float32 values", f"{array[tuple(bad)]} at position {bad}")
    return tensor


def as_float_array(argument: str, values: torch.Tensor | npt.ArrayLike) -> npt.NDArray[np.float32]:
    """`as_floats` of any shape as an array, possibly not finite, for native code that checks the values itself."""
    plain = _as_it_is(values)
    return _dense_floats(argument, values, None).numpy() if plain is None else plain


def _as_it_is(values: torch.Tensor | npt.ArrayLike) -> npt.NDArray[np.float32] | None:
    """The fast path of requests: an array that native code can read as it is, with values not checked, or None."""
    array: Any = values
    if type(values) is torch.Tensor and values.dtype is torch.float32 and values.is_cpu:
        if values.requires_grad or values.layout is not torch.strided or values.is_neg():
            return None
        array = values.numpy()
    is_plain = type(array) is np.ndarray and array.dtype == np.float32 and array.flags.c_contiguous
    return array if is_plain else None


def _dense_floats(argument: str, values: torch.Tensor | npt.ArrayLike, num_dims: int | None) -> torch.Tensor:
    tensor = values.detach().resolve_neg() if isinstance(values, torch.Tensor) else _tensor_from(argument, values)
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise ArgumentError(argument, "real numbers", tensor.dtype)
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise ArgumentError(argument, "a dense tensor", "a quantized one" if tensor.is_quantized else tensor.layout)
    if tensor.device.type != "cpu":
        raise ArgumentError(argument, "a tensor on the CPU", f"one on {tensor.device}")
    if tensor.dtype == torch.bfloat16:  # NumPy does not have it
        tensor = tensor.to(torch.float32)
    array = as_array(argument, tensor, "a tensor of numbers")
    with np.errstate(over="ignore"):  # infinity, which the caller refuses
        tensor = torch.from_numpy(np.ascontiguousarray(array, np.float32).reshape(tensor.shape))
    if num_dims is not None and tensor.dim() != num_dims:
        raise ArgumentError(
            argument, f"{num_dims} dimension{'s' if num_dims > 1 else ''}", f"shape {list(tensor.shape)}"
        )
    return tensor


def _tensor_from(argument: str, values: npt.ArrayLike) -> torch.Tensor:
    array = as_array(argument, values, "an array of numbers")
    if array.dtype.kind not in "fiu":
        of_what = f", not of {array.dtype}" if hasattr(values, "dtype") else ""
        raise ArgumentTypeError(argument, f"an array of numbers{of_what}", values)
    with np.errstate(over="ignore"):  # infinity, which the caller refuses
        array = np.ascontiguousarray(array, np.float32).reshape(array.shape)
    return torch.from_numpy(array if array.flags.writeable else array.copy())
