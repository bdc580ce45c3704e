"""Takes the pickle of a list of values apart, without unpickling any of them.

Unpickling gives all values of a pickle or none. Where one of them raises, kills its process, or
needs a class that is missing here, the others have to be had without it. So the pickle is read into
a tree that only says which opcode made what from what, and each value is written as a pickle of its
own. Nothing is imported, called or hashed. This takes 20 to 40 µs a value.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from functools import lru_cache

from dq._support.frozen import TYPE_CHECKING
from dq.security.pickle_survey import survey

if TYPE_CHECKING:
    from typing import Any

MAX_SPREAD = 4  # times the size of a pickle: that of all its values' pickles
MAX_KEPT_BYTES = 100_000  # of a pickle whose tree is kept: that takes 50 times as much
EXTRA_BYTES = 2_000_000  # more than that, where a large table that all values share is no attack

# In Python, undocumented, and the same in each version since 3.8
_Unpickler: Any = pickle._Unpickler  # type: ignore[attr-defined, unused-ignore]
_Pickler: Any = pickle._Pickler  # type: ignore[attr-defined, unused-ignore]


def split(data: bytes, count: int, start: int, stop: int, *, hostile: bool) -> list[bytes]:
    """Pickles of some values of a list. What these share is in each of their pickles.

    Args:
        data: the pickle of a pair, of which the second item is the list.
        count: how many values the list has.
        start: the first one wanted.
        stop: the first one not wanted.
        hostile: whether anybody may have made up the pickle.

    Raises:
        Exception: it cannot be taken apart: it is nested too deeply, or has other opcodes than
            values usually have, or its parts would be too large.
    """
    if hostile:
        survey(data)
    read = _read if hostile or len(data) > MAX_KEPT_BYTES else _read_once
    values = read(data)
    if len(values) != count:
        raise ValueError(f"{len(values)} values, not {count}")
    file = _Output(MAX_SPREAD * len(data) + (0 if hostile else EXTRA_BYTES))
    pickles = []
    for value in values[start:stop]:
        before = file.tell()
        _Writer(file, 4).dump(value)
        pickles.append(file.getbuffer()[before:].tobytes())
    return pickles


def _read(data: bytes) -> list[Any]:
    """Trees of the values."""
    _, steps = _Reader(io.BytesIO(data)).load()
    return [value for items, code in steps if code in b"ae" for value in items]


_read_once = lru_cache(maxsize=8)(_read)  # tasks that fail have their inputs had one by one


class _Output(io.BytesIO):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._limit:
            raise ValueError("its parts would be too large")
        return super().write(data)


class _Node(list["tuple[list[Any], bytes]"]):
    """Stands for any object but a tuple, text, bytes or a number. Its items are the steps in which
    it is made and changed: what an opcode takes off the stack, and the opcode."""


class _Reader(_Unpickler):  # type: ignore[misc]  # whose type is unknown
    """Makes nodes instead of objects."""

    dispatch = dict(_Unpickler.dispatch)  # noqa: RUF012  # as CPython has it

    def find_class(self, module: str, name: str) -> object:
        return _Node([([module, name], pickle.STACK_GLOBAL)])

    def load_pop(self) -> None:
        """Drop an item, as for a tuple that is in itself."""
        item = self.stack.pop()
        if isinstance(item, _Node) and item[0][1] == pickle.REDUCE:
            raise ValueError("a call for its effect alone")  # the sixth item of a `__reduce__`


class _Writer(_Pickler):  # type: ignore[misc]  # whose type is unknown
    """Writes nodes with the opcodes that they were read from."""

    dispatch = dict(_Pickler.dispatch)  # noqa: RUF012  # as CPython has it

    def save_node(self, node: _Node) -> None:
        self._write_step(*node[0])
        if id(node) in self.memo:  # one of these items refers to the node, and has written it
            self.write(pickle.POP + self.get(self.memo[id(node)][0]))
            return
        self.memoize(node)
        for step in node[1:]:
            self._write_step(*step)

    def _write_step(self, items: list[Any], code: bytes) -> None:
        if COUNTS[code] is None:
            self.write(pickle.MARK)
        for item in items:
            self.save(item)
        self.write(code)


# How many items an opcode takes off the stack; None for those above the mark.
MAKING = {b"\x93": 2, b"R": 2, b"\x81": 2, b"\x92": 3, b"]": 0, b"}": 0, b"\x8f": 0, b"\x91": None}
CHANGING = {b"a": 1, b"s": 2, b"b": 1, b"e": None, b"u": None, b"\x90": None}
COUNTS: dict[bytes, int | None] = {**MAKING, **CHANGING}


def _read_step(code: bytes) -> Callable[[_Reader], None]:
    def load(reader: _Reader) -> None:
        count = COUNTS[code]
        items = reader.pop_mark() if count is None else [reader.stack.pop() for _ in range(count)]
        if count is not None:
            items.reverse()
        if code in MAKING:
            reader.append(_Node())
        reader.stack[-1].append((items, code))

    return load


_Reader.dispatch |= {code[0]: _read_step(code) for code in COUNTS}
_Reader.dispatch[pickle.POP[0]] = _Reader.load_pop
for _code in b"ldio\x82\x83\x84":  # of old protocols, or with another meaning in each process
    del _Reader.dispatch[_code]
_Writer.dispatch[_Node] = _Writer.save_node
