"""Pickles that somebody hostile would send, and how to put them into a request.

All are fragments: opcodes that leave one object on the stack, so that they can stand for a whole
message, an item in `put()`, an argument by name, or whom the request is for.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path

Fragment = bytes

PROTO = b"\x80\x04"


def whole(fragment: Fragment) -> bytes:
    """A pickle of its own."""
    return PROTO + fragment + b"."


def text(value: str) -> Fragment:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> Fragment:
    data = value.to_bytes(16, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def named(module: str, name: str) -> Fragment:
    """What a module has under a name."""
    return text(module) + text(name) + b"\x93"


def called(function: Fragment, *args: Fragment) -> Fragment:
    return function + b"(" + b"".join(args) + b"tR"


def tuple_of(*items: Fragment) -> Fragment:
    return b"(" + b"".join(items) + b"t"


def dict_of(**items: Fragment) -> Fragment:
    return b"}(" + b"".join(text(name) + item for name, item in items.items()) + b"u"


def built(made: Fragment, state: Fragment) -> Fragment:
    """An object with a state of the sender's choice."""
    return made + state + b"b"


TASKS, PUT = text("tasks"), text("put")


def request(
    ident: Fragment = TASKS,
    method: Fragment = PUT,
    args: Fragment = b")",
    kwds: Fragment = b"}",
) -> bytes:
    """A whole request, any part of which may be a fragment of the sender's choice."""
    return whole(tuple_of(ident, method, args, kwds))


def places(fragment: Fragment) -> dict[str, bytes]:
    """Messages with a fragment in every place that a request has."""
    return {
        "the message": whole(fragment),
        "ident": request(ident=fragment),
        "method": request(method=fragment),
        "args": request(args=fragment),
        "an argument": request(args=tuple_of(fragment)),
        "within an item": request(args=tuple_of(dict_of(a=b"](N" + fragment + b"e"))),
        "kwds": request(kwds=fragment),
        "an argument by name": request(kwds=dict_of(item=fragment)),
        "a key": request(args=tuple_of(b"}" + fragment + b"Ns")),
    }


def calls(path: Path) -> dict[str, Fragment]:
    """Each would make a folder at `path` where it is carried out."""
    shell = f"mkdir {path}"
    code = f"__import__('os').mkdir({str(path)!r})"
    mkdir = called(named("os", "mkdir"), text(str(path)))
    builtins = named("builtins", "__import__")
    return {
        "os.system": called(named("os", "system"), text(shell)),
        "posix.system": called(named("posix", "system"), text(shell)),
        "os.mkdir": mkdir,
        "eval": called(named("builtins", "eval"), text(code)),
        "exec": called(named("builtins", "exec"), text(code)),
        "subprocess": called(named("subprocess", "getoutput"), text(shell)),
        "getattr": called(
            called(named("builtins", "getattr"), called(builtins, text("os")), text("mkdir")),
            text(str(path)),
        ),
        "partial": called(
            called(named("functools", "partial"), named("os", "mkdir"), text(str(path)))
        ),
        "dotted": called(named("pathlib", "os.mkdir"), text(str(path))),
        "method": called(
            named("pathlib", "Path.mkdir"), called(named("pathlib", "Path"), text(str(path)))
        ),
        "inst": b"(" + text(str(path)) + b"ios\nmkdir\n",
        "obj": b"(" + named("os", "mkdir") + text(str(path)) + b"o",
        "global": b"cos\nmkdir\n(" + text(str(path)) + b"tR",
        "python 2": b"c__builtin__\neval\n(" + text(code) + b"tR",
        "as a class's attribute": built(
            named("pathlib", "Path"), b"N" + dict_of(mkdir=named("os", "mkdir")) + b"\x86"
        ),
        "as an error's attribute": built(
            called(named("builtins", "ValueError")), dict_of(args=mkdir)
        ),
        "dq": called(named("dq", "run"), text("os:mkdir"), b"](" + text(str(path)) + b"e"),
    }


def times(fragment: Fragment, depth: int) -> Fragment:
    """Two of it in a tuple, two of that in another, and so on: short, and endless to look at."""
    return fragment + b"2\x86" * depth


def chain(cls: str, attribute: str, length: int) -> Fragment:
    """Objects each of which has the one before as an attribute."""
    start = named("builtins", cls) + b"q\x000N"
    return start + (b"q\x010h\x00)R}" + text(attribute) + b"h\x01sb") * length


MILLION = 1_000_000


def emptied(cls: str, length: int) -> Fragment:
    """Exceptions each of which has the one before as its argument, and then no arguments: so C's
    own field is all that holds it."""
    start = named("builtins", cls) + b"q\x000" + dict_of(args=b")") + b"q\x010N"
    return start + b"q\x020h\x00h\x02\x85Rh\x01b" * length


def in_deques(before: Fragment, after: Fragment, length: int) -> Fragment:
    """Each in a deque of its own, with more around that."""
    start = named("collections", "deque") + b"q\x000" + named("builtins", "SyntaxError")
    return start + b"q\x030N" + (b"q\x020" + before + b"h\x00)Rh\x02a" + after) * length


def alike(key: Callable[[int], Fragment]) -> Fragment:
    """Many fragments of numbers that have the same hash: to find one is to look at all."""
    return b"".join(key(n * (2**61 - 1)) for n in range(20_000))


def walk(bits: int) -> list[int]:
    """Keys for a dict with room for 2^bits, no two of one hash, each of the last third of which
    CPython looks for in the places of nearly all others."""
    mask = (1 << bits) - 1
    places = [12345 & mask]
    while len(places) < 0.42 * mask:
        places.append(5 * places[-1] + 1 & mask)
    some = places[: len(places) // 4]
    return places + [place + (turn << bits) for turn in (1, 2) for place in some]


def short(value: int) -> Fragment:
    return b"J" + struct.pack("<i", value)


LIST_OF_RANGE = called(
    named("builtins", "list"), called(named("builtins", "range"), number(10**10))
)


def bombs() -> dict[str, Fragment]:
    """What would take the memory, the time or the process of who unpickles it. They are some 70 MB,
    which no process needs that runs other tests."""
    return {
        "a memo entry of a high number": b"Nr" + struct.pack("<I", 2**31),
        "the same as text": b"Np2147483648\n",
        "2^60 bytes": b"\x8e" + struct.pack("<Q", 2**60) + b"x",
        "2^60 bytes that can be changed": b"\x96" + struct.pack("<Q", 2**60) + b"x",
        "2^60 characters": b"\x8d" + struct.pack("<Q", 2**60) + b"x",
        "2^32 bytes": b"B" + struct.pack("<I", 2**32 - 1) + b"x",
        "a number of 2^31 bytes": b"\x8b" + struct.pack("<I", 2**31 - 1) + b"x",
        "a number of a negative length": b"\x8b" + struct.pack("<i", -5) + b"x",
        "an opcode beyond its frame": b"\x95"
        + struct.pack("<Q", 8)
        + b"\x8c\x04textr\x01\0\0\0\x94",
        "a frame in a frame": b"\x95"
        + struct.pack("<Q", 11)
        + b"N\x95"
        + struct.pack("<Q", 2)
        + b"N",
        "a long frame": b"\x95" + struct.pack("<Q", 2**60) + b"N",
        "millions of sets": b"(" + b"\x8f" * (5 * MILLION // 2) + b"l",
        "millions of memo entries": b"N" + b"\x94" * (5 * MILLION // 2),
        "millions of marks": b"(" * (5 * MILLION // 2) + b"N",
        "deques": named("collections", "deque")
        + b"q\x000("
        + b"h\x00)R" * (9 * MILLION // 4)
        + b"l",
        "list(range())": LIST_OF_RANGE,
        "bytearray(n)": called(named("builtins", "bytearray"), number(2**34)),
        "numbers of one hash as keys": b"}(" + alike(lambda n: number(n) + b"N") + b"u",
        "numbers of one hash in a set": b"\x8f(" + alike(number) + b"\x90",
        "numbers of one hash, one by one": b"}" + alike(lambda n: number(n) + b"Ns"),
        "texts of numbers of one hash": b"}(" + alike(lambda n: b"L%dL\nN" % n) + b"u",
        "tuples of one hash": b"}(" + alike(lambda n: number(n) + b"\x85N") + b"u",
        "numbers that walk": b"}(" + b"".join(short(n) + b"N" for n in walk(17)) + b"u",
        "numbers that walk, one by one": b"}" + b"".join(short(n) + b"Ns" for n in walk(17)),
        "numbers that walk, in a set": b"\x8f(" + b"".join(map(short, walk(17))) + b"\x90",
        "numbers that walk, in a set's call": called(
            named("builtins", "set"), b"](" + b"".join(map(short, walk(17))) + b"e"
        ),
        "numbers that walk, in a frozenset": b"(" + b"".join(map(short, walk(17))) + b"\x91",
        "numbers that walk, after the others": b"}("
        + b"".join(short(n) + b"N" for n in [*range(130_000), *walk(17)])
        + b"u",
        "one that walks, over and over": b"}("
        + b"".join(short(n) + b"N" for n in walk(14))
        + b"q\x00"
        + short(12345 + (3 << 14))
        + b"q\x01N"
        + b"h\x01N" * 400_000
        + b"u",
        "floats that walk": b"}("
        + b"".join(b"G" + struct.pack(">d", n) + b"N" for n in walk(17))
        + b"u",
        "decimals of one hash": named("decimal", "Decimal")
        + b"q\x000}("
        + alike(lambda n: b"h\x00" + text(str(n)) + b"\x85RN")
        + b"u",
        "numbers of one hash for a set": called(
            named("builtins", "frozenset"), b"](" + alike(number) + b"e"
        ),
        "the same bytes over and over": b"B"
        + struct.pack("<I", MILLION)
        + bytes(MILLION)
        + b"q\x000"
        + named("builtins", "bytearray")
        + b"q\x010"
        + b"h\x01h\x00\x85R0" * 100_000,
        "the same list over and over": b"]("
        + b"N" * MILLION
        + b"eq\x000"
        + named("collections", "deque")
        + b"q\x010"
        + b"h\x01h\x00\x85R0" * 100_000,
        "the same errors over and over": named("collections", "deque")
        + b")R("
        + (called(named("builtins", "ValueError")) + b"2" * 20_000)
        + b"eq\x000"
        + named("builtins", "ExceptionGroup")
        + b"q\x010"
        + (b"h\x01" + text("x") + b"h\x00\x86R0") * 20_000,
        "the same attributes over and over": b"}("
        + b"".join(text(f"a{n}") + b"N" for n in range(20_000))
        + b"uq\x000"
        + called(named("builtins", "ValueError"))
        + b"h\x00b" * 100_000,
        "a codec": called(named("builtins", "bytearray"), text("x"), text("idna")),
        "bytes(n)": called(named("builtins", "bytes"), number(2**34)),
        "a tuple of a network": called(
            named("builtins", "tuple"), called(named("ipaddress", "IPv6Network"), text("::/0"))
        ),
        "errors of a range": called(
            named("builtins", "BaseExceptionGroup"),
            text("x"),
            called(named("builtins", "range"), number(10**10)),
        ),
        "lines of a range": called(
            named("builtins", "SyntaxError"),
            text("x"),
            called(named("builtins", "range"), number(10**10)),
        ),
        "arguments of a range": built(
            called(named("builtins", "ValueError")),
            dict_of(args=called(named("builtins", "range"), number(10**10))),
        ),
        "a method that is a class": built(
            called(named("builtins", "ValueError")), dict_of(append=named("builtins", "bytearray"))
        )
        + number(2**34)
        + b"a",
        "a fraction's exponent": called(named("fractions", "Fraction"), text("1e99999999")),
        "a fraction of long numbers": called(
            named("fractions", "Fraction"),
            b"\x8b" + struct.pack("<i", MILLION) + b"\x7f" * MILLION,
            b"\x8b" + struct.pack("<i", MILLION) + b"\x35" * MILLION,
        ),
        "a key of deep tuples": b"}N" + b"\x85" * 200_000 + b"Ns",
        "a key of deep tuples in a set": b"\x8f(N" + b"\x85" * 200_000 + b"\x90",
        "a key of doubled tuples": b"}" + times(b"N", 100) + b"Ns",
        "a key of doubled tuples in a frozenset": b"(" + times(b"N", 100) + b"\x91",
        "a key of doubled tuples in a set's call": called(
            named("builtins", "set"), b"](" + times(b"N", 100) + b"e"
        ),
        "equal keys of doubled frozensets": b"\x8f("
        + (b"K\x01" + b"q\x010(h\x01h\x01\x85\x91" * 100) * 2
        + b"\x90",
        "a long number as a key, often": b"}\x8b"
        + struct.pack("<i", MILLION)
        + b"\x7f" * MILLION
        + b"q\x000("
        + b"h\x00N" * 100_000
        + b"u",
        "slices in slices": named("builtins", "slice")
        + b"q\x000N"
        + b"q\x010h\x00h\x01\x85R" * 200_000,
        "causes of errors": chain("OSError", "__cause__", 200_000),
        "contexts of errors": chain("OSError", "__context__", 200_000),
        "errors as names of errors": chain("ImportError", "name", 200_000),
        "syntax errors without arguments": emptied("SyntaxError", 400_000),
        "system exits without arguments": emptied("SystemExit", 990_000),
        "ends of iterators without arguments": emptied("StopIteration", 990_000),
        "failed imports without arguments": emptied("ImportError", 990_000),
        "deques in deques": in_deques(b"", b"", 400_000),
        "deques in deques, at once": named("collections", "deque")
        + b"q\x000N"
        + b"q\x020h\x00h\x02\x85\x85R" * 400_000,
        "deques in deques, several": in_deques(b"", b"(NNe", 400_000).replace(
            b"h\x02a", b"(h\x02Ne"
        ),
        "fields of errors in deques": in_deques(
            b"h\x03)R", b"q\x020}" + text("msg") + b"h\x02sb", 200_000
        ),
        "a place of an error that has left its deque": named("collections", "deque")
        + b"q\x000"
        + named("builtins", "SyntaxError")
        + b"q\x030N"
        + (
            b"q\x020h\x00(h\x02NNNtK\x04\x86R"  # a deque of four
            b"q\x050h\x03N" + b"h\x05\x86R"  # an error there
            b"h\x05(NNNNe0"  # and others in its place
        )
        * 390_000,
        "a class with another attribute": built(
            named("pathlib", "PurePath"), b"N" + dict_of(hostile=b"N") + b"\x86"
        ),
        "an enumeration with another value": built(
            called(named("uuid", "SafeUUID"), b"K\x00"), dict_of(_value_=b"K\x07")
        ),
        "a number that is a tuple": built(
            named("uuid", "UUID") + b")\x81", dict_of(int=times(b"N", 100))
        ),
        "an extension's code": b"\x82\x01",
        "a persistent object": text("x") + b"Q",
        "a buffer of elsewhere": b"\x97",
        "an unknown opcode": b"\xff",
        "nothing": b"",
        "a pop of nothing": b"0",
        "an end of no mark": b"t",
    }


def deep(depth: int) -> Fragment:
    """Lists within lists: data, if odd."""
    return b"]" * (depth + 1) + b"a" * depth


def shared(depth: int) -> object:
    """A value that is short in memory, and whose text would have 2^depth parts."""
    value: object = "x"
    for _ in range(depth):
        value = [value, value]
    return value


class Ready:
    """Stands for a value that no pickler could write: this is how it would."""

    def __init__(self, fragment: Fragment) -> None:
        self.fragment = fragment

    def __reduce__(self) -> str:
        raise pickle.PicklingError("ready as it is")


def dumped(value: object) -> Fragment:
    """A value as a fragment."""
    try:
        return pickle.dumps(value, 3)[2:-1]
    except pickle.PicklingError:
        if isinstance(value, Ready):
            return value.fragment
        assert isinstance(value, (list, tuple)), value
        end = b"l" if isinstance(value, list) else b"t"
        return b"(" + b"".join(map(dumped, value)) + end
