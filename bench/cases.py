"""The cases by name. Each builds its implementations and their check from the options of bench/run.py."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from implementations import Case
from request_cases import append, encode, load, recommend
from topk import score_topk

__all__ = ["CASES"]

CASES: dict[str, Callable[[argparse.Namespace], Case]] = {
    "score_topk": score_topk,
    "encode": encode,
    "append": append,
    "recommend": recommend,
    "load": load,
}
