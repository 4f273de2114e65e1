"""Trains an InterestFusionModel: AdamW, early stopping on NDCG@10, checkpoints for bit-exact resuming."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
import os
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lsif_sdk.arguments import as_flag
from lsif_sdk.config import ModelConfig
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ArtifactError, MissingExtraError
from lsif_sdk.event_log import EventLog, check_log
from lsif_sdk.locks import ForkSafeLock
from lsif_sdk.model import InterestFusionModel
from lsif_sdk.progress import Progress, track
from lsif_sdk.training.batches import Sequences
from lsif_sdk.training.config import Precision, TrainConfig
from lsif_sdk.training.losses import NextEventLoss
from lsif_sdk.training.validation import Targets, as_targets, validate
from lsif_sdk.training.warm_start import Start, as_start, warm_start

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["CHECKPOINT_NAME", "STOP_METRIC", "FitResult", "fit"]

CHECKPOINT_NAME = "last.pt"
STOP_METRIC = "ndcg@10"
_CHECKPOINT_VERSION = 6
_ONE_AT_A_TIME = ForkSafeLock()
"""Training draws from torch's global generator."""


@dataclasses.dataclass(frozen=True)
class FitResult:
    """A trained model, and the course of its training.

    Args:
        model: in eval mode on the CPU, with the weights of the best epoch (without validation: the last), or those of
            `start` if no epoch was better in validation.
        epochs: for each epoch "epoch" (from 1), "loss", "seconds" and, with validation, "ndcg@10", "hr@10", "mrr@10".
        best: the entry of `epochs` that the weights belong to; for those of `start`, "epoch" 0 and its metrics.
    """

    model: InterestFusionModel
    epochs: list[dict[str, float]]
    best: dict[str, float]


@dataclasses.dataclass
class _Progress:
    """The progress of a run at the end of an epoch, which a checkpoint holds together with the weights."""

    epochs: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best_epoch: int = 0
    best_state: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    start: dict[str, float] = dataclasses.field(default_factory=dict)
    """Validation metrics of the model that training started from, as "epoch" 0; empty if there is none."""

    @property
    def best(self) -> dict[str, float]:
        """The best entry, of an epoch or of `start`; empty if there is none yet."""
        return self.epochs[self.best_epoch - 1] if self.best_epoch else self.start

    def record_start(self, entry: dict[str, float], model: nn.Module) -> None:
        self.start, self.best_state = entry, copy.deepcopy(model.state_dict())

    def record(self, entry: dict[str, float], model: nn.Module) -> None:
        best = self.best
        self.epochs.append(entry)
        if not best or STOP_METRIC not in entry or entry[STOP_METRIC] > best[STOP_METRIC]:
            self.best_epoch = len(self.epochs)
            self.best_state = copy.deepcopy(model.state_dict())

    def finished(self, config: TrainConfig) -> bool:
        done = len(self.epochs)
        out_of_time = config.max_seconds is not None and self.seconds > config.max_seconds
        return done >= config.epochs or done - self.best_epoch >= config.patience or out_of_time


def fit(
    log: EventLog,
    model_config: ModelConfig,
    train_config: TrainConfig | None = None,
    *,
    validation: Targets | tuple[Any, Any] | None = None,
    exclude_seen: bool | None = None,
    build: Callable[[ModelConfig, float], InterestFusionModel] = InterestFusionModel,
    start: Start | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> FitResult:
    """Trains a model to predict each event of a user from the earlier ones.

    The same arguments on the same machine with the same number of threads give the same weights, resumed or not, and
    the caller's random state is restored. Since torch's global generator belongs to the process, only one training runs
    at a time and others wait; other code that draws from it meanwhile changes the result.

    Args:
        log: the events; `model_config.num_items` may exceed `log.num_items`.
        model_config: the model's hyper-parameters.
        train_config: how to train; None for the defaults.
        validation: one held-out event per user, which follows the user's events in `log`, as (items, times) (see
            `Targets`); None trains for `epochs` without early stopping.
        exclude_seen: leave the items of the history out in validation (see `validate`); False where people consume
            items again; None = as `start` was trained, or True without `start`. `TrainConfig.skip_seen` also leaves
            them out of training.
        build: makes the untrained model from `model_config` and the dropout probability; for research, a subclass with
            another encoder or fusion, but with the scores of `InterestFusionModel`, whose formula the loss contains. It
            draws its weights from torch's global generator, seeded beforehand. Its encoder gets embedded events after
            dropout.
        start: a trained model with the same hyper-parameters (its directory, or an `Artifact` or `Recommender`), whose
            weights, with the vectors and biases of the items it knows by id, training begins with
            (`lsif_sdk.training.warm_start`); optimizer and schedule begin anew. With validation it is measured before
            training, and is the result if no epoch is better. None: random weights.
        checkpoint_dir: folder for the state after every epoch (one file, replaced atomically); None = no checkpoints.
        resume: continue from the checkpoint, if there is one.
        progress: show progress on standard error: a bar on a terminal, a line every 10 s elsewhere.

    Raises:
        ArgumentError: the log, the configs, `start` and `validation` do not fit together, the loss is not finite, there
            is a checkpoint and `resume` is False, or the checkpoint has more epochs than `epochs`.
        ArgumentTypeError: an argument is of the wrong type.
        ArtifactError: `start` is not a model directory, or a damaged one; or the checkpoint cannot be read or belongs
            to another run.
        MissingExtraError: Lightning Fabric is not installed.
    """
    config = TrainConfig() if train_config is None else train_config
    _check_types(log, model_config, config, build)
    begun = None if start is None else as_start(start)
    if exclude_seen is None:
        exclude_seen = begun is None or begun.excludes_seen
    exclude_seen = as_flag("exclude_seen", exclude_seen)
    _check(log, model_config, config)
    targets = None if validation is None else as_targets("validation", validation, log, model_config.num_items)
    if resume and checkpoint_dir is None:
        raise ArgumentError("checkpoint_dir", "a directory, to resume from", None)
    fabric = _fabric(config.precision)
    path = None if checkpoint_dir is None else check_checkpoint(checkpoint_dir, resume)
    with _ONE_AT_A_TIME, torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = build(model_config, config.dropout)
        if begun is not None:
            warm_start(model, begun, log.item_ids)
        first = None if begun is None else _hash(*(value.cpu().numpy() for value in model.state_dict().values()))
        run = _Run(fabric, log, model, config, targets, exclude_seen, path, first)
        return run.train(resume, progress)


def check_checkpoint(folder: str | os.PathLike[str], resume: bool) -> Path:
    """The path of the checkpoint in a folder, which is created.

    Raises:
        ArgumentError: the folder cannot be created, or it has a checkpoint and `resume` is False.
        ArgumentTypeError: `folder` is not a path.
    """
    if not isinstance(folder, (str, os.PathLike)):
        raise ArgumentTypeError("checkpoint_dir", "a folder's path", folder)
    path = Path(folder) / CHECKPOINT_NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: for example a NUL
        raise ArgumentError(
            "checkpoint_dir", "a folder, or a path where one can be made", f"{folder}: {error}"
        ) from error
    if path.exists() and not as_flag("resume", resume):
        raise ArgumentError("checkpoint_dir", "a folder without a checkpoint, or resume=True (--resume)", str(path))
    return path


class _Run:
    def __init__(
        self,
        fabric: Fabric,
        log: EventLog,
        model: InterestFusionModel,
        config: TrainConfig,
        validation: Targets | None,
        exclude_seen: bool,
        path: Path | None,
        start: str | None,
    ) -> None:
        self.fabric, self.log, self.config, self.validation, self.path = fabric, log, config, validation, path
        self.model, self.exclude_seen, self.start = model, exclude_seen, start
        self.sequences = Sequences(
            log, config.max_len, config.batch_size, config.time_dropout, config.skip_ties, config.skip_seen
        )
        counts = np.bincount(log.items, minlength=model.config.num_items)
        loss = NextEventLoss(self.model, counts, config.num_negatives, config.loss, config.skip_seen)
        optimizer = torch.optim.AdamW(_parameter_groups(self.model, config), lr=config.learning_rate)
        self.loss, self.optimizer = fabric.setup(loss, optimizer)
        self.average: AveragedModel | None = None
        if config.averaging > 0:
            average = get_ema_multi_avg_fn(config.averaging)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(self.model, multi_avg_fn=average)
        self.progress = _Progress()

    def train(self, resume: bool, show: bool) -> FitResult:
        if resume and self.path is not None and self.path.exists():
            self._load(self.path)
        elif self.start is not None and self.validation is not None:
            self.progress.record_start({"epoch": 0.0, **self._validate(self.model)}, self.model)
        steps = len(self.sequences)
        done, total = len(self.progress.epochs) * steps, self.config.epochs * steps
        with track("train", total, "steps", initial=done, show=show) as bar:
            while not self.progress.finished(self.config):
                self._epoch(bar)
                if self.path is not None:
                    self._save(self.path)
        self.model.load_state_dict(self.progress.best_state)
        return FitResult(self.model.to("cpu").eval(), self.progress.epochs, self.progress.best)

    def _validate(self, model: InterestFusionModel) -> dict[str, float]:
        """The metrics, {} without held-out events. Leaves the model in eval mode."""
        if self.validation is None:
            return {}
        return validate(model.eval(), self.log, self.validation, exclude_seen=self.exclude_seen)

    def _epoch(self, bar: Progress) -> None:
        began, epoch = time.monotonic(), len(self.progress.epochs)
        # Every epoch has its own random state, so a resumed run does not need an earlier one.
        rng = np.random.default_rng([self.config.seed, epoch])
        torch.manual_seed(int(rng.integers(2**62)))
        self.loss.train()
        total = torch.zeros((), device=self.fabric.device)
        for index, batch in enumerate(self.sequences.batches(rng)):
            total += self._step(batch.to(self.fabric.device), epoch * len(self.sequences) + index)
            bar.update()
        entry = {"epoch": epoch + 1.0, "loss": float(total) / len(self.sequences)}
        if not np.isfinite(entry["loss"]) or not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            expected = "a value with which loss and weights stay finite"
            raise ArgumentError("learning_rate", expected, f"{self.config.learning_rate} (epoch {epoch + 1})")
        measured = self.model if self.average is None else cast(InterestFusionModel, self.average.module)
        entry |= self._validate(measured)
        entry["seconds"] = time.monotonic() - began
        self.progress.seconds += entry["seconds"]
        self.progress.record(entry, measured)
        shown = [f"{name} {entry[name]:.4f}" for name in ("loss", STOP_METRIC) if name in entry]
        bar.note(", ".join([f"epoch {len(self.progress.epochs)}", *shown]))

    def _step(self, batch: Any, step: int) -> Tensor:
        rate = _learning_rate(self.config, step, self.config.epochs * len(self.sequences))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["times_rate"]
        self.optimizer.zero_grad()
        loss = self.loss(batch)
        self.fabric.backward(loss)
        if self.config.clip_norm < float("inf"):
            self.fabric.clip_gradients(
                self.loss, self.optimizer, max_norm=self.config.clip_norm, error_if_nonfinite=False
            )
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        detached: Tensor = loss.detach()
        return detached

    def _save(self, path: Path) -> None:
        temporary = path.with_suffix(".tmp")
        state = {
            "version": _CHECKPOINT_VERSION,
            "run": self._identity,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "progress": dataclasses.asdict(self.progress),
        }
        torch.save(state, temporary)
        os.replace(temporary, path)

    def _load(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location=self.fabric.device, weights_only=True)
            identity = state["run"]
        except torch.OutOfMemoryError:
            raise
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be read: {error}") from error
        except Exception as error:
            raise ArtifactError(f"{path}: not a checkpoint of lsif_sdk, or a damaged one") from error
        if state.get("version") != _CHECKPOINT_VERSION:
            raise ArtifactError(
                f"{path}: expected checkpoint version {_CHECKPOINT_VERSION}, got {state.get('version')}"
            )
        mine = self._identity
        if identity != mine:
            changed = sorted(name for name in mine | identity if mine.get(name) != identity.get(name))
            raise ArtifactError(f"{path}: the checkpoint belongs to another run; other values of {', '.join(changed)}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.progress = _Progress(**state["progress"])
        self.progress.seconds = 0.0
        if (done := len(self.progress.epochs)) > self.config.epochs:
            raise ArgumentError("epochs", f"at least {done}, which the checkpoint has behind it", self.config.epochs)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """What has to be equal for a run to be resumed; settings of when to stop may change.

        With a cosine schedule, which depends on the number of epochs, that number has to be equal too.
        """
        free = {"patience", "max_seconds"} | ({"epochs"} if self.config.schedule == "constant" else set())
        free |= set() if self.model.config.repeats else {"repeats_rate"}
        config = {name: value for name, value in self.config.to_dict().items() if name not in free}
        log, targets = self.log, self.validation or ()
        rest = {
            "events": _hash(log.offsets, log.items, log.times, log.actions),
            "validation": _hash(*targets),
            "exclude_seen": self.exclude_seen,
            **({} if self.start is None else {"start": self.start}),
            "parameters": {name: list(parameter.shape) for name, parameter in self.model.named_parameters()},
            "modules": [type(module).__qualname__ for module in self.model.modules()],
            "buffers": _hash(*(buffer.cpu().numpy() for _, buffer in sorted(self.model.named_buffers()))),
        }
        return {**self.model.config.to_dict(), **config, **rest}


def _hash(*arrays: NDArray[np.generic] | None) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(b"none" if array is None else str(array.shape).encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _learning_rate(config: TrainConfig, step: int, num_steps: int) -> float:
    """The learning rate of a step, counted from 0, in a run of `num_steps` without early stopping."""
    rate = config.learning_rate * min(1.0, (step + 1) / (config.warmup_steps + 1))
    return rate if config.schedule == "constant" else rate * 0.5 * (1 + math.cos(math.pi * step / num_steps))


def _parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Decay on matrices only: pulling biases, norms, attention biases and decay rates to 0 regularises nothing.

    "times_rate" is a group's factor on the config's learning rate.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    repeats: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        plain = parameter.dim() < 2 or name.endswith("_bias")
        group = repeats if name.startswith("repeats.") else free if plain else decayed
        group.append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay, "times_rate": 1.0},
        {"params": free, "weight_decay": 0.0, "times_rate": 1.0},
        {"params": repeats, "weight_decay": 0.0, "times_rate": config.repeats_rate},
    ]
    return [group for group in groups if group["params"]]


def _check_types(log: object, model_config: object, train_config: object, build: object) -> None:
    check_log("log", log)
    if not isinstance(model_config, ModelConfig):
        raise ArgumentTypeError("model_config", "a ModelConfig", model_config)
    if not isinstance(train_config, TrainConfig):
        raise ArgumentTypeError("train_config", "a TrainConfig or None", train_config)
    if not callable(build):
        raise ArgumentTypeError("build", "a class of models, or a function that makes one", build)


def _check(log: EventLog, config: ModelConfig, train_config: TrainConfig) -> None:
    if config.num_items < log.num_items:
        raise ArgumentError("model_config.num_items", f"at least the log's {log.num_items}", config.num_items)
    if log.lengths.max(initial=0) < 2:
        raise ArgumentError("log", "a user with at least two events", "none")
    if config.request_time and log.times is None:
        raise ArgumentError("model_config.request_time", "False for a log without times", True)
    if config.num_actions and log.actions is not None and log.actions.max() > config.num_actions:
        raise ArgumentError("model_config.num_actions", f"at least {log.actions.max()}", config.num_actions)
    if config.repeats and train_config.skip_seen:
        raise ArgumentError("skip_seen", "False with repeats, a bonus for the items of the history", True)


def _fabric(precision: Precision) -> Fabric:
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise MissingExtraError("training", "lightning-fabric", "train") from error
    return Fabric(accelerator="auto", devices=1, precision=precision)
