"""Artifacts that are damaged, foreign or odd are refused, with the reason."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import lsif_sdk
from artifact_cases import SHAPE, build, edit, refusal
from lsif_sdk import Artifact, ItemTable
from lsif_sdk.artifact_files import read_tensors
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ArtifactError

PACKAGE = pathlib.Path(lsif_sdk.__file__).parent


@pytest.fixture
def saved(tmp_path: pathlib.Path) -> pathlib.Path:
    build().save(tmp_path / "model")
    return tmp_path / "model"


def set_value(name: str, index: Any, value: float) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        tensors[name][index] = value

    return change


def integer_ids(tensors: dict[str, Any]) -> None:
    del tensors["ids.bytes"], tensors["ids.offsets"]
    tensors["ids"] = torch.zeros(6)


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
    "boundaries equal": ("weights", lambda t: t["time_boundaries"].fill_(7), "time_boundaries: .*increasing"),
    "boundaries from 0": ("weights", set_value("time_boundaries", 0, 0), "time_boundaries: .*>= 1"),
    "boundaries dtype": ("weights", lambda t: t.update(time_boundaries=t["time_boundaries"].int()), "expected int64"),
    "transposed": ("weights", lambda t: t.update(item_embedding=t["item_embedding"].T.contiguous()), "item_embedding"),
    "boundaries": ("weights", set_value("time_boundaries", 2, 1), "time_boundaries: .*increasing"),
    "decay": ("weights", set_value("long_pooling.decay", 1, -0.5), "long_pooling.decay: .*>= 0"),
    "no ids": ("items", lambda t: t.pop("ids.bytes"), "ids"),
    "id offsets": ("items", set_value("ids.offsets", 3, 1000), "ids.offsets"),
    "not UTF-8": ("items", set_value("ids.bytes", 0, 255), "utf-8|UTF-8"),
    "last id offset": ("items", set_value("ids.offsets", 6, 3), "ids.offsets"),
    "extra item tensor": ("items", lambda t: t.update(colours=torch.zeros(6)), "unknown colours"),
    "no counts": ("items", lambda t: t.pop("counts"), "counts"),
    "negative count": ("items", set_value("counts", 2, -1), "counts: .*-1"),
    "ids of two kinds": ("items", lambda t: t.update(ids=torch.arange(6)), "either ids or ids.bytes .*, got both"),
    "ids dtype": ("items", integer_ids, "ids: expected int64"),
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


HUGE = ["num_items", "dim", "num_layers", "window", "num_long", "pooling_dim", "fusion_dim", "num_time_boundaries"]


@pytest.mark.parametrize("size", [7_000_001, 2**31 - 1, 2**31, 2**63, 10**30])
@pytest.mark.parametrize("field", HUGE)
def test_sizes_no_tensor_has_are_refused(saved, field, size):
    """However large the sizes are: nothing overflows, and nothing is allocated for them."""
    size -= size % 2 if field == "dim" else 0  # num_heads divides dim
    edit(saved, "config.json", lambda c: c["model"].update({field: size}))
    message = refusal(saved)
    assert str(saved) in message
    if size > 2**31:
        assert f"model: {field}: expected an integer in [" in message


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", "3", "[" * 100_000, "{}", '{"format": "lsif_sdk"}', '{"a": 1}']
)
def test_configs_of_others_are_refused(saved, text):
    (saved / "config.json").write_text(text)
    assert "config.json" in refusal(saved)


def test_configs_that_are_no_text_are_refused(saved):
    (saved / "config.json").write_bytes(b"\xff\xfe{}")
    assert "not valid JSON" in refusal(saved)


WRONG_CONFIGS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "version": (lambda c: c.update(format_version=2), "format_version: this release reads 1, got 2"),
    "older version": (lambda c: c.update(format_version=0), "format_version: this release reads 1, got 0"),
    "version of another type": (lambda c: c.update(format_version=True), "format_version: .*got True"),
    "no version": (lambda c: c.pop("format_version"), "format_version: .*got None"),
    "a number for a date": (lambda c: c.update(written_at=3), "written_at: expected text, got 3"),
    "a list for a writer": (lambda c: c.update(written_by=["x"]), "written_by: expected text, got "),
    "no format": (lambda c: c.pop("format"), "not an lsif_sdk artifact"),
    "past any float": (lambda c: c["model"].update(temperature=10**400), "model: "),
    "nan": (lambda c: c["model"].update(norm_eps=float("nan")), "norm_eps"),
    "null": (lambda c: c["model"].update(num_items=None), "num_items"),
    "list": (lambda c: c["model"].update(block=["hstu"]), "block"),
    "metrics": (lambda c: c.update(metrics=[1]), "metrics: expected an object"),
    "half a record": (lambda c: c["files"]["items.safetensors"].pop("sha256"), "nothing recorded about items"),
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


@pytest.mark.parametrize("name", ["weights.safetensors", "items.safetensors"])
@pytest.mark.parametrize("size", [0, 7, 8, 100, 0.5, 0.99])
def test_truncated_files_are_refused(saved, name, size):
    content = (saved / name).read_bytes()
    kept = size if isinstance(size, int) else int(size * len(content))
    (saved / name).write_bytes(content[:kept])
    assert f"{name}: truncated or changed: expected {len(content)} bytes, got {kept}" in refusal(saved)
    # Even where config.json agrees with the short file.
    edit(saved, "config.json", lambda c: c["files"][name].update(bytes=kept))
    assert f"{name}: not a readable safetensors file" in refusal(saved)


@pytest.mark.parametrize("name", ["weights.safetensors", "items.safetensors"])
def test_one_flipped_bit_is_found(saved, name):
    content = bytearray((saved / name).read_bytes())
    content[-3] ^= 1
    (saved / name).write_bytes(content)
    assert f"{name}: changed: its SHA-256" in refusal(saved, verify=True)


@pytest.mark.parametrize(("section", "change"), [("model", {"norm_eps": 1.0}), ("metrics", {"ndcg@10": 0.9})])
def test_a_changed_config_is_found(saved, section, change):
    Artifact.load(saved)
    edit(saved, "config.json", lambda c: c[section].update(change))
    assert "config.json: changed: its SHA-256" in refusal(saved, verify=True)
    Artifact.load(saved, verify=False)


def test_random_damage_is_refused_or_harmless(saved):
    """Bytes changed anywhere or in the header, or a shorter file with its size recorded: only ArtifactError occurs."""
    rng = np.random.default_rng(0)
    num_refused = num_loaded = 0
    config = (saved / "config.json").read_bytes()
    for trial in range(200):
        name = ("weights.safetensors", "items.safetensors", "config.json")[trial % 3]
        path = saved / name
        content = path.read_bytes()
        damaged = bytearray(content)
        reach = len(damaged) if trial % 2 else min(len(damaged), 400)
        for place in rng.integers(reach, size=rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        if trial % 5 == 0:
            del damaged[rng.integers(len(damaged)) :]
        path.write_bytes(damaged)
        if name != "config.json":
            edit(saved, "config.json", lambda c, n=name, d=damaged: c["files"][n].update(bytes=len(d)))
        try:
            loaded = Artifact.load(saved, verify=False)
        except ArtifactError as error:
            assert str(saved) in str(error)
            num_refused += 1
        else:
            assert all(bool(torch.isfinite(tensor).all()) for tensor in loaded.weights.values())
            num_loaded += 1
        path.write_bytes(content)
        (saved / "config.json").write_bytes(config)
    assert num_refused > 50
    assert num_loaded > 10
    assert len(Artifact.load(saved).items) == 6


def test_an_artifact_is_checked_when_it_is_made():
    artifact = build()
    with pytest.raises(ArtifactError, match=r"missing norm.bias"):
        Artifact(SHAPE, {k: v for k, v in artifact.weights.items() if k != "norm.bias"}, artifact.items)
    with pytest.raises(ArtifactError, match="items: expected 6"):
        Artifact(SHAPE, artifact.weights, ItemTable(["a"]))
    with pytest.raises(ArtifactError, match=r"unknown 1, spare$"):
        Artifact(SHAPE, {**artifact.weights, "spare": 2, 1: 2}, artifact.items)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("config", "a ModelConfig"),
        ("weights", "a mapping of names to tensors"),
        ("items", "an ItemTable"),
        ("training", "a mapping of JSON values"),
        ("metrics", "a mapping of JSON values"),
    ],
)
@pytest.mark.parametrize("odd", [None, 5, [1] * 6])
def test_what_is_no_part_of_an_artifact_is_refused_by_name(name, expected, odd):
    with pytest.raises(ArgumentTypeError, match=f"^{name}: expected {expected}, got {type(odd).__name__}"):
        dataclasses.replace(build(), **{name: odd})


@pytest.mark.parametrize("path", ["\0", "a\ud800", "a\0b"])
def test_paths_that_no_file_can_have_are_refused(path):
    with pytest.raises(ArgumentError, match=r"^path: expected what a file system can have as a path, got ."):
        build().save(path)
    with pytest.raises(ArtifactError, match="no such directory"):
        Artifact.load(path)


def test_nothing_is_ever_unpickled():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"^\s*(import|from) (pickle|dill|joblib|cloudpickle)", text, re.MULTILINE), path
        assert text.count("torch.load(") == text.count("weights_only=True"), path


@pytest.mark.parametrize("path", [None, 3, b"model"])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(ArgumentTypeError, match=f"^path: expected a directory's path, got {type(path).__name__}( 3)?$"):
        Artifact.load(path)


def test_a_file_that_goes_while_it_is_read_is_told_apart(tmp_path):
    with pytest.raises(ArtifactError, match=r"weights\.safetensors: gone since config\.json was read; where another"):
        read_tensors(tmp_path / "weights.safetensors")
