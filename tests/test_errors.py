"""Errors: messages can be read and logged whatever the input was, and errors can be sent between processes."""

from __future__ import annotations

import pickle

import pytest

from lsif_sdk import errors


class Silent:
    def __repr__(self) -> str:
        raise OSError("no text")


def nested(depth: int) -> list:
    result: list = []
    for _ in range(depth):
        result = [result]
    return result


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x", "'x'"),
        (2**128, "an integer of 129 bits"),
        (-(10**5000), "an integer of 16610 bits"),
        ([10**5000], "a list that cannot be shown"),
        (nested(3000), "a list that cannot be shown"),
        (Silent(), "a Silent that cannot be shown"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_can_be_shown(value, expected):
    assert errors.shown(value) == expected
    assert (
        str(errors.ArgumentError("block", "another", errors.shown(value))) == f"block: expected another, got {expected}"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("wide", "str 'wide'"), (True, "bool True"), (1.5, "float 1.5"), (3, "int 3"), (None, "NoneType"),
        ("y" * 39, "str"), (2**128, "int"), ([1], "list"), (Silent(), "Silent"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_shown_if_it_is_short(value, expected):
    assert str(errors.ArgumentTypeError("dim", "another", value)) == f"dim: expected another, got {expected}"


def test_messages_fit_a_line_of_a_log():
    short, long = errors.ArgumentError("k", "1", "y" * 100), errors.ArgumentError("k", "1", "y" * 10**6 + "z")
    assert str(short) == "k: expected 1, got " + "y" * 100
    assert len(str(long)) < 1000
    assert str(long).startswith("k: expected 1, got yyy") and " ... " in str(long) and str(long).endswith("yyz")
    assert str(errors.ArtifactError("\ud800 é")) == "\\ud800 é"
    assert str(errors.LsifError()) == ""


@pytest.mark.parametrize("feature", ["the plots of a report", "training", "Table.to_pandas()"])
def test_a_missing_package_is_named_with_the_extra_it_is_in(feature):
    message = str(errors.MissingExtraError(feature, "matplotlib", "report"))
    assert message == f"for {feature} the package 'matplotlib' is needed: pip install 'lsif_sdk[report]'"


@pytest.mark.parametrize(
    "error",
    [
        errors.ArgumentError("k", "1", 2), errors.ArgumentTypeError("k", "1", "x"), errors.ArtifactError("a"),
        errors.MissingExtraError("report", "matplotlib", "report"), errors.DeadlineError("late"),
        errors.StoreError("gone"), errors.OverloadedError("full"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_errors_travel_between_processes(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error) and again.__dict__ == error.__dict__
