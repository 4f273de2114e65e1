"""Conditions on attributes select exactly the items for which they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lsif_sdk import errors
from lsif_sdk.attributes import Attributes, Not
from lsif_sdk.bitmaps import as_bitmap

GENRES: list[Any] = [["Drama"], "Comedy", None, ["Drama", "Comedy"], [], {"War"}]
PRICES = [1.0, 2.5, float("nan"), 10, 0, -3]
YEARS = np.array([1990, 2000, 2000, 2010, 1995, 2020])


@pytest.fixture
def attributes() -> Attributes:
    return Attributes({"genre": GENRES, "price": PRICES, "year": YEARS}, 6)


def rows(bitmap: np.ndarray) -> list[int]:
    return [row for row in range(64 * len(bitmap)) if int(bitmap[row // 64]) >> (row % 64) & 1]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"genre": "Drama"}, [0, 3]),
        ({"genre": ["Drama", "War"]}, [0, 3, 5]),
        ({"genre": {"Comedy"}}, [1, 3]),
        ({"price": (0, 2.5)}, [0, 1, 4]),
        ({"price": (None, 0)}, [4, 5]),
        ({"price": (2, None)}, [1, 3]),
        ({"price": (2.6, 2.7)}, []),
        ({"year": 2000}, [1, 2]),
        ({"year": [1990, 2020.0]}, [0, 5]),
        ({"genre": "Drama", "year": (2000, None)}, [3]),
        ({"price": (None, None)}, [0, 1, 3, 4, 5]),
        ({"genre": Not("Drama")}, [1, 2, 4, 5]),
        ({"genre": Not(["Drama", "War"])}, [1, 2, 4]),
        ({"price": Not((0, 2.5))}, [2, 3, 5]),
        ({"year": Not(2000), "price": Not(-3)}, [0, 3, 4]),
        ({"genre": Not(Not({"Comedy"}))}, [1, 3]),
    ],
)
def test_what_holds(attributes, where, expected):
    assert rows(attributes.bitmap(where)) == expected
    assert attributes.bitmap(where) is attributes.bitmap(dict(reversed(where.items())))


@given(st.lists(st.booleans(), max_size=200))
def test_a_bitmap_has_a_bit_a_row(holds):
    bitmap = as_bitmap(np.array(holds, np.bool_))
    assert bitmap.dtype == np.uint64 and len(bitmap) == -(-len(holds) // 64)
    assert rows(bitmap) == [row for row, held in enumerate(holds) if held]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"color": "red"}, r"where: expected attributes among \['genre', 'price', 'year'\], got 'color'"),
        ({"genre": "Drma"}, r"where\['genre'\]: expected values that some item has, got 'Drma'"),
        ({"genre": Not("Drma")}, r"where\['genre'\]: expected values that some item has, got 'Drma'"),
        ({"genre": Not([])}, r"expected a string or a list of at least one, got \[\]"),
        ({"genre": 3}, r"where\['genre'\]: expected a string or a list of at least one, got 3"),
        ({"genre": []}, r"expected a string or a list of at least one, got \[\]"),
        ({"price": "cheap"}, r"where\['price'\]: expected a number, a list of at least one, or \(low, high\)"),
        ({"price": (1, 2, 3)}, r"expected \(low, high\)"),
        ({"price": ("a", 2)}, r"expected \(low, high\)"),
        ({"price": (2, 1)}, r"where\['price'\]: expected \(low, high\) with low <= high, got \(2, 1\)"),
        ({"price": True}, "expected a number"),
        ({"price": []}, "expected a number"),
        ({"price": np.timedelta64(5, "s")}, "expected a number"),
        ({"price": 10**5000}, r"where\[.price.\]: expected a number, .*, got an integer of 16610 bits"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(attributes, where, message):
    with pytest.raises(errors.ArgumentError, match=message):
        attributes.bitmap(where)
    with pytest.raises(errors.ArgumentTypeError, match="where: expected a mapping"):
        attributes.bitmap("genre")


def test_columns_that_make_no_sense_are_refused():
    with pytest.raises(errors.ArgumentError, match=r"attributes\['price'\]: expected 6 entries, one per item, got 2"):
        Attributes({"price": [1, 2]}, 6)
    with pytest.raises(
        errors.ArgumentError, match=r"attributes\['genre'\]: expected numbers, or strings, .* got 7 at row 1"
    ):
        Attributes({"genre": ["a", 7]}, 2)
    with pytest.raises(errors.ArgumentTypeError, match="attributes: expected a mapping"):
        Attributes([1, 2], 2)
    for odd in (5, "ab", {1, 2}, np.array(5), torch.zeros(2, dtype=torch.bfloat16)):
        with pytest.raises(errors.ArgumentTypeError, match=r"attributes\['price'\]: expected a(n array| sequence)"):
            Attributes({"price": odd}, 2)
    for entry in (np.array("a"), 10**5000, np.timedelta64(5, "s"), 1j):
        with pytest.raises(errors.ArgumentError, match=r"attributes\['x'\]: expected numbers, or strings.*at row 1"):
            Attributes({"x": ["a", entry]}, 2)
    for entry in (np.timedelta64(5, "s"), 1j, "2", True):
        with pytest.raises(errors.ArgumentError, match=r"attributes\['x'\]: expected numbers, NaN.*at row 1"):
            Attributes({"x": [1.5, entry]}, 2)
        with pytest.raises(errors.ArgumentError, match=r"attributes\['x'\]: expected True or False.*at row 1"):
            Attributes({"x": [True, entry if entry is not True else None]}, 2)
    with pytest.raises(errors.ArgumentError, match=r"attributes\['x'\]: expected numbers that fit 64 bits"):
        Attributes({"x": [1.5, 10**5000]}, 2)


def test_integers_are_compared_as_integers():
    attributes = Attributes({"seller": np.array([2**53, 2**53 + 1]), "list": [2**53, 2**53 + 1]}, 2)
    for name in ("seller", "list"):
        assert rows(attributes.bitmap({name: 2**53 + 1})) == [1]
        assert rows(attributes.bitmap({name: (2**53 + 1, None)})) == [1]
        for odd in (10**400, float("nan"), (float("nan"), 5)):
            with pytest.raises(errors.ArgumentError, match=name):
                attributes.bitmap({name: odd})


def test_integers_do_not_become_other_numbers():
    for column in ([2**53 + 1, 0.5], [float("nan"), -(2**62) - 1]):
        with pytest.raises(
            errors.ArgumentError, match=r"attributes\['x'\]: expected integers that float64 has.*got -?\d+$"
        ):
            Attributes({"x": column}, 2)
    exact = Attributes({"x": [2**53, 2**53 - 1]}, 2).edited(3, {"x": {2: float("nan")}})
    assert rows(exact.bitmap({"x": 2**53})) == [0] and rows(exact.bitmap({"x": [2**53 + 1, 2**53 - 1]})) == [1]
    with pytest.raises(errors.ArgumentError, match="expected numbers, as the column has, got 'x'"):
        exact.edited(3, {"x": {0: None, 1: "x"}})
    large = Attributes({"x": [2**53 + 1, 5]}, 2)
    with pytest.raises(errors.ArgumentError, match=f"attributes.'x'.: expected integers.*got {2**53 + 1}"):
        large.edited(3, {"x": {2: 1.5}})
    with pytest.raises(errors.ArgumentError, match=f"attributes.'x'.: expected integers.*got {2**53 + 1}"):
        exact.edited(3, {"x": {0: 2**53 + 1}})
    assert rows(large.edited(3, {"x": {2: 2**53}}).bitmap({"x": 2**53})) == [2]


def test_few_conditions_are_kept(attributes):
    first = attributes.bitmap({"price": (0, 1)})
    for high in range(200):
        attributes.bitmap({"price": (0, 2 + high)})
    assert attributes.bitmap({"price": (0, 1)}) is not first


def test_bitmaps_outlive_changes_of_other_attributes(attributes):
    of_genre, of_price = {"genre": "Drama"}, {"price": (0, 2.5)}
    both = of_genre | of_price
    before = [attributes.bitmap(where) for where in (of_genre, of_price, both)]
    assert attributes.edited(6, {"genre": {}}) is attributes
    edited = attributes.edited(6, {"price": {3: 1.5}})
    assert edited.bitmap(of_genre) is before[0]
    assert rows(edited.bitmap(of_price)) == [0, 1, 3, 4] and rows(edited.bitmap(both)) == [0, 3]
    longer = attributes.edited(7, {"genre": {6: "Drama"}, "price": {6: 2}, "year": {6: 1}})
    assert rows(longer.bitmap(of_genre)) == [0, 3, 6]
    assert [rows(attributes.bitmap(where)) for where in (of_genre, of_price, both)] == [[0, 3], [0, 1, 4], [0]]


def test_true_and_false_are_0_and_1():
    flags = [True, False, np.True_]
    for column in (flags, np.array(flags), np.array(flags, object)):
        attributes = Attributes({"in_stock": column}, 3)
        for condition in (True, 1, [True], (1, None), (0.5, 1.0), np.True_):
            assert rows(attributes.bitmap({"in_stock": condition})) == [0, 2]
        assert rows(attributes.bitmap({"in_stock": False})) == [1]
        assert rows(attributes.bitmap({"in_stock": [0, True]})) == [0, 1, 2]
        with pytest.raises(
            errors.ArgumentError, match=r"where\['in_stock'\]: expected True or False, a list of at least one"
        ):
            attributes.bitmap({"in_stock": "yes"})
        edited = attributes.edited(5, {"in_stock": {0: False, 3: True, 4: False}})
        assert rows(edited.bitmap({"in_stock": True})) == [2, 3]
        for odd in (1, "yes", None):
            with pytest.raises(errors.ArgumentError, match=r"attributes\['in_stock'\]: expected True or False"):
                attributes.edited(4, {"in_stock": {3: odd}})
    with pytest.raises(errors.ArgumentError, match=r"attributes\['price'\]: expected numbers, as the column has, got"):
        Attributes({"price": [1, 2]}, 2).edited(3, {"price": {2: True}})


@pytest.mark.parametrize("odd", [[1.0], (1.0,), np.array([1.0])])
@pytest.mark.parametrize(("column", "kind"), [([1, 2], "numbers"), ([True, False], "True or False")])
def test_columns_without_lists_say_so(column, kind, odd):
    with pytest.raises(errors.ArgumentError, match=f"{kind}, as the column has, one per item and not in lists"):
        Attributes({"x": column}, 2).edited(3, {"x": {2: odd}})


def test_what_is_unknown_is_none_nan_or_what_pandas_has():
    pandas = pytest.importorskip("pandas")
    for unknown in (None, float("nan"), np.float32("nan"), pandas.NA, pandas.NaT):
        attributes = Attributes({"price": [1.5, unknown, 3], "count": [2, 1, unknown], "genre": ["a", unknown, "b"]}, 3)
        assert rows(attributes.bitmap({"price": (None, None)})) == [0, 2]
        assert rows(attributes.bitmap({"count": (1, 2)})) == [0, 1]
        assert rows(attributes.bitmap({"genre": ["a", "b"]})) == [0, 2]
        with pytest.raises(errors.ArgumentError, match=r"'flag'\]: expected True or False for every item.* at row 1"):
            Attributes({"flag": [True, unknown, False]}, 3)
        edited = attributes.edited(3, {"price": {0: unknown}, "count": {0: unknown}, "genre": {0: unknown}})
        assert rows(edited.bitmap({"price": (None, None)})) == [2]
        assert rows(edited.bitmap({"count": (None, None)})) == [1]
        assert rows(edited.bitmap({"genre": "a"})) == []
    for column in (
        pandas.Series(["a", None]),
        pandas.array(["a", None], dtype="string"),
        pandas.Categorical(["a", None]),
    ):
        assert rows(Attributes({"genre": column}, 2).bitmap({"genre": "a"})) == [0]
    Attributes({"genre": [None, None]}, 2)  # a text column


def test_a_column_with_an_index_of_another_order_is_refused():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"price": [1.0, 2.0, 3.0]})
    assert rows(Attributes({"price": frame.price}, 3).bitmap({"price": 2})) == [1]
    odd = pandas.Series([1.0, 2.0, 3.0], pandas.Index([pandas.NA, 1, 2], dtype=object))
    for column in (frame.price.iloc[[2, 0, 1]], frame.set_index(pandas.Index(["a", "b", "c"])).price, odd):
        with pytest.raises(errors.ArgumentError, match=r"'price'\]: expected a column without an index .*to_dict\(\)"):
            Attributes({"price": column}, 3)


def test_conditions_on_float32_are_compared_as_float32():
    single = np.float32(9.99)
    for column in (np.array([9.99, 1e30, np.nan, 5], np.float32), [single, np.float32(1e30), None, np.float32(5)]):
        attributes = Attributes({"price": column}, 4)
        for price in (9.99, single, float(single), [9.99], (9.99, 9.99), (single, float(single))):
            assert rows(attributes.bitmap({"price": price})) == [0]
        assert rows(attributes.bitmap({"price": (9.99, None)})) == [0, 1]
        assert rows(attributes.bitmap({"price": (None, float(single))})) == [0, 3]
        assert rows(attributes.bitmap({"price": (1, 1e300)})) == [0, 1, 3]
        assert rows(attributes.bitmap({"price": 5})) == [3]
    edited = Attributes({"price": np.array([2**24], np.float32)}, 1).edited(2, {"price": {1: 0.1}})
    assert rows(edited.bitmap({"price": 0.1})) == [1]
    with pytest.raises(errors.ArgumentError, match=f"integers that float32 has, .* got {2**24 + 1}"):
        edited.edited(2, {"price": {0: 5, 1: 2**24 + 1}})
    assert rows(edited.bitmap({"price": 2**24})) == [0] and rows(edited.bitmap({"price": 2**24 + 1})) == []


def test_dates_are_no_numbers():
    pandas = pytest.importorskip("pandas")
    columns = [np.array(["2020-01-01"], "M8[s]"), np.array(["2020-01-01"], "M8[ns]"), np.array([5], "m8[ns]")]
    for column in columns + [pandas.Series(column) for column in columns]:
        with pytest.raises(errors.ArgumentError, match=r"attributes\['x'\]: expected numbers \(dates as"):
            Attributes({"x": column}, 1)


def test_conditions_that_print_alike_are_told_apart(attributes):
    class Label(str):
        def __repr__(self) -> str:
            return "Label"

    assert rows(attributes.bitmap({"genre": Label("Drama")})) == rows(attributes.bitmap({"genre": "Drama"}))
    others = [Label(value) for value in attributes._texts["genre"]._numbers if value != "Drama"]
    assert rows(attributes.bitmap({"genre": others[0]})) == rows(attributes.bitmap({"genre": str(others[0])}))
    flags = Attributes({"in_stock": [True, False], "price": [1, 0]}, 2)
    assert rows(flags.bitmap({"in_stock": True})) == rows(flags.bitmap({"price": 1})) == [0]
    with pytest.raises(errors.ArgumentError, match="expected a number"):  # although 1, equal to True, was used before
        flags.bitmap({"price": True})


def test_a_column_has_one_dimension() -> None:
    for odd in (np.zeros((3, 2)), np.zeros((3, 1), np.int32)):
        with pytest.raises(
            errors.ArgumentError, match=r"attributes\['x'\]: expected one number an item, got shape \[3, "
        ):
            Attributes({"x": odd}, 3)


def test_names_that_are_no_strings_are_refused():
    with pytest.raises(errors.ArgumentTypeError, match=r"^attributes: expected names that are strings, got int 5$"):
        Attributes({"price": [1], 5: [2]}, 1)  # type: ignore[dict-item]
