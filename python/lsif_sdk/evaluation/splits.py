"""Splits of events into histories that a model knows and targets to predict: leave-one-out, and a global time split."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from lsif_sdk.arguments import as_choice, as_int64
from lsif_sdk.errors import ArgumentError, DataError
from lsif_sdk.event_log import EventLog, check_log
from lsif_sdk.ids import as_list
from lsif_sdk.times import as_seconds, of_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lsif_sdk.tables import Ids

__all__ = ["SPLITS", "Split", "leave_one_out", "targets_hash", "time_split"]

Moment: TypeAlias = float | datetime.date | np.datetime64 | str
"""A boundary of a split by time: Unix seconds or a date, also as text."""

MIN_EVENTS = 3  # one event to learn from, one validation target, one test target
NO_TARGET = -1


@dataclasses.dataclass(frozen=True)
class Split:
    """For each user a validation target, to decide when training stops, and a test target, to measure with.

    Args:
        log: all events.
        train: the events for training; also the histories from which validation targets are predicted.
        test_history: the histories from which test targets are predicted.
        validation_items: item rows int64 [num_users]; -1 for a user without a validation target.
        test_items: item rows int64 [num_users]; -1 for a user without a test target.
        validation_times: Unix seconds int64 [num_users] of the validation targets, 0 for a user without one; None if
            the log has no times.
        test_times: likewise, of the test targets.
        name: the key of its function in `SPLITS` ("leave_one_out", "time"), or a name of your own.
        validation_from: Unix seconds at which the validation of a split by time begins; None for other splits.
        test_from: likewise, of the test.
    """

    log: EventLog
    train: EventLog
    test_history: EventLog
    validation_items: NDArray[np.int64]
    test_items: NDArray[np.int64]
    validation_times: NDArray[np.int64] | None
    test_times: NDArray[np.int64] | None
    name: str
    validation_from: int | None = None
    test_from: int | None = None

    @property
    def protocol(self) -> str:
        """How the split was made, in words."""
        words = {"leave_one_out": "leave-one-out", "time": "time split"}.get(self.name, self.name)
        if self.test_from is None:
            return words
        tested = f"tested on each user's first event from {self.test_from} on"
        return f"{words}: trained before {self.validation_from}, {tested}"

    def history(self, target: Literal["validation", "test"]) -> EventLog:
        """The events that are known when `target` is predicted."""
        return self.train if _checked(target) == "validation" else self.test_history

    def targets(self, target: Literal["validation", "test"]) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Item rows (-1 for a user without a target) and Unix seconds (or None) of the targets, int64 [num_users]."""
        if _checked(target) == "validation":
            return self.validation_items, self.validation_times
        return self.test_items, self.test_times

    def hash(self, target: Literal["validation", "test"] = "test") -> str:
        """`targets_hash` of the validation or test targets."""
        return targets_hash(self.log.user_ids, self.log.item_ids, self.targets(target)[0])


def leave_one_out(log: EventLog) -> Split:
    """Takes each user's newest event as test target, and the one before it as validation target.

    The order of `log` decides which events are newest. Users with fewer than three events have no targets; all their
    events are in `train`. Nearly all published results use this protocol. It is easier than reality, since the model
    knows what other users did after a target's time (see `time_split`).
    """
    check_log("log", log)
    eligible = (log.lengths >= MIN_EVENTS).astype(np.int64)
    validation = np.where(eligible, log.offsets[1:] - 2, NO_TARGET)
    test = np.where(eligible, log.offsets[1:] - 1, NO_TARGET)
    train, test_history = _keep_oldest(log, log.lengths - 2 * eligible), _keep_oldest(log, log.lengths - eligible)
    return _split(log, train, test_history, validation, test, "leave_one_out")


def time_split(log: EventLog, validation_from: Moment | None = None, test_from: Moment | None = None) -> Split:
    """Splits all users' events at the same times; each user's first event after such a time is the target.

    A model is trained on the events before `validation_from`. Each user's first event in [validation_from, test_from)
    is the validation target, which decides when training stops. The first event from `test_from` on is the test target;
    the model gets all earlier events as history, but is not trained on those from `validation_from` on. No event is
    used before its time. A user without an earlier event has no target. Items that first appear from `validation_from`
    on are cold: they stay targets and are nearly always missed.

    Args:
        log: events with times, in time order for each user.
        validation_from: Unix seconds (rounded down) or a date, as `Events` takes them, or an ISO date as text, in UTC
            if it has no time zone; None = the 80 % quantile of the events' times.
        test_from: likewise, later than `validation_from`; None = the 90 % quantile.

    Raises:
        ArgumentError: `test_from` is not after `validation_from`, or a time is not finite, NaT or invalid text.
        ArgumentTypeError: a boundary is not a time.
        DataError: the log has no events or no times, a user's events are not in time order, or the times differ so
            little that both quantiles are the same.
    """
    check_log("log", log)
    if log.times is None or log.times.size == 0:
        raise DataError("events: a time split needs events with times, got none")
    times, user = log.times, log.users
    falls = np.flatnonzero((times[1:] < times[:-1]) & (user[1:] == user[:-1]))
    if falls.size:
        name = str(log.user_ids[user[falls[0]]])
        raise DataError(f"events: a time split needs each user's events in order of time; user {name} has others")
    begin, middle = _moment("validation_from", validation_from, times, 0.8), _moment("test_from", test_from, times, 0.9)
    if middle <= begin:
        raise _no_room(begin, middle, begin_is_given=validation_from is not None, middle_is_given=test_from is not None)

    def before(moment: int) -> NDArray[np.int64]:
        return np.bincount(user[times < moment], minlength=log.num_users).astype(np.int64)

    known, known_at_test = before(begin), before(middle)
    validation = np.where((known > 0) & (known_at_test > known), log.offsets[:-1] + known, NO_TARGET)
    test = np.where((known_at_test > 0) & (log.lengths > known_at_test), log.offsets[:-1] + known_at_test, NO_TARGET)
    train, test_history = _keep_oldest(log, known), _keep_oldest(log, known_at_test)
    return _split(log, train, test_history, validation, test, "time", validation_from=begin, test_from=middle)


def _moment(name: str, given: Moment | None, times: NDArray[np.int64], share: float) -> int:
    """The boundary in Unix seconds, as a plain integer; by default the `share` quantile of the times."""
    if given is None:
        return int(np.quantile(times, share, method="higher"))
    return of_text(name, given) if isinstance(given, str) else int(as_seconds(name, [given])[0])


def _no_room(begin: int, middle: int, *, begin_is_given: bool, middle_is_given: bool) -> ArgumentError | DataError:
    if middle_is_given:
        return ArgumentError("test_from", f"a time after validation_from = {begin}", middle)
    if begin_is_given:
        expected = f"a time before {middle}, from which on 10 % of the events are tested"
        return ArgumentError("validation_from", expected, begin)
    return DataError(
        f"events: their times leave no room for a split by time: the newest 20 % begin at {begin}, and so do the "
        "newest 10 %; split leave_one_out, or name validation_from= and test_from= of time_split"
    )


def _split(
    log: EventLog,
    train: EventLog,
    test_history: EventLog,
    validation: NDArray[np.int64],
    test: NDArray[np.int64],
    name: str,
    **moments: int,
) -> Split:
    """A `Split` from target positions in `log`, int64 [num_users], -1 for none; `moments` are its boundaries."""

    def picked(values: NDArray[np.int64], position: NDArray[np.int64], missing: int) -> NDArray[np.int64]:
        if values.size == 0:
            return np.full(len(position), missing, dtype=np.int64)
        return np.where(position == NO_TARGET, missing, values[position])

    return Split(
        log=log,
        train=train,
        test_history=test_history,
        validation_items=picked(log.items, validation, NO_TARGET),
        test_items=picked(log.items, test, NO_TARGET),
        validation_times=None if log.times is None else picked(log.times, validation, 0),
        test_times=None if log.times is None else picked(log.times, test, 0),
        name=name,
        **moments,
    )


def _keep_oldest(log: EventLog, num_kept: NDArray[np.int64]) -> EventLog:
    """`log` with only the oldest `num_kept[u]` events of each user u; users, items and titles stay."""
    ends = np.repeat(log.offsets[:-1] + num_kept, log.lengths)
    return log.select(np.arange(log.items.size) < ends)


def targets_hash(user_ids: Ids, item_ids: Ids, targets: NDArray[np.int64]) -> str:
    """SHA-256 of the (user id, item id) pairs of targets, to check whether two splits have the same targets.

    A pair is encoded as the decimal byte length of the user id, ":", the user id, the decimal byte length of the item
    id, ":", the item id; ids are `str(id)` in UTF-8. The encoded pairs are sorted as byte strings and concatenated, so
    the hash depends neither on the order of users nor on row numbers.

    Args:
        user_ids: [num_users].
        item_ids: [num_items].
        targets: item rows int64 [num_users]; -1 = no target, left out.

    Returns:
        64 lower-case hexadecimal digits.

    Raises:
        ArgumentError: there is not one target per user, or a row is out of range.
        ArgumentTypeError: an argument is of the wrong type.
    """
    users, items = as_list("user_ids", user_ids), as_list("item_ids", item_ids)
    rows = as_int64("targets", targets)
    if len(users) != len(rows):
        raise ArgumentError("targets", f"one row for each of {len(users)} users", len(rows))
    if rows.size and (rows.min() < NO_TARGET or rows.max() >= len(items)):
        expected = f"item rows in [0, {len(items)}), {NO_TARGET} for none"
        raise ArgumentError("targets", expected, f"{rows.min()} to {rows.max()}")
    pairs = (
        b"".join(b"%d:%s" % (len(text), text) for text in (str(user).encode(), str(items[row]).encode()))
        for user, row in zip(users, rows.tolist(), strict=True)
        if row != NO_TARGET
    )
    return hashlib.sha256(b"".join(sorted(pairs))).hexdigest()


def _checked(target: str) -> str:
    return as_choice("target", target, ("validation", "test"))


SPLITS: dict[str, Callable[[EventLog], Split]] = {"leave_one_out": leave_one_out, "time": time_split}
"""Split functions by the name that `lsif_sdk.train` and the command line use."""
