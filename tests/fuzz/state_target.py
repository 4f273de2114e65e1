"""User states, damaged as stored or in memory, with a valid checksum, and used in every way a state can be."""

from __future__ import annotations

import functools
import hashlib
import random

import numpy as np

from fuzz import models, mutate
from lsif_sdk import Events, UserState

_OF_THE_MODEL = b"fingerprint of the fuzzed model."  # a placeholder in inputs, so they do not depend on the weights
_CHECKSUM_BYTES = 16
_STORED, _REPAIRED, _IN_MEMORY = range(3)
_NOW = 1_700_000_000


class StateTarget:
    """Inputs are three bytes, [model, use, form], and a state: as `UserState.to_bytes` gives it, the same with its
    checksum recomputed, or `UserState.data`."""

    name = "state"
    suffix = ".bin"

    def generate(self, rng: random.Random) -> bytes:
        variant = rng.randrange(models.NUM_MODELS)
        form = rng.choices((_STORED, _REPAIRED, _IN_MEMORY), (1, 5, 14))[0]
        data = rng.choice(_whole(variant, form == _IN_MEMORY))
        for _ in range(rng.choice((1, 1, 2, 3))):
            data = mutate.mutated_bytes(rng, data) if rng.random() < 0.3 else _with_other_words(rng, data)
        return bytes([variant, rng.randrange(len(_USES)), form]) + data

    def run(self, data: bytes) -> None:
        variant, use, form = data[:3]
        model = models.recommender(variant)
        given = data[3:].replace(_OF_THE_MODEL, model.fingerprint)
        if form == _IN_MEMORY:
            state = UserState(np.frombuffer(given, np.uint8).copy())
            given = state.to_bytes()
        elif form == _REPAIRED:
            payload = given[:-_CHECKSUM_BYTES]
            given = payload + hashlib.blake2b(payload, digest_size=_CHECKSUM_BYTES).digest()
        state = UserState.from_bytes(given)
        assert UserState.from_bytes(state.to_bytes()) == UserState.from_bytes(memoryview(given)) == state
        assert repr(state) and isinstance(hash(state), int)
        assert isinstance(state.num_events + state.num_unknown + state.remember + (state.newest_time or 0), int)
        _USES[use](model, variant, state)


def _recommend(model, variant, state):
    for now in (None, _NOW):
        out = model.recommend(state=[state, _valid(variant)], k=4, now=now)
        models.check_answer(out, model, 2, 4)


def _encode(model, variant, state):
    encoded = model.encode(state=state, now=_NOW)
    assert all(np.isfinite(part).all() for part in encoded), "vectors are not finite"
    scores = model.score(state=[state, _valid(variant)], candidates=model.items.ids.tolist()[:4], now=_NOW)
    assert scores.shape == (2, 4) and np.isfinite(scores).all(), "scores are not finite"


def _append(model, variant, state):
    before = state.to_bytes()
    late = Events(model.items.ids.tolist()[:4], times=[2**62] * 4)
    grown = model.append([state, _valid(variant)], [late if state.newest_time is not None else late.items, []])
    assert state.to_bytes() == before and grown[0].num_events == state.num_events + 4
    models.check_answer(model.recommend(state=grown, k=4), model, 2, 4)


def _join_before(model, variant, state):
    models.check_answer(model.recommend(state=model.join_states(state, _valid(variant)), k=4), model, 1, 4)


def _join_after(model, variant, state):
    models.check_answer(model.recommend(state=model.join_states(_valid(variant), state), k=4), model, 1, 4)


_USES = [_recommend, _encode, _append, _join_before, _join_after]


@functools.cache
def _states(variant: int) -> list[UserState]:
    model = models.recommender(variant)
    ids = model.items.ids.tolist()
    made = []
    for count in (0, 1, 2, 5, 12):
        items = [*[ids[i % len(ids)] for i in range(count)], *([type(ids[0])(9)] if count == 5 else [])]
        times = [_NOW + 3600 * i for i in range(len(items))]
        made += [model.new_state(history, remember=8) for history in (items, Events(items, times))]
    return [*made, model.new_state(ids, remember=1)]


def _valid(variant: int) -> UserState:
    return _states(variant)[-2]  # of 12 events with times


@functools.cache
def _whole(variant: int, is_in_memory: bool) -> list[bytes]:
    fingerprint = models.recommender(variant).fingerprint
    whole = [state.data.tobytes() if is_in_memory else state.to_bytes() for state in _states(variant)]
    return [data.replace(fingerprint, _OF_THE_MODEL) for data in whole]


def _with_other_words(rng: random.Random, data: bytes) -> bytes:
    """Changes one aligned number after the format, mostly after the fingerprint: sizes, counts, times, floats."""
    numbers = len(data) // 8
    if numbers < 18:
        return data
    word = rng.randrange(5, 18) if rng.random() < 0.6 else rng.randrange(1, numbers)
    old = int.from_bytes(data[8 * word : 8 * word + 8], "little")
    near = (old + rng.choice((-2, -1, 1, 2, 8, -8)), old * 2, rng.randrange(16))
    value = rng.choice(near) if rng.random() < 0.5 else mutate.integer(rng)
    changed = (value % 2**64).to_bytes(8, "little")
    if rng.random() < 0.2:
        changed = np.array([mutate.number(rng)]).tobytes()
    elif rng.random() < 0.2:
        with np.errstate(over="ignore"):
            changed = np.array([mutate.number(rng), mutate.number(rng)], np.float64).astype(np.float32).tobytes()
    return data[: 8 * word] + changed + data[8 * word + 8 :]
