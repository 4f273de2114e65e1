"""Cold items: recall@10 of items that training never saw, by title similarity, by description, by fold-in and by a full
retrain.

`python bench/quality/cold.py --data beauty --encoder FOLDER`, where FOLDER holds a sentence-transformers model. A tenth
of the items is taken out of training and histories; the users whose test target is one of them are ranked among all
items, those left in their history left out.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import pathlib
import sys
from typing import Any

import numpy as np
import torch
from data import load
from models import Job, recipe
from neural import TorchScorer
from numpy.typing import NDArray
from results import append

from lsif_sdk import Catalog
from lsif_sdk.evaluation import Split, evaluate
from lsif_sdk.model import InterestFusionModel
from lsif_sdk.ragged import offsets_of
from lsif_sdk.text import embed_titles
from lsif_sdk.training import EventLog, fit
from lsif_sdk.training.batches import Sequences
from lsif_sdk.training.pipeline import describe_items

_NEVER_SHOWN = -20.0  # exploration: so low that no list contains a cold item


class TextSimilarity:
    """Cosine of an item's title embedding with the mean of the history's newest title embeddings."""

    def __init__(self, history: EventLog, features: NDArray[np.float32], newest: int) -> None:
        self._history, self._features, self._newest = history, features, newest

    def scores(self, user_rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores float32 [batch, num_items]."""
        newest = [self._history.user(int(user)).items[-self._newest :] for user in user_rows]
        queries = [self._features[items].mean(axis=0) if len(items) else self._features[0] * 0 for items in newest]
        return (np.stack(queries) @ self._features.T).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--encoder", required=True, help="folder of a sentence-transformers model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--retrain", action="store_true", help="train the model on the cold items' events, too")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/quality"))
    options = parser.parse_args()
    dataset, split = load(options.data)
    assert split.log.titles is not None, "needs titles"
    features = embed_titles(split.log.given_titles(), options.encoder)
    cold = np.random.default_rng(options.seed).random(split.log.num_items) < 0.1
    warm = without(split, cold)
    job = Job(dataset, options.data, warm, "test", options.seed)
    config, training = recipe(job, {"request_time": False})

    def trained(name: str, on: Split) -> InterestFusionModel:
        folder = options.out / "checkpoints" / f"{options.data}-cold-{name}-{options.seed}"
        return fit(
            on.train,
            config,
            training,
            validation=on.targets("validation"),
            checkpoint_dir=folder,
            resume=True,
        ).model

    report("text similarity, 1", TextSimilarity(warm.test_history, features, 1), warm, cold, options)
    report("text similarity, 10", TextSimilarity(warm.test_history, features, 10), warm, cold, options)
    ids = trained("ids", warm)
    report("ids", TorchScorer(ids, warm.test_history, None), warm, cold, options)
    for exploration in (_NEVER_SHOWN, 0.0, 0.5, 1.0, 1.5):
        described = copy.deepcopy(ids)
        describe_items(described, warm.train, features, exploration)
        name = "known items described" if exploration == _NEVER_SHOWN else f"described, exploration {exploration}"
        report(f"ids, {name}", TorchScorer(described, warm.test_history, None), warm, cold, options)
    report("ids, folded in", TorchScorer(folded(ids, split, cold), warm.test_history, None), warm, cold, options)
    if options.retrain:
        retrained = trained("retrained", split)
        report("full retrain", TorchScorer(retrained, split.test_history, None), split, cold, options)


def without(split: Split, cold: NDArray[np.bool_]) -> Split:
    """The split without the cold items' events, except as test targets."""
    valid = np.where(cold[split.validation_items] & (split.validation_items >= 0), -1, split.validation_items)
    train, history = (log.select(~cold[log.items]) for log in (split.train, split.test_history))
    return dataclasses.replace(split, train=train, test_history=history, validation_items=valid)


def report(name: str, scorer: Any, split: Split, cold: NDArray[np.bool_], options: argparse.Namespace) -> None:
    """Prints recall and NDCG of users with cold targets and of users with warm targets."""
    row: dict[str, Any] = {"data": options.data, "model": name, "seed": options.seed}
    for group, chosen in (("cold", cold), ("warm", ~cold)):
        targets = np.where(chosen[split.test_items] & (split.test_items >= 0), split.test_items, -1)
        measured = evaluate(scorer, dataclasses.replace(split, test_items=targets), progress=False)
        row |= {f"{group}_recall@10": round(measured.metrics["hr@10"], 5), f"{group}_users": measured.num_users}
        row[f"{group}_ndcg@10"] = round(measured.metrics["ndcg@10"], 5)
    print(json.dumps(row), flush=True)
    append(options.out / "cold.jsonl", row)


@torch.inference_mode()
def contexts(model: InterestFusionModel, log: EventLog) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The fused vectors before each event that is not a user's first, [n, dim], and the items of these events [n]."""
    vectors, targets = [], []
    for batch in Sequences(log, 200, 64, 0.0).batches(np.random.default_rng(0)):
        encoded = model(batch.items, batch.times, None, lengths=batch.lengths, start=batch.start, now=batch.now)
        known = batch.targets >= 0
        vectors.append(encoded.fused[known].numpy())
        targets.append(batch.targets[known].numpy())
    return np.concatenate(vectors), np.concatenate(targets)


def folded(model: InterestFusionModel, split: Split, cold: NDArray[np.bool_]) -> InterestFusionModel:
    """A copy of the model with cold items folded in from the users who have them in the full split's training log."""
    model = copy.deepcopy(model)
    users, items = contexts(model, _cold_last(split.train, cold))
    others = users[np.random.default_rng(0).permutation(len(users))[:4096]]
    with torch.inference_mode():
        vectors, bias = (part.numpy().copy() for part in model.catalog_rows())
        catalog = Catalog.from_vectors(vectors[~cold], bias=bias[~cold])
        for item in np.flatnonzero(cold):
            met = users[items == item][:2000]
            if len(met):
                vectors[item], bias[item] = catalog.fit_item(met, others)
        model.item_embedding.data.copy_(torch.from_numpy(vectors))
        model.catalog.bias.data.copy_(torch.from_numpy(bias))
    return model


def _cold_last(log: EventLog, cold: NDArray[np.bool_]) -> EventLog:
    """For each cold event, one user whose history is the (up to 50) warm events before it and then the cold event."""
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64] | None]] = []
    for user in range(log.num_users):
        events = log.user(user)
        for position in np.flatnonzero(cold[events.items]):
            index = np.concatenate([np.flatnonzero(~cold[events.items[:position]])[-50:], [position]])
            if len(index) > 1:
                parts.append((events.items[index], None if events.times is None else events.times[index]))
    return EventLog(
        user_ids=np.arange(len(parts)),
        item_ids=log.item_ids,
        offsets=offsets_of([len(items) for items, _ in parts]),
        items=np.concatenate([items for items, _ in parts]),
        times=None if log.times is None else np.concatenate([times for _, times in parts if times is not None]),
    )


if __name__ == "__main__":
    sys.exit(main())
