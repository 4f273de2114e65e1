"""`Recent` keeps what was used last, compared with a list kept in order by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lsif_sdk.recent import Recent


@given(most=st.integers(1, 4), uses=st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=40))
def test_the_value_not_used_for_longest_goes_first(most, uses):
    recent: Recent[int, str] = Recent(most)
    kept: list[tuple[int, str]] = []
    for place, (is_put, key) in enumerate(uses):
        old = dict(kept).get(key)
        value = f"{key}, {place}" if is_put else old
        if is_put:
            recent.put(key, f"{key}, {place}")
        else:
            assert recent.get(key) == old
        if value is not None:
            kept = [*(entry for entry in kept if entry[0] != key), (key, value)][-most:]
        assert recent.items() == kept
