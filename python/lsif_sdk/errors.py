"""Every error the SDK raises on purpose: a `LsifError`, and also of the builtin type a caller would expect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = [
    "ArgumentError", "ArgumentTypeError", "ArtifactError", "ClosedError", "DataError", "DeadlineError",
    "InstallationError", "LsifError", "MissingExtraError", "OverloadedError", "PickleError", "SettingError",
    "StoreError", "TorchVersionError", "shown",
]  # fmt: skip


_MOST_CHARACTERS = 800
_MOST_OF_A_VALUE = 40
_MOST_BITS = 128


class LsifError(Exception):
    """Base of all errors raised by lsif_sdk.

    Messages fit a line of a log and can be encoded, whatever came: the middle of a longer one is left out.
    """

    def __init__(self, message: str = "") -> None:
        text = message.encode(errors="backslashreplace").decode()
        half = _MOST_CHARACTERS // 2
        super().__init__(text if len(text) <= _MOST_CHARACTERS else f"{text[:half]} ... {text[-half:]}")

    def __reduce__(self) -> tuple[Any, ...]:
        # To other processes with the message alone: classes below take other arguments.
        return _again, (type(self), str(self)), self.__dict__


def _again(kind: type[LsifError], message: str) -> LsifError:
    error = kind.__new__(kind)
    LsifError.__init__(error, message)
    return error


class ArgumentError(LsifError, ValueError):
    """An argument has a value that cannot be used; the message names it, what was expected and what came."""

    def __init__(self, argument: str, expected: str, got: object) -> None:
        super().__init__(f"{argument}: expected {expected}, got {shown(got, str)}")
        self.argument = argument


class ArgumentTypeError(LsifError, TypeError):
    """An argument has the wrong type; the message names it, what was expected and what came."""

    def __init__(self, argument: str, expected: str, got: object) -> None:
        came = type(got).__name__
        if type(got) in (bool, float, str) or (type(got) is int and got.bit_length() <= _MOST_BITS):
            text = shown(got)
            came += f" {text}" if len(text) <= _MOST_OF_A_VALUE else ""
        super().__init__(f"{argument}: expected {expected}, got {came}")
        self.argument = argument


class ArtifactError(LsifError, ValueError):
    """A model directory is missing, damaged, of another format version, or not an lsif_sdk artifact."""


class DataError(LsifError, ValueError):
    """An event file or table cannot be used; the message names the file, the column and the first bad row."""


class MissingExtraError(LsifError, ImportError):
    """A feature needs a package that inference does not; the message says what to install."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(f"for {feature} the package {package!r} is needed: pip install 'lsif_sdk[{extra}]'")


class TorchVersionError(LsifError, ImportError):
    """The torch that is installed is older than the ops need; importing lsif_sdk raises it."""

    def __init__(self, version: str, oldest: str) -> None:
        super().__init__(f"lsif_sdk needs torch {oldest} or newer, got {version}: pip install -U 'torch>={oldest}'")


class InstallationError(LsifError, ImportError):
    """A native part of lsif_sdk is missing, damaged or of another Python; importing lsif_sdk raises it."""


class SettingError(LsifError, RuntimeError):
    """An environment variable has a value that cannot be used; importing lsif_sdk raises it, or saving."""


class PickleError(LsifError, TypeError):
    """An object that answers requests was to be pickled or copied deeply."""


class OverloadedError(LsifError, RuntimeError):
    """As many requests wait as may (`Batching.max_queue`): try later, or on another server."""


class DeadlineError(LsifError, TimeoutError):
    """The request's turn did not come within its `timeout`."""


class ClosedError(LsifError, RuntimeError):
    """The recommender or store has been closed, or was made before a fork."""


class StoreError(LsifError, RuntimeError):
    """A history store cannot be reached, is damaged, of another version or something else; the message says where."""


def shown(value: object, text_of: Callable[[object], str] = repr) -> str:
    """A value in a message. Python refuses to print integers of thousands of digits, and some objects fail at it."""
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"an integer of {value.bit_length()} bits"
    try:
        return text_of(value)
    except Exception:
        return f"a {type(value).__name__} that cannot be shown"
