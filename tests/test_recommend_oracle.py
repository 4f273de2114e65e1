"""The native request path from ids to recommendations, against float64 brute force over all items."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import native
from lsif_sdk.events import Events
from lsif_sdk.recommender import Recommender

quick = settings(max_examples=30, deadline=None, derandomize=True)


def same(a: native.Arrays, b: native.Arrays) -> bool:
    return all(map(np.array_equal, a, b))


IDS = [f"item {row}" for row in range(53)]
RECOMMENDERS = {
    scoring: Recommender(
        native.make_artifact(
            native.make_config(request_time=True, scoring=scoring, temperature=0.3, normalize_items=scoring != "fused"),
            ids=IDS,
        )
    )
    for scoring in ("fused", "multi_interest")
}


@st.composite
def histories_with_unknown_items(draw):
    """Events, and the same without events of items the catalogue does not know."""
    known = draw(st.lists(st.booleans(), max_size=30))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    items = [IDS[rng.integers(53)] if k else f"nobody's {rng.integers(9)}" for k in known]
    times = native.NOW - rng.integers(0, 10**6, len(known)) if draw(st.booleans()) else None
    actions = rng.integers(0, 5, len(known)) if draw(st.booleans()) else None
    mask = np.array(known, bool)
    kept = Events(
        [item for item, k in zip(items, known, strict=True) if k],
        None if times is None else times[mask],
        None if actions is None else actions[mask],
    )
    return Events(items, times, actions), kept


@given(st.lists(histories_with_unknown_items(), min_size=1, max_size=3))
@quick
def test_events_of_unknown_items_are_as_if_they_were_not_there(pairs):
    recommender = RECOMMENDERS["fused"]
    histories, kept = (list(users) for users in zip(*pairs, strict=True))
    assert same(recommender.encode(histories, now=native.NOW), recommender.encode(kept, now=native.NOW))
    result, expected = (recommender.recommend(users, 5, now=native.NOW) for users in (histories, kept))
    assert np.array_equal(result.items, expected.items)
    assert np.array_equal(result.scores, expected.scores)
    assert result.unknown.tolist() == [len(h) - len(k) for h, k in zip(histories, kept, strict=True)]
    assert expected.unknown.tolist() == [0] * len(kept)


# ---- Recommendations


def brute_force(recommender: Recommender, encoded) -> np.ndarray:
    """Scores of all items, float64 [batch, num_items] (docs/model.md, 5), from float32 interests and weights."""
    vectors = recommender.artifact.catalog_vectors.double().numpy()
    bias = recommender.artifact.catalog_bias.double().numpy()
    if recommender.config.scoring == "fused":
        return encoded.fused.astype(np.float64) @ vectors.T + bias
    tau = recommender.config.temperature
    logits = encoded.interests.astype(np.float64) @ vectors.T / tau
    with np.errstate(divide="ignore"):
        logits += np.log(encoded.weights.astype(np.float64))[..., None]
    return tau * np.logaddexp.reduce(logits, axis=1) + bias


@pytest.mark.parametrize("k", [1, 7, 53, 60])
@pytest.mark.parametrize("exclude", ["nothing", "one list", "one per user"])
@pytest.mark.parametrize("exclude_seen", [True, False], ids=["unseen", "all"])
@pytest.mark.parametrize("scoring", RECOMMENDERS)
def test_recommend_is_brute_force_in_float64_over_all_items(scoring, exclude_seen, exclude, k):
    recommender = RECOMMENDERS[scoring]
    rng = np.random.default_rng(11)
    histories = [
        Events([IDS[row] for row in rng.integers(53, size=length)], native.NOW - np.arange(length)[::-1] * 40_000)
        for length in (1, 2, 8, 25, 120, 3, 5, 500)
    ]
    one_a_user = [IDS[user : 6 * user] for user in range(len(histories))]
    given_lists = {"nothing": None, "one list": IDS[:20], "one per user": one_a_user}[exclude]
    excluded = {"nothing": [[]] * 8, "one list": [IDS[:20]] * 8, "one per user": one_a_user}[exclude]

    result = recommender.recommend(histories, k, now=native.NOW, exclude_seen=exclude_seen, exclude=given_lists)
    scores = brute_force(recommender, recommender.encode(histories, now=native.NOW))
    assert not result.fallback.any()
    for user, history in enumerate(histories):
        unwanted = {*excluded[user], *(history.items if exclude_seen else [])}
        allowed = [row for row in range(53) if IDS[row] not in unwanted]
        got = result[user]
        found = [IDS.index(item) for item in got.items]
        assert len(found) == len(set(found)) == min(k, len(allowed))
        assert set(found) <= set(allowed)
        # The score is the exact one rounded to float32; float64 sums in another order may change the rounding.
        ulp = np.spacing(np.abs(scores[user]).astype(np.float32)).astype(np.float64)
        assert np.all(np.abs(got.scores - scores[user, found]) <= 0.51 * ulp[found])
        # Best first, and no item that is better by more than a rounding is left out.
        best = np.sort(scores[user, allowed])[::-1][: len(found)]
        assert np.all(np.diff(got.scores) <= 0)
        assert np.all(np.abs(scores[user, found] - best) <= ulp[found])
        assert result.items[user, len(found) :].tolist() == [None] * (k - len(found))


@pytest.mark.parametrize("scoring", RECOMMENDERS)
def test_scores_of_given_items_are_those_of_recommend(scoring):
    recommender = RECOMMENDERS[scoring]
    histories = [IDS[:9], IDS[30:31], []]
    scores = recommender.score(histories, IDS, now=native.NOW)
    result = recommender.recommend(histories[:2], 53, now=native.NOW, exclude_seen=False)
    for user in range(2):
        by_item = dict(result[user])
        assert [by_item[item] for item in IDS] == scores[user].tolist()
    assert np.array_equal(scores[2], recommender.artifact.catalog_bias.numpy())


def test_a_user_without_known_events_gets_the_most_popular_items():
    recommender = RECOMMENDERS["multi_interest"]
    counts = recommender.items.counts
    result = recommender.recommend([["nobody's"], IDS[:3], []], 53, exclude=IDS[5:9], now=native.NOW)
    assert result.fallback.tolist() == [True, False, True]
    order = [row for row in np.lexsort((np.arange(53), -counts)) if not 5 <= row < 9]
    for user in (0, 2):
        assert result[user].fallback is True
        assert result[user].items.tolist() == [IDS[row] for row in order]
        assert result[user].scores.tolist() == counts[order].tolist()
    alone = recommender.recommend(IDS[:3], 53, exclude=IDS[5:9], now=native.NOW)[0]
    assert list(alone) == list(result[1])
