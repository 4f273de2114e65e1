"""An implementation, and the facts about it that are needed before it is timed."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from measure import Run

__all__ = ["Builder", "Case", "Implementation", "Quality", "build_all", "params_of"]

Unit = Literal["fma_f32", "int8", "bf16"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Implementation:
    """A function under test and the inputs its calls take in turn; unknown fields are None.

    Args:
        call: the timed function; it gets one of `inputs`.
        inputs: prepared outside the timed call, in the form that a user of this implementation has.
        read: converts an answer to an array, also outside the timed call.
        bytes: read from memory by one call, at least.
        flops: multiplications and additions of one call, at least.
        unit: the kind of arithmetic of the flops.
        build_s: seconds to build the index or compile the model.
        index_bytes: memory of the index.
        tolerance: error that its precision explains, relative to the largest value.
        min_recall: the least recall of approximate results; None: results must be exact.
        settings: of the peer, for the row.
    """

    call: Callable[[Any], Any]
    inputs: Sequence[Any]
    read: Callable[[Any], npt.NDArray[Any]] = np.asarray
    bytes: int | None = None
    flops: int | None = None
    unit: Unit = "fma_f32"
    build_s: float | None = None
    index_bytes: int | None = None
    tolerance: float = 1e-4
    min_recall: float | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def answers(self) -> list[npt.NDArray[Any]]:
        """The answer to each input."""
        return [np.array(self.read(self.call(one))) for one in self.inputs]

    def run(self) -> Run:
        """A function that calls with the next input each time, in a cycle."""
        call, following = self.call, itertools.cycle(self.inputs).__next__
        return lambda: call(following())


@dataclasses.dataclass(frozen=True)
class Quality:
    """Accuracy of the answers: the largest error relative to the largest value, and the share of best items found."""

    max_error: float | None = None
    recall: float | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """Implementations that do the same work, and the check of their answers, which raises SystemExit."""

    implementations: dict[str, Implementation]
    params: dict[str, Any]
    check: Callable[[str, Implementation], Quality]


Builder = Callable[[str], Implementation]
"""Makes an implementation from its full name, which may end in a setting: "hnswlib@64"."""


def build_all(builders: Mapping[str, Builder], names: Sequence[str]) -> dict[str, Implementation]:
    """The named implementations. Those whose package is not installed are left out, with a note on stderr.

    Raises:
        SystemExit: a name is unknown, or no implementation is left.
    """
    if unknown := [name for name in names if name.partition("@")[0] not in builders]:
        raise SystemExit(f"--impl: expected some of {', '.join(builders)}, got {', '.join(unknown)}")
    built = {}
    for name in names:
        try:
            built[name] = builders[name.partition("@")[0]](name)
        except ImportError as error:
            print(f"{name} left out: {error}", file=sys.stderr)
    if not built:
        raise SystemExit(f"--impl: expected an installed one, got {', '.join(names)}")
    return built


def params_of(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names}
