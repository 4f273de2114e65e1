"""Artifacts: what is saved is what is loaded, and everything damaged, foreign or odd is refused with the reason."""

from __future__ import annotations

import dataclasses
import json
import os
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
from lsif_sdk.errors import ArtifactError
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


@pytest.mark.parametrize("ids", [IDS, [5, -(2**63), 2**63 - 1, 0, 7, 8]])
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
    if not pathlib.Path("/proc/self/maps").exists():
        pytest.skip("needs /proc/self/maps")
    weights = Artifact.load(saved).weights
    # Every tensor lies in a mapping of the file: none was copied to the heap.
    lines = [line.split(maxsplit=5) for line in pathlib.Path("/proc/self/maps").read_text().splitlines()]
    name = str((saved / "weights.safetensors").resolve())
    ranges = [[int(end, 16) for end in line[0].split("-")] for line in lines if line[-1] == name]
    for tensor_name, tensor in weights.items():
        begin = tensor.data_ptr()
        end = begin + tensor.numel() * tensor.element_size()
        assert any(low <= begin and end <= high for low, high in ranges), tensor_name


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


CONFIGS_OF_OTHERS = ['{"model_type": "bert"}', '{"format": "pt"}', '["lsif_sdk"]', "{", "", "[" * 100_000]


@pytest.mark.parametrize("config", CONFIGS_OF_OTHERS, ids=range(len(CONFIGS_OF_OTHERS)))
def test_a_folder_with_a_config_of_others_is_kept(tmp_path, config):
    """Many programs have a config.json."""
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtifactError, match="not an lsif_sdk artifact"):
        build().save(tmp_path, overwrite=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "config.json": config,
        "thesis.tex": "years of work",
    }


@pytest.mark.parametrize("name", ["notes.txt", ".git"])
def test_an_artifact_with_foreign_files_is_kept(saved, name):
    (saved / name).mkdir()
    with pytest.raises(ArtifactError, match=f"holds what is not of an lsif_sdk artifact: '{name}'; not overwritten"):
        build([1, 2, 3, 4, 5, 6]).save(saved, overwrite=True)
    assert (saved / name).is_dir()
    (saved / name).rmdir()
    assert Artifact.load(saved, verify=True).items.ids.tolist() == IDS


def test_an_artifact_of_another_version_may_be_replaced(saved):
    edit(saved, "config.json", lambda c: c.update(format_version=99))
    (saved / "weights.safetensors").unlink()
    build([1, 2, 3, 4, 5, 6]).save(saved, overwrite=True)
    assert Artifact.load(saved, verify=True).items.ids.tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o002])
def test_the_umask_says_who_may_read_a_model(tmp_path, mask):
    before = os.umask(mask)
    try:
        build().save(tmp_path / "model")
        build().save(tmp_path / "model", overwrite=True)
    finally:
        os.umask(before)
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o777 & ~mask
    for path in (tmp_path / "model").iterdir():
        assert path.stat().st_mode & 0o777 & mask == 0, path


def test_artifacts_compare_by_identity():
    artifact = build()
    assert artifact == artifact
    assert artifact != build()


def test_weights_may_share_memory(tmp_path):
    """safetensors refuses tensors of one storage."""
    artifact = build()
    weights, dim = dict(artifact.weights), SHAPE.dim
    weights["norm.bias"] = weights["layers.0.norm.bias"] = weights["norm.weight"]
    both = torch.arange(2.0 * dim)
    weights["layers.0.output.bias"], weights["layers.0.output_norm.bias"] = both[:dim], both[dim:]
    shared = dataclasses.replace(artifact, weights=weights)
    shared.save(tmp_path / "model")
    loaded = Artifact.load(tmp_path / "model", verify=True)
    assert loaded.weights.keys() == weights.keys()
    assert all(torch.equal(loaded.weights[name], value) for name, value in weights.items())


def fail_at(call: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """`real`, whose `call`-th call (from 1) finds the disk full."""
    calls = 0

    def wrapped(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError("disk full")
        return real(*args, **options)

    return wrapped


STEPS = {
    "new folder": (pathlib.Path, "mkdir", 2),
    "weights": (safetensors.torch, "save_file", 1),
    "items": (safetensors.torch, "save_file", 2),
    "config": (pathlib.Path, "write_bytes", 1),
    "old aside": (pathlib.Path, "rename", 1),
    "new in place": (pathlib.Path, "rename", 2),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_failed_save_changes_nothing(saved, monkeypatch, step):
    owner, name, call = STEPS[step]
    content = {path.name: path.read_bytes() for path in saved.iterdir()}
    monkeypatch.setattr(owner, name, fail_at(call, getattr(owner, name)))
    with pytest.raises(OSError, match="disk full"):
        build([1, 2, 3, 4, 5, 6]).save(saved, overwrite=True)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == content
    assert Artifact.load(saved, verify=True).items.ids.tolist() == IDS
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("step", ["weights", "items", "config", "old aside"])
def test_a_failed_first_save_leaves_nothing(tmp_path, monkeypatch, step):
    owner, name, call = STEPS[step]
    monkeypatch.setattr(owner, name, fail_at(call, getattr(owner, name)))
    with pytest.raises(OSError, match="disk full"):
        build().save(tmp_path / "model")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, np.float32(1), "\ud800"], ids=repr)
@pytest.mark.parametrize("field", ["training", "metrics"])
def test_what_json_cannot_hold_is_refused(saved, field, value):
    with pytest.raises(ArtifactError, match="training, metrics: expected plain JSON values"):
        dataclasses.replace(build(), **{field: {"key": value}}).save(saved, overwrite=True)
    assert Artifact.load(saved, verify=True).metrics == {"ndcg": 0.5}
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_saving_through_a_link_keeps_the_link(saved, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(saved)
    build([1, 2, 3, 4, 5, 6]).save(link, overwrite=True)
    assert link.is_symlink()
    assert Artifact.load(saved).items.ids.tolist() == [1, 2, 3, 4, 5, 6]


def test_saving_makes_parents_and_refuses_files(tmp_path):
    build().save(str(tmp_path / "a" / "b"))
    assert len(Artifact.load(str(tmp_path / "a" / "b"), verify=True).items) == 6
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="file: exists and is not an lsif_sdk artifact"):
        build().save(tmp_path / "file", overwrite=True)
    assert (tmp_path / "file").read_text() == "x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "file"]


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
    """However large: nothing overflows, and nothing is allocated for them."""
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
def test_verify_finds_one_flipped_bit(saved, name):
    content = bytearray((saved / name).read_bytes())
    content[-3] ^= 1
    (saved / name).write_bytes(content)
    assert f"{name}: changed: its SHA-256" in refusal(saved, verify=True)


def test_random_damage_is_refused_or_harmless(saved):
    """Bytes anywhere, in the header, or cut off with the recorded size adjusted: ArtifactError and nothing else."""
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
            loaded = Artifact.load(saved)
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
