"""Configs for `ModelConfig.from_dict` and config.json, damaged as text and as values."""

from __future__ import annotations

import json
import random

from fuzz import artifact_target, models, mutate
from lsif_sdk import Artifact, ModelConfig
from lsif_sdk.artifact import catalog_specs, encoder_specs
from lsif_sdk.errors import ArtifactError


class ConfigTarget:
    """Inputs are config.json, or only its entry "model"."""

    name = "config"
    suffix = ".json"

    def generate(self, rng: random.Random) -> bytes:
        variant = rng.randrange(models.NUM_MODELS)
        files = artifact_target.saved(variant)
        whole = rng.random() < 0.2
        value = json.loads(files["config.json"]) if whole else models.config(variant).to_dict()
        for _ in range(rng.choice((1, 1, 2, 4))):
            value = mutate.mutated_json(rng, value)
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
        return mutate.mutated_bytes(rng, text) if rng.random() < 0.1 else text

    def run(self, data: bytes) -> None:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and "format" not in value:
            _check(ModelConfig.from_dict(value))
            return
        with artifact_target.temporary_folder() as folder:
            directory = folder / "model"
            files = artifact_target.saved(0) | {"config.json": data}
            artifact_target.write(files, directory)
            try:
                _check(Artifact.load(directory, verify=False).config)
            except ArtifactError as error:
                assert str(error).startswith(str(directory)), f"a message that does not say where: {error}"
                raise


def _check(config: ModelConfig) -> None:
    assert ModelConfig.from_dict(config.to_dict()) == config
    for _, shape, dtype in encoder_specs(config) + catalog_specs(config):
        assert min(shape) >= 1 and dtype in ("float32", "int64")
