"""A pass over the bytes of a pickle before it is unpickled.

It refuses what no hook of an unpickler can limit, and decides which pickles the unpickler in C may
read. When the unpickler in Python read all of them, an exchange with a worker took 88 µs of the
master's CPU time instead of 62, a list of 100,000 numbers took 25 ms instead of 7, and a memo entry
took 70 bytes instead of 13. `pickletools.genops` takes as long as the unpickler in Python.

The survey has to read a pickle exactly as the unpicklers do. The one in C drops the rest of a frame
when an opcode extends beyond the frame's end, so such a pickle is refused.
"""

from __future__ import annotations

import struct

from dq.security.pickle_rules import MAX_COLLISIONS, Refused

# Lists, tuples, dicts, sets and objects in one message. So many take up to a GiB.
MAX_CONTAINERS = 2_000_000

# For each opcode: how many bytes it has with its argument, or one of these kinds. Opcodes that no
# data needs (persistent ids, extension codes, buffers, Python 2's instances) are missing.
_NONE, _LINE, _PUT, _GLOBAL, _STACK_GLOBAL, _LONG_PUT = 0, -1, -2, -3, -4, -5
_LEN1, _LEN4, _LEN8, _LONG1, _LONG4, _BUILT, _TUPLE, _KEYS, _FRAME, _STOP = range(-6, -16, -1)
_AGAIN, _NUMBER = -20, -40  # minus how many bytes it has
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


def survey(data: bytes | bytearray) -> bool:
    """Whether the unpickler in C may read a pickle.

    It may if the pickle names no class, has no keys after a value that could take long to hash, and
    has no keys whose hashes the sender can choose. (A few numbers as keys do no harm.)

    One long loop without calls, since it runs for every opcode of every message.

    Raises:
        Refused: it is not to be unpickled at all.
        IndexError, ValueError, struct.error: it is truncated.
    """
    sizes = _SIZES
    at = containers = numbers = again = 0
    end = len(data)  # of the frame, if there is one
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
            containers += 1
            at += 1
        elif size == _BUILT:
            containers += 1
            at += 1
        elif size == _KEYS:
            plain = plain and not heavy and numbers * (numbers + again) <= MAX_COLLISIONS
            if data[at] in b"d\x91":  # a dict, a frozenset
                heavy = True
                containers += 1
            at += 1
        elif size == _LEN4:
            at += 5 + _read4(data, at + 1)[0]
        elif size == _LONG1:
            heavy = heavy or data[at + 1] > 8  # it may have the same hash as many others
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
    if containers > MAX_CONTAINERS:
        raise Refused(
            f"over {MAX_CONTAINERS} lists, tuples, dicts and sets may not be unpickled at once"
        )
    return plain


def _check_memo(index: int, at: int) -> None:
    """Refuse an index of a memo entry that is higher than the number of entries can be, because
    CPython allocates all entries up to it."""
    if index > at:
        raise Refused(f"memo entry {index} may not be unpickled here, there are fewer")
