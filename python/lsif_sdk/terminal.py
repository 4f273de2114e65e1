"""Prints ids, titles and messages so that their characters neither end a line nor control the terminal."""

from __future__ import annotations

import io
import os
import re
import sys

__all__ = ["encodes_all", "make_printable", "on_one_line"]

_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters not to print: control characters (ESC begins a terminal's commands), separators of lines and paragraphs,
marks that change the writing direction, and lone surrogates, which UTF-8 cannot encode."""


def on_one_line(value: object) -> str:
    r"""The value as text with such characters escaped: a line feed as \n, an ESC as \x1b."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), str(value))


def make_printable() -> None:
    r"""Lets `print` take any text: characters that the encoding lacks are escaped (\xe9), closed streams ignore it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell: >&-
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (for as long as the process lives)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def encodes_all() -> bool:
    """Whether standard output can encode every character."""
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
