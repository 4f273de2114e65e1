"""Texts and integers of an artifact as plain tensors: UTF-8 bytes and offsets."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.ragged import offsets_of

__all__ = ["check_texts", "int64_tensor", "pack_texts", "unpack_texts"]


def check_texts(argument: str, texts: Sequence[Any]) -> None:
    """Refuses values that are not texts, and texts that UTF-8 cannot encode."""
    if not all(isinstance(text, str) for text in texts):
        raise ArgumentTypeError(argument, "texts", next(text for text in texts if not isinstance(text, str)))
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(argument, "texts that UTF-8 can encode", f"a lone surrogate: {error.reason}") from None


def pack_texts(name: str, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """Tensors `name`.bytes and `name`.offsets."""
    encoded = [text.encode() for text in texts]
    offsets = offsets_of([len(text) for text in encoded])
    data = np.frombuffer(b"".join(encoded), np.uint8)
    return {f"{name}.bytes": torch.from_numpy(data.copy()), f"{name}.offsets": torch.from_numpy(offsets)}


def int64_tensor(tensors: Mapping[str, torch.Tensor], name: str, size: int) -> torch.Tensor:
    """The tensor of this name, checked to be int64 [size]."""
    if name not in tensors:
        raise ArgumentError(name, "a tensor", "none")
    tensor = tensors[name]
    if tensor.dtype != torch.int64 or list(tensor.shape) != [size]:
        raise ArgumentError(name, f"int64 [{size}]", f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}")
    return tensor


def unpack_texts(tensors: Mapping[str, torch.Tensor], name: str, size: int) -> list[str]:
    """The inverse of `pack_texts`.

    Raises:
        ArgumentError: tensors are missing, of another dtype or shape, or not UTF-8.
    """
    data = tensors.get(f"{name}.bytes")
    if data is None or data.dtype != torch.uint8 or data.dim() != 1:
        raise ArgumentError(f"{name}.bytes", "uint8 with one dimension", "none" if data is None else str(data.dtype))
    offsets = int64_tensor(tensors, f"{name}.offsets", size + 1).numpy()
    if offsets[0] != 0 or offsets[-1] != data.numel() or bool((np.diff(offsets) < 0).any()):
        raise ArgumentError(f"{name}.offsets", f"non-decreasing values from 0 to {data.numel()}", "others")
    raw = data.numpy().tobytes()
    try:
        return [raw[begin:end].decode() for begin, end in itertools.pairwise(offsets.tolist())]
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{name}.bytes", "UTF-8", error.reason) from None
