"""Requests as Python expressions: most of them nearly right, with something odd somewhere."""

from __future__ import annotations

import random

from fuzz import models

_ODD = """
None True False -1 0 1 3 2**31 2**63 -2**63 10**30 10**5000 1.5 -0.0 nan inf -inf 1e300 1j ... int len object() 'a' '' 'new'
'\\ud800' 'long' b'a' bytearray(b'ab') memoryview(b'ab') [] () {} {'a':1} set() {5} {'a','b'} frozenset([5]) [[]] [[],[]] [None]
[[None]] ['a',5] [nan] [True] [[5],5] [[5],[7,8]] [[[5]]] [b'a'] [{}] [2**63] [2**64] [-2**70] ['\\ud800'] [()]
range(3) iter([5]) (x\tfor\tx\tin\t'ab') loop() deep(5) deep(2000) {'a':1}.keys()
np.int8(5) np.int64(5) np.uint64(2**64-1) np.float16(3) np.float32(nan) np.float64(0.5) np.bool_(True) np.str_('a') np.bytes_(b'a')
np.longdouble(1) np.complex64(1) np.datetime64('NaT') np.datetime64('2024-01-01') np.datetime64(2**62,'D') np.datetime64(5,'Y')
np.timedelta64(5,'s') np.array(5) np.array('a') np.array(None) np.array(nan) np.array([]) np.array([],object) np.array([],bool)
np.zeros((0,2)) np.zeros((2,0)) np.zeros((0,0)) np.zeros((1,0),int) np.zeros((2,2,2)) np.zeros((2,0),'U1') np.array([5,7])
np.array([[5,7],[0,8]]) np.array([[5,7],[0,8]])[:,::-1] np.array([5,7],'i1') np.array([5,7],'>i8') np.array([2**64-1],'u8')
np.array([5.0,7.0]) np.array([5.5,nan]) np.array([True]) np.array([1j]) np.array(['a','b']) np.array([['a','b']]) np.array(['a','b'],'S1')
np.array([5,7],object) np.array(['a',5],object) np.array([None],object) np.array([[5],None],object) np.array([2**70],object)
np.array([nan],object) np.array([5,7])[::2] np.array(['2024-01-01'],'M8[D]') np.array(['NaT'],'M8[s]') np.array([5],'M8[as]')
np.array([2**62],'M8[D]') np.array([5],'m8[s]') np.array([(1,2.0)],'i4,f8') np.array([b'ab'],'V2') np.ma.masked_array([5,7],[0,1])
np.arange(2**11) np.ones((3,4),'f4') np.ones((2,4),'f4')*nan np.ones((2,5)) np.full((2,4),1e300) np.full((2,4),3e38) np.ones((2,4),'>f4')
torch.tensor([5,7]) torch.tensor(5) torch.zeros(2,4) torch.zeros(2,dtype=torch.bfloat16) torch.zeros(2,4,requires_grad=True)
torch.empty(2,4,device='meta') torch.zeros(2,4).to_sparse() torch.zeros(2,4,dtype=torch.complex64) torch.tensor([True]) torch.zeros(0)
quantized() torch.zeros(2,4,dtype=torch.float8_e4m3fn) torch.ones(2,4).conj()
pd.Series([5,7]) pd.Series(['a','b']) pd.Series([5,None]) pd.Series(['a',None]) pd.array([5,None],'Int64') pd.DataFrame({'a':[5]}) pd.NA
pd.NaT pd.Timestamp(0) pd.Timestamp(0,tz='UTC') pd.Series(['a'],dtype='category') pd.Index([5,7]) pd.to_datetime(['2024-01-01'])
datetime.datetime(2024,1,1) datetime.datetime(2024,1,1,tzinfo=datetime.UTC) datetime.datetime.max.replace(tzinfo=datetime.UTC)
datetime.datetime.min.replace(tzinfo=datetime.UTC) datetime.date(2024,1,1) datetime.timedelta(1) decimal.Decimal(3) decimal.Decimal('sNaN')
fractions.Fraction(1,2) array.array('q',[5,7]) collections.deque([5]) collections.UserList([5]) Color.RED Number(5) Text('a') [Number(5)]
[Text('a')] Broken() [Broken()] Events([]) [Events([5])] Events([5,7],[1,2]) Events([5],[-2**63]) Events([5],actions=[2]) state(0) state(1)
[state(0)] [state(2),state(2)] state(3) [i\tfor\ti\tin\trange(3000)]
"""
_SPLIT = [token.replace("\t", " ") for token in _ODD.replace("\n", " ").split(" ") if token]

_INTS = ["0", "1", "2", "3", "6", "7", "100", "-1", "2**20", "2**20+1", "2**31", "2**63", "np.int64(3)", "True", "3.0"]
_TIMES = ["0", "1", "1700000000", "1700003600", "1800000000", "-5", "2**62", "-2**62", "2**63-1", "-2**63", "2**63"]
_SHARES = ["0", "1", "0.5", "'long'", "'short'", "None", "1.5", "-1e-9", "nan", "'x'", "np.float32(0.3)", "1e-45"]
_CONDITIONS = [
    "{}", "{'year':1990}", "{'year':[1990,1991]}", "{'year':(1990,None)}", "{'price':(0,20)}", "{'price':1.5}",
    "{'price':nan}", "{'kind':'film'}", "{'kind':['film','book']}", "{'genres':['x'],'year':(None,1991)}", "{'genres':'q'}",
    "{'none':1}", "{'year':2**70}", "{'year':(1,2,3)}", "{'price':(5,1)}", "{5:6}", "{'kind':None}", "{'year':'1990'}",
    "{'year':{1990}}", "{'kind':{'film'}}", "{'year':np.int64(1990)}", "{'price':(-inf,inf)}", "{'genres':[]}",
]  # fmt: skip
"""Of `models.ATTRIBUTES`."""


class Requests:
    """Makes expressions for a model.

    Args:
        rng: where chance comes from.
        model: which of `fuzz.models`.
    """

    def __init__(self, rng: random.Random, model: int) -> None:
        self._rng = rng
        self._model = model
        self._ids = [repr(value) for value in (models.STRING_IDS if model % 2 else models.INTEGER_IDS)]
        self._unknown = "'new'" if model % 2 else "99"

    def call(self) -> str:
        """One request."""
        kind = self._rng.choice(_CALLS)
        parts = getattr(self, f"_{kind}")()
        return f"{kind}({', '.join([str(self._model), *(part for part in parts if part)])})"

    def odd(self) -> str:
        return self._rng.choice(_SPLIT)

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

    def _state(self) -> str:
        one = f"state({self._model})"
        return self._mostly(self._one_of([one, one, f"[{one}]", f"[{one}, {one}]", "[]"]), 0.9)

    def _now(self) -> str:
        return self._maybe("now", self._one_of([*_TIMES, "[1800000000]", "[1800000000, -5]", "1.8e9", "range(10**12)"]))

    def _users(self) -> list[str]:
        if self._rng.random() < 0.3:
            return [f"state={self._state()}", *(["history=[]"] if self._rng.random() < 0.05 else [])]
        return [self.history()]

    def _recommend(self) -> list[str]:
        conditions = self._one_of([*_CONDITIONS, f"[{self._one_of(_CONDITIONS)}, None]"])
        return [
            *self._users(), self._maybe("k", self._one_of(_INTS), 0.7), self._now(),
            self._maybe("exclude_seen", self._one_of(["True", "False"])), self._maybe("exclude", self._id_lists()),
            self._maybe("allow", self._id_lists()), self._maybe("where", conditions),
            self._maybe("interest", self._one_of(_SHARES)), self._maybe("diversity", self._one_of(_SHARES[:3]), 0.15),
            self._maybe("timeout", self._one_of(["1", "0", "None", "1e300", "-1", "nan"]), 0.15),
        ]  # fmt: skip

    def _score(self) -> list[str]:
        return [self.history(), self._id_lists(), self._now()]

    def _encode(self) -> list[str]:
        return [*self._users(), self._now()]

    def _new_state(self) -> list[str]:
        return [self.one_history(), *([f"remember={self._one_of(_INTS[:11])}"] if self._rng.random() < 0.4 else [])]

    def _append(self) -> list[str]:
        return [self._state(), self.history()]

    def _join_states(self) -> list[str]:
        return [self._state(), self._state()]

    def _explain(self) -> list[str]:
        return [self.one_history(), self._id(), self._now()]

    def _similar_items(self) -> list[str]:
        return [self._one_of([self._id(), self.ids()]), self._maybe("k", self._one_of(_INTS), 0.6)]

    def _top_k(self) -> list[str]:
        queries = self._one_of(["np.ones((2,4),'f4')", "[[1,2,3,4]]", "np.arange(4)", "[[0,0,0,1e38]]", "torch.ones(1,4)"])
        exclude = self._one_of(["[0]", "[[0],[1]]", "[-1]", "[6]", "np.zeros((2,1),int)", "[]", "[2**63]"])
        return [self._mostly(queries, 0.7), self._mostly(self._one_of(_INTS)), self._maybe("exclude", exclude, 0.5)]

    def _item_table(self) -> list[str]:
        return [
            self.ids(), *([self._one_of(["titles=['x', 'y']", "titles=[5, 6]", ""])]),
            self._one_of(["", "counts=[1, 2]", "counts=[-1, 2]", "counts=np.ones(3)", "counts=[2**63]"]),
        ]  # fmt: skip

    def _recommender(self) -> list[str]:
        entries = ", ".join(self._one_of(["1", "'x'", "None", "nan", "['x']", "b'x'"]) for _ in range(6))
        column = self._one_of([f"[{entries}]", "[1, 2, 3, 4, 5, 6]", "np.arange(6)", "[]"])
        return [
            self._maybe("threads", self._one_of(_INTS)), self._maybe("batching", self._one_of(["True", "Batching()"])),
            f"attributes={{'new': {column}}}", self._maybe("precision", "'bfloat16'"),
        ]  # fmt: skip


_CALLS = [
    *["recommend"] * 12, *["score"] * 3, *["encode"] * 2, *["new_state"] * 3, *["append"] * 3, *["similar_items"] * 3,
    *["top_k"] * 2, "join_states", "explain", "item_table", "recommender",
]  # fmt: skip
