"""Answers requests: by a search, or by what replaces it if there is no time for one."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from lsif_sdk.arguments import as_k
from lsif_sdk.calibration import HURRIED_SHARE, SAMPLE, as_recall_target, trial_rows, trial_search
from lsif_sdk.device import DevicePath
from lsif_sdk.device.states import TableUsers
from lsif_sdk.diversity import diversified
from lsif_sdk.errors import DeadlineError, OverloadedError
from lsif_sdk.event_batch import EventBatch
from lsif_sdk.events import Histories, check_same_users
from lsif_sdk.native_errors import native_errors
from lsif_sdk.native_model import KnownUsers, NativeModel, States, unchanging
from lsif_sdk.recommendations import Recommendations, nobody_searched
from lsif_sdk.request import Options, Request

__all__ = ["Ranker"]


class Ranker(NativeModel):
    """Implements `Recommender.recommend`, which documents the arguments."""

    version = 0
    """Version of the snapshot: 0 when loaded; in a `LiveRecommender` each snapshot has one more than the previous."""

    @property
    def expected_seconds(self) -> float:
        """Recent mean time of a search for one user; 0 before the first."""
        return self._pace.expected(1)

    def _answer(
        self,
        history: Histories | None,
        state: States | None,
        options: Options,
    ) -> Recommendations:
        began = time.perf_counter_ns()
        asked = self._users(history, state)
        batch = len(asked)
        check_same_users(history, options.now, exclude=options.exclude, allow=options.allow)
        request = Request.checked(options, self.items, self._attributes, batch, self.artifact.excludes_seen)
        asked_at = self._now(options.now, batch)
        users = unchanging(asked, asked_at)
        unknown, fallback = _known_of(users)
        parsed = time.perf_counter_ns()
        answer, degraded = self._search(users, request, asked_at, request.left((parsed - began) / 1e9))
        if answer is None:
            fallback = np.ones(batch, np.bool_)
            answer = nobody_searched(batch, request.k)
        searched = time.perf_counter_ns()
        scores, indices, counts, long_share = answer
        k = request.k
        if request.diversity > 0 and degraded != "popularity":
            vectors = self.catalog.vectors.numpy()
            left = request.left((searched - began) / 1e9)
            scores, indices, counts, is_late = diversified(
                vectors, scores, indices, counts, k, request.diversity, math.inf if left is None else left
            )
            if is_late:
                degraded = degraded or "less diverse"
        popular = fallback.nonzero()[0].tolist()
        seen = self._own_events(users) if degraded == "popularity" and request.exclude_seen else None
        for user in popular:
            unwanted = request.excluded_by(user)
            if seen is not None:
                unwanted = np.concatenate([unwanted, seen[0][seen[2][user] : seen[2][user + 1]]])
            counts[user] = self.items.fill_most_popular(
                unwanted, request.allowed_for(user), scores[user], indices[user]
            )
        result = Recommendations(
            self.items.take(indices), scores, counts, long_share, unknown, fallback, self.version, degraded
        )
        times = began, parsed, searched, time.perf_counter_ns()
        # For few users, lists are some microseconds faster than array reductions, which matters for one request.
        short = sum(count < k for count in counts.tolist())
        self._metrics.answered(times, batch, sum(unknown.tolist()), len(popular), short, bool(degraded))
        return result

    def _search(
        self,
        users: KnownUsers,
        request: Request,
        asked_at: npt.NDArray[np.int64] | None,
        left: float | None,
    ) -> tuple[tuple[npt.NDArray[Any], ...] | None, str]:
        """The result of a search, or None if it would take more than `left` seconds; and the value of `degraded`."""
        share = self._error_share(request)
        pace = self._pace if share == 1 else self._hurried_pace
        degraded = ""
        if left is not None and pace.is_too_slow(len(users), left):
            pace = self._hurried_pace
            if share <= HURRIED_SHARE or not self._may_approximate or pace.is_too_slow(len(users), left):
                return None, "popularity"
            share, degraded = HURRIED_SHARE, "approximate"
        arguments = (asked_at, *request.native(left), self._threads, share)
        captures = self._captures
        began = time.perf_counter()
        try:
            with native_errors():
                if isinstance(users, EventBatch):
                    answer = self._path.recommend(users.items, users.times, users.actions, users.offsets, *arguments)
                elif isinstance(users, TableUsers):
                    assert isinstance(self._path, DevicePath)
                    answer = self._path.recommend_encoded(users, *arguments)
                else:
                    answer = self._path.recommend_states([user.data for user in users], *arguments)
        except (DeadlineError, OverloadedError):
            if left is None:
                raise
            return None, "popularity"
        seconds = time.perf_counter() - began
        if self._captures == captures:  # a call that captures a CUDA graph takes longer than later ones
            pace.took(len(users), seconds)
        return answer, degraded

    def calibrate(self, recall_target: float, k: int = 10) -> None:
        """Calibrates searches for a recall target, as the first request with this target would otherwise do.

        A server should call this before it takes requests, since it takes as long as a few thousand requests. Requests
        with `budget_ms` do not calibrate; their answers are exact until a calibration for the same or a smaller k.

        Args:
            recall_target: see `recommend`.
            k: see `recommend`; with diversity, the number of candidates. One calibration serves all k from one of
                1, 2, 5, 10, 20, 50 and so on to 1,000 up to the next.

        Raises:
            ArgumentError: a value is out of range.
            ArgumentTypeError: an argument is of the wrong type.
        """
        target, k = as_recall_target(recall_target), as_k(k, len(self.items))
        self._check_encoder("recall_target")
        self._refuse_on_device("recall_target", "1", None if target == 1 else target)
        if target == 1 or not self.catalog.is_ordered:
            return
        rows = trial_rows(len(self.catalog))
        users = self.encode_rows(rows, None, None, np.arange(SAMPLE + 1))
        several = self.config.scoring == "multi_interest"
        vectors, weights = (users.interests, users.weights) if several else (users.fused, None)
        search = self.catalog.search, rows, vectors, weights, self.config.temperature, self._threads or None
        self._calibration.error_share(target, k, trial_search(*search))

    @property
    def _captures(self) -> int:
        return self._path.captures if isinstance(self._path, DevicePath) else 0

    @property
    def _may_approximate(self) -> bool:
        return self._device is None and self.catalog.is_ordered

    def _error_share(self, request: Request) -> float:
        self._refuse_on_device("recall_target", "1", None if request.recall_target == 1 else request.recall_target)
        if request.recall_target == 1 or not self.catalog.is_ordered:
            return 1.0
        asked = request.recall_target, request.num_candidates
        if request.budget is None and self._calibration.known(*asked) is None:
            self.calibrate(*asked)
        return self._calibration.known_at_most(*asked)


def _known_of(users: KnownUsers) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Each user's number of unknown events, and whether there are no known ones: int64 and bool [batch]."""
    if isinstance(users, EventBatch):
        return users.unknown, users.offsets[:-1] == users.offsets[1:]
    if isinstance(users, TableUsers):
        return users.num_unknown, users.num_events == 0
    unknown = np.array([user.num_unknown for user in users], np.int64)
    return unknown, np.array([user.num_events == 0 for user in users], np.bool_)
