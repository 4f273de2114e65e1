"""`make demo`: train on MovieLens-100K, compare with popularity, recommend for two real users.

Without the data (no network and no local copy) it uses a simulated shop instead.
"""

from __future__ import annotations

import argparse
import pathlib
import time

import numpy as np

import lsif_sdk
from lsif_sdk.artifact_files import check_target
from lsif_sdk.datasets import movielens_100k, simulated_shop
from lsif_sdk.errors import DataError
from lsif_sdk.evaluation import compare, format_table, leave_one_out
from lsif_sdk.training import EventLog, Recipe, TrainConfig, load_recipe, train

RECIPES = pathlib.Path(__file__).parents[1] / "recipes"


def load_events() -> tuple[EventLog, str, Recipe]:
    """The events, the name of the data, and a recipe that trains on them for about four minutes at most."""
    try:
        return movielens_100k(), "MovieLens-100K", load_recipe(RECIPES / "ml-100k.json")
    except DataError as error:
        print(f"MovieLens-100K is not to be had: {error}\nGoing on with a simulated shop.\n")
        return simulated_shop(), "simulated shop", Recipe(training=TrainConfig(epochs=20, max_seconds=240))


def show_user(recommender: lsif_sdk.Recommender, log: EventLog, user: int) -> None:
    """Prints a user's newest events and the top 10."""
    events = log.user(user)
    history = lsif_sdk.Events([log.item_ids[row] for row in events.items], events.times, events.actions)
    answer = recommender.recommend(history, k=10)[0]
    print(f"\nUser {log.user_ids[user]}: {len(history)} events; the newest five, newest first:")
    for row in events.items[-5:][::-1]:
        print(f"      {recommender.items.title(row)}")
    print(f"  Top 10 (long-term share {answer.long_share:.0%}, short-term share {1 - answer.long_share:.0%}):")
    for rank, (item, score) in enumerate(answer, start=1):
        print(f"  {rank:2}. {recommender.items.title_of(item):60} {score:7.3f}")


def main() -> None:
    """Runs the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="build/demo-model", help="where the trained artifact goes")
    out = parser.parse_args().out

    check_target(out, overwrite=True)
    log, name, recipe = load_events()
    print(f"{name}: {log.num_users:,} users, {log.num_items:,} items, {len(log.items):,} events")
    started = time.perf_counter()
    train(log, recipe.model, recipe.training, source=name).save(out, overwrite=True)
    print(f"trained in {time.perf_counter() - started:.0f} s, written to {out}\n")

    recommender = lsif_sdk.Recommender.load(out)
    split = leave_one_out(log)
    print(format_table(compare({"lsif_sdk": recommender}, split)))
    median = np.argsort(log.lengths, kind="stable")[log.num_users // 2]
    for user in (int(median), int(np.argmax(log.lengths))):
        show_user(recommender, log, user)
    print(f"\nNext: .venv/bin/lsif inspect {out}, or examples/ and README.md for the Python API.")


if __name__ == "__main__":
    main()
