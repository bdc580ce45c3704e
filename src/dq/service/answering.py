"""How a master answers its clients: with a result, or the name of an error of dq and its text."""

from __future__ import annotations

from collections.abc import Callable

from dq.errors import DqError, ProtocolError, UsageError

LONGEST_WAIT_S = 30.0  # for one answer


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


def time_to_wait(seconds: object) -> float:
    """For how long a client wants to wait for news, as far as one answer may take so long.

    Raises:
        UsageError: it is not a time.
    """
    if not isinstance(seconds, (int, float)) or not seconds >= 0:  # neither is NaN
        raise UsageError("not a time to wait")
    return float(min(seconds, LONGEST_WAIT_S))
