"""Artifacts: loading gives what was saved, and what was there before is kept or replaced, never lost."""

from __future__ import annotations

import dataclasses
import datetime
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import lsif_sdk
from artifact_cases import IDS, SHAPE, build, edit
from concurrency import run_together
from lsif_sdk import Artifact
from lsif_sdk.artifact_files import check_target, sha256_of
from lsif_sdk.errors import ArgumentTypeError, ArtifactError, SettingError


@pytest.fixture
def saved(tmp_path: pathlib.Path) -> pathlib.Path:
    build().save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("ids", [IDS, [5, -(2**63), 2**63 - 1, 0, 7, 8]])
@pytest.mark.parametrize("titles", [None, ["x", "", "Amélie", "日", "e", "f"]])
def test_round_trip(tmp_path, ids, titles):
    artifact = build(ids, titles)
    artifact.save(tmp_path / "model")
    loaded = Artifact.load(tmp_path / "model")
    assert loaded.config == artifact.config
    assert loaded.weights.keys() == artifact.weights.keys()
    assert all(torch.equal(loaded.weights[name], artifact.weights[name]) for name in artifact.weights)
    assert loaded.items.ids.tolist() == ids
    assert loaded.items.titles == titles
    assert loaded.items.counts.tolist() == [5, 4, 3, 2, 1, 0]
    assert loaded.training == {"source": "test"}
    assert loaded.metrics == {"ndcg": 0.5}


def test_an_artifact_says_what_wrote_it_and_when(tmp_path, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    artifact = build()
    assert artifact.written_by is artifact.written_at is None
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    artifact.save(tmp_path / "model")
    loaded = Artifact.load(tmp_path / "model")
    assert loaded.written_by == f"lsif_sdk {lsif_sdk.__version__}"
    assert loaded.written_at is not None and loaded.written_at.endswith("Z")
    assert before <= datetime.datetime.fromisoformat(loaded.written_at) <= datetime.datetime.now(datetime.UTC)
    for other in (dataclasses.replace(loaded, metrics={}), loaded.edited(loaded.weights, loaded.items)):
        assert other.written_by is other.written_at is None  # it has not been saved


def test_where_nothing_can_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "model", tmp_path / "file" / "deep" / "model"):
        with pytest.raises(ArtifactError, match=f"^{path}: no directory can be made there: "):
            build().save(path)
    with pytest.raises(ArgumentTypeError, match="overwrite: expected True or False, got"):
        build().save(tmp_path / "model", overwrite="no")  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match=r"^/: exists and is not an lsif_sdk artifact"):
        build().save("/", overwrite=True)
    check_target(tmp_path / "not" / "made" / "model", overwrite=False)
    assert not (tmp_path / "not").exists()
    build().save(tmp_path / "new" / "deep" / "model")
    assert sorted(entry.name for entry in (tmp_path / "new" / "deep").iterdir()) == ["model"]


def test_an_artifact_need_not_say_what_wrote_it(saved):
    def forget(config: dict[str, Any]) -> None:
        for name in ("written_by", "written_at", "sha256"):
            del config[name]
        config["sha256"] = sha256_of(config)

    edit(saved, "config.json", forget)
    loaded = Artifact.load(saved)
    assert loaded.written_by is loaded.written_at is None


def test_the_same_model_is_written_as_the_same_bytes_at_the_same_date(tmp_path, monkeypatch):
    content = []
    for number, date in enumerate(("1700000000", "1700000000", "1700000001")):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", date)
        build().save(tmp_path / str(number))
        content.append({path.name: path.read_bytes() for path in (tmp_path / str(number)).iterdir()})
    assert content[0] == content[1] != content[2]
    assert Artifact.load(tmp_path / "0").written_at == "2023-11-14T22:13:20Z"
    for odd in ("yesterday", "1e9", "9" * 30, "1_000", "-1", "+1", " 1", "1\n", "\uff11\uff12", "\u00b2"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", odd)
        with pytest.raises(SettingError, match=re.escape(f"SOURCE_DATE_EPOCH: expected Unix seconds, got {odd!r}")):
            build().save(tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "")  # as if it was not set
    build().save(tmp_path / "now")
    assert Artifact.load(tmp_path / "now").written_at > "2026"


def test_weights_are_memory_mapped(saved):
    if not pathlib.Path("/proc/self/maps").exists():
        pytest.skip("needs /proc/self/maps")
    weights = Artifact.load(saved).weights
    # Every tensor is in a mapping of the file: none was copied to the heap.
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
    """Many other programs also have a config.json."""
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
    assert Artifact.load(saved).items.ids.tolist() == IDS


def test_an_artifact_of_another_version_may_be_replaced(saved):
    edit(saved, "config.json", lambda c: c.update(format_version=99))
    (saved / "weights.safetensors").unlink()
    build([1, 2, 3, 4, 5, 6]).save(saved, overwrite=True)
    assert Artifact.load(saved).items.ids.tolist() == [1, 2, 3, 4, 5, 6]


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
    """safetensors refuses tensors that share a storage."""
    artifact = build()
    weights, dim = dict(artifact.weights), SHAPE.dim
    weights["norm.bias"] = weights["layers.0.norm.bias"] = weights["norm.weight"]
    both = torch.arange(2.0 * dim)
    weights["layers.0.output.bias"], weights["layers.0.output_norm.bias"] = both[:dim], both[dim:]
    shared = dataclasses.replace(artifact, weights=weights)
    shared.save(tmp_path / "model")
    loaded = Artifact.load(tmp_path / "model")
    assert loaded.weights.keys() == weights.keys()
    assert all(torch.equal(loaded.weights[name], value) for name, value in weights.items())


def fail_at(call: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """`real`, except that its `call`-th call (from 1) fails because the disk is full."""
    calls = 0

    def wrapped(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError("disk full")
        return real(*args, **options)

    return wrapped


STEPS = {
    "new folder": (pathlib.Path, "mkdir", 3),
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
    assert Artifact.load(saved).items.ids.tolist() == IDS
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
    assert Artifact.load(saved).metrics == {"ndcg": 0.5}
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_saving_through_a_link_keeps_the_link(saved, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(saved)
    build([1, 2, 3, 4, 5, 6]).save(link, overwrite=True)
    assert link.is_symlink()
    assert Artifact.load(saved).items.ids.tolist() == [1, 2, 3, 4, 5, 6]


def test_saving_makes_parents_and_refuses_files(tmp_path):
    build().save(str(tmp_path / "a" / "b"))
    assert len(Artifact.load(str(tmp_path / "a" / "b")).items) == 6
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="file: exists and is not an lsif_sdk artifact"):
        build().save(tmp_path / "file", overwrite=True)
    assert (tmp_path / "file").read_text() == "x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "file"]


def test_files_may_be_read_by_whom_other_files_may(tmp_path):
    build().save(tmp_path / "model")
    modes = {path.name: path.stat().st_mode for path in (tmp_path / "model").iterdir()}
    (tmp_path / "other").touch()
    assert set(modes.values()) == {(tmp_path / "other").stat().st_mode}, modes


def test_of_several_that_save_to_one_path_none_fails(tmp_path):
    path, artifacts = tmp_path / "model", [build([1, 2, 3, 4, 5, 6]), build([6, 5, 4, 3, 2, 1])]

    def save(number: int) -> None:
        for _ in range(10):
            artifacts[number % 2].save(path, overwrite=True)

    run_together(4, save)
    assert Artifact.load(path).items.ids.tolist() in ([1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1])
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_what_has_come_while_saving_is_not_overwritten(tmp_path, monkeypatch):
    path, write = tmp_path / "model", Artifact._write

    def beside_another(self, directory, codes):
        write(self, directory, codes)
        monkeypatch.setattr(Artifact, "_write", write)
        build([1, 2, 3, 4, 5, 6]).save(path)

    monkeypatch.setattr(Artifact, "_write", beside_another)
    with pytest.raises(ArtifactError, match="exists; pass overwrite=True"):
        build([6, 5, 4, 3, 2, 1]).save(path)
    assert Artifact.load(path).items.ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_what_is_no_artifact_and_has_come_while_saving_stays(tmp_path, monkeypatch):
    path, write = tmp_path / "model", Artifact._write
    for come in (lambda: (path.mkdir(), (path / "precious.txt").write_text("x")), lambda: path.write_text("x")):

        def beside_another(self, directory, codes, come=come):
            write(self, directory, codes)
            come()

        monkeypatch.setattr(Artifact, "_write", beside_another)
        with pytest.raises(ArtifactError, match="not overwritten"):
            build([6, 5, 4, 3, 2, 1]).save(path, overwrite=True)
        assert path.is_file() or (path / "precious.txt").read_text() == "x"
        assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
        path.unlink() if path.is_file() else shutil.rmtree(path)
