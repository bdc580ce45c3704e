"""How a master answers its clients: with a result, or the name of an error of dq and its text."""

from __future__ import annotations

from collections.abc import Callable

from dq.errors import DqError, ProtocolError


def answered(method: Callable[[], object]) -> tuple[str, object]:
    """ "ok" and what a method returns, or the error that it raises as a client can raise it."""
    try:
        return ("ok", method())
    except ProtocolError:
        raise
    except DqError as error:
        return (type(error).__name__, str(error))
    except ValueError as error:
        return ("UsageError", str(error))
