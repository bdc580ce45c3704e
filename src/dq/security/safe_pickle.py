"""What a master makes of the bytes that a client sends: data of built-in and standard types, built
in no other way than their own pickles build it.

A `find_class` that knows a list, as the standard library's documentation has it, keeps a pickle
from running code, and from nothing else. Nine bytes make CPython take 64 GiB (a memo entry of a
high number); 130 keep it busy for good, and 100 KB end the process (the hash of tuples within
tuples, which it works out again for each, and without a look at its stack); a class of the list
can be changed for everybody, and called with what it was never meant for: ``list(range(10**10))``.
So a pickle is looked through first:

    survey ─┬─ no classes, no keys that are long to hash ──▶ the unpickler in C
            └─ else ───────────────────────────────────────▶ the one in Python, which is watched
"""

from __future__ import annotations

import builtins
import io
import math
import pickle
import struct
from collections import deque
from collections.abc import Callable, Iterable

from dq._support.frozen import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from typing import Any

Args = tuple[object, ...]

MOST = 2_000_000  # lists, tuples, dicts, sets and objects of one message: up to a GiB of them
# Values that one key may consist of, and deques that may have others in them: as deep as they may
# be, a MiB of stack does.
HEAVIEST = 10_000
HASHED = 10_000_000  # values that all keys of a message may consist of: a fifth of a second's work
# Keys of hashes that who sends them can choose, in one dict or set, squared: each can be made to
# collide with all others without one hash being another's. Half a second's work at the worst.
WALKED = 20_000**2
ALIKE = 64  # keys of one hash, of which each new one is compared with all before
BITS = 65_536  # of an integer that something is called with; Fraction(a, b) takes their square

# Modules and names that a message may name. What `_CALLS` has of them is called with nothing else
# than it says; the others with scalars only.
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
_MOVED = {"pathlib._local": "pathlib"}  # where 3.13 has them, and it alone


class Refused(pickle.UnpicklingError):
    """Raised when a message has what may not be unpickled here."""


def safe_loads(data: bytes | bytearray) -> object:
    """Unpickle built-in and standard data types, and nothing else.

    Raises:
        Refused: there is something else, or more than there may be.
        pickle.UnpicklingError: it is no pickle. No other exception comes out of this.

    >>> safe_loads(pickle.dumps([1, "two", {3.0}]))
    [1, 'two', {3.0}]
    >>> safe_loads(pickle.dumps(print))  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
        ...
    Refused: builtins.print may not be unpickled here, only standard data types may
    """
    try:
        kind = _Plain if _survey(data) else _Checked
        loaded: object = kind(io.BytesIO(data)).load()
        return loaded
    except pickle.UnpicklingError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise pickle.UnpicklingError(f"not a pickle of data: {reason[:200]}") from None


# The survey. `_SIZES` has for each opcode how many bytes it takes with its argument, or what kind
# it is of. What no data needs (persistent ids, extension codes, buffers, instances as Python 2 had
# them) is no opcode here. All this has to read a pickle exactly as the unpicklers do; the one in C
# drops what is left of a frame when something goes on beyond its end, so nothing may.

_NONE, _LINE, _PUT, _GLOBAL, _STACK_GLOBAL, _LONG_PUT = 0, -1, -2, -3, -4, -5
_LEN1, _LEN4, _LEN8, _LONG1, _LONG4, _BUILT, _TUPLE, _KEYS, _FRAME, _STOP = range(-6, -16, -1)
_AGAIN, _NUMBER = -20, -40  # less how many bytes it takes
_OPCODES = {
    1: b"(01Naeb\x88\x89\x94)",
    2: b"q\x80",
    _NUMBER - 2: b"K",
    _NUMBER - 3: b"M",
    _NUMBER - 5: b"J",
    _NUMBER - 9: b"G",
    _AGAIN - 1: b"2",
    _AGAIN - 2: b"h",
    _AGAIN - 5: b"j",
    _LINE: b"FILSVg",
    _PUT: b"p",
    _LONG_PUT: b"r",
    _GLOBAL: b"c",
    _STACK_GLOBAL: b"\x93",
    _LEN1: b"CU\x8c",
    _LEN4: b"BTX",
    _LEN8: b"\x8d\x8e\x96",
    _LONG1: b"\x8a",
    _LONG4: b"\x8b",
    _BUILT: b"]}l\x8fR\x81",
    _TUPLE: b"t\x85\x86\x87",
    _KEYS: b"sud\x90\x91",
    _FRAME: b"\x95",
    _STOP: b".",
}
_SIZES = [_NONE] * 256
for _size, _codes in _OPCODES.items():
    for _code in _codes:
        _SIZES[_code] = _size
_read4, _read8 = struct.Struct("<I").unpack_from, struct.Struct("<Q").unpack_from


def _survey(data: bytes | bytearray) -> bool:
    """Whether the unpickler in C can have it: there are no classes, and no keys after anything
    that could be long to hash, or of a hash that somebody has chosen; but for numbers, so few that
    it does not matter which.

    Raises:
        Refused: it is not to be unpickled at all.
        IndexError, ValueError, struct.error: it is cut off.
    """
    sizes = _SIZES
    at = built = numbers = again = 0
    end = len(data)  # of the frame, where there is one
    plain, heavy = True, False
    while True:
        if at >= end:
            if at > end:
                raise Refused("what goes beyond its frame may not be unpickled here")
            end = len(data)
        size = sizes[data[at]]
        if size > 0:
            at += size
        elif size == _LEN1:
            at += 2 + data[at + 1]
        elif size < _NUMBER:
            numbers += 1
            at += _NUMBER - size
        elif size < _AGAIN:
            again += 1
            at += _AGAIN - size
        elif size == _TUPLE:
            heavy = True
            built += 1
            at += 1
        elif size == _BUILT:
            built += 1
            at += 1
        elif size == _KEYS:
            plain = plain and not heavy and numbers * (numbers + again) <= WALKED
            if data[at] in b"d\x91":  # a dict, a frozenset
                heavy = True
                built += 1
            at += 1
        elif size == _LEN4:
            at += 5 + _read4(data, at + 1)[0]
        elif size == _LONG1:
            heavy = heavy or data[at + 1] > 8  # then it can be of the same hash as many others
            numbers += 1
            at += 2 + data[at + 1]
        elif size == _LONG4:
            heavy = True
            at += 5 + _read4(data, at + 1)[0]
        elif size == _LEN8:
            at += 9 + _read8(data, at + 1)[0]
        elif size == _FRAME:
            at += 9
            if end < len(data):
                raise Refused("a frame in a frame may not be unpickled here")
            end = at + _read8(data, at - 8)[0]
            if end > len(data):
                raise IndexError("a frame")
        elif size == _STOP:
            break
        elif size == _STACK_GLOBAL:
            plain = False
            at += 1
        elif size == _LONG_PUT:
            _check_memo(_read4(data, at + 1)[0], at)
            at += 5
        elif size == _NONE:
            raise Refused(f"opcode {data[at]:#04x} may not be unpickled here, no data needs it")
        else:
            line = data.index(b"\n", at)
            if size == _PUT:
                _check_memo(int(data[at + 1 : line]), at)
            elif size == _GLOBAL:
                plain = False
                line = data.index(b"\n", line + 1)
            else:
                heavy = True  # it may be an integer
            at = line + 1
    if built > MOST:
        raise Refused(f"over {MOST} lists, tuples, dicts and sets may not be unpickled at once")
    return plain


def _check_memo(index: int, at: int) -> None:
    """Refuse an entry that the memo has no need of: CPython makes room for all up to it."""
    if index > at:
        raise Refused(f"memo entry {index} may not be unpickled here, there are fewer")


class _Plain(pickle.Unpickler):
    """In C, for what names no class."""

    def find_class(self, module: str, name: str) -> object:
        raise Refused(f"{module}.{name} may not be unpickled here")  # the survey has missed it


_UNFORESEEN = (str, bytes)  # whose hashes nobody can


class _Table:
    """What is known of the keys of one dict or set, in the order in which they come.

    CPython looks for a key's place from its hash on, and as long as these rise, to no more than 3/2
    of how many there are, no two have the same: so it is with ``set(range(1_000_000))``.
    """

    __slots__ = ("chosen", "count", "first", "last", "orderly", "owner")

    def __init__(self, owner: object) -> None:
        self.owner = owner  # kept so that its id stays its own
        self.count = self.chosen = self.orderly = self.first = 0
        self.last = -1

    def add(self, key: object) -> None:
        if type(key) is tuple and any(part and type(part) in _UNFORESEEN for part in key):
            return
        if not self.count:
            self.first = hash(key)
        place = hash(key) - self.first
        self.count += 1
        if self.last < place < 1.5 * (self.orderly + 1):
            self.orderly += 1
            self.last = place
        else:
            self.chosen += 1
        if self.chosen * self.count > WALKED:
            raise Refused(
                f"over {math.isqrt(WALKED)} keys that are no texts, nor numbers in a row, may not"
                " be unpickled here in one dict or set"
            )


_InPython: Any = pickle._Unpickler  # type: ignore[attr-defined, unused-ignore]  # undocumented


class _Checked(_InPython):  # type: ignore[misc]  # of no type that checkers know
    """In Python, and slower by far, for what does, and for keys that may be long to hash."""

    dispatch = dict(_InPython.dispatch)  # noqa: RUF012  # as CPython has it

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._checks: dict[object, Callable[[Args], bool]] = {}  # of classes found
        self._weights: dict[int, int] = {}  # of tuples and frozensets, by their ids
        self._weighed: list[object] = []  # these, kept so that their ids stay theirs
        self._hashed = 0  # weight of all keys so far
        self._alike: dict[int, list[object]] = {}  # these, by their hashes
        self._tables: dict[int, _Table] = {}  # of dicts and sets, by their ids
        self._links: set[int] = set()  # ids of deques that have others in them
        # How long all that things are called with may be, where the same is used over and over.
        self._left = 4 * file.getbuffer().nbytes + 100_000

    def find_class(self, module: str, name: str) -> object:
        error = module == "builtins" and _is_exception(name)
        if not error and (module, name) not in _ALLOWED:
            what = f"{module}.{name}"[:200]
            raise Refused(f"{what} may not be unpickled here, only standard data types may")
        found: object = super().find_class(_MOVED.get(module, module), name)
        self._checks[found] = _check_of(found, name)
        return found

    # Classes

    def _reduce(self) -> None:
        called, args = self.stack[-2:]
        check = self._checks.get(called) if isinstance(called, type) else None
        if check is None or type(args) is not tuple or not check(args):
            name = getattr(called, "__name__", "this")
            raise Refused(f"{name} may not be called here with other arguments than its own")
        self._use(args)
        if called is set or called is frozenset:
            self._hash(args[0])
        self.load_reduce()
        if called is frozenset:
            self._weigh_last()
        elif called is deque:
            self._link(self.stack[-1], self.stack[-1])

    def _newobj(self) -> None:
        called, args = self.stack[-2:]
        if not isinstance(called, type) or called.__name__ != "UUID" or args != ():
            raise Refused("no object but a UUID may be unpickled without its class being called")
        self.load_newobj()

    def _build(self) -> None:
        found, state = self.stack[-2:]
        if not _is_state(found, state):
            name = type(found).__name__
            raise Refused(f"{name} may not be given attributes here that are not its own")
        self._use((state,))
        self.load_build()

    def _append(self) -> None:
        self._link(self.stack[-2], self.stack[-1:])
        self.load_append()

    def _appends(self) -> None:
        self._link(self.metastack[-1][-1], self.stack)
        self.load_appends()

    def _link(self, found: object, items: Iterable[object]) -> None:
        """Take note of deques within deques, which C frees one in the other on its stack."""
        if type(found) is deque and deque in set(map(type, items)):
            self._links.add(id(found))
            if len(self._links) > HEAVIEST:
                raise Refused("so many deques within deques may not be unpickled here")

    def _use(self, args: Args) -> None:
        self._left -= sum(len(arg) if isinstance(arg, _SIZED) else 1 for arg in args)
        if self._left < 0:
            raise Refused("so much may not be used over and over here")

    # Keys

    def _weigh(self, value: object) -> int:
        """How many values are looked at to hash it, where large integers are several."""
        if isinstance(value, int):
            return 1 + value.bit_length() // 512
        return self._weights.get(id(value), 1)

    def _weigh_last(self) -> None:
        made = self.stack[-1]
        self._weights[id(made)] = min(1 + sum(map(self._weigh, made)), HEAVIEST + 1)
        self._weighed.append(made)

    def _hash(self, keys: Iterable[object], found: object = None) -> None:
        """Let keys come into a dict or a set that was there before, or into a new one."""
        table = _Table(found) if found is None else self._tables.get(id(found))
        for key in keys:
            weight = self._weigh(key)
            self._hashed += weight
            if weight > HEAVIEST or self._hashed > HASHED:
                raise Refused("keys of so many values may not be unpickled here")
            if type(key) not in _UNFORESEEN:
                table = table or self._tables.setdefault(id(found), _Table(found))
                table.add(key)
                alike = self._alike.setdefault(hash(key), [])
                if key not in alike:
                    alike.append(key)
                if len(alike) > ALIKE:
                    raise Refused("so many keys of one hash may not be unpickled here")

    def _setitem(self) -> None:
        self._hash(self.stack[-2:-1], self.stack[-3])
        self.load_setitem()

    def _setitems(self) -> None:
        self._hash(self.stack[::2], self.metastack[-1][-1])
        self.load_setitems()

    def _dict(self) -> None:
        self._hash(self.stack[::2])
        self.load_dict()

    def _additems(self) -> None:
        self._hash(self.stack, self.metastack[-1][-1])
        self.load_additems()

    def _frozenset(self) -> None:
        self._hash(self.stack)
        self.load_frozenset()
        self._weigh_last()


def _weighed(load: Callable[[_Checked], None]) -> Callable[[_Checked], None]:
    def load_tuple(unpickler: _Checked) -> None:
        load(unpickler)
        unpickler._weigh_last()

    return load_tuple


for _opcode in b"t\x85\x86\x87":
    _Checked.dispatch[_opcode] = _weighed(_Checked.dispatch[_opcode])
_Checked.dispatch |= {
    pickle.REDUCE[0]: _Checked._reduce,
    pickle.NEWOBJ[0]: _Checked._newobj,
    pickle.BUILD[0]: _Checked._build,
    pickle.APPEND[0]: _Checked._append,
    pickle.APPENDS[0]: _Checked._appends,
    pickle.SETITEM[0]: _Checked._setitem,
    pickle.SETITEMS[0]: _Checked._setitems,
    pickle.DICT[0]: _Checked._dict,
    pickle.ADDITEMS[0]: _Checked._additems,
    pickle.FROZENSET[0]: _Checked._frozenset,
}


# What a class may be called with

_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset, deque)


def _is_exception(name: str) -> bool:
    found = getattr(builtins, name, None)
    return isinstance(found, type) and issubclass(found, BaseException)


def _check_of(found: object, name: str) -> Callable[[Args], bool]:
    if isinstance(found, type) and issubclass(found, BaseException):
        if issubclass(found, SyntaxError):
            return _is_syntax
        return _are_scalars if issubclass(found, OSError) else _are_ready
    return _CALLS.get(name, _are_scalars)


def _are_scalars(args: Args) -> bool:
    return all(map(_is_scalar, args))


def _is_scalar(value: object) -> bool:
    if isinstance(value, int):
        return value.bit_length() <= BITS
    kind = type(value)
    return kind in (str, bytes, float, type(None)) or kind.__module__ == "datetime"


def _are_ready(args: Args) -> bool:
    """Whether none is more than it looks: what an exception makes a tuple of takes up memory."""
    return all(type(arg) is not range and type(arg).__module__ != "ipaddress" for arg in args)


def _is_syntax(args: Args) -> bool:
    """With the place of the error, which is copied out of what it came in."""
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


def _is_state(found: object, state: object) -> bool:
    """Whether something may be given these attributes: a UUID its number, an exception its own."""
    if type(state) is not dict:
        return False
    if type(found).__name__ == "UUID":
        return set(state) <= {"int", "is_safe"} and _are_scalars(tuple(state.values()))
    return isinstance(found, BaseException) and all(
        _is_own(found, name, value) for name, value in state.items()
    )


def _is_own(found: BaseException, name: object, value: object) -> bool:
    """Whether an exception may have such an attribute: none that Python itself looks at; none that
    can be called, in the place of a method; none that makes a chain, whose end C would follow
    without a look at its stack.

    C frees the fields of its own exceptions (`value`, `msg`, `name`) like that, so nothing but
    scalars comes into them from here; and what their arguments bring into them does not hang there,
    as long as nobody takes the arguments away.
    """
    if type(name) is not str or isinstance(value, (type, BaseException)):
        return False
    if name == "args":
        return value is found.args  # as AttributeError's own pickles have it, from 3.12 on
    if hasattr(type(found), name):
        return _is_scalar(value) and not name.startswith("__")
    return name == "__notes__" or not name.startswith("__")
