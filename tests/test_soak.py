"""A short soak test, and tests that its checks find errors (`make soak` runs it for minutes)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from soak import Soak

NOW = 1_900_000_000


def test_a_short_soak() -> None:
    soak = Soak(minutes=0.04, swaps=60, threads=16)
    assert soak.run(), soak.failures
    assert soak.counts["answers"] > 0 and soak.counts["appends"] > 0 and soak.counts["changes"] > 0
    assert soak.counts["answers by popularity"] > 0


def test_wrong_answers_are_found() -> None:
    soak = Soak(minutes=0, swaps=1, threads=1)
    snapshot, history = soak.live.current, ["i1", "i2"]
    answer, fused = snapshot.recommend(history, 10), snapshot.user_vectors(history)[0]
    soak.check(snapshot, answer, fused, history, NOW)
    worst = snapshot.recommend(history, 2000)[0].items[-1]
    others = answer.items.copy()
    others[0, 9] = worst
    scores = answer.scores.copy()
    scores[0, 9] = snapshot.score(history, [worst])[0, 0]
    for changes, message in (
        ({"version": 3}, "asked version 0, got 3"),
        ({"items": np.roll(answer.items, 1, axis=1)}, "scores"),
        ({"items": np.repeat(answer.items[:, :1], 10, axis=1)}, "repeated"),
        ({"items": others, "scores": scores}, "better items are missing"),
    ):
        with pytest.raises(AssertionError, match=message):
            soak.check(snapshot, dataclasses.replace(answer, **changes), fused, history, NOW)
    contents = soak.record.of(0)
    assert contents is not None
    best = snapshot.items.row(answer.items[0, 0])
    for end in (-np.inf, NOW - 1):
        until = np.where(np.arange(2000) == best, end, np.inf)
        soak.record.add(0, dataclasses.replace(contents, until=until))
        with pytest.raises(AssertionError, match="hidden"):
            soak.check(snapshot, answer, fused, history, NOW)
    soak.record.add(0, contents)
    with pytest.raises(AssertionError, match="other items"):
        soak.check(snapshot, answer, fused, history, NOW, "red")
    soak.check(snapshot, snapshot.recommend(history, 10, where={"colour": "red"}), fused, history, NOW, "red")
    popular = snapshot.recommend(history, 10, budget_ms=0)
    soak.check(snapshot, popular, fused, history, NOW)
    with pytest.raises(AssertionError, match="seen"):
        soak.check(snapshot, popular, fused, [popular.items[0, 0]], NOW)
