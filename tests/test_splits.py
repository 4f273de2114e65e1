"""Leave-one-out splits, and the hash of their targets."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from evaluation_cases import make_log, random_log
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError
from lsif_sdk.evaluation import (
    Popularity,
    evaluate,
    leave_one_out,
    targets_hash,
)


def test_leave_one_out_holds_out_the_two_newest_events():
    log = make_log([[3, 1, 4, 1], [], [5], [2, 0], [5, 2, 3]], 6, titles=list("abcdef"))
    split = leave_one_out(log)
    assert split.test_items.tolist() == [1, -1, -1, -1, 3]
    assert split.validation_items.tolist() == [4, -1, -1, -1, 2]
    assert split.test_times.tolist() == [103, 0, 0, 0, 109]
    assert split.validation_times.tolist() == [102, 0, 0, 0, 108]
    users = range(log.num_users)
    assert [split.train.user(u).items.tolist() for u in users] == [[3, 1], [], [5], [2, 0], [5]]
    assert [split.test_history.user(u).items.tolist() for u in users] == [[3, 1, 4], [], [5], [2, 0], [5, 2]]
    assert split.test_history.user(4).times.tolist() == [107, 108]
    assert split.test_history.user(4).actions.tolist() == log.user(4).actions[:2].tolist()
    assert split.history("validation") is split.train and split.train.titles == log.titles


def test_leave_one_out_without_times_and_without_targets():
    split = leave_one_out(make_log([[0, 1], []], 2, times=None, actions=None))
    assert split.test_times is None and split.validation_times is None
    assert split.train.items.tolist() == [0, 1]
    with pytest.raises(DataError, match="no user has a test target"):
        evaluate(Popularity(np.ones(2, np.int64)), split, progress=False)


def test_unknown_target_name_is_refused():
    split = leave_one_out(random_log(0))
    with pytest.raises(ArgumentError, match=r"target: expected one of 'validation', 'test', got 'train'"):
        split.history("train")
    with pytest.raises(ArgumentTypeError, match=r"target: expected one of 'validation', 'test', got ndarray"):
        split.targets(np.array(["test"] * 2))


def test_targets_hash_is_the_documented_format_and_ignores_order():
    expected = hashlib.sha256(b"2:u04:item2:u21:x").hexdigest()
    assert targets_hash(["u0", "u1", "u2"], ["item", "x"], np.array([0, -1, 1])) == expected
    assert targets_hash(["u2", "u0", "u1"], ["x", "item"], np.array([0, 1, -1])) == expected
    assert targets_hash(["u0", "u2"], ["item", "x"], np.array([0, 0])) != expected
    assert targets_hash(np.array([7]), np.array([40, 5]), np.array([1])) == targets_hash(["7"], ["5"], np.array([0]))
    with pytest.raises(ArgumentError, match="targets"):
        targets_hash(["u0"], ["x"], np.array([0, 0]))


def test_targets_hash_does_not_confuse_ids_that_join_alike():
    assert targets_hash(["ab"], ["c"], np.array([0])) != targets_hash(["a"], ["bc"], np.array([0]))


@pytest.mark.parametrize(
    ("users", "items", "targets", "message"),
    [
        (None, ["a"], [0], "user_ids: expected a sequence, .* got NoneType"),
        (["u"], None, [0], "item_ids: expected a sequence, .* got NoneType"),
        (["u"], ["a"], None, "targets: expected a sequence of whole numbers, got NoneType"),
        (["u"], ["a"], [1], r"targets: expected item rows in \[0, 1\), -1 for none, got 1 to 1"),
        (["u"], ["a"], [-2], r"targets: expected item rows in \[0, 1\), -1 for none, got -2 to -2"),
    ],
)
def test_targets_without_a_hash_are_refused_by_name(users, items, targets, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=f"^{message}"):
        targets_hash(users, items, targets)
