"""All errors that the SDK raises on purpose. Each is a `LsifError` and also of the builtin type one would expect."""

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

    Whatever the input, messages can be encoded and have at most about 800 characters: the middle of longer ones is cut.
    """

    def __init__(self, message: str = "") -> None:
        text = message.encode(errors="backslashreplace").decode()
        half = _MOST_CHARACTERS // 2
        super().__init__(text if len(text) <= _MOST_CHARACTERS else f"{text[:half]} ... {text[-half:]}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled with the message alone, since the classes below take other arguments.
        return _again, (type(self), str(self)), self.__dict__


def _again(kind: type[LsifError], message: str) -> LsifError:
    error = kind.__new__(kind)
    LsifError.__init__(error, message)
    return error


class ArgumentError(LsifError, ValueError):
    """An argument has an invalid value; the message names the argument, what was expected and what was given."""

    def __init__(self, argument: str, expected: str, got: object) -> None:
        super().__init__(f"{argument}: expected {expected}, got {shown(got, str)}")
        self.argument = argument


class ArgumentTypeError(LsifError, TypeError):
    """An argument has the wrong type; the message names the argument, what was expected and what was given."""

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
    """A feature needs an optional package, which inference does not need; the message says what to install."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(f"for {feature} the package {package!r} is needed: pip install 'lsif_sdk[{extra}]'")


class TorchVersionError(LsifError, ImportError):
    """The installed torch is older than the ops need. Raised when lsif_sdk is imported."""

    def __init__(self, version: str, oldest: str) -> None:
        super().__init__(f"lsif_sdk needs torch {oldest} or newer, got {version}: pip install -U 'torch>={oldest}'")


class InstallationError(LsifError, ImportError):
    """A native part of lsif_sdk is missing, damaged or of another Python. Raised when lsif_sdk is imported."""


class SettingError(LsifError, RuntimeError):
    """An environment variable has an invalid value. Raised when lsif_sdk is imported or an artifact is saved."""


class PickleError(LsifError, TypeError):
    """An attempt to pickle or deep-copy an object that answers requests."""


class OverloadedError(LsifError, RuntimeError):
    """The queue of waiting requests is full (`Batching.max_queue`): try later, or on another server."""


class DeadlineError(LsifError, TimeoutError):
    """The request's search did not begin within its `timeout`."""


class ClosedError(LsifError, RuntimeError):
    """The recommender or store has been closed, or was made before a fork."""


class StoreError(LsifError, RuntimeError):
    """A history store cannot be reached, is damaged, of another version or not a store; the message says where."""


def shown(value: object, text_of: Callable[[object], str] = repr) -> str:
    """A value as text for a message, even if it is an integer too long for Python to print or its `repr` raises."""
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"an integer of {value.bit_length()} bits"
    try:
        return text_of(value)
    except Exception:
        return f"a {type(value).__name__} that cannot be shown"
