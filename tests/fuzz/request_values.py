"""Requests as Python expressions: most are nearly right, with something odd somewhere."""

from __future__ import annotations

import pathlib
import random

from fuzz import models

_ODD = (pathlib.Path(__file__).parent / "odd_values.txt").read_text().splitlines()

_INTS = ["0", "1", "2", "3", "6", "7", "100", "-1", "2**20", "2**20+1", "2**31", "2**63", "np.int64(3)", "True", "3.0"]
_TIMES = ["0", "1", "1700000000", "1700003600", "1800000000", "-5", "2**62", "-2**62", "2**63-1", "-2**63", "2**63"]
_DATES = ["np.datetime64('2030-01-01')", "datetime.datetime(2030, 1, 1)", "[datetime.datetime(2030, 1, 1)]"]
_SHARES = ["0", "1", "0.5", "'long'", "'short'", "None", "1.5", "-1e-9", "nan", "'x'", "np.float32(0.3)", "1e-45"]
_CONDITIONS = [
    "{}", "{'year':1990}", "{'year':[1990,1991]}", "{'year':(1990,None)}", "{'price':(0,20)}", "{'price':1.5}",
    "{'price':nan}", "{'kind':'film'}", "{'kind':['film','book']}", "{'genres':['x'],'year':(None,1991)}",
    "{'genres':5}", "{'genres':'q'}", "{'none':1}", "{'year':2**70}", "{'year':(1,2,3)}", "{'price':(5,1)}", "{5:6}",
    "{'kind':None}", "{'year':'1990'}", "{'year':{1990}}", "{'kind':{'film'}}", "{'year':np.int64(1990)}",
    "{'price':(-inf,inf)}", "{'genres':[]}",
]  # fmt: skip
"""Conditions on `models.ATTRIBUTES`."""


class Requests:
    """Makes expressions for a model.

    Args:
        rng: the source of randomness.
        model: number of the model in `fuzz.models`.
    """

    def __init__(self, rng: random.Random, model: int) -> None:
        self._rng = rng
        self._model = model
        self._ids = [repr(value) for value in (models.STRING_IDS if model % 2 else models.INTEGER_IDS)]
        self._unknown = "'new'" if model % 2 else "99"

    def call(self) -> str:
        kind = self._rng.choice(_CALLS)
        parts = getattr(self, f"_{kind}")()
        return f"{kind}({', '.join([str(self._model), *(part for part in parts if part)])})"

    def odd(self) -> str:
        return self._rng.choice(_ODD)

    def _mostly(self, good: str, chance: float = 0.85) -> str:
        return good if self._rng.random() < chance else self.odd()

    def _maybe(self, name: str, good: str, chance: float = 0.25) -> str:
        return f"{name}={self._mostly(good, 0.8)}" if self._rng.random() < chance else ""

    def _one_of(self, values: list[str]) -> str:
        return self._rng.choice(values)

    def _id(self) -> str:
        known = self._one_of(self._ids) if self._rng.random() < 0.9 else self._unknown
        return self._mostly(known, 0.98)

    def _list(self, parts: list[str]) -> str:
        inner = ", ".join(parts)
        kinds = (f"[{inner}]", f"[{inner}]", f"({inner}{',' if parts else ''})", f"np.array([{inner}])")
        plain = all(part in self._ids or part == self._unknown for part in parts)
        return self._rng.choice(kinds if plain else kinds[:3])

    def ids(self, length: int | None = None) -> str:
        length = self._rng.randrange(7) if length is None else length
        return self._list([self._id() for _ in range(length)])

    def _numbers(self, values: list[str], length: int) -> str:
        if self._rng.random() < 0.05:
            length += self._rng.choice((-1, 1)) if length else 1
        parts = [self._mostly(self._one_of(values), 0.995) for _ in range(length)]
        if values is _TIMES and self._rng.random() < 0.7:
            parts = [str(1_700_000_000 + 3600 * i) for i in range(length)]
        return self._mostly(f"[{', '.join(parts)}]" if self._rng.random() < 0.99 else "range(10**12)", 0.95)

    def one_history(self) -> str:
        if self._rng.random() < 0.5:
            return self._mostly(self.ids(), 0.95)
        length = self._rng.randrange(7)
        times = self._maybe("times", self._numbers(_TIMES, length), 0.7)
        actions = self._maybe("actions", self._numbers(["0", "1", "2", "3", "-1"], length), 0.3)
        return f"Events({', '.join(part for part in (self.ids(length), times, actions) if part)})"

    def history(self) -> str:
        if self._rng.random() < 0.6:
            return self._mostly(self.one_history(), 0.95)
        return f"[{', '.join(self.one_history() for _ in range(self._rng.randrange(4)))}]"

    def _id_lists(self) -> str:
        if self._rng.random() < 0.6:
            return self._mostly(self.ids(), 0.9)
        return f"[{', '.join(self.ids() for _ in range(self._rng.randrange(4)))}]"

    def _limits(self) -> list[str]:
        """exclude= and allow=: as lists of ids, or as a set or None for each user."""
        return [self._maybe(name, self._one_of([self._id_lists(), self._id_sets()])) for name in ("exclude", "allow")]

    def _id_sets(self) -> str:
        some = f"{{{self._one_of(self._ids)}, {self._unknown}}}"
        sets = [self._one_of([some, "None", self.ids()]) for _ in range(self._rng.randrange(4))]
        return f"[{', '.join(sets)}]"

    def _state(self) -> str:
        one = f"state({self._model})"
        return self._mostly(self._one_of([one, one, f"[{one}]", f"[{one}, {one}]", "[]"]), 0.9)

    def _now(self) -> str:
        more = ["[1800000000]", "[1800000000, -5]", "1.8e9", "range(10**12)"]
        return self._maybe("now", self._one_of([*_TIMES, *_DATES, *more]))

    def _users(self) -> list[str]:
        if self._rng.random() < 0.3:
            return [f"state={self._state()}", *(["history=[]"] if self._rng.random() < 0.05 else [])]
        return [self.history()]

    def _recommend(self) -> list[str]:
        conditions = self._one_of([*_CONDITIONS, f"[{self._one_of(_CONDITIONS)}, None]"])
        return [
            *self._users(), self._maybe("k", self._one_of(_INTS), 0.7), self._now(),
            self._maybe("exclude_seen", self._one_of(["True", "False"])), *self._limits(),
            self._maybe("where", conditions), self._maybe("interest", self._one_of(_SHARES)),
            self._maybe("diversity", self._one_of(_SHARES[:3]), 0.15),
            self._maybe("timeout", self._one_of(["1", "0", "None", "1e300", "-1", "nan"]), 0.15),
            self._maybe("budget_ms", self._one_of(["5", "0", "0.01", "None", "1e300", "-1", "nan"]), 0.15),
            self._maybe("recall_target", self._one_of(["1", "0.9", "1.0", "0", "2", "nan"]), 0.1),
        ]  # fmt: skip

    def _score(self) -> list[str]:
        return [*self._users(), f"candidates={self._id_lists()}", self._now()]

    def _encode(self) -> list[str]:
        return [*self._users(), self._now()]

    def _new_state(self) -> list[str]:
        return [self.one_history(), self._maybe("remember", self._one_of(_INTS), 0.4)]

    def _append(self) -> list[str]:
        return [self._state(), self.history()]

    def _join_states(self) -> list[str]:
        return [self._state(), self._state()]

    def _explain(self) -> list[str]:
        return [self.one_history(), self._id(), self._now()]

    def _similar_items(self) -> list[str]:
        where = self._maybe("where", self._one_of(_CONDITIONS))
        return [
            self._one_of([self._id(), self.ids()]),
            self._maybe("k", self._one_of(_INTS), 0.6),
            *self._limits(),
            where,
        ]

    def _queries(self) -> str:
        plain = ["np.ones((2,4),'f4')", "[[1,2,3,4]]", "np.arange(4)", "[[0,0,0,1e38]]", "torch.ones(1,4)"]
        return self._mostly(self._one_of(plain), 0.7)

    def _search(self) -> list[str]:
        where = self._maybe("where", self._one_of(_CONDITIONS))
        return [self._queries(), self._maybe("k", self._one_of(_INTS), 0.6), *self._limits(), where]

    def _top_k(self) -> list[str]:
        exclude = self._one_of(["[0]", "[[0],[1]]", "[-1]", "[6]", "np.zeros((2,1),int)", "[]", "[2**63]"])
        return [self._queries(), self._mostly(self._one_of(_INTS)), self._maybe("exclude", exclude, 0.5)]

    def _item_table(self) -> list[str]:
        return [
            self._mostly(self.ids(), 0.8), self._maybe("titles", self._one_of(["['x', 'y']", "[5, 6]"])),
            self._maybe("counts", self._one_of(["[1, 2]", "[-1, 2]", "np.ones(3)", "[2**63]"]), 0.4),
        ]  # fmt: skip

    def _recommender(self) -> list[str]:
        entries = ", ".join(self._one_of(["1", "'x'", "None", "nan", "['x']", self.odd()]) for _ in range(6))
        column = self._mostly(self._one_of([f"[{entries}]", "[1, 2, 3, 4, 5, 6]", "np.arange(6)"]), 0.8)
        return [
            self._maybe("threads", self._one_of(_INTS)), self._maybe("batching", self._one_of(["True", "Batching()"])),
            self._maybe("attributes", f"{{'new': {column}}}", 0.5), self._maybe("precision", "'bfloat16'"),
        ]  # fmt: skip

    def _upsert(self) -> list[str]:
        ids = sorted({self._one_of([*self._ids, self._unknown]) for _ in range(self._rng.randrange(4))})
        count = len(ids)
        columns = {"price": "1.5", "year": "1990", "kind": "'film'", "genres": "['x']"}
        attributes = ", ".join(f"'{name}': {self._mostly(f'[{v}] * {count}', 0.95)}" for name, v in columns.items())
        return [
            self._mostly(f"[{', '.join(ids)}]", 0.9), self._mostly(f"np.ones(({count},4),'f4')", 0.8),
            self._maybe("bias", f"[0.5] * {count}"), self._maybe("titles", f"['x'] * {count}", 0.1),
            self._maybe("counts", f"[3] * {count}"), self._maybe("until", self._until(count)),
            f"attributes={{{attributes}}}",
        ]  # fmt: skip

    def _until(self, count: int) -> str:
        return self._one_of([*_TIMES, f"[1800000000] * {count}", *_DATES, "None"])

    def _hide(self) -> list[str]:
        return [self._mostly(self.ids(), 0.9)]

    def _show(self) -> list[str]:
        return [self._mostly(self.ids(), 0.9), self._maybe("until", self._until(2), 0.6)]

    _remove = _hide


_CALLS = [
    *["recommend"] * 12, *["score"] * 3, *["encode"] * 2, *["new_state"] * 3, *["append"] * 3, *["similar_items"] * 3,
    *["search"] * 3, *["top_k"] * 2, "join_states", "explain", "item_table", "recommender", "upsert", "upsert",
    "hide", "show", "remove",
]  # fmt: skip
