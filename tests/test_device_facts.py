"""The messages when torch, this build and the driver are not compatible."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from device_cases import NO_GPU
from lsif_sdk import Recommender, _core, errors
from lsif_sdk.device import choice
from lsif_sdk.device.facts import Facts, gathered, mismatches, problem
from lsif_sdk.doctor import diagnose
from lsif_sdk.torch_version import OLDEST_TORCH, check_torch

USABLE = Facts("2.13.0+cu130", "13.0", "13.0", "", "13.0", True)
CPU = Facts("2.13.0+cpu", "", "", "", "", False)
CASES = {
    "torch is a CPU build": (
        USABLE._replace(torch="2.13.0+cpu", torch_cuda=""), "torch 2.13.0+cpu has no CUDA build",
        "install a torch for CUDA 13.0; on the CPU nothing is missing",
    ),
    "lsif_sdk is a CPU build": (
        USABLE._replace(built_for=""), "this lsif_sdk is a CPU build, beside a torch for CUDA 13.0",
        "install the wheel for CUDA",
    ),
    "the ops do not load": (
        USABLE._replace(ops_problem="undefined symbol: x"), "the CUDA ops do not load: undefined symbol: x",
        "install a torch for the CUDA version",
    ),
    "no driver": (
        USABLE._replace(driver="", has_gpu=False), "there is no NVIDIA driver (libcuda.so.1)",
        "install NVIDIA's driver",
    ),
    "no GPU": (
        USABLE._replace(has_gpu=False), "torch finds no GPU; the driver runs CUDA up to 13.0", "nvidia-smi says",
    ),
    "an old driver": (
        USABLE._replace(driver="12.8"), "the driver runs CUDA up to 12.8, and this lsif_sdk is built for CUDA 13.0",
        "a newer driver",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_doctor_and_device_name_what_is_missing(name, monkeypatch):
    facts, reason, remedy = CASES[name]
    assert problem(facts) == reason
    (said,) = mismatches(facts)
    assert said.startswith(f"device='cuda' is refused: {reason}; ")
    assert remedy in said
    monkeypatch.setattr(choice, "gathered", lambda: facts)
    with pytest.raises(errors.ArgumentError) as refused:
        Recommender.load("/nowhere", device="cuda")
    assert str(refused.value) == f"device: expected 'cpu', since {reason}, got 'cuda'"


def test_what_goes_together_is_no_mismatch():
    assert problem(USABLE) == "" and mismatches(USABLE) == []
    assert problem(CPU) and mismatches(CPU) == []
    assert problem(USABLE._replace(driver="13.2")) == ""


def test_another_cuda_version_of_torch_is_said():
    facts = USABLE._replace(torch="2.10.0+cu128", torch_cuda="12.8")
    assert problem(facts) == ""
    (said,) = mismatches(facts)
    assert said.startswith("torch is built for CUDA 12.8 and this lsif_sdk for CUDA 13.0: the two together")
    assert len(mismatches(facts._replace(driver="", has_gpu=False))) == 2


def test_the_facts_are_this_processes(monkeypatch):
    facts = gathered()
    assert facts.torch == torch.__version__
    assert facts.built_for == _core.build_info()["built_for_cuda"]
    report = diagnose()
    assert report["build"]["CUDA"] == (facts.built_for or "no")
    assert report["mismatches"] == ("; ".join(mismatches(facts)) or "none")


@pytest.mark.skipif(bool(NO_GPU), reason=NO_GPU)
def test_a_gpu_that_is_not_there():
    with pytest.raises(errors.ArgumentError, match=r"^device: expected 'cuda:0'.*, got cuda:99$"):
        Recommender.load("/nowhere", device="cuda:99")


@pytest.mark.parametrize("version", ["2.10.0", "2.13.0+cpu", "3.0.1", "2.11.0a0+git1234", "of tomorrow"])
def test_versions_of_torch_that_will_do(version):
    check_torch(version)


@pytest.mark.parametrize("version", ["2.9.1", "1.13.1+cu117", "2.0"])
def test_an_older_torch_is_refused_before_any_op_is_loaded(version):
    code = f"import torch; torch.__version__ = {version!r}; import lsif_sdk"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        f"lsif_sdk.errors.TorchVersionError: lsif_sdk needs torch 2.10 or newer, got {version}: "
        "pip install -U 'torch>=2.10'"
    )


def test_the_oldest_torch_is_stated_once():
    import pathlib

    root = pathlib.Path(__file__).parents[1]
    major, minor = OLDEST_TORCH
    assert f"torch_target_version 0x{major:02x}{minor:02x}" in (root / "CMakeLists.txt").read_text()
    assert (root / "pyproject.toml").read_text().count(f"torch>={major}.{minor}") == 2
