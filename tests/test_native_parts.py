"""The errors of importing lsif_sdk if a native part is missing, damaged or for another Python."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import lsif_sdk
from lsif_sdk import _core

IMPORT = """
try:
    import lsif_sdk
except ImportError as error:
    kinds = [kind.__name__ for kind in type(error).__mro__]
    print(*kinds, sep=",")
    print(error)
"""


@pytest.fixture
def package(tmp_path):
    """A copy of the package, with its libraries in the same folder."""
    folder = tmp_path / "lsif_sdk"
    shutil.copytree(
        pathlib.Path(lsif_sdk.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__", "*.so")
    )
    for library in pathlib.Path(_core.__file__).parent.glob("*.so"):
        shutil.copy(library, folder)
    return folder


def said_by(package: pathlib.Path) -> str:
    # -S: without the import finder of an editable install. torch and NumPy are found through PYTHONPATH.
    folders = [str(package.parent), *(path for path in sys.path if path.endswith("-packages"))]
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    environment["PYTHONPATH"] = os.pathsep.join(folders)
    command = [sys.executable, "-S", "-c", IMPORT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    kinds, message = done.stdout.split("\n", 1)
    assert kinds.startswith("InstallationError,LsifError,ImportError")
    assert message.endswith("install a wheel for this Python again, or run `make dev` in the source folder\n")
    return message


def core(package: pathlib.Path) -> pathlib.Path:
    return package / pathlib.Path(_core.__file__).name


def test_no_core(package):
    core(package).unlink()
    message = said_by(package)
    assert message.startswith("lsif_sdk's native part _core cannot be loaded (") and "and this is" not in message


def test_core_of_another_python(package):
    core(package).rename(package / "_core.cpython-39-x86_64-linux-gnu.so")
    message = said_by(package)
    this = sys.implementation.cache_tag
    assert f"; there is _core.cpython-39-x86_64-linux-gnu.so, and this is {this}): install" in message


def test_no_engine(package):
    (package / "liblsif.so").unlink()
    assert "_core cannot be loaded (liblsif.so: cannot open shared object file" in said_by(package)


def test_no_ops(package):
    (package / "_ops.so").unlink()
    message = said_by(package)
    assert message.startswith("lsif_sdk's native part _ops cannot be loaded (") and "No such file" in message


@pytest.mark.parametrize("name", ["_core", "_ops"])
def test_a_text_in_place_of_a_library(package, name):
    path = core(package) if name == "_core" else package / "_ops.so"
    path.write_text("version https://git-lfs.github.com/spec/v1\n" * 100)
    message = said_by(package)
    assert message.startswith(f"lsif_sdk's native part {name} cannot be loaded (") and "invalid ELF header" in message
