"""Small artifacts to save, to damage and to load."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from lsif_sdk import Artifact, ItemTable, ModelConfig
from lsif_sdk.errors import ArtifactError
from lsif_sdk.model import InterestFusionModel

SHAPE = ModelConfig(num_items=6, dim=8, num_layers=1, window=4, num_time_boundaries=5, normalize_items=True)
IDS = ["a", "b", "naïve", "数", "e", ""]


def build(ids: Any = IDS, titles: list[str] | None = None) -> Artifact:
    torch.manual_seed(0)
    counts = np.array([5, 4, 3, 2, 1, 0])
    weights = InterestFusionModel(SHAPE).export_weights()
    return Artifact(SHAPE, weights, ItemTable(ids, titles, counts), {"source": "test"}, {"ndcg": 0.5})


def edit(path: pathlib.Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrites one file of an artifact and its record in config.json, so that only the content is wrong."""
    config = json.loads((path / "config.json").read_text())
    if name == "config.json":
        change(config)
    else:
        tensors = safetensors.torch.load_file(path / name)
        change(tensors)
        safetensors.torch.save_file(tensors, path / name)
        config["files"][name]["bytes"] = (path / name).stat().st_size
    (path / "config.json").write_text(json.dumps(config))


def refusal(path: pathlib.Path, **options: Any) -> str:
    with pytest.raises(ArtifactError) as caught:
        Artifact.load(path, **{"verify": False} | options)
    return str(caught.value)
