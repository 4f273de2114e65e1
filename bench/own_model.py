"""Vectors of a trained model's items and users, for score_topk in place of random ones."""

from __future__ import annotations

import os

import numpy as np

import lsif_sdk
from lsif_sdk.training import read_events
from topk_problem import Vectors

__all__ = ["own_vectors"]

_REGISTER = 8  # floats: some indexes are slow if the dimension is not a multiple


def own_vectors(
    model: str | os.PathLike[str], events: str | os.PathLike[str], num_users: int
) -> tuple[Vectors, Vectors]:
    """Items [num_items, dim] and randomly drawn users [num_users, dim], whose scores are inner products.

    An item's bias is an extra dimension, in which users have 1, so that indexes without biases do the same work. Zeros
    pad the vectors to a multiple of 8.

    Args:
        model: a directory written by `Recommender.save`, of a model with scoring="fused" and without repeats.
        events: a file with the columns user, item and timestamp.
        num_users: how many users with events that the model knows; if there are fewer, some are returned repeatedly.

    Raises:
        SystemExit: the model scores in another way, or no user has events it knows.
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
