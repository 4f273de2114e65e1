"""The fuzzer: it reports findings, each target runs for a short time, and the corpus of refused inputs."""

from __future__ import annotations

import pytest

from fuzz import corpus, driver
from fuzz.broken import Broken
from fuzz.loop import ACCEPTED, FINDINGS, REFUSED, fuzz, input_of, refusal
from fuzz.targets import TARGETS

CASES = {"artifact": 80, "config": 500, "state": 3000, "request": 500}
"""About two seconds each."""


def test_what_is_wrong_is_found(tmp_path):
    result = driver.run(Broken(), driver.Options(tmp_path, cases=7, limit=2.0))
    assert (result.cases, result.refused, result.accepted, result.findings) == (7, 2, 1, 4)
    assert {path.stem for path in tmp_path.glob("broken-*.txt")} == {f"broken-{case}" for case in (2, 4, 5, 6)}
    assert "KeyError" in (tmp_path / "broken-2.report").read_text()
    assert "Aborted" in (tmp_path / "broken-4.report").read_text()
    assert "in run" in (tmp_path / "broken-6.report").read_text()


def test_inputs_depend_on_the_seed_and_the_case_alone():
    for target in TARGETS.values():
        first = [input_of(target, 1, case) for case in range(20)]
        assert [input_of(target, 1, case) for case in range(20)] == first
        assert [input_of(target, 2, case) for case in range(20)] != first


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_finds_nothing(name, tmp_path):
    counters = [0, 0, 0, 0]
    fuzz(TARGETS[name], 1, iter(range(CASES[name])), counters, tmp_path)
    reports = "\n".join(path.read_text() for path in tmp_path.glob("*.report"))
    assert counters[FINDINGS] == 0, reports
    assert counters[REFUSED] > CASES[name] / 5 and counters[ACCEPTED] > CASES[name] / 50


def test_the_corpus_is_recorded():
    assert corpus.files() == sorted(corpus.expected())
    assert sum((corpus.FOLDER / name).stat().st_size for name in corpus.files()) < 300_000


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_refused_as_recorded(name):
    for file, (kind, part) in corpus.expected().items():
        if file.startswith(f"{name}/"):
            error = refusal(TARGETS[name], (corpus.FOLDER / file).read_bytes())
            assert type(error).__name__ == (kind or "NoneType"), file
            assert part in str(error), file
