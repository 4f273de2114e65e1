"""Tables of what run.py measured, as Markdown: `python bench/quality/table.py --data beauty --reference lsif`."""

from __future__ import annotations

import argparse
import json
import pathlib
from collections import defaultdict
from typing import Any

import numpy as np
from results import ranks_path

from lsif_sdk.evaluation import paired_bootstrap
from lsif_sdk.evaluation.metrics import rank_gains

Rows = dict[str, list[dict[str, Any]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--reference", default="lsif", help="the model the others are compared with")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/quality"))
    parser.add_argument("--request-time", action="store_true", help="the track that knows when the target happens")
    options = parser.parse_args()
    rows = runs_of(options.out / "results.jsonl", options.data, options.request_time)
    reference = gains(options.out, options.data, rows[options.reference]) if options.reference in rows else None
    first = next(iter(rows.values()))[0]
    print(f"{options.data}: {first['protocol']}; {first['users']:,} users, {first['items']:,} items,", end=" ")
    print(f"targets `{first['targets'][:12]}`\n")
    print(
        f"| model | seeds | NDCG@10 (95 % interval over users) | {options.reference} minus it | HR@10 | MRR@10 |",
        end="",
    )
    print(" coverage@10 | novelty@10, bits | fit, s |\n" + "| --- " * 9 + "|")
    for name, runs in sorted(rows.items(), key=lambda row: _mean(row[1], "ndcg@10")):
        of_model = gains(options.out, options.data, runs)
        own = paired_bootstrap(of_model)
        cells = [name, str(len(runs)), f"{own.mean:.4f} ({own.low:.4f} to {own.high:.4f}){_spread(runs)}"]
        if reference is None or name == options.reference:
            cells.append("")
        else:
            difference = paired_bootstrap(reference, of_model)
            cells.append(f"{difference.mean:+.4f} ({difference.low:+.4f} to {difference.high:+.4f})")
        cells += [f"{_mean(runs, key):.4f}" for key in ("hr@10", "mrr@10", "coverage@10")]
        cells += [f"{_mean(runs, 'novelty@10'):.2f}", f"{_mean(runs, 'fit_s'):.0f}"]
        print("| " + " | ".join(cells) + " |")


def runs_of(path: pathlib.Path, data: str, request_time: bool) -> Rows:
    """The newest run of each seed, by model, for one track; models without request times are in both tracks."""
    if not path.exists():
        raise SystemExit(f"{path}: no such file; run.py writes it, and the ranks that intervals need")
    newest: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if row["data"] == data and (request_time or not row["request_time"]):
            newest[row["model"]][row["seed"]] = row
    if not newest:
        raise SystemExit(f"{path} has no runs on {data}")
    rows = {name: list(runs.values()) for name, runs in newest.items()}
    for name, runs in rows.items():
        for fact in ("settings", "recipe", "once", "protocol", "targets", "users", "items"):
            if len({json.dumps(run.get(fact), sort_keys=True) for run in runs}) > 1:
                raise SystemExit(f"{name}: its seeds differ in {fact}: run them again, with one recipe")
    tasks = {(run["protocol"], run["targets"], run["users"], run["items"]) for runs in rows.values() for run in runs}
    if len(tasks) > 1:
        raise SystemExit(f"{data}: {len(tasks)} different tasks in {path}")
    return rows


def gains(out: pathlib.Path, data: str, runs: list[dict[str, Any]]) -> Any:
    """NDCG@10 of each user, averaged over seeds, float64 [num_users]."""
    ranks = [np.load(ranks_path(out, data, run["model"], run["seed"]))["ranks"] for run in runs]
    return np.mean([rank_gains(of_seed)["ndcg@10"] for of_seed in ranks], axis=0)


def _mean(runs: list[dict[str, Any]], key: str) -> float:
    return float(np.mean([run[key] for run in runs]))


def _spread(runs: list[dict[str, Any]]) -> str:
    if len(runs) < 2:
        return ""
    return f", sd over seeds {np.std([run['ndcg@10'] for run in runs], ddof=1):.4f}"


if __name__ == "__main__":
    main()
