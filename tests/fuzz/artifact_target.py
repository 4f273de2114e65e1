"""Model directories with damaged files, headers, tensors and records; recorded sizes and hashes are made to agree."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import pathlib
import random
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from unittest import mock

import numpy as np
import safetensors.numpy

from fuzz import models, mutate
from lsif_sdk import Artifact, Recommender
from lsif_sdk.errors import ArtifactError

Files = dict[str, bytes]

_WEIGHTS, _ITEMS, _CODES, _CONFIG = "weights.safetensors", "items.safetensors", "codes.safetensors", "config.json"
_SAFETENSORS = (_WEIGHTS, _ITEMS, _CODES)
_EPOCH = (1980, 1, 1, 0, 0, 0)


class ArtifactTarget:
    """Inputs are zip files of a directory; a name that ends with "/" is a directory in place of a file."""

    name = "artifact"
    suffix = ".zip"

    def generate(self, rng: random.Random) -> bytes:
        files = dict(saved(rng.randrange(models.NUM_MODELS)))
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            _damage(rng, files)
        if rng.random() < 0.9:
            _record(files)
        return packed(files)

    def run(self, data: bytes) -> None:
        with temporary_folder() as folder:
            directory = folder / "model"
            write(unpacked(data), directory)
            try:
                artifact = Artifact.load(directory, verify=False)
                with contextlib.suppress(ArtifactError):  # the recorded hashes may not match; that does not matter here
                    Artifact.load(directory)
                _use(artifact)
            except ArtifactError as error:
                assert str(error).startswith(str(directory)), f"a message that does not say where: {error}"
                raise


def _use(artifact: Artifact) -> None:
    model = Recommender(artifact, threads=1)
    ids = model.items.ids.tolist()
    histories = [ids[:3], ids[-1:], [], ids]
    models.check_answer(model.recommend(histories, k=3), model, 4, 3)
    state = model.new_state(ids[:4], remember=2)
    models.check_answer(model.recommend(state=state, k=3), model, 1, 3)


@functools.cache
def saved(variant: int) -> Files:
    with temporary_folder() as folder:
        path = folder / "model"
        with mock.patch.dict(os.environ, SOURCE_DATE_EPOCH="0"):  # inputs must depend only on the seed and the case
            models.recommender(variant).save(path)
        return {file.name: file.read_bytes() for file in path.iterdir()}


@contextlib.contextmanager
def temporary_folder() -> Iterator[pathlib.Path]:
    """A folder in memory, if possible: creating and removing it on a disk would take longer than all else."""
    memory = pathlib.Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield pathlib.Path(folder)


def packed(files: Files) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), files[name], zipfile.ZIP_DEFLATED)
    return out.getvalue()


def write(files: Files, directory: pathlib.Path) -> None:
    directory.mkdir()
    for name, content in sorted(files.items(), key=lambda entry: not entry[0].endswith("/")):
        path = directory / name
        if name.endswith("/"):
            path.mkdir()
        elif not path.exists():
            path.write_bytes(content)


def unpacked(data: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _damage(rng: random.Random, files: Files) -> None:
    kind = rng.randrange(20)
    present = [name for name in files if not name.endswith("/")]
    if kind == 0 and present:
        _whole_file(rng, files, rng.choice(present))
    elif kind < 5 and present:
        name = rng.choice(present)
        files[name] = mutate.mutated_bytes(rng, files[name])
    elif kind < 9:
        name = rng.choice(_SAFETENSORS)
        files[name] = _with_other_header(rng, files.get(name, b""))
    elif kind < 15:
        name = rng.choice(_SAFETENSORS)
        files[name] = _with_other_tensors(rng, files.get(name, b""))
    else:
        with contextlib.suppress(ValueError, RecursionError):
            changed = mutate.mutated_json(rng, json.loads(files.get(_CONFIG, b"{}")))
            files[_CONFIG] = json.dumps(changed).encode()


def _whole_file(rng: random.Random, files: Files, name: str) -> None:
    other = saved(rng.randrange(models.NUM_MODELS))
    kind = rng.randrange(5)
    if kind == 0:
        del files[name]
    elif kind == 1:
        del files[name]
        files[name + "/"] = b""
    elif kind == 2:
        files[name] = b""
    elif kind == 3:
        files[name] = other[name]
    else:
        files[name] = files.get(rng.choice(_SAFETENSORS), b"")


def _with_other_header(rng: random.Random, data: bytes) -> bytes:
    """The same tensors behind a header with one change: a dtype, a shape, an offset, a name."""
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size])
    except (ValueError, RecursionError):
        return mutate.mutated_bytes(rng, data)
    if rng.random() < 0.3 and isinstance(header, dict):
        header["__metadata__"] = rng.choice(({"a": "b"}, {"a": 1}, [], "x", {"codes": "\x00"}))
    else:
        header = mutate.mutated_json(rng, header)
    text = json.dumps(header).encode()
    if rng.random() < 0.8:
        text += b" " * (-len(text) % 8)
    length = len(text) if rng.random() < 0.9 else mutate.integer(rng) % 2**64
    return struct.pack("<Q", length) + text + data[8 + size :]


def _with_other_tensors(rng: random.Random, data: bytes) -> bytes:
    """A well-formed file whose tensors are not the model's: other values, shapes, dtypes or names."""
    try:
        tensors = safetensors.numpy.load(data)
    except Exception:  # damaged before
        return mutate.mutated_bytes(rng, data)
    if not tensors:
        return data
    name = rng.choice(sorted(tensors))
    value, kind = tensors[name], rng.randrange(10)
    if kind < 5:
        _set_values(rng, value)
    elif kind == 5:
        tensors[name] = rng.choice(
            (value[:-1], value.T, value[None], value.reshape(-1), np.concatenate([value, value]))
        )
    elif kind == 6:
        with np.errstate(all="ignore"):
            tensors[name] = value.astype(rng.choice(("f2", "f4", "f8", "i1", "u1", "i4", "i8", "u8", "?")))
    elif kind == 7:
        del tensors[name]
    elif kind == 8:
        tensors[rng.choice(("", name + "x", "ids", "ids.bytes", "catalog.vectors", "\x00"))] = value
    else:
        tensors[name] = tensors[rng.choice(sorted(tensors))]
    return safetensors.numpy.save({key: np.ascontiguousarray(entry) for key, entry in tensors.items()})


def _set_values(rng: random.Random, values: np.ndarray) -> None:
    flat = values.reshape(-1)
    if flat.size == 0:
        return
    begin = rng.randrange(flat.size)
    places = slice(begin, begin + rng.choice((1, 1, 4, flat.size)))
    if flat.dtype.kind == "f":
        with np.errstate(all="ignore"):
            changed = (flat[places] * rng.choice((-1, 0, 1e10, 1e20, 1e38)), np.float64(mutate.number(rng)))
            flat[places] = rng.choice(changed)
    elif flat.dtype.kind == "b":
        flat[places] = ~flat[places]
    else:
        limits = np.iinfo(flat.dtype)
        flat[places] = min(max(mutate.integer(rng), limits.min), limits.max)


def _record(files: Files) -> None:
    """Makes config.json agree with the files as they are, so that loading gets to the damage inside them."""
    with contextlib.suppress(ValueError, RecursionError):
        values = json.loads(files.get(_CONFIG, b""))
        if not isinstance(values, dict) or not isinstance(values.get("files"), dict):
            return
        for name, entry in values["files"].items():
            if isinstance(entry, dict) and name in files:
                entry.update(bytes=len(files[name]), sha256=hashlib.sha256(files[name]).hexdigest())
        codes = values["files"].get(_CODES)
        if isinstance(codes, dict) and "made_of" in codes and _WEIGHTS in files:
            codes["made_of"] = hashlib.sha256(files[_WEIGHTS]).hexdigest()
        files[_CONFIG] = json.dumps(values).encode()
