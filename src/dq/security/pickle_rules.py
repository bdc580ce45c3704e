"""The classes that a client's pickle may name, the arguments that it may pass to them, and the
attributes that it may set."""

from __future__ import annotations

import builtins
import pickle
from collections import deque
from collections.abc import Callable

from dq._support.frozen import cast

Args = tuple[object, ...]

MAX_BITS = 65_536  # of an integer that a class is called with; Fraction(a, b) takes their square
# The square of the number of keys in one dict or set whose hashes the sender can choose. Each can
# be made to collide with all others, although no two hashes are equal. At worst this is half a
# second of work.
MAX_COLLISIONS = 20_000**2

# Modules and names that a message may name. `_CALLS` says which arguments some of them may have;
# all others may only have scalars.
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
    """Raised when a message has something that may not be unpickled here."""


def check_name(module: str, name: str) -> None:
    """Check that a message may name this.

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
    """How much work an argument is for a call."""
    return len(argument) if isinstance(argument, _SIZED) else 1


def check_of(found: object, name: str) -> Callable[[Args], bool]:
    """The function that says whether a class may be called with given arguments."""
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
    """Whether no argument is longer than its pickle, since an exception may copy it to a tuple."""
    return all(type(arg) is not range and type(arg).__module__ != "ipaddress" for arg in args)


def _is_syntax(args: Args) -> bool:
    """Whether the position of the error is a tuple or a list, since it is copied."""
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
    """Whether these attributes may be set: a UUID's number, or an exception's own attributes."""
    if type(state) is not dict:
        return False
    if type(found).__name__ == "UUID":
        return set(state) <= {"int", "is_safe"} and _are_scalars(tuple(state.values()))
    return isinstance(found, BaseException) and all(
        _is_own(found, name, value) for name, value in state.items()
    )


def _is_own(found: BaseException, name: object, value: object) -> bool:
    """Whether an exception may be given such an attribute.

    The attribute must not be one that Python itself uses. The value must not be callable, since it
    could replace a method. It must not be another exception, because C follows a chain of these
    recursively without a check of its stack. C also frees the fields of its own exceptions
    (`value`, `msg`, `name`) recursively, so these may only be scalars. A value that such a field
    gets from the exception's arguments is harmless as long as the arguments are not replaced: they
    then keep it alive, not the field.
    """
    if type(name) is not str or isinstance(value, (type, BaseException)):
        return False
    if name == "args":
        return value is found.args  # as AttributeError's own pickles have it, from 3.12 on
    if hasattr(type(found), name):
        return _is_scalar(value) and not name.startswith("__")
    return name == "__notes__" or not name.startswith("__")
