"""The options declared for type checkers are those that the methods take."""

from __future__ import annotations

import inspect

from lsif_sdk import Recommender
from lsif_sdk.options import LoadOptions, RequestOptions


def test_options_are_those_of_the_methods():
    asked = set(inspect.signature(Recommender.recommend).parameters) - {"self", "history", "k", "state"}
    assert set(RequestOptions.__annotations__) == asked
    assert set(LoadOptions.__annotations__) == set(inspect.signature(Recommender.load).parameters) - {"path"}
    annotations = Recommender.recommend.__annotations__ | Recommender.load.__annotations__
    for options in (RequestOptions, LoadOptions):
        for name, kind in options.__annotations__.items():
            assert kind.__forward_arg__ == annotations[name], name
