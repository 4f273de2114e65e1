"""A model on disk: a directory of safetensors and one config.json. No pickle; weights are memory-mapped.

config.json           format, format_version, written_by, written_at, model (ModelConfig), training (provenance),
                      metrics, files (size, SHA-256) and the SHA-256 of all these
weights.safetensors   docs/model.md, "Tensors of an artifact"
items.safetensors     ids, titles, training counts, ends of availability (lsif_sdk.items.ItemTable.to_tensors)
codes.safetensors     the codes of the weights that a search scans (docs/score_topk.md); if missing, made when loading
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.torch
import torch

from lsif_sdk import _core
from lsif_sdk.arguments import as_flag, as_number
from lsif_sdk.artifact_files import (
    CHECKSUM,
    CODES_FILE,
    CONFIG_FILE,
    FORMAT,
    FORMAT_VERSION,
    ITEMS_FILE,
    WEIGHTS_FILE,
    as_path,
    check_file,
    check_target,
    describe_file,
    publish,
    read_config,
    read_tensors,
    sha256_of,
    staging_of,
    unshared,
    written_now,
)
from lsif_sdk.config import ModelConfig
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ArtifactError
from lsif_sdk.items import ItemTable
from lsif_sdk.popularity import centred_log_counts, penalty_of

__all__ = ["NO_ENCODER", "Artifact", "catalog_specs", "encoder_specs"]

NO_ENCODER = "none"
"""`training["encoder"]` of items alone."""

_CODES = "codes"
_VECTORS = "catalog.vectors"
_PENALTY = "catalog.penalty"
_MADE_OF = "made_of"  # in config.json, of CODES_FILE: the SHA-256 of the weights

_TYPES: tuple[tuple[str, type, str], ...] = (
    ("config", ModelConfig, "a ModelConfig"),
    ("weights", Mapping, "a mapping of names to tensors"),
    ("items", ItemTable, "an ItemTable"),
    ("training", Mapping, "a mapping of JSON values"),
    ("metrics", Mapping, "a mapping of JSON values"),
)

Spec = tuple[str, tuple[int, ...], str]
"""Name, shape and dtype of a tensor."""


@dataclasses.dataclass(frozen=True, eq=False)
class Artifact:
    """Everything a `Recommender` needs, checked.

    Args:
        config: the model's hyper-parameters.
        weights: the tensors of docs/model.md by name, contiguous, on the CPU.
        items: ids, titles and counts, one entry per catalogue row.
        training: provenance: what the model was trained on and how (plain JSON values).
        metrics: measured quality (plain JSON values).

    Raises:
        ArtifactError: a tensor is missing, unknown, of another shape or dtype, or holds NaN or infinity.
        ArgumentTypeError: an argument is of the wrong type.
    """

    config: ModelConfig
    weights: Mapping[str, torch.Tensor]
    items: ItemTable
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    codes: torch.Tensor | None = dataclasses.field(default=None, init=False)
    """`Catalog.codes` of these weights, if loaded with them, otherwise None; a copy with other weights has None."""
    written_by: str | None = dataclasses.field(default=None, init=False)
    """The program that wrote the loaded directory, such as "lsif_sdk 0.1.0"; None: not loaded, or not recorded."""
    written_at: str | None = dataclasses.field(default=None, init=False)
    """When it was written: UTC in ISO 8601, such as "2026-11-28T09:45:00Z" (`artifact_files.written_now`); or None."""

    def __post_init__(self) -> None:
        for name, kind, expected in _TYPES:
            if not isinstance(getattr(self, name), kind):
                raise ArgumentTypeError(name, expected, getattr(self, name))
        _check_weights(self.config, self.weights)
        if len(self.items) != self.config.num_items:
            raise ArtifactError(f"items: expected {self.config.num_items} (num_items), got {len(self.items)}")

    @property
    def has_encoder(self) -> bool:
        """Whether there is an encoder of users beside the items; `Recommender.from_vectors` makes none."""
        return self.training.get("encoder") != NO_ENCODER

    @property
    def excludes_seen(self) -> bool:
        """Whether training excluded items the user had met before (`train(exclude_seen=)`); True if not recorded."""
        return self.training.get("exclude_seen") is not False

    def edited(self, weights: Mapping[str, torch.Tensor], items: ItemTable) -> Artifact:
        """A copy with other items and tensors, which the caller has checked; without codes."""
        twin = copy.copy(self)
        config = dataclasses.replace(self.config, num_items=len(items))
        changed = {"config": config, "weights": weights, "items": items}
        for name, value in (changed | dict.fromkeys(("codes", "written_by", "written_at"))).items():
            object.__setattr__(twin, name, value)  # bypasses __post_init__, which would check all weights again
        return twin

    def with_popularity_penalty(self, penalty: float) -> Artifact:
        """A copy with lower biases of popular items and higher ones of rare items, for less mainstream answers.

        With c_i the number of events of item i in training (`items.counts`) and the mean over items that have events,

            bias_i <- bias_i - penalty * (log c_i - mean_j log c_j)        where c_i > 0

        (logit adjustment after training: Menon et al. 2021, "Long-tail learning via logit adjustment"). Items
        without events keep their bias, as if their popularity were average. Nothing is trained, and requests take as
        long as before. Novelty grows with the penalty; so does coverage, until all users get the same rare items.
        Penalties of repeated calls add up: `training["popularity_penalty"]` is their sum, `bias_penalty` what was
        subtracted from each item. `metrics` is empty, since the old metrics are of other answers.

        Args:
            penalty: its strength, in units of the score; 0 returns this artifact. docs/quality.md, "Coverage and
                novelty", shows what .1 to .5 cost.

        Raises:
            ArgumentError: `penalty` is not from 0 to 1e6, or all training counts of the artifact are 0.
            ArgumentTypeError: `penalty` is not a number.
            ArtifactError: the penalty recorded in `training` is not a number.
        """
        penalty, before = float(as_number("penalty", penalty, 0, 1e6)), penalty_of(self.training)
        if penalty == 0:
            return self
        if not self.items.counts.any():
            raise ArgumentError("penalty", "items with training counts in the artifact", "counts that are all 0")
        taken = penalty * centred_log_counts(self.items.counts)
        bias = self.catalog_bias.detach().numpy() - taken
        total = taken if self.bias_penalty is None else taken + self.bias_penalty.numpy()
        changed = {"catalog.bias": bias, _PENALTY: total}
        weights = dict(self.weights) | {
            name: torch.from_numpy(values.astype(np.float32)) for name, values in changed.items()
        }
        training = dict(self.training) | {"popularity_penalty": before + penalty}
        return dataclasses.replace(self, weights=weights, training=training, metrics={})

    @property
    def encoder_weights(self) -> list[torch.Tensor]:
        """The tensors of the native encoder, in the order it takes them."""
        return [self.weights[name] for name, _, _ in encoder_specs(self.config)]

    @property
    def catalog_vectors(self) -> torch.Tensor:
        """The vectors that items are scored with, float32 [num_items, dim] (docs/model.md, 5)."""
        return self.weights.get(_VECTORS, self.weights["item_embedding"])

    @property
    def catalog_bias(self) -> torch.Tensor:
        """The biases of items, float32 [num_items]."""
        return self.weights["catalog.bias"]

    @property
    def bias_penalty(self) -> torch.Tensor | None:
        """What `with_popularity_penalty` subtracted from `catalog_bias`, float32 [num_items]; None: nothing."""
        taken = self.weights.get(_PENALTY)
        return None if taken is None else taken.detach()

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False, codes: torch.Tensor | None = None) -> None:
        """Writes the directory, all or nothing: no partial artifact ever appears at `path`.

        An artifact that is replaced is moved away before the new one is moved in. In between there is nothing at
        `path`, and a concurrent load fails. To replace a model without this gap, save to a new path and switch a
        symbolic link.

        Args:
            path: the directory.
            overwrite: replace an artifact at `path`.
            codes: `Catalog.codes` of these weights, so that loading need not build them; None: `self.codes`.

        Raises:
            SettingError: SOURCE_DATE_EPOCH is not a number of seconds (see `artifact_files.written_now`).
            ArtifactError: `check_target` refuses `path`, also if something has appeared there meanwhile (of concurrent
                saves with `overwrite`, the last one stays); or `training` or `metrics` hold what JSON cannot represent.
            ArgumentError: no file system allows such a path.
            ArgumentTypeError: `path` is not a path.
            OSError: for example the disk is full. Nothing has changed then.
        """
        target = check_target(path, overwrite=overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = staging_of(target)
        staging.mkdir()
        try:
            self._write(staging, self.codes if codes is None else codes)
            publish(staging, target, overwrite=overwrite)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise

    def _write(self, directory: pathlib.Path, codes: torch.Tensor | None) -> None:
        safetensors.torch.save_file(unshared(self.weights), directory / WEIGHTS_FILE)
        safetensors.torch.save_file(self.items.to_tensors(), directory / ITEMS_FILE)
        files = {name: describe_file(directory / name) for name in (WEIGHTS_FILE, ITEMS_FILE)}
        if codes is not None:
            safetensors.torch.save_file({_CODES: codes}, directory / CODES_FILE)
            files[CODES_FILE] = describe_file(directory / CODES_FILE) | {_MADE_OF: files[WEIGHTS_FILE]["sha256"]}
        config = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **written_now(),
            "model": self.config.to_dict(),
            "training": dict(self.training),
            "metrics": dict(self.metrics),
            "files": files,
        }
        try:
            config[CHECKSUM] = sha256_of(config)
            text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"training, metrics: expected plain JSON values: {error}") from error
        config_file = directory / CONFIG_FILE
        config_file.write_bytes(text + b"\n")
        for name in files:  # safetensors makes its files readable by the owner alone; give them the usual mode
            (directory / name).chmod(config_file.stat().st_mode)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, verify: bool = True) -> Artifact:
        """Reads and checks a directory.

        Weights and codes are memory-mapped, and the checks read all of them once. Ids, titles and counts are copied
        into memory.

        Args:
            path: the directory.
            verify: compare the files' SHA-256 with the recorded ones, which finds damage that leaves files readable and
                takes about 1 s per GB. False checks only sizes, shapes, dtypes, NaN, ids and the codes' structure.

        Raises:
            ArtifactError: the directory is missing, damaged, of another version or not an artifact; the message says
                which and why.
            ArgumentTypeError: `path` is not a path.
        """
        directory = as_path(path)
        verify = as_flag("verify", verify)
        values = read_config(directory)
        has_codes = CODES_FILE in values["files"]
        if verify and values.get(CHECKSUM) != sha256_of({key: values[key] for key in values if key != CHECKSUM}):
            raise ArtifactError(f"{directory / CONFIG_FILE}: changed: its SHA-256 is not the recorded one")
        for name in (WEIGHTS_FILE, ITEMS_FILE, *([CODES_FILE] if has_codes else [])):
            check_file(directory / name, values["files"].get(name), verify)
        try:
            config = ModelConfig.from_dict(values["model"])
        except (ArgumentError, ArgumentTypeError) as error:
            raise ArtifactError(f"{directory / CONFIG_FILE}: model: {error}") from error
        weights = read_tensors(directory / WEIGHTS_FILE)
        items = ItemTable.from_tensors(
            read_tensors(directory / ITEMS_FILE), config.num_items, str(directory / ITEMS_FILE)
        )
        try:
            artifact = cls(config, weights, items, values["training"], values["metrics"])
        except ArtifactError as error:
            raise ArtifactError(f"{directory / WEIGHTS_FILE}: {error}") from None
        for name in ("written_by", "written_at"):
            object.__setattr__(artifact, name, values.get(name))
        if has_codes:
            object.__setattr__(artifact, "codes", _read_codes(directory, values["files"]))
        return artifact


def encoder_specs(config: ModelConfig) -> list[Spec]:
    """Every tensor of the native encoder, in the order it takes them."""
    specs: list[Spec] = _core.weight_specs(config.to_dict())
    return specs


def catalog_specs(config: ModelConfig) -> list[Spec]:
    """The catalogue's tensors, in addition to the encoder's. The vectors are optional if they are the item embeddings,
    and the penalties if nothing was subtracted from the biases."""
    return [
        ("catalog.bias", (config.num_items,), "float32"),
        (_VECTORS, (config.num_items, config.dim), "float32"),
        (_PENALTY, (config.num_items,), "float32"),
    ]


def _check_weights(config: ModelConfig, weights: Mapping[str, torch.Tensor]) -> None:
    if config.num_layers > len(weights):
        raise ArtifactError(f"num_layers: expected tensors of {config.num_layers} layers, got {len(weights)} tensors")
    optional = {_PENALTY} if config.has_two_tables else {_PENALTY, _VECTORS}
    specs = [spec for spec in encoder_specs(config) + catalog_specs(config) if spec[0] not in optional - set(weights)]
    if missing := [name for name, _, _ in specs if name not in weights]:
        raise ArtifactError(f"missing {', '.join(missing)}")
    if unknown := sorted(map(str, set(weights) - {name for name, _, _ in specs})):
        raise ArtifactError(f"unknown {', '.join(unknown)}")
    for name, shape, dtype in specs:
        tensor = weights[name]
        if not isinstance(tensor, torch.Tensor) or tensor.device.type != "cpu" or not tensor.is_contiguous():
            raise ArtifactError(f"{name}: expected a contiguous tensor on the CPU")
        got = str(tensor.dtype).removeprefix("torch.")
        if got != dtype or tuple(tensor.shape) != shape:
            raise ArtifactError(f"{name}: expected {dtype} {list(shape)}, got {got} {list(tensor.shape)}")
        values = tensor.detach().numpy()  # NumPy, since torch's thread pool does not survive a fork
        if not np.isfinite(values).all():
            raise ArtifactError(f"{name}: holds NaN or infinity")
        if dtype == "int64" and not ((np.diff(values) > 0).all() and values[0] >= 1):
            raise ArtifactError(f"{name}: expected strictly increasing values >= 1")
    if "long_pooling.decay" in weights and (weights["long_pooling.decay"].detach().numpy() < 0).any():
        raise ArtifactError("long_pooling.decay: expected values >= 0")


def _read_codes(directory: pathlib.Path, files: Mapping[str, Any]) -> torch.Tensor:
    """The codes, memory-mapped and checked by the native search, which would miss items with codes of other weights."""
    path = directory / CODES_FILE
    if files[CODES_FILE].get(_MADE_OF) != files[WEIGHTS_FILE]["sha256"]:
        raise ArtifactError(f"{path}: made of other weights than {WEIGHTS_FILE}")
    codes = read_tensors(path).get(_CODES)
    if codes is None or codes.dtype != torch.uint8 or codes.dim() != 1:
        raise ArtifactError(f"{path}: expected {_CODES}, uint8 with one dimension")
    weights = read_tensors(directory / WEIGHTS_FILE)  # memory-mapped; only the shape of the catalogue is read
    try:
        _core.CatalogPath(weights["item_embedding"].numpy(), weights["catalog.bias"].numpy(), codes.numpy())
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}") from None
    return codes
