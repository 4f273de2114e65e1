"""The CUDA ops on CPU tensors, with emulated kernels: torch.ops.lsif_emulated.* and torch.ops.lsif_kept_emulated.*.

`make test-cpp` builds them (tests/emulated_ops). tests/cuda_emulation says what is emulated: not streams and graphs.
"""

from __future__ import annotations

import functools
import pathlib

import torch

LIBRARY = pathlib.Path(__file__).parents[1] / "build" / "tests" / "tests" / "emulated_ops" / "_ops_emulated.so"
MISSING = "" if LIBRARY.exists() else f"no {LIBRARY.name}: make test-cpp builds it"

_DEFINITIONS: list[torch.library.Library] = []


@functools.cache
def load() -> None:
    """Defines ops with the schemas of the real ones and registers the CUDA code for them."""
    for name in torch._C._dispatch_get_all_op_names():
        namespace, _, op = name.partition("::")
        if namespace not in ("lsif", "lsif_kept"):
            continue
        schema = str(getattr(getattr(torch.ops, namespace), op).default._schema)
        library = torch.library.Library(f"{namespace}_emulated", "FRAGMENT")
        library.define(schema.removeprefix(f"{namespace}::"))
        _DEFINITIONS.append(library)
    torch.ops.load_library(LIBRARY)
