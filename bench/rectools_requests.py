"""What RecTools' own `recommend` takes for a SASRec as large as that of the case recommend.

It answers for users of its data set, whose input it builds each time, while `recommend` here gets histories. RecTools
has to have a virtual environment of its own (docs/quality.md); nothing of ours is needed.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings

import numpy as np
import pandas as pd
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

_EVENTS = 50  # of a user
_CALLS = 12


def made_up(num_items: int) -> Dataset:
    """Users with 50 events each; every item occurs at least once."""
    num_users = max(num_items // _EVENTS, 256)
    items = np.resize(np.random.default_rng(0).permutation(num_items), num_users * _EVENTS)
    frame = pd.DataFrame(
        {
            Columns.User: np.repeat(np.arange(num_users), _EVENTS),
            Columns.Item: items,
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(np.tile(np.arange(_EVENTS), num_users), unit="s"),
        }
    )
    return Dataset.construct(frame)


def main() -> None:
    """Fits one epoch (more would not change the time of an answer) and times calls for 1 and 256 users."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-items", type=int, default=100_000)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    data = made_up(options.num_items)
    model = SASRecModel(
        n_blocks=2, n_heads=1, n_factors=64, session_max_len=_EVENTS, loss="BCE", epochs=1, batch_size=128,
        recommend_batch_size=256, verbose=0,
    )  # fmt: skip
    model.fit(data)
    rng = np.random.default_rng(1)
    for batch in (1, 256):
        seconds = []
        for _ in range(_CALLS):
            users = rng.choice(data.user_id_map.size, batch, replace=False)
            started = time.perf_counter()
            model.recommend(users, data, k=10, filter_viewed=True)
            seconds.append(time.perf_counter() - started)
        print(f"{options.num_items:,} items, {batch} users: median {np.median(seconds) * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
