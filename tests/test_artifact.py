"""Artifacts: what is saved is what is loaded, and everything damaged, foreign or odd is refused with the reason."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import lsif_sdk
from lsif_sdk import Artifact, ItemTable, ModelConfig
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ArtifactError
from lsif_sdk.model import InterestFusionModel

SHAPE = ModelConfig(num_items=6, dim=8, num_layers=1, window=4, num_time_boundaries=5, normalize_items=True)
IDS = ["a", "b", "naïve", "数", "e", ""]
PACKAGE = pathlib.Path(lsif_sdk.__file__).parent


def build(ids: Any = IDS, titles: list[str] | None = None) -> Artifact:
    torch.manual_seed(0)
    counts = np.array([5, 4, 3, 2, 1, 0])
    weights = InterestFusionModel(SHAPE).export_weights()
    return Artifact(SHAPE, weights, ItemTable(ids, titles, counts), {"source": "test"}, {"ndcg": 0.5})


def edit(path: pathlib.Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrites one file of an artifact and what config.json records about it, so that only the content is wrong."""
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
        Artifact.load(path, **options)
    return str(caught.value)


@pytest.fixture
def saved(tmp_path: pathlib.Path) -> pathlib.Path:
    build().save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("ids", [IDS, [5, -1, 2**40, 0, 7, 8]])
@pytest.mark.parametrize("titles", [None, ["x", "", "Amélie", "日", "e", "f"]])
def test_round_trip(tmp_path, ids, titles):
    artifact = build(ids, titles)
    artifact.save(tmp_path / "model")
    loaded = Artifact.load(tmp_path / "model", verify=True)
    assert loaded.config == artifact.config
    assert loaded.weights.keys() == artifact.weights.keys()
    assert all(torch.equal(loaded.weights[name], artifact.weights[name]) for name in artifact.weights)
    assert loaded.items.ids.tolist() == ids
    assert loaded.items.titles == titles
    assert loaded.items.counts.tolist() == [5, 4, 3, 2, 1, 0]
    assert loaded.training == {"source": "test"}
    assert loaded.metrics == {"ndcg": 0.5}


def test_weights_are_memory_mapped(saved):
    maps = pathlib.Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc/self/maps")
    loaded = Artifact.load(saved)
    assert str(saved / "weights.safetensors") in maps.read_text()
    assert len(loaded.items) == 6


def test_what_exists_is_replaced_only_if_asked_and_only_if_it_is_an_artifact(saved, tmp_path):
    with pytest.raises(ArtifactError, match="overwrite=True"):
        build().save(saved)
    build([1, 2, 3, 4, 5, 6]).save(saved, overwrite=True)
    assert Artifact.load(saved).items.ids.tolist() == [1, 2, 3, 4, 5, 6]
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter").write_text("x")
    with pytest.raises(ArtifactError, match="not an lsif_sdk artifact"):
        build().save(other, overwrite=True)
    assert (other / "chapter").read_text() == "x"


def test_a_failed_save_changes_nothing(saved, monkeypatch):
    before = Artifact.load(saved).items.ids.tolist()

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        build([1, 2, 3, 4, 5, 6]).save(saved, overwrite=True)
    monkeypatch.undo()
    assert Artifact.load(saved, verify=True).items.ids.tolist() == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def set_value(name: str, index: Any, value: float) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        tensors[name][index] = value

    return change


WRONG_TENSORS: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "missing": ("weights", lambda t: t.pop("norm.bias"), "missing norm.bias"),
    "extra": ("weights", lambda t: t.update(spare=torch.zeros(1)), "unknown spare"),
    "shape": (
        "weights",
        lambda t: t.update({"norm.bias": torch.zeros(9)}),
        r"norm.bias: expected float32 \[8\].*\[9\]",
    ),
    "dtype": ("weights", lambda t: t.update({"norm.bias": torch.zeros(8).double()}), "norm.bias: .*float64"),
    "nan": ("weights", set_value("item_embedding", (3, 2), float("nan")), "item_embedding: .*NaN"),
    "infinity": ("weights", set_value("catalog.bias", 5, float("inf")), "catalog.bias: .*infinity"),
    "boundaries": ("weights", set_value("time_boundaries", 2, 1), "time_boundaries: .*increasing"),
    "decay": ("weights", set_value("long_pooling.decay", 1, -0.5), "long_pooling.decay: .*>= 0"),
    "no ids": ("items", lambda t: t.pop("ids.bytes"), "ids"),
    "id offsets": ("items", set_value("ids.offsets", 3, 1000), "ids.offsets"),
    "not UTF-8": ("items", set_value("ids.bytes", 0, 255), "utf-8|UTF-8"),
    "equal ids": ("items", set_value("ids.bytes", 1, ord("a")), "ids: .*'a' more than once"),
    "counts": ("items", lambda t: t.update(counts=torch.zeros(5, dtype=torch.int64)), "counts"),
}


@pytest.mark.parametrize("case", WRONG_TENSORS)
def test_wrong_tensors_are_refused_by_name(saved, case):
    stem, change, expected = WRONG_TENSORS[case]
    edit(saved, f"{stem}.safetensors", change)
    message = refusal(saved)
    assert f"{stem}.safetensors" in message
    assert re.search(expected, message), message


WRONG_CONFIGS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "version": (lambda c: c.update(format_version=2), "format_version: this release reads 1, got 2"),
    "foreign": (lambda c: c.update(format="other"), "not an lsif_sdk artifact"),
    "unknown field": (lambda c: c["model"].update(colour=1), "unknown .*colour"),
    "missing field": (lambda c: c["model"].pop("dim"), "no .*dim"),
    "bad value": (lambda c: c["model"].update(num_heads=3), "num_heads: expected a divisor"),
    "bad type": (lambda c: c["model"].update(dim="8"), "dim: expected an integer"),
    "no model": (lambda c: c.pop("model"), "model: expected an object"),
    "no files": (lambda c: c["files"].clear(), "nothing recorded"),
}


@pytest.mark.parametrize("case", WRONG_CONFIGS)
def test_wrong_configs_are_refused(saved, case):
    change, expected = WRONG_CONFIGS[case]
    edit(saved, "config.json", change)
    message = refusal(saved)
    assert "config.json" in message
    assert re.search(expected, message), message


def test_missing_and_damaged_files_are_refused(saved, tmp_path):
    assert "no such directory" in refusal(tmp_path / "nowhere")
    assert "not an lsif_sdk artifact" in refusal(tmp_path)
    weights, config = saved / "weights.safetensors", saved / "config.json"
    content, recorded = weights.read_bytes(), config.read_text()

    weights.write_bytes(content[:-100])
    assert "truncated or changed" in refusal(saved)
    config.write_text(recorded.replace(str(len(content)), str(len(content) - 100)))
    assert "weights.safetensors" in refusal(saved)
    config.write_text(recorded)

    weights.write_bytes(b"\xff" * 8 + content[8:])
    assert "not a readable safetensors file" in refusal(saved)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "SHA-256" in refusal(saved, verify=True)
    weights.unlink()
    assert "missing" in refusal(saved)
    config.write_text("{")
    assert "not valid JSON" in refusal(saved)


def test_random_damage_is_refused_or_harmless(saved):
    rng = np.random.default_rng(0)
    num_refused = 0
    for trial in range(150):
        path = saved / ("weights.safetensors", "items.safetensors", "config.json")[trial % 3]
        content = path.read_bytes()
        damaged = bytearray(content)
        for place in rng.integers(len(damaged), size=3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            Artifact.load(saved)
        except ArtifactError:
            num_refused += 1
        path.write_bytes(content)
    assert num_refused > 20
    assert len(Artifact.load(saved, verify=True).items) == 6


def test_an_artifact_is_checked_when_it_is_made():
    artifact = build()
    with pytest.raises(ArtifactError, match=r"missing norm.bias"):
        Artifact(SHAPE, {k: v for k, v in artifact.weights.items() if k != "norm.bias"}, artifact.items)
    with pytest.raises(ArtifactError, match="items: expected 6"):
        Artifact(SHAPE, artifact.weights, ItemTable(["a"]))


def test_nothing_is_ever_unpickled():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"^\s*(import|from) (pickle|dill|joblib|cloudpickle)", text, re.MULTILINE), path
        assert text.count("torch.load(") == text.count("weights_only=True"), path


@pytest.mark.parametrize("ids", [[1, "a"], [1.5], [None], [True, False], [b"a"]])
def test_ids_of_no_one_kind_are_refused(ids):
    with pytest.raises(ArgumentTypeError, match="ids: expected all integers or all strings"):
        ItemTable(ids)


def test_an_item_table_finds_rows_and_counts_the_unknown():
    table = ItemTable(["b", "a"], ["B", "A"])
    assert table.rows(["a", "zzz", "b", "a"]) == ([1, 0, 1], 1)
    assert table.row("a") == 1
    assert table.title(0) == "B"
    assert table.take(np.array([[1, -1]])).tolist() == [["a", None]]
    with pytest.raises(ArgumentTypeError, match="ids: expected strings"):
        table.rows([1])
    with pytest.raises(ArgumentError, match="item: expected an item of the catalogue, got 'zzz'"):
        table.row("zzz")
    with pytest.raises(ArgumentError, match="'b' more than once"):
        ItemTable(["b", "a", "b"])
