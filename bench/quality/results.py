"""The files a run writes: JSON lines, e.g. <out>/results.jsonl, and the ranks of single users for intervals."""

from __future__ import annotations

import json
import pathlib
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lsif_sdk.evaluation import Split


def append(path: pathlib.Path, row: dict[str, Any]) -> None:
    """Appends a line to a JSONL file, which is created if it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def record(
    out: pathlib.Path, data: str, model: str, seed: int, split: Split, metrics: dict[str, float], **facts: Any
) -> None:
    """Appends and prints the row of one measured model.

    Args:
        out: folder of results.
        data: the data set's name.
        model: the model's name.
        seed: the seed it was trained with.
        split: the split whose test targets were ranked.
        metrics: means over users.
        facts: further fields: "settings", "request_time", "users", "fit_s" and whatever else defines the run.
    """
    row = {
        "data": data,
        "model": model,
        "seed": seed,
        **{name: round(value, 5) for name, value in metrics.items()},
        **facts,
        "items": split.log.num_items,
        "protocol": split.protocol,
        "targets": split.hash("test"),
        "commit": commit(),
    }
    append(out / "results.jsonl", row)
    print(json.dumps(row), flush=True)


def ranks_path(out: pathlib.Path, data: str, model: str, seed: int) -> pathlib.Path:
    return out / "ranks" / f"{data}-{model}-{seed}.npz"


def save_ranks(path: pathlib.Path, user_rows: NDArray[np.int64], ranks: NDArray[np.int64]) -> None:
    """Saves user rows and the rank of each user's target, both [num_users]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, user_rows=user_rows, ranks=ranks)


def commit() -> str:
    """The project's commit, with "-dirty" if files differ from it."""
    command = ["git", "-C", str(pathlib.Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
