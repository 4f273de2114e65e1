"""Offsets of ragged arrays, against lists of lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lsif_sdk.ragged import known_offsets, offsets_of, owners_of


@given(st.lists(st.lists(st.booleans(), max_size=5), max_size=8))
def test_parts_are_where_the_offsets_say(parts):
    offsets = offsets_of([len(part) for part in parts])
    known = np.array([value for part in parts for value in part], np.bool_)
    left = known_offsets(known, offsets)
    assert offsets.dtype == left.dtype == owners_of(offsets).dtype == np.int64
    assert owners_of(offsets).tolist() == [place for place, part in enumerate(parts) for _ in part]
    for place, part in enumerate(parts):
        assert known[offsets[place] : offsets[place + 1]].tolist() == part
        assert left[place + 1] - left[place] == sum(part)
    assert left[0] == offsets[0] == 0
