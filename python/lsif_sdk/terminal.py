"""Ids, titles and messages on a terminal: what they hold must neither end a line nor steer the terminal."""

from __future__ import annotations

import re

__all__ = ["on_one_line"]

_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, ends of lines and paragraphs, changes of the writing direction, and what UTF-8 cannot encode."""


def on_one_line(value: object) -> str:
    r"""The value as text, with such characters as \n and \x1b, say."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), str(value))
