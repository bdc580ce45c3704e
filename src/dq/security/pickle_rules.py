"""Which classes a client's pickle may name, what it may call them with, and which attributes it may
set."""

from __future__ import annotations

import builtins
import pickle
from collections import deque
from collections.abc import Callable

from dq._support.frozen import cast

Args = tuple[object, ...]

MAX_BITS = 65_536  # of an integer that a class is called with; Fraction(a, b) takes their square
# Keys of one dict or set whose hashes the sender can choose, squared: each can be made to collide
# with all others although no two hashes are the same. Half a second's work at the worst.
MAX_COLLISIONS = 20_000**2

# Modules and names that a message may name. Those that `_CALLS` has are called with what it says
# only, all others with scalars only.
_PATHS = "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath"
_ADDRESSES = "IPv4Address IPv6Address IPv4Network IPv6Network IPv4Interface IPv6Interface"
SAFE = {
    "builtins": "bool bytearray bytes complex dict float frozenset int list range set slice str"
    " tuple NotImplemented Ellipsis",
    "collections": "OrderedDict Counter deque",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "uuid": "UUID SafeUUID",
    "ipaddress": _ADDRESSES,
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,
    "_queue": "Empty",
    "queue": "Empty Full",
}
_ALLOWED = {(module, name) for module, names in SAFE.items() for name in names.split()}


class Refused(pickle.UnpicklingError):
    """Raised when a message has what may not be unpickled here."""


def check_name(module: str, name: str) -> None:
    """See that a message may name this.

    Raises:
        Refused: it is neither in `SAFE` nor a built-in exception.
    """
    if (module, name) not in _ALLOWED and not (module == "builtins" and _is_exception(name)):
        what = f"{module}.{name}"[:200]
        raise Refused(f"{what} may not be unpickled here, only standard data types may")


def _is_exception(name: str) -> bool:
    found = getattr(builtins, name, None)
    return isinstance(found, type) and issubclass(found, BaseException)


# Arguments

_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset, deque)


def length(argument: object) -> int:
    """How much a call has to do with an argument."""
    return len(argument) if isinstance(argument, _SIZED) else 1


def check_of(found: object, name: str) -> Callable[[Args], bool]:
    """What says whether a class may be called with some arguments."""
    if isinstance(found, type) and issubclass(found, BaseException):
        if issubclass(found, SyntaxError):
            return _is_syntax
        return _are_scalars if issubclass(found, OSError) else _are_ready
    return _CALLS.get(name, _are_scalars)


def _are_scalars(args: Args) -> bool:
    return all(map(_is_scalar, args))


def _is_scalar(value: object) -> bool:
    if isinstance(value, int):
        return value.bit_length() <= MAX_BITS
    kind = type(value)
    return kind in (str, bytes, float, type(None)) or kind.__module__ == "datetime"


def _are_ready(args: Args) -> bool:
    """Whether none is longer than its pickle: an exception may make a tuple of it."""
    return all(type(arg) is not range and type(arg).__module__ != "ipaddress" for arg in args)


def _is_syntax(args: Args) -> bool:
    """Where the place of the error is a tuple or a list, which is copied."""
    place = args[1] if len(args) > 1 else ()
    return _are_ready(args) and type(place) in (tuple, list) and _are_scalars(cast("Args", place))


def _is_never(args: Args) -> bool:
    return False


def _is_one(kind: type) -> Callable[[Args], bool]:
    return lambda args: len(args) == 1 and type(args[0]) is kind


def _is_nothing(args: Args) -> bool:
    return not args


def _is_bytes(args: Args) -> bool:
    text = len(args) == 2 and type(args[0]) is str and args[1] == "latin-1"  # others are imported
    return not args or text or (len(args) == 1 and type(args[0]) is bytes)


def _is_deque(args: Args) -> bool:
    return not args or (type(args[0]) in (tuple, list) and _are_scalars(args[1:]))


def _is_ratio(args: Args) -> bool:
    text = args[0] if args else None
    return _are_scalars(args) and not (isinstance(text, str) and "e" in text.lower())


_CALLS: dict[str, Callable[[Args], bool]] = {
    **dict.fromkeys(("bool", "dict", "float", "int", "list", "str", "tuple"), _is_never),
    "bytes": _is_nothing,
    "bytearray": _is_bytes,
    "set": _is_one(list),
    "frozenset": _is_one(list),
    "Counter": _is_one(dict),
    "OrderedDict": _is_nothing,
    "deque": _is_deque,
    "Fraction": _is_ratio,  # whose exponent would be a number of that many digits
}


# Attributes


def is_state(found: object, state: object) -> bool:
    """Whether an object may be given these attributes: a UUID its number, an exception its own."""
    if type(state) is not dict:
        return False
    if type(found).__name__ == "UUID":
        return set(state) <= {"int", "is_safe"} and _are_scalars(tuple(state.values()))
    return isinstance(found, BaseException) and all(
        _is_own(found, name, value) for name, value in state.items()
    )


def _is_own(found: BaseException, name: object, value: object) -> bool:
    """Whether an exception may be given such an attribute.

    Not one that Python itself looks at. Not something callable, in the place of a method. Not
    another exception: C would follow a chain of these to its end without a check of its stack. It
    also frees the fields of its own exceptions (`value`, `msg`, `name`) like that, so these may
    only be scalars. What an exception's arguments bring into such a field does no harm as long as
    nobody replaces the arguments, since then the field is not what keeps it alive.
    """
    if type(name) is not str or isinstance(value, (type, BaseException)):
        return False
    if name == "args":
        return value is found.args  # as AttributeError's own pickles have it, from 3.12 on
    if hasattr(type(found), name):
        return _is_scalar(value) and not name.startswith("__")
    return name == "__notes__" or not name.startswith("__")
