"""The form of clients' requests, and of the exceptions that they get."""

from __future__ import annotations

import multiprocessing.managers as mpm
import traceback

from dq._support.naming import setting
from dq.core.records import Loads
from dq.security.pickle_rules import Refused

Request = tuple[str, str, tuple[object, ...], dict[str, object]]  # ident, method, arguments


def load_request(message: bytes | bytearray, loads: Loads) -> object:
    """Unpickle a client's request.

    Raises:
        Refused: it contains something that must not be unpickled here.
        EOFError: it is not a request, so its sender is not a client.
    """
    try:
        request = loads(message)
    except Refused as error:
        hint = f"serve with {setting('pickle', 'any')} where every client is trusted"
        raise Refused(f"{error}; {hint}") from None
    except Exception:
        raise EOFError from None  # not a pickle
    if not _is_request(request):
        raise EOFError
    return request


def _is_request(value: object) -> bool:
    """Whether a value has the form of a request. Any other value must not be hashed or shown: if it
    contains others many times over, that can take for ever."""
    if type(value) is not tuple or len(value) != 4:
        return False
    ident, method, args, kwds = value
    return (
        (ident is None or type(ident) is str)
        and type(method) is str
        and type(args) in (tuple, list)
        and type(kwds) is dict
        and (not kwds or all(type(name) is str for name in kwds))
    )


def check_control(method: str, args: tuple[object, ...], kwds: dict[str, object]) -> None:
    """Refuse arguments that the server's own methods never get, for the same reason."""
    wanted = mpm.Token if method == "get_methods" else str
    given = args[:1] if method == "create" else (*args, *kwds.values())
    if not all(isinstance(value, wanted) for value in given):
        raise TypeError(f"{method}() takes no such argument")


def last_line(error: Exception) -> str:
    """The last line of an exception's traceback."""
    return "".join(traceback.format_exception_only(error)).rstrip().rpartition("\n")[2]
