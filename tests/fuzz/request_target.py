"""Requests with odd arguments; the answers must keep the contract of the call."""

from __future__ import annotations

import array
import ast
import collections
import datetime
import decimal
import enum
import fractions
import functools
import random
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch

from fuzz import models
from fuzz.request_values import Requests
from lsif_sdk import Batching, Events, ItemTable, LiveRecommender, Recommender, UserState

TOLERANCE = 1e-3
"""For values computed in two ways, relative to their size: ten times the tolerance of `encode` against float64."""


class RequestTarget:
    """Inputs are Python expressions, evaluated in `_NAMES`; the first argument is the number of a model in `models`."""

    name = "request"
    suffix = ".txt"

    def generate(self, rng: random.Random) -> bytes:
        return Requests(rng, rng.randrange(models.NUM_MODELS)).call().encode()

    def run(self, data: bytes) -> None:
        eval(data.decode(), _NAMES.copy())

    def shorter(self, data: bytes) -> list[bytes]:
        """For each option of the request, the request without it."""
        tree = ast.parse(data.decode(), mode="eval")
        assert isinstance(tree.body, ast.Call)
        options = tree.body.keywords
        result = []
        for left_out in options:
            tree.body.keywords = [option for option in options if option is not left_out]
            result.append(ast.unparse(tree).encode())
        return result


def _num_users(history: Any, state: Any) -> int:
    if state is not None:
        return 1 if isinstance(state, UserState) else len(state)
    return len(history) if _is_nested(history) else 1


def _is_nested(ids: Any) -> bool:
    if isinstance(ids, (list, tuple)):
        return any(isinstance(entry, (list, tuple, np.ndarray, Events)) for entry in ids)
    return not isinstance(ids, Events) and np.ndim(ids) == 2


def _ids_of(ids: Any, batch: int) -> list[set[Any]]:
    """The ids for each user, from one list for all users or one list per user."""
    if isinstance(ids, (set, frozenset)):
        return [set(ids)] * batch
    if _is_nested(ids):
        return [set(_plain(entry)) for entry in (ids if isinstance(ids, (list, tuple)) else np.asarray(ids))]
    return [set(_plain(ids))] * batch


def _plain(ids: Any) -> list[Any]:
    ids = ids.items if isinstance(ids, Events) else ids
    return np.asarray(ids).tolist() if hasattr(ids, "__array__") else list(ids)


def _limits_of(ids: Any, batch: int) -> list[set[Any] | None]:
    """As `_ids_of`, but entries per user may also be sets or None."""
    if isinstance(ids, np.ndarray) and ids.dtype == object:
        ids = ids.tolist()
    if (
        isinstance(ids, (list, tuple))
        and ids
        and all(i is None or (np.iterable(i) and not isinstance(i, str)) for i in ids)
    ):
        return [None if entry is None else set(_plain(entry)) for entry in ids]
    return list(_ids_of(ids, batch))


def _check_limits(out: Any, batch: int, options: dict[str, Any]) -> list[set[Any]]:
    items = [set(user.items.tolist()) for user in out]
    if options.get("exclude") is not None:
        excluded = _limits_of(options["exclude"], batch)
        assert all(b is None or a.isdisjoint(b) for a, b in zip(items, excluded, strict=True)), "an excluded item"
    if options.get("allow") is not None:
        allowed = _limits_of(options["allow"], batch)
        assert all(b is None or a <= b for a, b in zip(items, allowed, strict=True)), "an item that is not allowed"
    return items


def _recommend(variant: int, history: Any = None, k: Any = 10, **options: Any) -> None:
    model = models.recommender(variant)
    out = model.recommend(history, k, **options)
    batch = _num_users(history, options.get("state"))
    models.check_answer(out, model, batch, int(k))
    if not options.get("diversity"):
        assert all((np.diff(user.scores) <= 0).all() for user in out), "scores ascend"
    items = _check_limits(out, batch, options)
    if history is not None and options.get("exclude_seen", True):
        seen = _ids_of([history] if batch == 1 and isinstance(history, Events) else history, batch)
        assert all(a.isdisjoint(b) for a, b in zip(items, seen, strict=True)), "an item of the history"


def _score(variant: int, history: Any = None, candidates: Any = None, **options: Any) -> None:
    scores = models.recommender(variant).score(history, candidates, **options)
    assert len(scores) == _num_users(history, options.get("state")) and scores.ndim == 2 and np.isfinite(scores).all()


def _encode(variant: int, history: Any = None, **options: Any) -> None:
    encoded = models.recommender(variant).encode(history, **options)
    assert len(encoded.fused) == _num_users(history, options.get("state"))
    assert all(np.isfinite(part).all() for part in encoded), "vectors are not finite"


def _new_state(variant: int, history: Any, **options: Any) -> None:
    model = models.recommender(variant)
    state = model.new_state(history, **options)
    own = history[0] if isinstance(history, (list, tuple)) and _is_nested(history) else history
    assert state.num_events + state.num_unknown == (len(_plain(own)) if np.ndim(own) < 2 else np.shape(own)[1])
    models.check_answer(model.recommend(state=state, k=2), model, 1, 2)


def _append(variant: int, state: Any, history: Any) -> None:
    grown = models.recommender(variant).append(state, history)
    assert isinstance(grown, UserState) == isinstance(state, UserState)


def _join_states(variant: int, older: Any, newer: Any) -> None:
    joined = models.recommender(variant).join_states(older, newer)
    assert joined.num_events == older.num_events + newer.num_events


def _explain(variant: int, history: Any, item: Any, **options: Any) -> None:
    model = models.recommender(variant)
    found = model.explain(history, item, **options)
    score = float(model.score(history, [item], **options)[0, 0])
    for parts in (found.interests, found.events):
        total = found.bias + found.repeats + found.balance + sum(part.share for part in parts)
        size = 1 + abs(found.bias) + abs(found.repeats) + abs(found.balance) + sum(abs(part.share) for part in parts)
        assert abs(total - score) <= TOLERANCE * size, "the parts do not sum to the score"


def _similar_items(variant: int, items: Any, **options: Any) -> None:
    model = models.recommender(variant)
    out = model.similar_items(items, **options)
    asked = [items] if isinstance(items, (str, int, np.integer)) else _plain(items)
    models.check_answer(out, model, len(asked), int(options.get("k", 10)))
    assert all(item not in user.items for item, user in zip(asked, out, strict=True)), "the item itself"
    _check_limits(out, len(asked), options)


def _search(variant: int, vectors: Any, **options: Any) -> None:
    model = models.recommender(variant)
    out = model.search(vectors, **options)
    models.check_answer(out, model, len(out), int(options.get("k", 10)))
    _check_limits(out, len(out), options)


def _top_k(variant: int, queries: Any, k: Any, **options: Any) -> None:
    out = models.recommender(variant).catalog.top_k(queries, k, **options)
    assert out.scores.shape == out.indices.shape == (len(out.counts), int(k)) and np.isfinite(out.scores).all()


def _item_table(variant: int, ids: Any, **options: Any) -> None:
    table = ItemTable(ids, **options)
    assert table.rows(table.ids).tolist() == list(range(len(table)))


def _recommender(variant: int, **options: Any) -> None:
    model = Recommender(models.artifact(variant), **options)
    models.check_answer(model.recommend([], k=1), model, 1, 1)


def _edit(name: str, variant: int, ids: Any, *values: Any, **options: Any) -> None:
    """Changes the catalogue. Then hidden and removed items are not recommended, and all but removed ones are known."""
    with LiveRecommender(models.new_recommender(variant)) as live:
        getattr(live, name)(ids, *values, **options)
        out = live.current.recommend([live.current.items.ids.tolist()[:2], []], k=8, exclude_seen=False)
        models.check_answer(out, live.current, 2, 8)
        if name != "remove":
            live.current.items.known_rows(ids)
        if name in ("hide", "remove"):
            assert all(set(user.items.tolist()).isdisjoint(_plain(ids)) for user in out), "a hidden item"


@functools.cache
def _state(variant: int) -> UserState:
    model = models.recommender(variant)
    ids = model.items.ids.tolist()
    return model.new_state(Events(ids * 2, [1_700_000_000 + 3600 * i for i in range(2 * len(ids))]), remember=4)


def _loop() -> list[Any]:
    result: list[Any] = []
    result.append(result)
    return result


def _deep(depth: int) -> list[Any]:
    result: list[Any] = []
    for _ in range(depth):
        result = [result]
    return result


def _quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.zeros(2, 4), 1.0, 0, torch.qint8)


class _Broken:
    """Claims to be an array and a sequence, and fails as both."""

    def __array__(self, *args: Any, **options: Any) -> np.ndarray:
        raise ArithmeticError("no array")

    def __len__(self) -> int:
        raise ArithmeticError("no length")


_NAMES: dict[str, Any] = {
    "recommend": _recommend, "score": _score, "encode": _encode, "new_state": _new_state, "append": _append,
    "join_states": _join_states, "explain": _explain, "similar_items": _similar_items, "search": _search,
    "top_k": _top_k,
    "item_table": _item_table, "recommender": _recommender,
    **{name: functools.partial(_edit, name) for name in ("upsert", "hide", "show", "remove")},
    "state": _state, "loop": _loop, "deep": _deep, "quantized": _quantized, "Broken": _Broken,
    "Color": enum.IntEnum("Color", {"RED": 5}),
    "Number": type("Number", (int,), {}), "Text": type("Text", (str,), {}), "Batching": Batching, "Events": Events,
    "array": array, "collections": collections, "datetime": datetime, "decimal": decimal, "fractions": fractions,
    "np": np, "pd": pd, "torch": torch, "nan": float("nan"), "inf": float("inf"),
}  # fmt: skip
