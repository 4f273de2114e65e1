"""Inputs that are kept: files in tests/corpus, and in expected.json what each has to be refused with.

python -m fuzz.corpus record          runs every file and writes down how it ends; git says what has changed
python -m fuzz.corpus collect         makes inputs and keeps one, the smallest, of each refusal there is none of yet
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re

from fuzz.loop import Target, input_of, refusal
from fuzz.request_target import RequestTarget
from fuzz.targets import TARGETS
from lsif_sdk.errors import LsifError

FOLDER = pathlib.Path(__file__).parents[1] / "corpus"
_EXPECTED = FOLDER / "expected.json"
_MOST_BYTES = 4096

Expected = dict[str, tuple[str, str]]
"""By file, "target/name": the error's type and a text its message must contain; both "" if the input is accepted."""


def files() -> list[str]:
    return sorted(f"{name}/{path.name}" for name in TARGETS for path in (FOLDER / name).glob("*"))


def expected() -> Expected:
    return {name: (kind, part) for name, (kind, part) in json.loads(_EXPECTED.read_text()).items()}


def outcome(name: str) -> tuple[str, str]:
    error = refusal(TARGETS[name.partition("/")[0]], (FOLDER / name).read_bytes())
    return ("", "") if error is None else (type(error).__name__, _lasting_part(error))


def _lasting_part(error: LsifError) -> str:
    """The message without the folder, the value given, and the messages of other libraries."""
    said = _without_folder(error)
    return re.split(r"(?<=, got ).|(?<=not valid JSON: )|(?<=not a readable safetensors file: )", said, maxsplit=1)[0]


def _without_folder(error: LsifError) -> str:
    return re.sub(r"^/.*?/model(/|(?=:))", "", str(error))


def record() -> None:
    _write({name: outcome(name) for name in files()})


def collect(target: Target, seed: int, cases: int) -> int:
    """Adds inputs to the corpus; returns how many."""
    own = [path.read_bytes() for path in (FOLDER / target.name).glob("*")]
    known = {_kind_of(target, error) for data in own if (error := refusal(target, data)) is not None}
    found: dict[str, bytes] = {}
    for case in range(cases):
        data = input_of(target, seed, case)
        try:
            error = refusal(target, data)
        except Exception:  # a finding; only the fuzzer itself reports those
            continue
        if error is None or len(data) > _MOST_BYTES:
            continue
        kind = _kind_of(target, error)
        if kind not in known and (kind not in found or len(data) < len(found[kind])):
            found[kind] = data
    (FOLDER / target.name).mkdir(parents=True, exist_ok=True)
    for kind, data in found.items():
        (FOLDER / target.name / (_slug(kind) + target.suffix)).write_bytes(_shortest(target, data, kind))
    return len(found)


def _shortest(target: Target, data: bytes, kind: str) -> bytes:
    """A request without the options it does not need for this refusal, as those might be refused before it."""
    if isinstance(target, RequestTarget):
        for part in target.shorter(data):
            error = refusal(target, part)
            if error is not None and _kind_of(target, error) == kind:
                return _shortest(target, part, kind)
    return data


def _kind_of(target: Target, error: LsifError) -> str:
    """The key by which refusals count as the same: without texts, numbers, shapes and, for artifacts, tensor names."""
    said = re.split(r", got |(?<=not valid JSON): ", _without_folder(error), maxsplit=1)[0]
    if target.name == "artifact":
        said = re.sub(r"[\w.]+(?=: (expected|holds))|(?<=missing ).*|(?<=unknown ).*", "name", said)
    said = re.sub(r"'.*?'|`.*?`|\".*?\"|\[.*?\]|\{.*\}|-?\d[\d.e+-]*", "", said)
    return f"{type(error).__name__} {said[:80]}"


def _slug(kind: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", kind.split(" ", 1)[1].lower()).strip("-")[:70]


def _write(entries: Expected) -> None:
    _EXPECTED.write_text(json.dumps(entries, indent=0, ensure_ascii=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fuzz.corpus", description=__doc__)
    parser.add_argument("action", choices=["record", "collect"])
    parser.add_argument("--cases", type=int, default=20_000, help="of each target")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.action == "collect":
        for name, target in TARGETS.items():
            print(f"{name}: {collect(target, asked.seed, asked.cases)} new files", flush=True)
    record()


if __name__ == "__main__":
    main()
