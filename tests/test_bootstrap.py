"""The paired bootstrap against its closed form in large samples, and the effect of pairing."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest

from evaluation_cases import random_log
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.evaluation import Popularity, bootstrap, evaluate, paired_bootstrap, rank_gains


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_large_samples_approach_the_normal_interval(confidence):
    num_users, num_samples = 4000, 4000
    values = np.random.default_rng(0).uniform(size=num_users)
    got = paired_bootstrap(values, confidence=confidence, num_samples=num_samples, seed=1)
    # A resampled mean has standard deviation s / sqrt(n), s with divisor n; by the central limit theorem it is normal.
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    error = values.std() / math.sqrt(num_users)
    assert got.mean == pytest.approx(values.mean(), rel=1e-12)
    # The p-quantile of B normal draws has standard deviation sqrt(p (1 - p) / B) / density; the tolerance is five of
    # them. The Edgeworth terms, skewness / sqrt(n) and excess kurtosis / n, are far smaller for uniform values.
    tail = (1 - confidence) / 2
    tolerance = 5 * error * math.sqrt(tail * (1 - tail) / num_samples) / NormalDist().pdf(z)
    assert abs(got.low - (values.mean() - z * error)) < tolerance
    assert abs(got.high - (values.mean() + z * error)) < tolerance
    assert tolerance < 0.2 * z * error


def test_three_users_have_all_their_resamples():
    values = np.array([0.0, 1.0, 5.0])
    means = sorted(sum(draw) / 3 for draw in itertools.product(values, repeat=3))  # 27 equally likely ones
    # A tail of 2.5 in 27 ends inside a step: 1 of the 27 means is below the low end, 3 are equal to it; so at the top.
    got = paired_bootstrap(values, confidence=1 - 2 * 2.5 / 27, num_samples=50_000)
    assert got == pytest.approx((2.0, means[2], means[24]))


def test_a_constant_difference_has_no_width_and_pairing_narrows():
    rng = np.random.default_rng(3)
    hard = rng.uniform(size=500)  # users differ far more than models
    better = hard + 0.25
    assert paired_bootstrap(better, hard, num_samples=200) == pytest.approx((0.25, 0.25, 0.25), abs=1e-15)
    noisy = better + rng.normal(scale=0.02, size=500)
    paired = paired_bootstrap(noisy, hard, num_samples=1000)
    unpaired = paired_bootstrap(noisy, rng.permutation(hard), num_samples=1000)
    assert paired.mean == pytest.approx(unpaired.mean)
    # Var(a - b) is 0.02^2 paired, and about 2 Var(uniform) = 1 / 6 shuffled: 20 times as wide.
    assert paired.high - paired.low < 0.1 * (unpaired.high - unpaired.low)
    assert paired.low > 0.24


def test_chunks_change_nothing_and_seeds_decide(monkeypatch):
    values = np.random.default_rng(4).normal(size=50)
    whole = paired_bootstrap(values, num_samples=101, seed=7)
    assert paired_bootstrap(values, num_samples=101, seed=8) != whole
    monkeypatch.setattr(bootstrap, "_VALUES_PER_CHUNK", 170)
    assert paired_bootstrap(values, num_samples=101, seed=7) == whole


def test_an_interval_of_two_reports():
    log = random_log(5)
    good, bad = (
        evaluate(Popularity(np.random.default_rng(seed).integers(0, 9, log.num_items)), log, k=5, progress=False)
        for seed in (0, 1)
    )
    gains = [rank_gains(report.per_user, 5)["ndcg@5"] for report in (good, bad)]
    interval = paired_bootstrap(*gains, num_samples=300)
    assert interval.mean == pytest.approx(good.metrics["ndcg@5"] - bad.metrics["ndcg@5"])
    assert interval.low < interval.mean < interval.high


@pytest.mark.parametrize(
    ("gains", "baseline", "options", "message"),
    [
        ([], None, {}, "gains: expected one number for each"),
        ([[1.0]], None, {}, "gains: expected one number for each"),
        ([1.0, float("nan")], None, {}, "gains: expected finite"),
        ([1.0, 2.0], [1.0, float("inf")], {}, "gains: expected finite"),
        ([1.0, 2.0], [1.0], {}, r"baseline: expected the users of gains, \(2,\), got \(1,\)"),
        ([1.0], None, {"confidence": 1.0}, "confidence"),
        ([1.0], None, {"confidence": 0.0}, "confidence"),
        ([1.0], None, {"num_samples": 0}, "num_samples"),
        ([1.0], None, {"num_samples": 10.5}, "num_samples"),
        ([1.0], None, {"seed": -1}, r"^seed: expected an integer in \[0, 9223372036854775807\], got -1"),
        ([1.0], None, {"seed": None}, "^seed: expected an integer in .*, got NoneType"),
        (["a"], None, {}, "^gains: expected an array of numbers, got ndarray"),
        ([1j], None, {}, "^gains: expected an array of numbers, got ndarray"),
        (None, None, {}, "^gains: expected an array of numbers, got ndarray"),
        ([1.0], ["a"], {}, "^baseline: expected an array of numbers, got ndarray"),
        (np.ma.masked_array([1.0], [True]), None, {}, "^gains: expected an array of numbers without a mask"),
    ],
)
def test_bad_arguments_are_refused_by_name(gains, baseline, options, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        paired_bootstrap(np.asanyarray(gains), None if baseline is None else np.array(baseline), **options)
