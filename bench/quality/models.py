"""All models of the quality tables: how they are fitted, and the settings among which validation chooses."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from classic import ItemKNN, OwnItemsByHour, als, bpr
from data import Dataset
from neural import GateFusion, MaskedFusion, MeanFusion, TorchScorer, fit_neumf, gru4rec, lstm, with_fusion
from numpy.typing import NDArray

from lsif_sdk import ItemTable, Recommender
from lsif_sdk.artifact import Artifact
from lsif_sdk.config import ModelConfig
from lsif_sdk.evaluation import OwnItems, Popularity, RecentPopularity, Split
from lsif_sdk.text import embed_titles
from lsif_sdk.training import EventLog, TrainConfig, fit
from lsif_sdk.training.pipeline import describe_items

RECIPES = pathlib.Path(__file__).parents[2] / "recipes"
_MODEL_FIELDS = {field.name for field in dataclasses.fields(ModelConfig)}


@dataclasses.dataclass(frozen=True)
class Job:
    """The data to fit on, and how.

    Args:
        dataset: the data set.
        name: of the data set.
        split: of its events.
        target: "validation" while settings are chosen, then "test".
        seed: of everything random.
        checkpoint_dir: checkpoints from which training can resume, or None.
        encoder: folder of a sentence-transformers model, for models that read titles.
        once: do not train again with the validation targets for the test: half the time, enough to compare variants.
    """

    dataset: Dataset
    name: str
    split: Split
    target: str
    seed: int
    checkpoint_dir: pathlib.Path | None = None
    encoder: str | None = None
    once: bool = False


Fit = Callable[[Job, Mapping[str, Any]], Any]


@dataclasses.dataclass(frozen=True)
class Model:
    """A row of the tables.

    Args:
        fit: from a job and settings to something `evaluate` can rank.
        grid: settings validation chooses among: at least six or none, more where a fit takes seconds.
        seeds: whether the result depends on the seed.
        trained_as: the model whose checkpoints it uses, because the training is the same; None: its own.
    """

    fit: Fit
    grid: tuple[Mapping[str, Any], ...] = ({},)
    seeds: bool = False
    trained_as: str | None = None


def _history_model(make: Callable[..., Any]) -> Fit:
    """A model without request times, fitted on all events known when the target is predicted."""

    def fit_history(job: Job, settings: Mapping[str, Any]) -> Any:
        return make(job.split.history(job.target), **settings)  # type: ignore[arg-type]

    return fit_history


def _own_items_by_hour(job: Job, settings: Mapping[str, Any]) -> OwnItemsByHour:
    now = job.split.targets(job.target)[1]  # type: ignore[arg-type]
    return OwnItemsByHour(job.split.history(job.target), now, **settings)  # type: ignore[arg-type]


def _seeded(make: Callable[..., Any]) -> Fit:
    def fit_seeded(job: Job, settings: Mapping[str, Any]) -> Any:
        return make(job.split.history(job.target), seed=job.seed, **settings)  # type: ignore[arg-type]

    return fit_seeded


def neural(build: Any = None, request_time: bool = False, titles: bool = False, **fixed: Any) -> Fit:
    """A model trained by `lsif_sdk.training.fit` from the data set's recipe, with some fields fixed.

    Args:
        build: see `fit`; None: our model, which is then measured through the native engine.
        request_time: whether it is given the time of the target.
        titles: whether, after training, item vectors are moved towards those of items with similar titles.
        fixed: fields of the recipe that define the model.
    """

    def fit_neural(job: Job, settings: Mapping[str, Any]) -> Any:
        of_training = {name: value for name, value in settings.items() if name != "popularity_penalty"}
        config, training = recipe(job, {**fixed, "request_time": request_time, **of_training})
        trained_on, model = _trained(job, config, training, build)
        history = job.split.history(job.target)  # type: ignore[arg-type]
        if titles:
            describe_items(model, trained_on, title_features(job))
        if build is not None:
            if "popularity_penalty" in settings:
                raise SystemExit("popularity_penalty: only for models that are exported")
            now = job.split.targets(job.target)[1] if request_time else None  # type: ignore[arg-type]
            return TorchScorer(model, history, now)
        counts = np.bincount(trained_on.items, minlength=history.num_items)
        items = ItemTable(history.item_ids, history.titles, counts)
        artifact = Artifact(config, model.export_weights(), items, {}, {})
        return Recommender(artifact.with_popularity_penalty(settings.get("popularity_penalty", 0)))

    return fit_neural


def _trained(job: Job, config: ModelConfig, training: TrainConfig, build: Any) -> tuple[EventLog, Any]:
    """The training events and the model. For the test, these are all events known then, as for the other baselines.

    That training takes as many epochs as validation found best. A cosine schedule must run to its planned end, whatever
    validation says about its epochs, so with one the first training is skipped.
    """
    options: dict[str, Any] = {"exclude_seen": job.dataset.exclude_seen} | ({} if build is None else {"build": build})
    again = job.target == "test" and not job.once
    if not again or training.schedule != "cosine":
        targets = job.split.targets("validation")
        result = fit(job.split.train, config, training, validation=targets, **_kept_in(job.checkpoint_dir), **options)
        if not again:
            return job.split.train, result.model
        training = dataclasses.replace(training, epochs=int(result.best["epoch"]))
    folder = None if job.checkpoint_dir is None else job.checkpoint_dir.with_name(job.checkpoint_dir.name + "-again")
    return job.split.test_history, fit(job.split.test_history, config, training, **_kept_in(folder), **options).model


def _kept_in(folder: pathlib.Path | None) -> dict[str, Any]:
    return {"checkpoint_dir": folder, "resume": folder is not None}


def title_features(job: Job) -> NDArray[np.float32]:
    """Embedded titles; zeros for items without a title."""
    log = job.split.log
    if log.titles is None or job.encoder is None:
        raise SystemExit(f"{job.name}: needs a data set with titles and --encoder FOLDER")
    return embed_titles(log.given_titles(), job.encoder)


def recipe(job: Job, overrides: Mapping[str, Any]) -> tuple[ModelConfig, TrainConfig]:
    path = RECIPES / f"{job.name}.json"
    if not path.exists():
        raise SystemExit(f"no recipe for {job.name} yet: write {path}")
    values = json.loads(path.read_text())
    model, training = dict(values["model"]), dict(values["training"], seed=job.seed)
    for field, value in overrides.items():
        (model if field in _MODEL_FIELDS else training)[field] = value
    timed = job.split.log.times is not None
    model["use_times"] = timed and model.get("use_times", True)
    model["request_time"] = model["use_times"] and model["request_time"]
    return ModelConfig(num_items=job.split.log.num_items, **model), TrainConfig.from_dict(training)


def _grid(**choices: tuple[Any, ...]) -> tuple[dict[str, Any], ...]:
    """Settings by position: the i-th setting has the i-th value of every field."""
    return tuple(dict(zip(choices, values, strict=True)) for values in zip(*choices.values(), strict=True))


def _product(**choices: tuple[Any, ...]) -> tuple[dict[str, Any], ...]:
    """All combinations of the values of every field."""
    return tuple(dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values()))


_ENCODER_ONLY: dict[str, Any] = {"num_long": 0, "num_short": 0, "repeats": False}
# Learning rate and dropout matter most everywhere; neural models are tuned over these six settings.
TRAINING_GRID = _grid(
    learning_rate=(1e-3, 1e-3, 1e-3, 2e-3, 2e-3, 2e-3),
    dropout=(0.1, 0.3, 0.5, 0.1, 0.3, 0.5),
)

MODELS: dict[str, Model] = {
    "popularity": Model(_history_model(Popularity.from_log)),
    "recent-popularity": Model(_history_model(RecentPopularity.from_log), _grid(days=(1, 3, 7, 14, 30, 90))),
    "own-frequency": Model(_history_model(lambda history: OwnItems(history, "frequency"))),
    "own-frequency-fading": Model(
        _history_model(lambda history, half_life: OwnItems(history, "frequency", half_life)),
        _grid(half_life=(5.0, 10.0, 20.0, 50.0, 100.0, 200.0)),
    ),
    "own-frequency-hour-now": Model(
        _own_items_by_hour, _product(half_life=(5.0, 10.0, 20.0, 50.0, 100.0, 200.0), sharpness=(0.0, 1.0, 3.0, 6.0))
    ),
    "own-recency": Model(_history_model(lambda history: OwnItems(history, "recency"))),
    "itemknn": Model(
        _history_model(ItemKNN),
        _product(similarity=("cosine", "tfidf", "bm25"), neighbours=(10, 20, 50, 100, 300)),
    ),
    "als": Model(
        _seeded(als),
        _product(factors=(64, 128, 256, 512), weighting=((0.3, 0.1), (1.0, 0.1), (10.0, 1.0)), iterations=(20,)),
        seeds=True,
    ),
    "bpr": Model(
        _seeded(bpr),
        _grid(
            factors=(64, 64, 64, 128, 128, 128),
            learning_rate=(0.02, 0.05, 0.05, 0.02, 0.05, 0.05),
            regularization=(0.01, 0.01, 0.001, 0.01, 0.01, 0.001),
            epochs=(100, 100, 100, 200, 200, 200),
        ),
        seeds=True,
    ),
    "ncf": Model(
        _seeded(fit_neumf),
        _grid(
            dim=(32,) * 6,
            epochs=(5, 10, 20, 5, 10, 20),
            learning_rate=(1e-3,) * 3 + (3e-3,) * 3,
            decay=(1e-6, 1e-6, 1e-5, 1e-6, 1e-6, 1e-5),
        ),
        seeds=True,
    ),
    "lstm": Model(
        neural(lstm, **_ENCODER_ONLY, use_times=False, num_layers=1, loss="binary"), TRAINING_GRID, seeds=True
    ),
    "gru4rec": Model(neural(gru4rec, **_ENCODER_ONLY, use_times=False, num_layers=1), TRAINING_GRID, seeds=True),
    "sasrec": Model(
        neural(**_ENCODER_ONLY, block="transformer", use_times=False, window=200), TRAINING_GRID, seeds=True
    ),
    "hstu": Model(neural(**_ENCODER_ONLY, block="hstu"), TRAINING_GRID, seeds=True),
    "gate": Model(neural(with_fusion(GateFusion)), seeds=True),
    "lsif": Model(neural(), TRAINING_GRID, seeds=True),
    "lsif-titles": Model(neural(titles=True), seeds=True, trained_as="lsif"),
    # With --set '{"popularity_penalty":0.1}': less popular items and more of the catalogue, from the same training.
    "lsif-penalty": Model(
        neural(), _grid(popularity_penalty=(0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)), seeds=True, trained_as="lsif"
    ),
    "lsif-now": Model(neural(request_time=True), TRAINING_GRID, seeds=True),
    "hstu-now": Model(neural(request_time=True, **_ENCODER_ONLY), TRAINING_GRID, seeds=True),
    "no-repeats": Model(neural(repeats=False), seeds=True),
    "no-repeats-now": Model(neural(repeats=False, request_time=True), seeds=True),
    "hstu-repeats-now": Model(neural(request_time=True, **_ENCODER_ONLY | {"repeats": True}), seeds=True),
    "long-only": Model(neural(with_fusion(MaskedFusion)), seeds=True),
    "short-only": Model(neural(num_long=0), seeds=True),
    "mean": Model(neural(with_fusion(MeanFusion)), seeds=True),
    "multi-interest": Model(neural(scoring="multi_interest"), seeds=True),
    "no-time": Model(neural(use_times=False), seeds=True),
    "window-20": Model(neural(window=20), seeds=True),
    "window-200": Model(neural(window=200), seeds=True),
    "interests-1-1": Model(neural(num_long=1, num_short=1), seeds=True),
    "interests-8-4": Model(neural(num_long=8, num_short=4), seeds=True),
}
