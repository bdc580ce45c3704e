"""A digest of a function's code, by which a journal recognizes one that has no import path.

It covers code, constants, default values, closures and the globals that the function refers to,
recursively. What can be imported is digested by its name, data by its value, and an object by what
it would be pickled as. Line numbers and the file's name are left out.
"""

from __future__ import annotations

import abc
import copyreg
import hashlib
from collections.abc import Callable, Iterable
from functools import _lru_cache_wrapper, cached_property
from types import CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any, TypeVar

from dq.errors import BadJournal
from dq.functions import importable

SCALARS = (int, float, complex, str, bytes, bool, type(None), type(...), bytearray, range)


class NoDigest(Exception):
    """Raised when a value would have another digest in the next process."""


def digest_of_function(label: str, *functions: object) -> str:
    """A digest that is the same for the same function in the next process.

    Args:
        functions: the function, or whatever can be called, and its initializer.
        label: what to call it in the error.

    Raises:
        BadJournal: there is none; the message names the cause.

    >>> [digest_of_function("", f) for f in (lambda x: x + 1, lambda x: x + 1)].count(
    ...     digest_of_function("", lambda x: x + 2)
    ... )
    0
    """
    try:
        return digest_of(*functions)
    except NoDigest as error:
        raise BadJournal(
            f"a journal could not recognize {label} in another process: {error} differs in each;"
            " put the function into a module and give its import path, or go without a journal"
        ) from None


def digest_of(*values: object) -> str:
    """A digest of values that is the same in the next process.

    Raises:
        NoDigest: there is none.
    """
    digester = _Digester()
    return digester.joined("all", [digester.of(value) for value in values]).hex()


class _Digester:
    """Digests values, each of them once."""

    def __init__(self) -> None:
        self._open: dict[int, int] = {}  # depth of those in progress, by identity
        self._done: dict[int, tuple[object, bytes]] = {}  # with the object, to reserve its id

    def of(self, value: object) -> bytes:
        """The digest of a value.

        Raises:
            NoDigest: it has none.
        """
        kind = type(value)
        if kind in SCALARS:
            return self.joined(kind.__name__, [_text_of(value)])
        if id(value) in self._done:
            return self._done[id(value)][1]
        depth = self._open.get(id(value))
        if depth is not None:  # it contains itself, as a function that calls itself does
            return self.joined("above", [str(depth).encode()])
        self._open[id(value)] = len(self._open)
        try:
            digest = self._of_object(value)
        except RecursionError:
            raise NoDigest(_shown(value)) from None
        finally:
            del self._open[id(value)]
        self._done[id(value)] = value, digest
        return digest

    def _of_object(self, value: object) -> bytes:
        kind = type(value)
        known: Callable[[object], bytes] | None = {
            tuple: self._sequence,
            list: self._sequence,
            dict: self._dict,
            set: self._set,
            frozenset: self._set,
            FunctionType: self._function,
            CodeType: self._code,
            CellType: self._cell,
            MethodType: self._method,
            ModuleType: self._module,
        }.get(kind)
        if known is not None:
            return known(value)
        return self._class(value) if importable.is_class(value) else self._other(value)

    def joined(self, kind: str, digests: Iterable[bytes]) -> bytes:
        digest = hashlib.blake2b(kind.encode(), digest_size=16)
        for each in digests:
            digest.update(b"%d:" % len(each))
            digest.update(each)
        return digest.digest()

    def _sequence(self, value: object) -> bytes:
        return self.joined(type(value).__name__, map(self.of, value))  # type: ignore[call-overload]

    def _dict(self, value: object) -> bytes:
        assert isinstance(value, dict)
        return self.joined("dict", [self.of(item) for pair in value.items() for item in pair])

    def _set(self, value: object) -> bytes:
        return self.joined(type(value).__name__, sorted(map(self.of, value)))  # type: ignore[call-overload]

    def _cell(self, value: object) -> bytes:
        assert isinstance(value, CellType)
        try:
            return self.joined("cell", [self.of(value.cell_contents)])
        except ValueError:  # it is empty
            return self.joined("cell", [])

    def _method(self, value: object) -> bytes:
        assert isinstance(value, MethodType)
        return self.joined("method", [self.of(value.__func__), self.of(value.__self__)])

    def _module(self, value: object) -> bytes:
        assert isinstance(value, ModuleType)
        if not importable.can_import_module(value.__name__):
            own = {k: v for k, v in vars(value).items() if not k.startswith("__")}
            return self.joined(f"module {value.__name__}", [self.of(own)])
        return self.joined("module", [value.__name__.encode()])

    def _function(self, value: object) -> bytes:
        assert isinstance(value, FunctionType)
        if importable.can_import(value):
            return self._named(value)
        used = [name for name in importable.globals_of(value.__code__) if name in value.__globals__]
        parts = [value.__code__, value.__defaults__, value.__kwdefaults__, value.__closure__, used]
        parts += [value.__globals__[name] for name in used]
        return self.joined("function", map(self.of, [*parts, vars(value)]))

    def _code(self, value: object) -> bytes:
        assert isinstance(value, CodeType)
        return self.joined(
            "code",
            map(
                self.of,
                [
                    value.co_code,
                    value.co_consts,
                    value.co_names,
                    value.co_varnames,
                    value.co_freevars,
                    value.co_cellvars,
                    value.co_argcount,
                    value.co_posonlyargcount,
                    value.co_kwonlyargcount,
                    value.co_flags,
                    getattr(value, "co_exceptiontable", b""),  # of 3.11 on
                ],
            ),
        )

    def _class(self, value: object) -> bytes:
        assert isinstance(value, type)
        if not value.__flags__ & importable.HEAP_TYPE or importable.can_import(value):
            return self._named(value)
        own = {name: item for name, item in vars(value).items() if name not in _MADE_BY_PYTHON}
        slots = own.get("__slots__") or ()
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            own.pop(name, None)
        return self.joined(
            f"class {value.__qualname__}",
            [
                self.of(type(value)),
                self.of(value.__bases__),
                *sorted(self.of(kind) for kind in _registered(value)),
                *(self.of(pair) for pair in sorted(own.items(), key=_name)),
            ],
        )

    def _named(self, value: object) -> bytes:
        name = f"{value.__module__}:{value.__qualname__}"  # type: ignore[attr-defined]
        return self.joined("import", [name.encode()])

    def _other(self, value: object) -> bytes:
        if isinstance(value, classmethod | staticmethod):
            return self.joined(type(value).__name__, [self.of(value.__func__)])
        if isinstance(value, property):
            accessors = (value.fget, value.fset, value.fdel)
            return self.joined("property", map(self.of, accessors))
        if importable.can_import(value):  # a built-in function
            return self._named(value)
        if (place := importable.place_of(value)) is not None:
            return self.joined("import", [":".join(place).encode()])
        if isinstance(value, TypeVar):
            bound = value.__bound__, value.__constraints__
            return self.joined(f"type variable {value.__name__}", [self.of(bound)])
        if isinstance(value, cached_property):
            return self.joined("cached_property", [self.of(value.func)])
        if isinstance(value, MappingProxyType):
            return self._dict(dict(value))
        if isinstance(value, _lru_cache_wrapper):
            parameters = value.cache_parameters()
            return self.joined("cached", [self.of(value.__wrapped__), self.of(parameters)])
        try:
            reduced = _reduced(value)
        except Exception:
            raise NoDigest(_shown(value)) from None
        return self.joined("object", map(self.of, reduced))


def _registered(kind: type) -> list[type]:
    """The virtual subclasses of an abstract class."""
    if not isinstance(kind, abc.ABCMeta):
        return []
    registry, *_ = abc._get_dump(kind)  # type: ignore[attr-defined]  # there for debugging
    return [one for one in (reference() for reference in registry) if one is not None]


def _reduced(value: object) -> list[object]:
    """What an object would be pickled as."""
    reduce = copyreg.dispatch_table.get(type(value))
    reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
    if not isinstance(reduced, tuple):
        raise TypeError("it is a global by a name of its own, and cannot be imported by it")
    items: list[Any] = [None if some is None else list(some) for some in reduced[3:5]]
    return [*reduced[:3], *items]


def _text_of(value: object) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, int):
        return hex(value).encode()  # an int may have any length
    return repr(value).encode(errors="backslashreplace")


def _name(pair: tuple[str, object]) -> str:
    return pair[0]


def _shown(value: object) -> str:
    kind = type(value)
    home = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"an object of type {home}{kind.__qualname__}"


# Attributes of a class that do not affect what it does, or that Python sets by itself.
_MADE_BY_PYTHON = {
    "__dict__",
    "__weakref__",
    "__module__",
    "__firstlineno__",
    "__static_attributes__",
    "__annotate_func__",
    "__annotations_cache__",
    "_abc_impl",
    "__doc__",
}
