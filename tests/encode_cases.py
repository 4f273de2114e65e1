"""Cases for comparing native `encode`. As a program, prints their errors, in a process with its own LSIF_CPU_ISA."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import torch

import native
from lsif_sdk import _core
from lsif_sdk.artifact import Artifact

TOLERANCE = 1e-4
"""For `native.encode_error`, which is norm-wise: per user vector, per interest and per weight vector."""


@dataclasses.dataclass(frozen=True)
class Case:
    config: dict[str, Any]
    times: str = "sorted"
    now: str = "known"
    actions: bool = True
    lengths: tuple[int, ...] = ()

    def artifact(self) -> Artifact:
        return native.make_artifact(native.make_config(**self.config), seed=1)

    def batch(self) -> native.Batch:
        config = native.make_config(**self.config)
        w = config.window
        # The longest history is in the middle: what precedes and follows it in the batch must not matter.
        lengths = self.lengths or (*tuple(dict.fromkeys([0, 1, 2, 500, w - 1, w, w + 1])), 0, 3)
        return native.random_batch(config, lengths, 2, self.times, self.now, self.actions)


TRANSFORMER = {"block": "transformer"}
CASES = {
    "hstu, window 1": Case({"window": 1, "request_time": True}),
    "hstu, window 2": Case({"window": 2, "dim": 15, "num_heads": 5}, "unsorted"),
    "hstu, window 7": Case({"window": 7, "request_time": True}, "mixed", "mixed"),
    "hstu, window 50": Case({"window": 50, "dim": 64, "num_heads": 2, "short_window": 20, "pooling_dim": 32}),
    "transformer, window 1": Case({**TRANSFORMER, "window": 1}, "unsorted"),
    "transformer, window 2": Case(
        {**TRANSFORMER, "window": 2, "request_time": True, "activation": "relu"}, "sorted", "past"
    ),
    "transformer, window 7": Case({**TRANSFORMER, "request_time": True, "activation": "silu"}, "mixed", "mixed"),
    "transformer, window 50": Case({**TRANSFORMER, "window": 50, "dim": 64, "num_heads": 4, "ffn_dim": 130}),
    "dim 65, one head": Case({"dim": 65, "num_heads": 1, "request_time": True}, "unsorted", "known"),
    "dim 65, five heads": Case({**TRANSFORMER, "dim": 65, "num_heads": 5, "ffn_dim": 33, "fusion_dim": 17}),
    "dim 1": Case({"dim": 1, "num_heads": 1, "pooling_dim": 1, "fusion_dim": 1}),
    "one layer": Case({"num_layers": 1, "request_time": True}, "sorted", "mixed"),
    "four layers": Case({**TRANSFORMER, "num_layers": 4, "window": 3}),
    "no times": Case({"use_times": False}, "sorted", "known"),
    "no times, transformer": Case({**TRANSFORMER, "use_times": False}, "none", "none"),
    "times not given": Case({"request_time": True}, "none", "known"),
    "now not given": Case({**TRANSFORMER, "request_time": True}, "sorted", "none"),
    "all times unknown": Case({"request_time": True}, "unknown", "mixed"),
    "identical times": Case({**TRANSFORMER, "request_time": True}, "identical", "known"),
    "huge gaps": Case({"request_time": True}, "huge", "known"),
    "huge gaps, transformer": Case({**TRANSFORMER, "request_time": True}, "huge", "mixed"),
    "no actions": Case({"num_actions": 0}),
    "actions not given": Case({**TRANSFORMER, "request_time": True}, actions=False),
    "newest state only": Case({"num_long": 0, "num_short": 0, "request_time": True}),
    "long-term and newest": Case({"num_short": 0, "num_long": 7}, "mixed"),
    "short-term and newest": Case({**TRANSFORMER, "num_long": 0, "num_short": 5, "short_window": 1}),
    "wide pooling of states": Case({"num_long": 1, "num_short": 1, "short_window": 600}),
    "multi_interest, normalized": Case({"scoring": "multi_interest", "temperature": 0.5, "normalize_items": True}),
    "normalized inputs": Case({"normalize_inputs": True}),
    "repeats": Case({"repeats": True, "request_time": True}, "mixed", "mixed"),
    "repeats, no times": Case({**TRANSFORMER, "repeats": True, "use_times": False}),
    "empty histories": Case({}, lengths=(0, 0, 0)),
}


def errors() -> dict[str, float]:
    result = {}
    for name, case in CASES.items():
        artifact, batch = case.artifact(), case.batch()
        actual = batch.encode(native.request_path(artifact), 2)
        same = all(map(np.array_equal, actual, native.encode_op(artifact, batch)))
        result[name] = native.encode_error(artifact, batch, actual) if same else float("inf")
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps({"isa": _core.build_info()["isa"], "errors": errors()}))
