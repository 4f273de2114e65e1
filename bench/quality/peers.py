"""RecTools' own SASRec and HSTU on our splits: `python bench/quality/peers.py --data beauty --model rectools-sasrec`.

RecTools needs older packages than our tools, so it has a virtual environment of its own (docs/quality.md). A peer is
fitted on every event before the test target, validation targets included: one event a user more than our models see.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from data import DATASETS, load
from numpy.typing import NDArray
from rectools.dataset import Dataset
from rectools.models import HSTUModel, SASRecModel
from rectools.models.nn.transformers.lightning import TransformerLightningModule
from results import ranks_path, record, save_ranks

from lsif_sdk.evaluation.metrics import MISSED, coverage, novelty, rank_gains
from lsif_sdk.training import EventLog

# The shapes that the authors chose for each data set (eSASRec's repository, blondered/transformer_benchmark; for HSTU,
# RecTools' notebook), at our width and with the softmax loss over the whole catalogue. In published tables that loss is
# no worse than sampled negatives; on a CPU it is several times faster, as RecTools draws negatives for every position.
_LOSS = {"loss": "softmax"}
# HSTU scores by cosines. Without a temperature, a softmax over thousands of items cannot fit them, and training makes
# no progress (RecTools' issue 324). This temperature is the one HSTU's authors use.
_COSINES = {"lightning_module_kwargs": {"logits_t": 0.05}}
PUBLISHED: dict[str, dict[str, dict[str, Any]]] = {
    "rectools-sasrec": {
        "ml-1m": {"n_blocks": 2, "n_heads": 1, "n_factors": 64, "session_max_len": 200, "dropout_rate": 0.1, **_LOSS},
        "beauty": {"n_blocks": 1, "n_heads": 1, "n_factors": 64, "session_max_len": 50, "dropout_rate": 0.2, **_LOSS},
    },
    "rectools-hstu": {
        "ml-1m": {
            "n_blocks": 2,
            "n_heads": 2,
            "n_factors": 64,
            "session_max_len": 200,
            "dropout_rate": 0.2,
            "relative_time_attention": True,
            **_LOSS,
            **_COSINES,
        },
        "beauty": {
            "n_blocks": 2,
            "n_heads": 1,
            "n_factors": 64,
            "session_max_len": 50,
            "relative_time_attention": False,  # the published file has no times
            **_LOSS,
            **_COSINES,
        },
    },
}

_LOGITS_PER_CHUNK = 1 << 20


class LossOfTargets(TransformerLightningModule):
    """RecTools' full softmax loss, computed only where there is a target, and in chunks that stay in the cache.

    The value is the same (`check_loss`). RecTools computes logits for padding, too, and for a whole batch at once,
    which takes several times as long on a CPU.
    """

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """The mean cross-entropy of a batch."""
        item_embs = self.torch_model.item_model.get_all_embeddings()
        sessions = self.torch_model.encode_sessions(batch, item_embs)
        valid = batch["y"] != 0
        states, targets = sessions[valid], batch["y"][valid]
        rows = max(1, _LOGITS_PER_CHUNK // len(item_embs))
        sums = [
            torch.nn.functional.cross_entropy(
                self.torch_model.similarity_module(states[part : part + rows], item_embs) / self.logits_t,
                targets[part : part + rows],
                reduction="sum",
            )
            for part in range(0, len(targets), rows)
        ]
        loss = torch.stack(sums).sum() / len(targets)
        self.log(self.train_loss_name, loss, on_step=False, on_epoch=True, prog_bar=self.verbose > 0)
        return loss

    def check_loss(self, batch: dict[str, torch.Tensor]) -> None:
        """Stops if RecTools' own loss differs by more than rounding; dropout is off for this."""
        self.eval()
        with torch.no_grad():
            theirs = TransformerLightningModule.training_step(self, batch, 0).item()
            ours = self.training_step(batch, 0).item()
        self.train()
        if abs(theirs - ours) > 1e-4 * abs(theirs):
            raise SystemExit(f"loss: RecTools has {theirs}, this {ours}")

    def on_train_batch_start(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        """Compares both losses on the first batch."""
        if batch_idx == 0 and self.current_epoch == 0:
            self.check_loss(batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, choices=DATASETS)
    parser.add_argument("--model", required=True, choices=PUBLISHED)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--settings", type=json.loads, default={}, help="in place of the published ones, as JSON")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/quality"))
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    dataset, split = load(options.data)
    history = split.test_history
    users = np.flatnonzero((split.test_items >= 0) & (history.lengths > 0))
    published = PUBLISHED[options.model].get(options.data, {})
    settings = {"epochs": options.epochs, **published, **options.settings}
    request_time = bool(settings.get("relative_time_attention"))
    kind = HSTUModel if options.model == "rectools-hstu" else SASRecModel
    model = kind(**settings, deterministic=True, verbose=1, lightning_module_type=LossOfTargets)
    events = Dataset.construct(interactions(history))
    began = time.monotonic()
    model.fit(events)
    seconds = time.monotonic() - began
    asked = request_times(split.test_times, users) if request_time else None
    lists = top_ten(model, events, users, dataset.exclude_seen, asked)
    found = lists == split.test_items[users][:, None]
    ranks = np.where(found.any(axis=1), found.argmax(axis=1) + 1, MISSED)
    met = pd.DataFrame({"user": history.users, "item": history.items})
    counts = np.bincount(met.drop_duplicates()["item"], minlength=history.num_items)
    metrics = {name: float(gains.mean()) for name, gains in rank_gains(ranks).items()}
    metrics["coverage@10"] = coverage(lists, history.num_items)
    metrics["novelty@10"] = novelty(lists, counts, history.num_users)
    save_ranks(ranks_path(options.out, options.data, options.model, options.seed), users, ranks)
    record(
        options.out,
        options.data,
        options.model,
        options.seed,
        split,
        metrics,
        request_time=request_time,
        settings=settings,
        users=len(users),
        fit_s=round(seconds, 1),
    )


def interactions(history: EventLog) -> pd.DataFrame:
    """Events with row numbers as ids; without times, the order of events stands for seconds."""
    position = np.arange(len(history.items))
    return pd.DataFrame(
        {
            "user_id": history.users,
            "item_id": history.items,
            "weight": 1.0,
            "datetime": pd.to_datetime(position if history.times is None else history.times, unit="s"),
        }
    )


def request_times(times: NDArray[np.int64] | None, users: NDArray[np.int64]) -> pd.DataFrame:
    """The request time of each user, which HSTU's attention to times needs."""
    if times is None:
        raise SystemExit("relative_time_attention needs events with times")
    return pd.DataFrame({"user_id": users, "datetime": pd.to_datetime(times[users], unit="s")})


def top_ten(
    model: Any, events: Dataset, users: NDArray[np.int64], exclude_seen: bool, context: pd.DataFrame | None
) -> NDArray[np.int64]:
    """Item rows int64 [num_users, 10], best first; -1 where there are fewer."""
    options = {} if context is None else {"context": context}
    answer = model.recommend(users=users, dataset=events, k=10, filter_viewed=exclude_seen, **options)
    lists = np.full((len(users), 10), -1, dtype=np.int64)
    row = {user: position for position, user in enumerate(users.tolist())}
    lists[answer["user_id"].map(row).to_numpy(), answer["rank"].to_numpy() - 1] = answer["item_id"].to_numpy()
    return lists


if __name__ == "__main__":
    main()
