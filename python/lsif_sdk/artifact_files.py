"""The files of an artifact's directory: what is read, recorded and written there, and what is refused."""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any

import safetensors
import torch

from lsif_sdk import _core
from lsif_sdk.arguments import as_flag
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ArtifactError, SettingError, shown

__all__ = [
    "CHECKSUM", "CODES_FILE", "CONFIG_FILE", "FORMAT", "FORMAT_VERSION", "ITEMS_FILE", "WEIGHTS_FILE", "as_path",
    "check_file", "check_target", "describe_file", "publish", "read_config", "read_tensors", "sha256_of",
    "staging_of", "unshared", "written_now",
]  # fmt: skip

FORMAT = "lsif_sdk"
FORMAT_VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "weights.safetensors"
ITEMS_FILE = "items.safetensors"
CODES_FILE = "codes.safetensors"
CHECKSUM = "sha256"  # in config.json, of its other entries

_WRITTEN_BY, _WRITTEN_AT = "written_by", "written_at"
_DATE = "SOURCE_DATE_EPOCH"

_OWN_FILES = {CONFIG_FILE, WEIGHTS_FILE, ITEMS_FILE, CODES_FILE}


def as_path(path: object) -> pathlib.Path:
    """A checked path; ArgumentTypeError if it is not one."""
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentTypeError("path", "a directory's path", path)
    return pathlib.Path(path)


def _check_path(path: object) -> None:
    """Refuses paths that no file can have: with a NUL, or that cannot be encoded."""
    try:
        is_possible = b"\0" not in os.fsencode(as_path(path))
    except UnicodeEncodeError:
        is_possible = False
    if not is_possible:
        raise ArgumentError("path", "what a file system can have as a path", shown(path))


def check_target(path: str | os.PathLike[str], *, overwrite: bool) -> pathlib.Path:
    """The checked path to which `Artifact.save` would write, so that problems are found before a long training.

    Symbolic links are resolved, so that a link stays and its target is replaced.

    Raises:
        ArtifactError: `path` exists, and `overwrite` is False or there is something other than an artifact (of any
            version), which would be lost; or nothing can be written there.
        ArgumentError: no file can have such a path.
        ArgumentTypeError: `path` is not a path, or `overwrite` is not a boolean.
        SettingError: see `written_now`.
    """
    written_now()
    overwrite = as_flag("overwrite", overwrite)
    _check_path(path)
    target = as_path(path).resolve()
    # While another process replaces the artifact, it is missing for moments.
    if not any(_is_artifact(target) or not os.path.lexists(target) for _ in range(3)):
        raise ArtifactError(f"{target}: exists and is not an lsif_sdk artifact; not overwritten")
    _try_to_write(target)
    try:
        names = {entry.name for entry in target.iterdir()}
    except FileNotFoundError:
        return target
    if foreign := sorted(names - _OWN_FILES):
        raise ArtifactError(f"{target}: holds what is not of an lsif_sdk artifact: {foreign[0]!r}; not overwritten")
    if not overwrite:
        raise ArtifactError(f"{target}: exists; pass overwrite=True to replace it")
    return target


def staging_of(target: pathlib.Path) -> pathlib.Path:
    """A unique path next to the target, so that renames stay within one file system."""
    return target.with_name(f".{target.name}.{secrets.token_hex(8)}")


def _try_to_write(target: pathlib.Path) -> None:
    """Makes and removes a directory where the target, or its topmost missing parent, would be."""
    missing = [folder for folder in (target, *target.parents[:-1]) if not os.path.lexists(folder.parent)]
    trial = staging_of(missing[-1].parent if missing else target)
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ArtifactError(f"{target}: no directory can be made there: {error.strerror}") from error


def publish(staging: pathlib.Path, target: pathlib.Path, *, overwrite: bool) -> None:
    """Moves a directory to the path of `check_target`, even if other processes do the same at that moment.

    Raises:
        ArtifactError: something has appeared there, and `overwrite` is False or it is not an artifact.
        OSError: the file system refuses; the old content is restored.
    """
    retired = staging.with_name(staging.name + ".old")
    while not _moved(staging, target):
        if not overwrite:
            raise ArtifactError(f"{target}: exists; pass overwrite=True to replace it")
        try:
            check_target(target, overwrite=True)
            target.rename(retired)
        except FileNotFoundError:  # another process is replacing it
            continue
        try:
            is_done = _moved(staging, target)
        except BaseException:
            if not _moved(retired, target):  # what another process has put there stays
                shutil.rmtree(retired, ignore_errors=True)
            raise
        shutil.rmtree(retired, ignore_errors=True)
        if is_done:
            return


def _moved(directory: pathlib.Path, target: pathlib.Path) -> bool:
    """Whether the directory could be moved; False if something is at the target."""
    try:
        directory.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True


def unshared(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors, copied where they share memory with an earlier one, which safetensors would refuse to write."""
    storages: set[int] = set()
    result = {}
    for name, tensor in weights.items():
        storage = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    return result


def _is_artifact(directory: pathlib.Path) -> bool:
    try:
        values = json.loads((directory / CONFIG_FILE).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and values.get("format") == FORMAT


def read_config(directory: pathlib.Path) -> dict[str, Any]:
    """The content of config.json with checked types; ArtifactError if this release cannot read it."""
    path = directory / CONFIG_FILE
    if not directory.is_dir():
        raise ArtifactError(f"{directory}: {'a file, not a directory' if directory.exists() else 'no such directory'}")
    if not path.is_file():
        raise ArtifactError(f"{directory}: not an lsif_sdk artifact: no {CONFIG_FILE}")
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ArtifactError(f"{path}: not an lsif_sdk artifact: expected format {FORMAT!r}")
    version = values.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise ArtifactError(f"{path}: format_version: this release reads {FORMAT_VERSION}, got {version!r}")
    for key in ("model", "training", "metrics", "files"):
        if not isinstance(values.get(key), dict):
            raise ArtifactError(f"{path}: {key}: expected an object, got {values.get(key)!r}")
    for key in (_WRITTEN_BY, _WRITTEN_AT):
        if not isinstance(values.get(key), (str, type(None))):
            raise ArtifactError(f"{path}: {key}: expected text, got {values[key]!r}")
    return values


def written_now() -> dict[str, str]:
    """Two entries of config.json: "written_by", this SDK with its version, and "written_at", UTC in ISO 8601.

    The environment variable SOURCE_DATE_EPOCH (Unix seconds, https://reproducible-builds.org/specs) replaces the
    current time, so that the same model gives the same bytes. Empty counts as unset.

    Raises:
        SettingError: the value has characters other than 0 to 9, or is too large for a date.
    """
    text = os.environ.get(_DATE, "")
    if text and not (text.isascii() and text.isdigit()):
        raise SettingError(f"{_DATE}: expected Unix seconds, got {text!r}")
    try:
        seconds = int(text or time.time())
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        raise SettingError(f"{_DATE}: expected Unix seconds, got {text!r}") from None
    version = _core.build_info()["version"]
    return {_WRITTEN_BY: f"{FORMAT} {version}", _WRITTEN_AT: moment.isoformat().replace("+00:00", "Z")}


def sha256_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of JSON values, independent of the order of keys."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def describe_file(path: pathlib.Path) -> dict[str, Any]:
    """The entry of a file in config.json: size and SHA-256."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def check_file(path: pathlib.Path, recorded: object, verify: bool) -> None:
    """Raises ArtifactError if a file differs from its recorded entry; compares its SHA-256 only if `verify`."""
    if not path.is_file():
        raise ArtifactError(f"{path}: missing")
    if not isinstance(recorded, dict) or not {"bytes", "sha256"} <= recorded.keys():
        raise ArtifactError(f"{path.with_name(CONFIG_FILE)}: files: nothing recorded about {path.name}")
    size = path.stat().st_size
    if size != recorded["bytes"]:
        raise ArtifactError(f"{path}: truncated or changed: expected {recorded['bytes']} bytes, got {size}")
    if verify and describe_file(path)["sha256"] != recorded["sha256"]:
        raise ArtifactError(f"{path}: changed: its SHA-256 is not the recorded one")


@contextlib.contextmanager
def _readable(path: pathlib.Path) -> Iterator[None]:
    if not path.exists():
        raise ArtifactError(f"{path}: gone since config.json was read; where another process replaces it, load again")
    if not os.access(path, os.R_OK):
        raise ArtifactError(f"{path}: this process may not read it")
    try:
        yield
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not a readable safetensors file: {error}") from error


def read_tensors(path: pathlib.Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, memory-mapped."""
    with _readable(path), safetensors.safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
