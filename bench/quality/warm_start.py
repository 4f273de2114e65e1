"""What a warm start gives: a model of the first 90 % of the events' time, then all events from scratch and from there.

`OMP_NUM_THREADS=1 python bench/quality/warm_start.py --seeds 0 1 2` prints a JSON line a training: NDCG@10 of each
user's last event of all, for all users and for those who came since, and the seconds that `train` took, measuring
included. The first line of a seed is the old model as it is. On MovieLens-100K (`lsif_sdk.datasets`).
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import pandas as pd

from lsif_sdk import Recommender
from lsif_sdk.datasets import movielens_100k
from lsif_sdk.evaluation import evaluate
from lsif_sdk.evaluation.metrics import rank_gains
from lsif_sdk.training import EventLog, load_recipe, read_events, train

_OLD = 0.9
_FULL = {"epochs": 60, "max_seconds": None}  # until validation no longer improves
_WARM: list[dict[str, Any]] = [{"epochs": 1}, {"epochs": 3}, {"epochs": 3, "learning_rate": 5e-4}, {}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="recipes/ml-100k.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    log = movielens_100k()
    users = np.repeat(np.asarray(log.user_ids), log.lengths)
    events = pd.DataFrame({"user": users, "item": np.asarray(log.item_ids)[log.items], "timestamp": log.times})
    cut = events["timestamp"].quantile(_OLD)
    old = read_events(events[events["timestamp"] < cut])
    came = np.isin(log.user_ids, events["user"][events["timestamp"] >= cut])

    def line(name: str, settings: dict[str, Any], of: EventLog, start: Recommender | None = None) -> Recommender:
        recipe = load_recipe(options.recipe, {**_FULL, **settings})
        began = time.perf_counter()
        model = train(of, recipe.model, recipe.training, start=start, progress=False)
        seconds = time.perf_counter() - began
        report = evaluate(model, log, progress=False)
        gains = rank_gains(report.per_user, report.k)[f"ndcg@{report.k}"]
        quality = {"ndcg@10": gains.mean(), "of those who came since": gains[came[report.user_rows]].mean()}
        facts = {"model": name, **settings, **{key: round(float(value), 4) for key, value in quality.items()}}
        training = model.artifact.training
        print(json.dumps({**facts, "best_epoch": training["best_epoch"], "seconds": round(seconds, 1)}), flush=True)
        return model

    for seed in options.seeds:
        start = line("first 90 %, as it is", {"seed": seed}, old)
        line("from scratch", {"seed": seed}, log)
        for change in _WARM:
            line("warm", {"seed": seed, **change}, log, start)


if __name__ == "__main__":
    main()
