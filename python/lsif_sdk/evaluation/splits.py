"""Leave-one-out: the newest event of a user is the test target, the one before it the validation target."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from lsif_sdk.errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lsif_sdk.training.data import EventLog
    from lsif_sdk.training.tables import Ids

__all__ = ["LeaveOneOut", "leave_one_out", "targets_hash"]

MIN_EVENTS = 3  # one event to learn from, one validation target, one test target
NO_TARGET = -1


@dataclasses.dataclass(frozen=True)
class LeaveOneOut:
    """A leave-one-out split. Users with fewer than three events have no targets; all their events are in `train`.

    Args:
        log: all events.
        train: the events before both targets; also the history a validation target is predicted from.
        valid_items: item rows int64 [num_users], the last event but one; -1 where the user has no targets.
        test_items: item rows int64 [num_users], the last event; -1 where the user has no targets.
        valid_times: Unix seconds int64 [num_users] of the validation targets, 0 where there is none; None if the log
            has no times.
        test_times: the same for the test targets.
    """

    log: EventLog
    train: EventLog
    valid_items: NDArray[np.int64]
    test_items: NDArray[np.int64]
    valid_times: NDArray[np.int64] | None
    test_times: NDArray[np.int64] | None

    @cached_property
    def test_history(self) -> EventLog:
        """What a test target is predicted from: every event but the test target, per user."""
        return drop_newest(self.log, (self.test_items != NO_TARGET).astype(np.int64))

    def history(self, target: Literal["valid", "test"]) -> EventLog:
        """The events known when `target` is predicted."""
        return self.train if _checked(target) == "valid" else self.test_history

    def targets(self, target: Literal["valid", "test"]) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Item rows and Unix seconds of the targets, each int64 [num_users]; -1 where a user has none."""
        if _checked(target) == "valid":
            return self.valid_items, self.valid_times
        return self.test_items, self.test_times

    def hash(self, target: Literal["valid", "test"] = "test") -> str:
        """`targets_hash` of one side of the split."""
        return targets_hash(self.log.user_ids, self.log.item_ids, self.targets(target)[0])


def leave_one_out(log: EventLog) -> LeaveOneOut:
    """Splits off the two newest events of every user with at least three; the order of `log` decides what is newest."""
    eligible = log.lengths >= MIN_EVENTS

    def newest(values: NDArray[np.int64] | None, steps_back: int, missing: int) -> NDArray[np.int64] | None:
        if values is None:
            return None
        picked = np.full(log.num_users, missing, dtype=np.int64)
        picked[eligible] = values[log.offsets[1:][eligible] - steps_back]
        return picked

    valid_items, test_items = newest(log.items, 2, NO_TARGET), newest(log.items, 1, NO_TARGET)
    assert valid_items is not None and test_items is not None
    return LeaveOneOut(
        log=log,
        train=drop_newest(log, 2 * eligible.astype(np.int64)),
        valid_items=valid_items,
        test_items=test_items,
        valid_times=newest(log.times, 2, 0),
        test_times=newest(log.times, 1, 0),
    )


def drop_newest(log: EventLog, num_dropped: NDArray[np.int64]) -> EventLog:
    """`log` without the newest `num_dropped[u]` events of each user u; users, items and titles stay."""
    kept_ends = np.repeat(log.offsets[1:] - num_dropped, log.lengths)
    return log.select(np.arange(log.items.size) < kept_ends)


def targets_hash(user_ids: Ids, item_ids: Ids, targets: NDArray[np.int64]) -> str:
    """SHA-256 over the (user id, item id) pairs of a split, so that two people can tell whether theirs are the same.

    A pair is encoded as the decimal byte length of the user id, ":", the user id, the decimal byte length of the item
    id, ":", the item id; ids are `str(id)` in UTF-8. The encoded pairs are sorted as byte strings and concatenated, so
    the hash depends neither on the order of users nor on row numbers.

    Args:
        user_ids: [num_users].
        item_ids: [num_items].
        targets: item rows int64 [num_users]; -1 = no target, left out.

    Returns:
        64 lower-case hexadecimal digits.
    """
    if len(user_ids) != len(targets):
        raise ArgumentError("targets", f"one row for each of {len(user_ids)} users", len(targets))
    pairs = (
        b"".join(b"%d:%s" % (len(text), text) for text in (str(user).encode(), str(item_ids[row]).encode()))
        for user, row in zip(user_ids, targets.tolist(), strict=True)
        if row != NO_TARGET
    )
    return hashlib.sha256(b"".join(sorted(pairs))).hexdigest()


def _checked(target: str) -> str:
    if target not in ("valid", "test"):
        raise ArgumentError("target", "'valid' or 'test'", repr(target))
    return target
