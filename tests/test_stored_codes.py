"""Codes in an artifact: memory-mapped, only for the weights they were made from, and optional."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import pytest
import safetensors.torch
import torch

from lsif_sdk import Artifact, Recommender, errors
from lsif_sdk.ops import ops
from recommender_cases import HISTORIES, build, same


@pytest.fixture
def saved(tmp_path) -> pathlib.Path:
    build(normalize_items=True).save(tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_recommender_has_its_codes_and_answers_alike(saved, monkeypatch):
    recommender = build(normalize_items=True)
    artifact = Artifact.load(saved)
    assert artifact.codes is not None
    assert torch.equal(artifact.codes, recommender.catalog.codes)
    monkeypatch.setattr(ops, "code_catalog", None)  # nothing is coded again
    assert same(Recommender(artifact).recommend(HISTORIES, k=7), recommender.recommend(HISTORIES, k=7))


def test_a_copy_with_other_weights_has_no_codes(saved):
    artifact = Artifact.load(saved)
    other = build(normalize_items=True, window=4).artifact
    copied = dataclasses.replace(artifact, config=other.config, weights=other.weights)
    assert artifact.codes is not None and copied.codes is None


def test_without_the_file_codes_are_made(saved):
    config = json.loads((saved / "config.json").read_text())
    del config["files"]["codes.safetensors"]
    (saved / "config.json").write_text(json.dumps(config))
    (saved / "codes.safetensors").unlink()
    loaded = Recommender.load(saved, verify=False)
    assert loaded.artifact.codes is None
    assert same(loaded.recommend(HISTORIES, k=7), build(normalize_items=True).recommend(HISTORIES, k=7))


def test_an_artifact_with_codes_can_be_overwritten(saved):
    build().save(saved, overwrite=True)
    assert not Recommender.load(saved).config.normalize_items


def rewrite(saved: pathlib.Path, tensors: dict[str, torch.Tensor]) -> None:
    safetensors.torch.save_file(tensors, saved / "codes.safetensors")
    config = json.loads((saved / "config.json").read_text())
    config["files"]["codes.safetensors"]["bytes"] = (saved / "codes.safetensors").stat().st_size
    (saved / "config.json").write_text(json.dumps(config))


def test_codes_of_other_weights_are_refused(saved, tmp_path):
    other = tmp_path / "other"
    build(normalize_items=True, dim=16).save(other)
    config = json.loads((saved / "config.json").read_text())
    config["files"]["codes.safetensors"] = json.loads((other / "config.json").read_text())["files"]["codes.safetensors"]
    (saved / "config.json").write_text(json.dumps(config))
    (saved / "codes.safetensors").write_bytes((other / "codes.safetensors").read_bytes())
    with pytest.raises(errors.ArtifactError, match="made of other weights than weights"):
        Artifact.load(saved, verify=False)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"codes": torch.zeros(5)}, "expected codes, uint8 with one dimension"),
        ({"code": torch.zeros(5, dtype=torch.uint8)}, "expected codes, uint8"),
        ({"codes": torch.zeros(5, 2, dtype=torch.uint8)}, "with one dimension"),
    ],
)
def test_a_file_of_something_else_is_refused(saved, tensors, message):
    rewrite(saved, tensors)
    with pytest.raises(errors.ArtifactError, match=message):
        Artifact.load(saved, verify=False)


@pytest.mark.parametrize(
    ("damaged", "kept", "message"),
    [
        (slice(0, 1), None, "codes of a catalogue, got other bytes"),
        (slice(8, 12), None, r"version 1 or 2, got 4294967295"),
        (slice(12, 16), None, "finite sizes, got row_size -?nan"),
        (slice(16, 24), None, "those of 40 x 12 vectors, got those of -1 x 12"),
        (slice(24, 32), None, "those of 40 x 12 vectors, got those of 40 x -1"),
        (slice(0), 500, r"\d+ bytes for 40 x 12 vectors, got 500"),
        (slice(0), 0, r"\d+ bytes for 40 x 12 vectors, got 0"),
    ],
)
def test_damaged_codes_are_refused_and_their_file_is_named(saved, damaged, kept, message):
    codes = safetensors.torch.load_file(saved / "codes.safetensors")["codes"].clone()
    codes[damaged] = 255
    rewrite(saved, {"codes": codes[:kept].clone()})
    with pytest.raises(errors.ArtifactError, match=rf"codes\.safetensors: codes: expected {message}"):
        Artifact.load(saved, verify=False)


def test_one_flipped_bit_is_found_unless_nobody_looks(saved):
    path = saved / "codes.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    Recommender.load(saved, verify=False)
    with pytest.raises(errors.ArtifactError, match="safetensors: changed"):
        Recommender.load(saved)
    path.write_bytes(data[:-1])
    with pytest.raises(errors.ArtifactError, match="safetensors: truncated"):
        Artifact.load(saved)
    path.unlink()
    with pytest.raises(errors.ArtifactError, match="safetensors: missing"):
        Artifact.load(saved)
