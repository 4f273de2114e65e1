"""A target with every kind of finding, for the fuzzer's own test."""

from __future__ import annotations

import os
import random
import time

from fuzz.loop import input_of
from lsif_sdk.errors import ArgumentError, LsifError


class Broken:
    """Case 0 is accepted, cases 1 and 3 are refused as they should be, and the others are findings."""

    name = "broken"
    suffix = ".txt"

    def generate(self, rng: random.Random) -> bytes:
        return str(rng.random()).encode()

    def run(self, data: bytes) -> None:
        case = next(case for case in range(7) if input_of(self, 0, case) == data)
        if case == 1:
            raise ArgumentError("k", "1", 0)
        if case == 2:
            raise KeyError("k")
        if case == 3:
            raise LsifError("x" * 5000)
        if case == 4:
            os.abort()
        if case == 5:
            raise ArgumentError("", "", "")
        if case == 6:
            time.sleep(1000)
