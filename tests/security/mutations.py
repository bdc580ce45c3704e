"""Hostile pickles without end: real ones with bytes changed, and new ones from the opcodes up."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import functools
import ipaddress
import pathlib
import pickle
import random
import struct
import uuid
from collections.abc import Callable

from dq.security import pickle_rules
from security import pickles
from security.pickles import Fragment, named, number, text

#: What could be done with these, if one could be had.
_HOSTILE = (
    "os:system posix:system nt:system os:mkdir os:_exit builtins:eval builtins:exec"
    " builtins:getattr builtins:setattr builtins:__import__ builtins:open builtins:compile"
    " builtins:map builtins:filter builtins:type builtins:object builtins:super builtins:print"
    " builtins:globals builtins:vars builtins:memoryview __builtin__:eval __builtin__:set"
    " builtins:int.from_bytes builtins:str.format builtins:ValueError.__init__"
    " builtins:dict.fromkeys pathlib:Path.unlink pathlib:os.system pathlib:sys.modules"
    " subprocess:Popen functools:partial functools:reduce operator:attrgetter"
    " operator:methodcaller operator:itemgetter itertools:repeat itertools:count"
    " collections:defaultdict collections:namedtuple collections:ChainMap queue:Queue"
    " queue:threading.Thread pickle:loads copyreg:_reconstructor copyreg:__newobj__"
    " _codecs:encode sys:exit ctypes:CDLL types:FunctionType types:CodeType types:MethodType"
    " importlib:import_module logging.config:_import dq:run dq.transport.dialing:dial"
    " dq.master.master:Master multiprocessing.managers:Token uuid:uuid1 uuid:getnode"
    " datetime:sys.exit decimal:Context decimal:getcontext fractions:operator.add"
    " ipaddress:functools.partial __main__:anything no.such.module:x"
)
HOSTILE = [tuple(name.split(":")) for name in _HOSTILE.split()] + [
    ("", ""),
    ("builtins", ""),
    ("os", "system\n"),
    ("builtins", "\udcff"),
]
ALLOWED = [(m, n) for m, names in pickle_rules.SAFE.items() for n in names.split()] + [
    ("builtins", name)
    for name in ("ValueError", "OSError", "KeyError", "SystemExit", "ImportError", "SyntaxError")
]
ATTRIBUTES = [
    "args", "__class__", "__dict__", "__cause__", "__context__", "__traceback__", "__notes__",
    "__reduce__", "__setstate__", "append", "extend", "add", "int", "is_safe", "name", "x",
]  # fmt: skip

VALUES = [
    None, True, -1, 2**31, 2**70, 1.5, "text", b"bytes", bytearray(b"x"), [1, [2, (3, "a")]],
    {"a": 1, (1, 2): {3}}, frozenset([1, (2,)]), 1 + 2j, range(3), slice(1, 2), ValueError("x", 1),
    FileNotFoundError(2, "no", "file"), collections.OrderedDict(a=1), collections.Counter("ab"),
    collections.deque([1], 3), datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
    datetime.timedelta(1), decimal.Decimal("1.5"), fractions.Fraction(1, 3), uuid.UUID(int=7),
    ipaddress.ip_network("10.0.0.0/8"), pathlib.PurePosixPath("/a"), int, KeyError, ...,
    ("tasks", "put", ({"a": [1, 2]}, True, None), {}), ("tasks", "get", (True, 1.5), {}),
    (None, "accept_connection", ("name",), {}), (None, "create", ("get_task_queue",), {}),
    ("dq", "hello", (2, {"role": "slot", "group": "g", "name": "n", "default": True}), {}),
    ("dq", "exchange", (("a" * 16, 2**62, 0, [(1, b"blob", 0.5)], 0, 0.5, ""), -1, 30.0), {}),
    ("dq", "charge", ("a" * 16, "died", 2**62, 0, 1, "killed"), {}),
]  # fmt: skip
CORPUS = [
    pickle.dumps(value, protocol)
    for value in VALUES
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
]


@functools.cache
def _bombs() -> list[bytes]:
    return [pickles.whole(bomb) for bomb in pickles.bombs().values() if len(bomb) < 10_000]


class Mutator:
    """Makes one hostile pickle after the other, the same again for the same seed."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self._kinds: list[Callable[[int], Fragment]] = [
            self._scalar, self._list, self._tuple, self._dict, self._set, self._name, self._call,
            self._call, self._call, self._object, self._built, self._remembered, self._twice,
            self._opcode,
        ]  # fmt: skip

    def pickle(self) -> bytes:
        """One of either kind."""
        if self.chance.random() < 0.5:
            return self.changed(self.chance.choice(CORPUS))
        if self.chance.random() < 0.02:
            return self.changed(self.chance.choice(_bombs()))
        made = self.written()
        return self.changed(made) if self.chance.random() < 0.3 else made

    # By bytes

    def changed(self, data: bytes) -> bytes:
        """The same with something changed, once or several times."""
        found = bytearray(data)
        for _ in range(self.chance.choice([1, 1, 1, 2, 3, 8])):
            self._change(found)
        return bytes(found)

    def _change(self, data: bytearray) -> None:
        chance = self.chance
        start = chance.randrange(len(data) + 1)
        stop = min(start + chance.choice([1, 1, 2, 4, 8, 30]), len(data))
        match chance.randrange(8):
            case 0:
                data[start : start + 1] = chance.randbytes(1)
            case 1 if start < len(data):
                data[start] ^= 1 << chance.randrange(8)
            case 2:
                del data[start:stop]
            case 3:
                data[start:start] = data[start:stop] * chance.choice([1, 2, 50])
            case 4:
                data[start:start] = self._opcode(0)
            case 5:
                data[start : start + 4] = struct.pack("<I", self._length())
            case 6:
                other = chance.choice(CORPUS)
                data[start:] = other[chance.randrange(len(other)) :]
            case 7:
                data[start:stop] = self.fragment(2)

    def _length(self) -> int:
        return self.chance.choice([0, 1, 255, 2**16, 2**26, 2**31 - 1, 2**31, 2**32 - 1])

    # By opcodes

    def written(self) -> bytes:
        """One from nothing, that is mostly well-formed."""
        protocol = self.chance.choice([b"", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"])
        return protocol + self.fragment(4) + b"."

    def fragment(self, depth: int) -> Fragment:
        if depth <= 0:
            return self._scalar(0)
        return self.chance.choice(self._kinds)(depth - 1)

    def _some(self, depth: int, most: int = 4) -> list[Fragment]:
        return [self.fragment(depth) for _ in range(self.chance.randrange(most))]

    def _scalar(self, depth: int) -> Fragment:
        return self.chance.choice([
            b"N", b"\x88", b"K\x05", b")", b"]", b"}", b"\x8f", b"G" + bytes(8), b"I12\n",
            b"L5L\n", b"F1.5\n", b"S'x'\n", b"Vx\n", text("x"), b"C\x02ab", number(-(2**63)),
            number(10**10), text(self.chance.choice(ATTRIBUTES)), b"h\x00", b"h\x01", b"g0\n",
        ])  # fmt: skip

    def _list(self, depth: int) -> Fragment:
        return b"](" + b"".join(self._some(depth)) + b"e"

    def _tuple(self, depth: int) -> Fragment:
        return pickles.tuple_of(*self._some(depth))

    def _dict(self, depth: int) -> Fragment:
        pairs = (self.fragment(depth) + self.fragment(depth) for _ in self._some(0))
        return b"}(" + b"".join(pairs) + b"u"

    def _set(self, depth: int) -> Fragment:
        items = b"".join(self._some(depth))
        return self.chance.choice([b"\x8f(" + items + b"\x90", b"(" + items + b"\x91"])

    def _name(self, depth: int) -> Fragment:
        module, name = self.chance.choice(self.chance.choice([HOSTILE, ALLOWED]))
        if self.chance.random() < 0.5:
            return f"c{module}\n{name}\n".encode(errors="surrogateescape")
        return named(*(part.encode(errors="replace").decode() for part in (module, name)))

    def _call(self, depth: int) -> Fragment:
        function = self.fragment(depth) if self.chance.random() < 0.1 else self._name(0)
        return pickles.called(function, *self._some(depth))

    def _object(self, depth: int) -> Fragment:
        made = self._name(0) + pickles.tuple_of(*self._some(depth))
        return self.chance.choice([
            made + b"\x81", made + b"}\x92",
            b"(" + self._name(0) + b"".join(self._some(depth)) + b"o",
            b"(" + b"".join(self._some(depth)) + b"ios\nsystem\n",
        ])  # fmt: skip

    def _built(self, depth: int) -> Fragment:
        state = pickles.dict_of(**{
            self.chance.choice(ATTRIBUTES): self.fragment(depth) for _ in self._some(0)
        })  # fmt: skip
        if self.chance.random() < 0.3:
            state = b"N" + state + b"\x86"
        made = self.chance.choice([self._call, self._name, self._object, self._remembered])
        return pickles.built(made(depth), state)

    def _remembered(self, depth: int) -> Fragment:
        return self.fragment(depth) + self.chance.choice([b"q\x00", b"q\x01", b"\x94", b"p0\n"])

    def _twice(self, depth: int) -> Fragment:
        times = self.chance.choice([1, 3, 60])
        return self.fragment(depth) + self.chance.choice([b"2\x86", b"2\x94\x86"]) * times

    def _opcode(self, depth: int) -> Fragment:
        chance = self.chance
        return chance.choice([
            chance.randbytes(1), bytes([chance.choice(b"()[]{}.012abcdehijlopqrstu\x81\x85\x94")]),
            b"r" + struct.pack("<I", self._length()), b"B" + struct.pack("<I", self._length()),
            b"\x8b" + struct.pack("<I", self._length()), b"\x8e" + struct.pack("<Q", 2**60),
            b"\x95" + struct.pack("<Q", self._length()), b"p%d\n" % self._length(),
            b"X" + struct.pack("<I", self._length()), b"\x82\x01", b"Px\n", b"\x97",
        ])  # fmt: skip
