"""Where one model gains on another: by length of the history and by how far the taste moved, as Markdown.

`python bench/quality/groups.py --data ml-1m --reference lsif --against short-only popularity`; the item vectors that
tell how far a taste moved are those of the reference's first seed (its checkpoint under --out).
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import numpy as np
import torch
from data import load
from numpy.typing import NDArray
from results import ranks_path
from table import gains, runs_of

from lsif_sdk.evaluation import paired_bootstrap
from lsif_sdk.evaluation.behaviour import drift_groups, length_groups, taste_drift


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--reference", default="lsif")
    parser.add_argument("--against", nargs="+", required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/quality"))
    options = parser.parse_args()
    _, split = load(options.data)
    rows = runs_of(options.out / "results.jsonl", options.data, request_time=True)
    if missing := {options.reference, *options.against} - set(rows):
        raise SystemExit(f"no runs of {', '.join(sorted(missing))} on {options.data}")
    measured = {name: gains(options.out, options.data, rows[name]) for name in (options.reference, *options.against)}
    run = rows[options.reference][0]
    ranks = np.load(ranks_path(options.out, options.data, options.reference, run["seed"]))
    users = ranks["user_rows"]
    folder = options.out / "checkpoints" / f"{options.data}-{options.reference}-{run['seed']}"
    drift = taste_drift(split.test_history, _item_vectors(folder), users)
    lengths = split.test_history.lengths[users]
    _print("events in the history", length_groups(lengths), measured)
    _print("drift", drift_groups(drift), measured)


def _item_vectors(folder: pathlib.Path) -> NDArray[np.float32]:
    state = torch.load(folder / "last.pt", map_location="cpu", weights_only=True)["progress"]["best_state"]
    vectors: NDArray[np.float32] = state["item_embedding"].numpy()
    return vectors


def _print(label: str, groups: dict[str, NDArray[np.bool_]], measured: dict[str, Any]) -> None:
    reference, *others = measured
    print(f"| {label} | users | {reference} NDCG@10 |" + "".join(f" minus {name} |" for name in others))
    print("| --- " * (3 + len(others)) + "|")
    for name, members in groups.items():
        cells = [name, str(int(members.sum())), f"{measured[reference][members].mean():.4f}"]
        for other in others:
            gain = paired_bootstrap(measured[reference][members], measured[other][members])
            cells.append(f"{gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})")
        print("| " + " | ".join(cells) + " |")
    print()


if __name__ == "__main__":
    main()
