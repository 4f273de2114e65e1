"""The data sets of the quality tables, in the folder LSIF_DATA_DIR: their files, their splits, and whether people
consume items again."""

from __future__ import annotations

import dataclasses
import gzip
import html
import os
import pathlib

import pandas as pd

from lsif_sdk.datasets import movielens_100k
from lsif_sdk.evaluation import Split, leave_one_out, time_split
from lsif_sdk.training import EventLog, read_events, read_titles

ROOT = pathlib.Path(os.environ.get("LSIF_DATA_DIR", ""))


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One data set.

    Args:
        events: file under the data folder: a table of events, or (.txt.gz) one line per user: id, items in order.
        protocol: "leave_one_out" or "time".
        exclude_seen: False where people consume items again.
        titles: table of item titles, or None.
    """

    events: str
    protocol: str = "leave_one_out"
    exclude_seen: bool = True
    titles: str | None = None


DATASETS = {
    "ml-100k": Dataset("ml-100k/ml-100k.inter.gz"),
    "ml-1m": Dataset("ml-1m/interactions.tsv.gz", titles="ml-1m/items.tsv.gz"),
    "ml-1m-time": Dataset("ml-1m/interactions.tsv.gz", protocol="time", titles="ml-1m/items.tsv.gz"),
    "beauty": Dataset("amazon-beauty/Beauty.txt.gz", titles="amazon-beauty/items.tsv.gz"),
    "beauty-timed": Dataset("amazon-beauty/interactions_timestamped.tsv.gz", titles="amazon-beauty/items.tsv.gz"),
    "sports": Dataset("amazon-sports/Sports_and_Outdoors.txt.gz"),
    "food-com": Dataset("food-com/interactions.tsv.gz", titles="food-com/items.tsv.gz"),
    "online-retail": Dataset(
        "online-retail/interactions.tsv.gz", protocol="time", exclude_seen=False, titles="online-retail/items.tsv.gz"
    ),
    "foursquare-nyc": Dataset("foursquare-nyc/interactions.tsv.gz", protocol="time", exclude_seen=False),
    "mooccubex": Dataset("mooccubex-courses/sequences.txt.gz"),
}


def load(name: str) -> tuple[Dataset, Split]:
    dataset = DATASETS[name]
    path = ROOT / dataset.events
    if not path.exists():
        raise SystemExit(f"{path} not found; set LSIF_DATA_DIR to the folder with the data sets")
    if name == "ml-100k":
        return dataset, leave_one_out(movielens_100k(ROOT))
    log = _read_sequences(path) if path.name.endswith(".txt.gz") else read_events(path, separator="\t")
    if dataset.titles is not None:
        titles = read_titles(ROOT / dataset.titles)
        log = log.with_titles({item: html.unescape(title) for item, title in titles.items()})
    return dataset, leave_one_out(log) if dataset.protocol == "leave_one_out" else time_split(log)


def _read_sequences(path: pathlib.Path) -> EventLog:
    with gzip.open(path, "rt") as lines:
        users = [line.split() for line in lines]
    events = [(int(user), int(item)) for user, *items in users for item in items]
    return read_events(pd.DataFrame(events, columns=["user", "item"]), timestamp=None)
