"""From a checked request to an answer: a search, or what is done in its place."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lsif_sdk.calibration import HURRIED_SHARE, SAMPLE
from lsif_sdk.catalog import native_errors, spread_rows
from lsif_sdk.diversity import diversified
from lsif_sdk.errors import DeadlineError, OverloadedError
from lsif_sdk.events import EventBatch, History
from lsif_sdk.native_model import NativeModel
from lsif_sdk.recommendations import Recommendations
from lsif_sdk.request import Options, Request
from lsif_sdk.user_state import UserState

__all__ = ["Ranker"]


class Ranker(NativeModel):
    """Answers `Recommender.recommend`, which has the arguments and their meaning."""

    version = 0
    """Of the snapshot: 0, or how many a `LiveRecommender` had published before it."""

    @property
    def expected_seconds(self) -> float:
        """What the search for one user has taken lately; 0 before the first."""
        return self._pace.expected(1)

    def _answer(
        self,
        history: History | Sequence[History] | None,
        state: UserState | Sequence[UserState] | None,
        options: Options,
    ) -> Recommendations:
        began = time.perf_counter_ns()
        users = self._users(history, state)
        batch = len(users)
        request = Request.checked(options, self.items, self._attributes, batch)
        asked_at = self._now(options.now, batch)
        unknown, fallback = _known_of(users)
        parsed = time.perf_counter_ns()
        answer, degraded = self._search(users, request, asked_at, request.left((parsed - began) / 1e9))
        if answer is None:
            fallback = np.ones(batch, np.bool_)
            answer = _room_for(batch, request.k)
        searched = time.perf_counter_ns()
        scores, indices, counts, long_share = answer
        k = request.k
        if request.diversity > 0 and degraded != "popularity":
            vectors = self.catalog.vectors.numpy()
            scores, indices, counts = diversified(vectors, scores, indices, counts, k, request.diversity)
        popular = fallback.nonzero()[0].tolist()
        seen = self._seen_rows(users) if degraded == "popularity" and request.exclude_seen else None
        for user in popular:
            unwanted = request.excluded_by(user)
            if seen is not None:
                unwanted = np.concatenate([unwanted, seen[0][seen[1][user] : seen[1][user + 1]]])
            counts[user] = self.items.fill_most_popular(
                unwanted, request.allowed_for(user), scores[user], indices[user]
            )
        result = Recommendations(
            self.items.take(indices), scores, counts, long_share, unknown, fallback, self.version, degraded
        )
        times = began, parsed, searched, time.perf_counter_ns()
        short = int((counts < k).sum())
        self._metrics.answered(times, batch, int(unknown.sum()), len(popular), short, bool(degraded))
        return result

    def _search(
        self,
        users: EventBatch | list[UserState],
        request: Request,
        asked_at: npt.NDArray[np.int64] | None,
        left: float | None,
    ) -> tuple[tuple[npt.NDArray[Any], ...] | None, str]:
        """The answer of a search, or None if none would be over in `left` seconds; and what was done in its place."""
        share = self._error_share(request)
        if left is None or not self._pace.is_too_slow(len(users), left):
            hurried = False
        elif self.catalog.is_ordered and not self._hurried_pace.is_too_slow(len(users), left):
            hurried, share = True, min(share, HURRIED_SHARE)
        else:
            return None, "popularity"
        arguments = (asked_at, *request.native(left), self._threads, share)
        began = time.perf_counter()
        try:
            with native_errors():
                if isinstance(users, EventBatch):
                    answer = self._path.recommend(users.items, users.times, users.actions, users.offsets, *arguments)
                else:
                    answer = self._path.recommend_states([user.data for user in users], *arguments)
        except (DeadlineError, OverloadedError):
            if left is None:
                raise
            return None, "popularity"
        (self._hurried_pace if hurried else self._pace).took(len(users), time.perf_counter() - began)
        return answer, "approximate" if hurried else ""

    def _error_share(self, request: Request) -> float:
        if request.recall_target == 1 or not self.catalog.is_ordered:
            return 1.0
        rows = spread_rows(len(self.catalog), SAMPLE)

        def search(query: int, k: int, share: float) -> Any:
            own = rows[query : query + 1]
            unwanted = own, np.array([0, 1])
            answer = self._path.recommend(
                own, None, None, unwanted[1], None, k, False, *unwanted, None, -1.0, -1.0, self._threads, share
            )
            return answer[1][0]

        return self._calibration.error_share(request.recall_target, request.num_candidates, search)

    def _seen_rows(self, users: EventBatch | list[UserState]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        if isinstance(users, EventBatch):
            return users.items, users.offsets
        with native_errors():
            return self._path.seen_rows([user.data for user in users])


def _known_of(users: EventBatch | list[UserState]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """How many events of each user were left out, and who has no others: int64 and bool [batch]."""
    if isinstance(users, EventBatch):
        return users.unknown, users.offsets[:-1] == users.offsets[1:]
    unknown = np.array([user.num_unknown for user in users], np.int64)
    return unknown, np.array([user.num_events == 0 for user in users], np.bool_)


def _room_for(batch: int, k: int) -> tuple[npt.NDArray[Any], ...]:
    """Scores, rows, counts and long shares of users nobody has searched for."""
    return (
        np.zeros((batch, k), np.float32),
        np.full((batch, k), -1, np.int64),
        np.zeros(batch, np.int64),
        np.zeros(batch, np.float32),
    )
