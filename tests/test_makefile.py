"""The Makefile with a fake Python that only records its arguments."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FAKE = """#!/bin/sh
echo "$@" >> calls
case "$*" in
  --version) echo Python {version} ;;
  "-c "*) exit {is_old} ;;
  "-I -c "*) test ! -e replaced ;;
  "-m venv "*) mkdir -p $3/bin && cp "$0" $3/bin/python ;;
  *"install "*) rm -f replaced ;;
esac
"""


class Project:
    """A folder with the Makefile and the files and folders that it looks at."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        for name in ("csrc", "cmake", "python", "tests", "bench", "examples", "bin"):
            (folder / name).mkdir()
        for name in ("CMakeLists.txt", "pyproject.toml", "constraints.txt", "csrc/kernel.cpp"):
            (folder / name).touch()
        shutil.copy(ROOT / "Makefile", folder)
        self.python("bin/python3", "3.12.1")

    def python(self, path: str, version: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        is_old = tuple(map(int, version.split("."))) < (3, 11)
        file.write_text(FAKE.format(version=version, is_old=int(is_old)))
        file.chmod(0o755)

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        environment["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        (self.folder / "calls").write_text("")
        return subprocess.run(["make", *arguments], cwd=self.folder, env=environment, capture_output=True, text=True)

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def installs(self) -> list[str]:
        return [call.partition(" install ")[2] for call in self.calls() if " install " in call]


@pytest.fixture
def project(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("needs make")
    return Project(tmp_path)


def test_an_old_python_makes_no_environment(project):
    project.python("bin/python3", "3.9.2")
    done = project.make("dev")
    assert done.returncode != 0 and not (project.folder / ".venv").exists()
    assert "expected Python 3.11 or newer, got Python 3.9.2 (python3): PYTHON=... names another" in done.stdout


def test_an_environment_of_an_old_python_is_refused(project):
    project.python(".venv/bin/python", "3.10.14")
    done = project.make("dev")
    assert done.returncode != 0 and not project.installs()
    assert "expected Python 3.11 or newer, got Python 3.10.14 (.venv/bin/python): remove .venv" in done.stdout


def test_the_pip_that_installs_torch_gets_its_arguments(project):
    assert project.make("dev", "TORCH_ARGS=--index-url of-torch").returncode == 0
    torch, *others = project.installs()
    assert torch == "-c constraints.txt --index-url of-torch torch"
    assert others and not [call for call in others if "of-torch" in call]


def test_dev_builds_again_only_where_something_has_changed(project):
    assert project.make("dev").returncode == 0
    assert project.make("dev").returncode == 0
    assert not project.installs()
    (project.folder / "replaced").touch()  # the package was uninstalled, or replaced by a wheel
    assert project.make("dev").returncode == 0
    assert len(project.installs()) == 1
    for path in project.folder.rglob("*"):
        os.utime(path, (1, 1))
    (project.folder / "csrc" / "kernel.cpp").unlink()
    assert project.make("dev").returncode == 0
    assert len(project.installs()) == 1


def test_without_a_wheel_there_is_nothing_to_test(project):
    done = project.make("test-wheel")
    assert done.returncode != 0
    assert "expected wheels in dist/cpu or dist/cuda, got none" in done.stdout


def test_clean_leaves_nothing_that_was_made(project):
    before = sorted(project.folder.rglob("*"))
    for name in ("dist/cpu", "build/tests", ".venv/bin", "tests/__pycache__", "python/lsif_sdk/__pycache__"):
        (project.folder / name).mkdir(parents=True)
    assert project.make("clean").returncode == 0
    assert sorted(project.folder.rglob("*")) == sorted(
        [*before, project.folder / "calls", project.folder / "python/lsif_sdk"]
    )
