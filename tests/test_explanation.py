"""Explanations: the parts sum to the score and agree with docs/model.md."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsif_sdk import Events, Recommender, errors
from lsif_sdk.explanation import Explanation
from recommender_cases import IDS, NUM_ITEMS, build

CONFIGS = {
    "fused": {"num_layers": 2},
    "request time, actions": {"request_time": True, "num_actions": 3},
    "multi_interest": {"scoring": "multi_interest", "block": "transformer", "num_layers": 2},
    "multi_interest, normalised, repeats": {"scoring": "multi_interest", "normalize_items": True, "repeats": True},
    "repeats, normalised inputs": {"repeats": True, "request_time": True, "normalize_inputs": True},
    "encoder alone": {"num_long": 0, "num_short": 0, "use_times": False},
}


@pytest.fixture(scope="module", params=CONFIGS)
def recommender(request) -> Recommender:
    return build(**CONFIGS[request.param])


def history(recommender: Recommender, count: int, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    items = [IDS[row] for row in rng.integers(NUM_ITEMS, size=count)]
    actions = rng.integers(0, recommender.config.num_actions + 1, size=count)
    return Events(items, 1_700_000_000 + np.cumsum(rng.integers(0, 10**6, size=count)), actions)


def check_sum(recommender: Recommender, why: Explanation, events: Events, now: int) -> None:
    """The parts sum to the score, within the rounding of float32."""
    score = float(recommender.score(events, [why.item], now=now)[0, 0])
    rest = why.bias + why.repeats + why.balance
    tolerance = 1e-4 * max(1.0, abs(score))
    assert why.score == pytest.approx(score, abs=tolerance)
    assert rest + sum(part.share for part in why.interests) == pytest.approx(score, abs=tolerance)
    assert rest + sum(part.share for part in why.events) == pytest.approx(score, abs=tolerance)


@pytest.mark.parametrize("times", [[-(2**63) + 1, 5, 2**63 - 1], [-5, 2**63 - 1, 2**63 - 1], [-(2**63), -5, 2**63 - 1]])
def test_the_parts_sum_to_the_score_whatever_the_times(recommender, times):
    """Differences of times may not fit an int64."""
    events, now = Events(["i1", "i2", "i1"], times), 10**11
    score = recommender.score(events, ["i2"], now=now)[0, 0]
    assert recommender.explain(events, "i2", now=now).score == pytest.approx(score, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 60), item=st.sampled_from(IDS), seed=st.integers(0, 99))
def test_the_parts_sum_to_the_score(recommender, count, item, seed):
    events = history(recommender, count, seed)
    now = int(events.times[-1]) + 1000
    why = recommender.explain(events, item, now=now)
    check_sum(recommender, why, events, now)
    assert len(why.events) == count and why.item == item
    assert [part.time for part in why.events] == (events.times.tolist())
    assert [part.item for part in why.events] == events.items
    assert sum(part.long for part in why.events) == pytest.approx(
        sum(part.share for part in why.interests if part.kind == "long"), abs=1e-9
    )
    assert (why.repeats > 0) == (recommender.config.repeats and item in events.items)
    assert why.balance <= 0 and (why.balance == 0 or recommender.config.scoring == "multi_interest")
    if count > 1 and recommender.config.scoring == "multi_interest":
        assert why.balance < 0


def test_interests_have_the_weights_the_model_gives_them(recommender):
    events = history(recommender, 30)
    why = recommender.explain(events, "i5")
    encoded = recommender.encode(events)
    np.testing.assert_allclose([part.weight for part in why.interests], encoded.weights[0], atol=1e-5)
    c = recommender.config
    assert [part.kind for part in why.interests] == ["long"] * c.num_long + ["short"] * c.num_short + ["newest"]
    if c.scoring == "fused":
        row = recommender.items.row("i5")
        dots = encoded.interests[0].astype(np.float64) @ recommender.catalog.vectors[row].double().numpy()
        shares = [part.share for part in why.interests]
        # Not derived: float32 against float64; also relative, as normalised inputs make shares large.
        np.testing.assert_allclose(shares, encoded.weights[0] * dots, rtol=1e-5, atol=1e-4)


def test_an_event_before_every_window_acts_through_the_long_term_interests_alone():
    recommender = build(num_layers=1, window=3, short_window=2)
    why = recommender.explain(history(recommender, 20), "i5")
    assert all(part.share == pytest.approx(part.long, abs=1e-12) for part in why.events[:18])
    assert why.events[-1].share != pytest.approx(why.events[-1].long, abs=1e-6)


def test_times_further_apart_than_an_int64_reaches_are_explained(recommender):
    ends = np.iinfo(np.int64)
    now = 10**11  # the latest time allowed
    for times in ([ends.min + 1, -5, 7, ends.max], [ends.min + 1, ends.min + 9]):
        events = Events(IDS[: len(times)], times)
        check_sum(recommender, recommender.explain(events, "i5", now=now), events, now)


def test_with_bfloat16_the_float32_model_is_explained():
    exact = build(num_layers=2, num_long=0)  # long-term interests have no bfloat16 product
    rounded = Recommender(exact.artifact, precision="bfloat16")
    events = history(exact, 30)
    lost = []
    for item in IDS:
        why = rounded.explain(events, item)
        assert why == exact.explain(events, item)
        lost.append(abs(why.score - float(rounded.score(events, [item])[0, 0])))
    length = float(np.linalg.norm(exact.user_vectors(events)) * exact.catalog.vectors.norm(dim=1).max())
    assert 1e-4 * length < max(lost) < 5e-2 * length  # more than float32's error; for vectors see test_precision.py


def test_what_cannot_be_explained_is_refused():
    recommender = build()
    for call, message in (
        (
            lambda: recommender.explain([], "i1"),
            r"history: expected one user with at least one known event, got none \(0 unknown",
        ),
        (lambda: recommender.explain(["new"], "i1"), r"history: expected one user .* got none \(1 unknown"),
        (lambda: recommender.explain([["i1"], ["i2"]], "i1"), "history: expected one user .* got 2 users"),
        (lambda: recommender.explain(["i1"], "new"), "item: "),
        (lambda: recommender.explain(["i1"], 7), "item: "),
    ):
        with pytest.raises(errors.LsifError, match=message):
            call()


def test_an_unknown_time_is_none():
    recommender = build()
    assert [part.time for part in recommender.explain(["i1", "i2"], "i3").events] == [None, None]
