"""Turns errors of the native engine into those of the SDK."""

from __future__ import annotations

from lsif_sdk import _core
from lsif_sdk.errors import ArgumentError, ClosedError, DeadlineError, LsifError, OverloadedError

__all__ = ["native_errors"]

_NATIVE_ERRORS: dict[type[BaseException] | None, type[LsifError]] = {
    _core.OverloadedError: OverloadedError,
    _core.DeadlineError: DeadlineError,
    _core.ClosedError: ClosedError,
}


class native_errors:  # noqa: N801 (a context manager, used like a function)
    """Turns the engine's errors into the SDK's: 'argument: expected ..., got ...' into an `ArgumentError`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if (known := _NATIVE_ERRORS.get(kind)) is not None:
            raise known(str(error)) from None
        if isinstance(error, (ValueError, RuntimeError)) and not isinstance(error, ArgumentError):
            argument, _, rest = str(error).partition(": expected ")
            expected, _, got = rest.partition(", got ")
            if rest:
                raise ArgumentError(argument, expected, got or "something else") from None
