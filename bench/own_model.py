"""Vectors of a trained model and of its users, for score_topk in place of made-up ones."""

from __future__ import annotations

import os

import numpy as np

import lsif_sdk
from lsif_sdk.training import read_events
from topk_problem import Vectors

__all__ = ["own_vectors"]

_REGISTER = 8  # numbers: some indexes are slow with the rest of a dimension


def own_vectors(
    model: str | os.PathLike[str], events: str | os.PathLike[str], num_users: int
) -> tuple[Vectors, Vectors]:
    """Items [num_items, dim] and users [num_users, dim] drawn by lot, of whom scores are inner products.

    A bias is one dimension more, in which users have 1, so that indexes without biases do the same work; zeros follow,
    to a multiple of 8.

    Args:
        model: a directory `Recommender.save` wrote, of a model whose scores are of the fused interest.
        events: a file with the columns user, item and timestamp.
        num_users: with events that the model knows; fewer events are no error, so users may come more than once.

    Raises:
        SystemExit: the model scores otherwise, or nobody has events it knows.
    """
    recommender = lsif_sdk.Recommender.load(model)
    if recommender.config.scoring != "fused" or recommender.config.repeats:
        raise SystemExit(f"--artifact: expected a model with scoring='fused' and without repeats, got {model}")
    log = read_events(events)
    drawn = np.random.default_rng(0).permutation(log.num_users)[: 4 * num_users]
    vectors = recommender.user_vectors([log.history(int(user)) for user in drawn])
    vectors = vectors[vectors.any(axis=1)]
    if len(vectors) == 0:
        raise SystemExit(f"--events: expected users with items of the model, got {events}")
    users = np.resize(vectors, (num_users, vectors.shape[1]))
    items, bias = recommender.catalog.vectors.numpy(), recommender.catalog.bias.numpy()
    return _with_bias(items, bias), _with_bias(users, np.ones(num_users, np.float32))


def _with_bias(vectors: Vectors, bias: Vectors) -> Vectors:
    joined = np.concatenate([vectors, bias[:, None]], axis=1)
    return np.ascontiguousarray(np.pad(joined, ((0, 0), (0, -joined.shape[1] % _REGISTER))))
