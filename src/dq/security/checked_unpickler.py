"""The unpickler in Python, with checks: for pickles that name classes, or have keys that could take
long to hash.

It is an order of magnitude slower than the one in C, whose only hook is `find_class`.
"""

from __future__ import annotations

import io
import pickle
from collections import deque
from collections.abc import Callable, Iterable

from dq._support.frozen import TYPE_CHECKING
from dq.security.key_limits import KeyLimits
from dq.security.pickle_rules import Args, Refused, check_name, check_of, is_state, length

if TYPE_CHECKING:
    from typing import Any

# Deques that may contain others. C frees nested deques recursively, and so many fit into a stack of
# one MiB.
MAX_LINKS = 10_000
MOVED = {"pathlib._local": "pathlib"}  # only 3.13 has paths there

_InPython: Any = pickle._Unpickler  # type: ignore[attr-defined, unused-ignore]  # undocumented


class CheckedUnpickler(_InPython):  # type: ignore[misc]  # whose type is unknown
    """Checks each name, call, attribute and key before it is used."""

    dispatch = dict(_InPython.dispatch)  # noqa: RUF012  # as CPython has it

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._checks: dict[object, Callable[[Args], bool]] = {}  # by the classes that were named
        self._keys = KeyLimits()
        self._links: set[int] = set()  # ids of deques that have others in them
        # Bounds the total length of all arguments, since one may be used many times.
        self._unused = 4 * file.getbuffer().nbytes + 100_000

    def find_class(self, module: str, name: str) -> object:
        check_name(module, name)
        found: object = super().find_class(MOVED.get(module, module), name)
        self._checks[found] = check_of(found, name)
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
            self._keys.add(args[0])
        self.load_reduce()
        if called is frozenset:
            self._keys.weigh(self.stack[-1])
        elif called is deque:
            self._link(self.stack[-1], self.stack[-1])

    def _newobj(self) -> None:
        called, args = self.stack[-2:]
        if not isinstance(called, type) or called.__name__ != "UUID" or args != ():
            raise Refused("no object but a UUID may be unpickled without its class being called")
        self.load_newobj()

    def _build(self) -> None:
        found, state = self.stack[-2:]
        if not is_state(found, state):
            name = type(found).__name__
            raise Refused(f"{name} may not be given attributes here that are not its own")
        self._use((state,))
        self.load_build()

    def _use(self, args: Args) -> None:
        self._unused -= sum(map(length, args))
        if self._unused < 0:
            raise Refused("so much may not be used over and over here")

    # Lists and deques

    def _append(self) -> None:
        self._link(self.stack[-2], self.stack[-1:])
        self.load_append()

    def _appends(self) -> None:
        self._link(self.metastack[-1][-1], self.stack)
        self.load_appends()

    def _link(self, found: object, items: Iterable[object]) -> None:
        """Count deques that contain deques."""
        if type(found) is deque and deque in set(map(type, items)):
            self._links.add(id(found))
            if len(self._links) > MAX_LINKS:
                raise Refused("so many deques within deques may not be unpickled here")

    # Keys

    def _setitem(self) -> None:
        self._keys.add(self.stack[-2:-1], self.stack[-3])
        self.load_setitem()

    def _setitems(self) -> None:
        self._keys.add(self.stack[::2], self.metastack[-1][-1])
        self.load_setitems()

    def _dict(self) -> None:
        self._keys.add(self.stack[::2])
        self.load_dict()

    def _additems(self) -> None:
        self._keys.add(self.stack, self.metastack[-1][-1])
        self.load_additems()

    def _frozenset(self) -> None:
        self._keys.add(self.stack)
        self.load_frozenset()
        self._keys.weigh(self.stack[-1])


def _weighed(load: Callable[[CheckedUnpickler], None]) -> Callable[[CheckedUnpickler], None]:
    def load_tuple(unpickler: CheckedUnpickler) -> None:
        load(unpickler)
        unpickler._keys.weigh(unpickler.stack[-1])

    return load_tuple


for _opcode in b"t\x85\x86\x87":
    CheckedUnpickler.dispatch[_opcode] = _weighed(CheckedUnpickler.dispatch[_opcode])
CheckedUnpickler.dispatch |= {
    pickle.REDUCE[0]: CheckedUnpickler._reduce,
    pickle.NEWOBJ[0]: CheckedUnpickler._newobj,
    pickle.BUILD[0]: CheckedUnpickler._build,
    pickle.APPEND[0]: CheckedUnpickler._append,
    pickle.APPENDS[0]: CheckedUnpickler._appends,
    pickle.SETITEM[0]: CheckedUnpickler._setitem,
    pickle.SETITEMS[0]: CheckedUnpickler._setitems,
    pickle.DICT[0]: CheckedUnpickler._dict,
    pickle.ADDITEMS[0]: CheckedUnpickler._additems,
    pickle.FROZENSET[0]: CheckedUnpickler._frozenset,
}
