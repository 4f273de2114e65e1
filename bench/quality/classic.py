"""Traditional baselines: from the library `implicit` (the extra "bench"), and a count of the user's own items."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lsif_sdk.evaluation import OwnItems
from lsif_sdk.model.times import UNKNOWN_TIME
from lsif_sdk.training import EventLog


def interactions(history: EventLog) -> sparse.csr_matrix:
    """Number of events of each user with each item, float32 [num_users, num_items]."""
    ones = np.ones(len(history.items), dtype=np.float32)
    return sparse.csr_matrix((ones, (history.users, history.items)), shape=(history.num_users, history.num_items))


class ItemKNN:
    """Sum of an item's similarities to the items in the user's history."""

    def __init__(self, history: EventLog, similarity: str, neighbours: int) -> None:
        from implicit import nearest_neighbours as knn

        kinds = {"cosine": knn.CosineRecommender, "tfidf": knn.TFIDFRecommender, "bm25": knn.BM25Recommender}
        self._matrix = interactions(history)
        model = kinds[similarity](K=neighbours)
        model.fit(self._matrix, show_progress=False)
        self._similarity = model.similarity.tocsr()

    def scores(self, user_rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores float32 [batch, num_items]."""
        return np.asarray((self._matrix[user_rows] @ self._similarity).todense(), dtype=np.float32)


class Factors:
    """A matrix factorisation: user_factors [num_users, dim] times item_factors [num_items, dim]."""

    def __init__(self, model: Any) -> None:
        self._users, self._items = np.asarray(model.user_factors), np.asarray(model.item_factors)

    def scores(self, user_rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores float32 [batch, num_items]."""
        return (self._users[user_rows] @ self._items.T).astype(np.float32)


def als(history: EventLog, factors: int, weighting: tuple[float, float], iterations: int, seed: int) -> Factors:
    """Weighted alternating least squares (Hu et al. 2008); weighting: (alpha, regularisation)."""
    from implicit.als import AlternatingLeastSquares

    alpha, regularization = weighting
    model = AlternatingLeastSquares(
        factors=factors, regularization=regularization, alpha=alpha, iterations=iterations, random_state=seed
    )
    model.fit(interactions(history), show_progress=False)
    return Factors(model)


def bpr(
    history: EventLog, factors: int, learning_rate: float, regularization: float, epochs: int, seed: int
) -> Factors:
    """Bayesian personalised ranking (Rendle et al. 2009)."""
    from implicit.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(
        factors=factors,
        learning_rate=learning_rate,
        regularization=regularization,
        iterations=epochs,
        random_state=seed,
    )
    model.fit(interactions(history), show_progress=False)
    return Factors(model)


class OwnItemsByHour(OwnItems):
    """`OwnItems` by frequency, where events at the request's hour of the day and day of the week count more.

    An event's weight, which decays with `half_life`, is multiplied by f + (1 - f) exp(a), where
    a = sharpness (cos(2 pi D) - 1 + (cos(2 pi D / 7) - 1) / 3), D is the number of days from the event to the request,
    and f = .1, so that other hours count a little, too. If a time is unknown, 0 replaces exp(a).

    Args:
        history: the histories, with times.
        now: request time of each user, Unix seconds int64 [num_users].
        half_life: in events.
        sharpness: how much less other hours of the day count, >= 0; a third of it applies to days of the week.
    """

    def __init__(self, history: EventLog, now: NDArray[np.int64] | None, half_life: float, sharpness: float) -> None:
        if history.times is None or now is None:
            raise SystemExit("own-frequency-hour-now needs events with times")
        super().__init__(history, "frequency", half_life)
        self._times, self._now, self._sharpness = history.times, now, sharpness

    def weights(self, user: int) -> NDArray[np.float64]:
        """See `OwnItems.weights`."""
        begin, end = self._history.offsets[user : user + 2]
        times, now = self._times[begin:end], self._now[user]
        known = (times != UNKNOWN_TIME) & (now != UNKNOWN_TIME)
        turns = 2 * np.pi * np.where(known, now - np.where(known, times, now), 0) / 86400
        by_hour = known * np.exp(self._sharpness * (np.cos(turns) - 1 + (np.cos(turns / 7) - 1) / 3))
        return np.asarray(super().weights(user) * (0.1 + 0.9 * by_hour))
