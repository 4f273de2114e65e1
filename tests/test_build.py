"""Requirements on the build: no ISA's code leaks into another's, layers depend one way, imports stay light."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import torch
from packaging.specifiers import SpecifierSet

import lsif_sdk
from lsif_sdk import ModelConfig, _core
from lsif_sdk.errors import DataError
from lsif_sdk.torch_version import OLDEST_TORCH
from lsif_sdk.training import load_recipe

ROOT = pathlib.Path(__file__).parents[1]
TORCH_INCLUDE = re.compile(r'#include *[<"](torch|ATen|c10|pybind11)')


def variant_objects() -> list[pathlib.Path]:
    """From builds that made the Python module; others, e.g. with sanitizers, add symbols of their own."""
    builds = {module.parent for module in ROOT.glob("build/*/_core*.so")}
    pattern = "CMakeFiles/lsif_kernels_*.dir/csrc/kernels/cpu/variant.cpp.o"
    return sorted(path for build in builds for path in build.glob(pattern))


def test_variants_share_no_function_the_linker_could_merge():
    nm = shutil.which("nm")
    objects = variant_objects()
    if nm is None or not objects:
        pytest.skip("needs nm and the object files of a build in build/")
    isas = {path.parts[-5].removeprefix("lsif_kernels_").removesuffix(".dir") for path in objects}
    assert set(_core.build_info()["compiled_isas"]) <= isas
    for path in objects:
        listing = subprocess.run([nm, "-C", path], capture_output=True, text=True, check=True).stdout
        kinds = [line[17:] for line in listing.splitlines()]
        assert not [line for line in kinds if line[0] in "WVu"], path
        defined = [line[2:] for line in kinds if line[0] == "T"]
        assert len(defined) == 1, (path, defined)
        assert re.fullmatch(r"lsif::cpu::\w+_kernels\(\)", defined[0])


def test_kernels_for_avx_vnni_need_nothing_of_avx512():
    """Instructions that begin with byte 62 have AVX-512's encoding (EVEX); those that begin with c4 do not (VEX)."""
    objdump = shutil.which("objdump")
    objects = [path for path in variant_objects() if path.parts[-5] == "lsif_kernels_avx2vnni.dir"]
    if objdump is None or not objects:
        pytest.skip("needs objdump and the object file of the avx2vnni kernels in build/")
    for path in objects:
        command = [objdump, "--disassemble", "--insn-width=16", path]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        instructions = re.findall(r"^ +[0-9a-f]+:\t([0-9a-f]{2}) .*\t(.*)$", listing, re.MULTILINE)
        assert {byte for byte, text in instructions if "vpdpbusd" in text} == {"c4"}
        assert not [text for byte, text in instructions if byte == "62"]


def test_a_process_has_one_pool_of_threads():
    """The torch ops and the Python module each ask for three threads; the second uses the threads of the first."""
    code = """if True:
        import os, pathlib, native, torch
        from lsif_sdk.ops import ops

        def num_threads():
            return len(os.listdir("/proc/self/task"))

        config = native.make_config()
        path = native.request_path(native.make_artifact(config))
        batch = native.random_batch(config, [20] * 50)
        vectors = torch.ones(2**18, 4)
        counts = [num_threads()]
        ops.code_catalog(vectors, None, 3)
        counts.append(num_threads())
        path.encode(batch.items, batch.times, batch.actions, batch.offsets, batch.now, 3)
        counts.append(num_threads())
        lines = pathlib.Path("/proc/self/maps").read_text().splitlines()
        libraries = {line.split()[-1] for line in lines if line.endswith("/liblsif.so")}
        print(*counts, len(libraries))
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path])}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    before, after_ops, after_module, num_libraries = map(int, run.stdout.split())
    assert (after_ops, after_module, num_libraries) == (before + 2, before + 2, 1)


@pytest.mark.parametrize("layer", ["kernels", "engine"])
def test_kernels_and_engine_know_neither_torch_nor_python(layer):
    sources = [path for path in (ROOT / "csrc" / layer).rglob("*") if path.is_file()]
    assert sources
    assert [path for path in sources if TORCH_INCLUDE.search(path.read_text())] == []


def test_nothing_is_built_for_the_machine_it_is_built_on():
    files = [ROOT / "CMakeLists.txt", ROOT / "Makefile", ROOT / "pyproject.toml", *(ROOT / "cmake").iterdir()]
    assert [path for path in files if "-march=native" in path.read_text()] == []


def test_the_libraries_hold_no_path_of_their_build():
    libraries = sorted(pathlib.Path(_core.__file__).parent.glob("*.so"))
    assert {"_ops.so", "liblsif.so"} < {path.name for path in libraries}
    folders = [ROOT, pathlib.Path(torch.__file__).parent]
    for path in libraries:
        content = path.read_bytes()
        assert not [folder for folder in folders if os.fsencode(folder) in content], path


@pytest.fixture
def configure(tmp_path):
    """Returns a function that configures the SDK with a stand-in for torch; skips without CMake or a compiler."""
    found = pathlib.Path(sys.executable).with_name("cmake")
    cmake = str(found) if found.exists() else shutil.which("cmake")
    if cmake is None or shutil.which("c++") is None:
        pytest.skip("needs cmake and a C++ compiler")

    def run(torch_module: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "torch").mkdir()
        (tmp_path / "torch" / "__init__.py").write_text(torch_module)
        command = [cmake, "-S", ROOT, "-B", tmp_path / "build", f"-DPython_EXECUTABLE={sys.executable}"]
        command.append("-DCMAKE_EXPORT_COMPILE_COMMANDS=ON")
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    return run


@pytest.mark.parametrize(
    ("torch_module", "message"),
    [
        ("class version: cuda = None\n__version__ = '2.9.1+cpu'", "got 2.9.1+cpu in"),
        ("raise ImportError('none of this name')", "ImportError: none of this name"),
    ],
    ids=["old", "missing"],
)
def test_no_build_beside_a_torch_that_is_old_or_missing(configure, torch_module, message):
    done = configure(torch_module)
    said = " ".join(done.stderr.split())
    assert done.returncode != 0
    assert f"Expected torch 2.10 or newer in {sys.executable}, got" in said and message in said, said


def test_cmake_without_scikit_build_knows_the_version(configure, tmp_path):
    done = configure("class version: cuda = None\n__version__ = '2.10.0'")
    assert done.returncode == 0, done.stderr
    commands = (tmp_path / "build" / "compile_commands.json").read_text()
    assert set(re.findall(r"-DLSIF_VERSION=\W*([\w.]*)", commands)) == {lsif_sdk.__version__}


def test_one_oldest_torch():
    oldest = ".".join(map(str, OLDEST_TORCH))
    cmake = (ROOT / "CMakeLists.txt").read_text()
    assert f"set(oldest_torch {oldest})" in cmake
    assert f"set(torch_target_version 0x{OLDEST_TORCH[0]:02x}{OLDEST_TORCH[1]:02x}000000000000)" in cmake
    assert (ROOT / "pyproject.toml").read_text().count(f'"torch>={oldest}"') == 2


def test_importing_the_sdk_imports_nothing_inference_does_not_need():
    code = "import sys, lsif_sdk; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(run.stdout.split())
    assert "lsif_sdk.recommender" in modules
    # torch imports tqdm itself.
    extras = {"pandas", "pyarrow", "lightning_fabric"} | {
        f"lsif_sdk.{part}" for part in ("training", "evaluation", "model")
    }
    assert not modules & extras


def test_subpackages_are_there_without_an_import_of_their_own():
    code = """
import lsif_sdk
lsif_sdk.integrations.SQLiteStore, lsif_sdk.training.TrainConfig, lsif_sdk.compare
assert lsif_sdk.evaluate is lsif_sdk.evaluation.evaluate
try:
    lsif_sdk.trainings
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "module 'lsif_sdk' has no attribute 'trainings'\n"


def test_the_oldest_python_that_is_promised_runs_what_is_needed():
    text = (ROOT / "pyproject.toml").read_text()
    oldest = re.search(r'^requires-python = ">=(.+)"$', text, re.MULTILINE)
    assert oldest is not None
    assert f'target-version = "py{oldest.group(1).replace(".", "")}"' in text
    assert f"Python {oldest.group(1)} or newer" in (ROOT / "README.md").read_text()
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, pinned, version = line.partition("==")
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            facts = importlib.metadata.metadata(name)
            if pinned and facts["Version"] == version and facts["Requires-Python"]:
                assert oldest.group(1) in SpecifierSet(facts["Requires-Python"]), line


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").iterdir()), ids=lambda path: path.stem)
def test_every_recipe_can_be_read(path):
    recipe = load_recipe(path)
    assert ModelConfig(num_items=10, **recipe.model).num_items == 10


def test_the_demo_trains_for_at_most_about_four_minutes(monkeypatch):
    limit = load_recipe(ROOT / "recipes" / "ml-100k.json").training.max_seconds
    assert limit is not None and limit <= 240
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    assert spec is not None
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)

    def without_network() -> None:
        raise DataError("no network")

    monkeypatch.setattr(demo, "movielens_100k", without_network)
    log, name, recipe = demo.load_events()
    assert (name, log.titles is not None) == ("simulated shop", True)
    assert recipe.training.max_seconds <= 240


def test_a_benchmark_leaves_nothing_behind(tmp_path):
    command = [sys.executable, ROOT / "bench" / "run.py", "load", "--num-items", "100", "--seconds", "0.01"]
    run = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert "lsif" in run.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["pybind11", "torch"])
def test_licences_of_what_is_compiled_in_are_passed_on(package):
    notices = (ROOT / "docs" / "third_party_notices.txt").read_text()
    assert '"docs/third_party_notices.txt"' in (ROOT / "pyproject.toml").read_text()
    stated = re.search(rf"^- {package} ([0-9.]+),", notices, re.MULTILINE)
    assert stated is not None
    assert f"{package}=={stated.group(1)}\n" in (ROOT / "constraints.txt").read_text()
    installed = importlib.metadata.distribution(package)
    if installed.version.partition("+")[0] != stated.group(1):
        pytest.skip(f"{package} {installed.version} is not the one of constraints.txt")
    licence = installed.read_text("licenses/LICENSE")
    assert licence is not None and licence.strip("\n") in notices


def test_one_version():
    stated = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert stated is not None
    assert lsif_sdk.__version__ == _core.build_info()["version"] == stated.group(1)
