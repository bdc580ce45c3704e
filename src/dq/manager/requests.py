"""The form in which clients ask, and in which they are told of an exception."""

from __future__ import annotations

import multiprocessing.managers as mpm
import traceback

from dq._support.naming import setting
from dq.core.records import Loads
from dq.security.pickle_rules import Refused

Request = tuple[str, str, tuple[object, ...], dict[str, object]]  # ident, method, arguments


def load_request(message: bytes | bytearray, loads: Loads) -> object:
    """What a client asks.

    Raises:
        Refused: it has what must not be unpickled here.
        EOFError: it is no request: whoever sent it is no client.
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
    """Whether it is of the form in which clients ask. Nothing else is looked at any further: to
    hash or to show a value that has others in it many times over can take for ever."""
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
    """Refuse, for the same reason, what the server itself is not asked with."""
    wanted = mpm.Token if method == "get_methods" else str
    given = args[:1] if method == "create" else (*args, *kwds.values())
    if not all(isinstance(value, wanted) for value in given):
        raise TypeError(f"{method}() takes no such argument")


def last_line(error: Exception) -> str:
    """What a traceback of it would end with."""
    return "".join(traceback.format_exception_only(error)).rstrip().rpartition("\n")[2]
