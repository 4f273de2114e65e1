"""Fits models on a data set and appends one JSON line a run: `python bench/quality/run.py --data beauty --model lsif`.

Settings are chosen by validation NDCG@10 with seed 0 (--tune) and kept in <out>/settings.json; the test targets are
ranked once for each seed after that. A trial that <out>/trials.jsonl has is not run again (take another <out> for
another recipe). Ranks of single users go to <out>/ranks, for confidence intervals (table.py).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time
from typing import Any

import torch
from data import DATASETS, load
from models import MODELS, RECIPES, TRAINING_GRID, Job, Model
from results import append, ranks_path, record, save_ranks

from lsif_sdk.evaluation import evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, choices=DATASETS)
    parser.add_argument("--model", required=True, nargs="+", choices=MODELS)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: choose settings alone")
    parser.add_argument("--tune", action="store_true", help="choose the settings first")
    parser.add_argument("--tune-epochs", type=int, help="of each training while settings are chosen (default: all)")
    parser.add_argument("--set", type=json.loads, default={}, help="fields in place of the recipe's, as JSON")
    parser.add_argument("--once", action="store_true", help="no second training on the validation targets, too")
    parser.add_argument("--encoder", help="folder of a sentence-transformers model, for models that read titles")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/quality"))
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    dataset, split = load(options.data)
    print(f"{options.data}: {split.protocol}, targets {split.hash('test')[:12]}", file=sys.stderr)
    for name in options.model:
        model = MODELS[name]
        settings = _settings(options.out, options.data, name)
        if options.tune and len(model.grid) > 1:
            # These settings do not affect training, so they all use one checkpoint.
            folder = _checkpoints(options, model.trained_as, 0) if model.trained_as else None
            job = Job(dataset, options.data, split, "validation", 0, folder, options.encoder)
            settings |= _tune(model, job, settings, options, name)
        for seed in options.seeds if model.seeds else [0][: len(options.seeds)]:
            folder = _checkpoints(options, model.trained_as or name, seed)
            job = Job(dataset, options.data, split, "test", seed, folder, options.encoder, options.once)
            _measure(model, job, {**settings, **options.set}, options.out, name)


def _checkpoints(options: argparse.Namespace, name: str, seed: int) -> pathlib.Path:
    return options.out / "checkpoints" / f"{options.data}-{name}-{seed}"


def _tune(model: Model, job: Job, start: dict[str, Any], options: argparse.Namespace, name: str) -> dict[str, Any]:
    """The settings with the best validation NDCG@10; each is tried on top of the `start` settings."""
    path, trials = options.out / "trials.jsonl", []
    shorter = {"epochs": options.tune_epochs} if model.grid is TRAINING_GRID and options.tune_epochs else {}
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for settings in model.grid:
        tried = {**start, **settings, **options.set, **shorter}
        # Through JSON, which has no tuples, for comparison with the lines of the file.
        what = json.loads(json.dumps({"data": job.name, "model": name, "settings": tried}))
        trial = next((trial for trial in done if what.items() <= trial.items()), None)
        if trial is None:
            began = time.monotonic()
            fitted = model.fit(job, tried)
            report = evaluate(
                fitted, job.split, target="validation", exclude_seen=job.dataset.exclude_seen, progress=False
            )
            metrics = {key: round(value, 5) for key, value in report.metrics.items()}
            trial = {**what, **metrics, "s": round(time.monotonic() - began, 1)}
            append(path, trial)
        trials.append({"settings": settings, "ndcg@10": trial["ndcg@10"]})
    best: dict[str, Any] = dict(max(trials, key=lambda trial: trial["ndcg@10"])["settings"])
    path = options.out / "settings.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept.setdefault(job.name, {})[name] = best
    path.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    return best


def _settings(out: pathlib.Path, data: str, name: str) -> dict[str, Any]:
    path = out / "settings.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    chosen = kept.get(data, {})
    trained_as = MODELS[name].trained_as
    if trained_as is not None:
        return {**chosen.get(trained_as, {}), **chosen.get(name, {})}
    # A model trained from the recipe needs no settings of its own.
    return dict(chosen.get(name) or ({} if MODELS[name].grid is TRAINING_GRID else MODELS[name].grid[0]))


def _measure(model: Model, job: Job, settings: dict[str, Any], out: pathlib.Path, name: str) -> None:
    began = time.monotonic()
    fitted = model.fit(job, settings)
    seconds = time.monotonic() - began  # only for what the checkpoint had not done
    report = evaluate(fitted, job.split, exclude_seen=job.dataset.exclude_seen, name=name, progress=False)
    save_ranks(ranks_path(out, job.name, name, job.seed), report.user_rows, report.per_user)
    record(
        out,
        job.name,
        name,
        job.seed,
        job.split,
        report.metrics,
        request_time=name.endswith("-now") and job.split.log.times is not None,
        once=job.once,
        settings=settings,
        recipe=json.loads(path.read_text()) if (path := RECIPES / f"{job.name}.json").exists() else None,
        users=report.num_users,
        fit_s=round(seconds, 1),
    )


if __name__ == "__main__":
    main()
