"""Functions and classes that workers cannot import, sent by value with cloudpickle.

Besides what cloudpickle does: a module counts as importable only where a fresh interpreter would
find it; a class keeps its home, so that no worker's copy ever changes the caller's; code keeps its
file's name, for tracebacks; and where something cannot be pickled, the error names it and the
function that refers to it.
"""

from __future__ import annotations

import dis
import io
import marshal
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import _lru_cache_wrapper, cached_property, lru_cache
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, cast

import cloudpickle  # type: ignore[import-untyped, unused-ignore]  # it has no types

from dq import references
from dq.errors import BadTask

PYTHON = "{}.{}".format(*sys.version_info)

# Held while modules are registered with cloudpickle, which is global. What is pickled may itself
# have something pickled by value.
_lock = threading.RLock()
references.hold_while_forking(_lock)


def dump(*items: object) -> bytes:
    """Pickle functions and classes by value, together: they share their globals there too.

    Raises:
        Exception: whatever one of them raises when pickled.
    """
    file = io.BytesIO()
    with _lock:
        pickler = _Pickler(file)
        try:
            pickler.dump(items)
        finally:
            for module in pickler.registered:
                cloudpickle.unregister_pickle_by_value(module)
    return PYTHON.encode() + b"\n" + file.getvalue()


def load(data: bytes) -> tuple[Any, ...]:
    """What was pickled by `dump`.

    Raises:
        BadTask: by another Python.
    """
    version, _, pickled = data.partition(b"\n")
    if version.decode() != PYTHON:
        raise BadTask(
            f"it was sent by value, from Python {version.decode()}, which Python {PYTHON} here"
            " cannot run; put it into a module that workers can import, or use the same Python"
        )
    return cast("tuple[Any, ...]", pickle.loads(pickled))


def load_one(data: bytes) -> object:
    """The one item that was pickled by `dump`."""
    [item] = load(data)
    return item


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc, unused-ignore]  # it has no types
    """Pickles by value what workers cannot import."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.registered: list[ModuleType] = []

    def reducer_override(self, item: Any) -> Any:
        kind = type(item)
        if kind is CodeType:
            # cloudpickle drops the file's name. Version 2 has no marks for what is shared, which
            # depend on reference counts: the same code is always the same bytes.
            return marshal.loads, (marshal.dumps(item, 2),)
        if kind is io.TextIOWrapper and item not in (sys.stdout, sys.stderr):
            raise pickle.PicklingError("an open file")  # of which cloudpickle would send a copy
        if kind is _lru_cache_wrapper and not references.can_import(item):
            return _cached, (item.__wrapped__, item.cache_parameters())
        if kind is cached_property:  # up to Python 3.11 it has a lock
            return _cached_property, (item.func, item.attrname)
        if kind is ModuleType:
            self._register(item.__name__)
        elif kind is FunctionType or isinstance(item, type):
            self._register(item.__module__)
        reduced = super().reducer_override(item)
        if isinstance(item, type) and isinstance(reduced, tuple) and len(reduced) == 6:
            make, args, state, _, _, set_state = reduced
            if isinstance(args[3], dict):
                args[3].update(_slots_of(item))
            name = references.name_of(item)
            return _make_class, (name, make, args), (set_state, state), None, None, _set_class
        return reduced

    def _register(self, name: str | None) -> None:
        """Have cloudpickle not take a module for importable because it is in `sys.modules`."""
        module = sys.modules.get(name or "")
        if module is None or name in references.NOWHERE or references.can_import_module(str(name)):
            return
        if module not in self.registered and isinstance(module, ModuleType):
            cloudpickle.register_pickle_by_value(module)
            self.registered.append(module)


def _slots_of(kind: type) -> dict[str, Any]:
    """What cloudpickle leaves out when it makes a class: set on a finished class, `__slots__` do
    nothing, and what a worker makes of it has a `__dict__`, for which the caller's has no place."""
    own = vars(kind)
    if "__slots__" not in own or NamedTuple in own.get("__orig_bases__", ()):  # that has its own
        return {}
    return {"__slots__": own["__slots__"]}


def _cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Callable[..., Any]:
    """What `functools.lru_cache` has made of a function, with nothing in its cache yet."""
    cached: Callable[..., Any] = lru_cache(**parameters)(function)
    return cached


def _cached_property(function: Callable[..., Any], name: str | None) -> cached_property[Any]:
    made = cached_property(function)
    if name is not None:
        made.__set_name__(object, name)
    return made


def _make_class(name: str, make: Callable[..., type], args: tuple[Any, ...]) -> type:
    if references.is_own(name):
        return references.class_named(name)
    kind = make(*args)
    references.receive(name, kind)
    return kind


def _set_class(kind: type, state: tuple[Callable[[type, Any], Any], Any]) -> None:
    if not references.is_own(references.name_of(kind)):
        set_state, attributes = state
        set_state(kind, attributes)


def publish(items: Iterable[object]) -> None:
    """Have what functions refer to found in this process's `__main__`, as it was in the caller's: a
    task that gives such a function to a `multiprocessing.Pool` pickles it by its name."""
    main = sys.modules["__main__"]
    for item in items:
        function = _function_of(item)
        if function is None or function.__module__ != "__main__":
            continue
        for name, value in [(function.__name__, function), *function.__globals__.items()]:
            if getattr(value, "__module__", None) == "__main__":
                setattr(main, name, value)


# Values of classes by value


def reduce_reference(item: object, found: dict[str, type]) -> Any:
    """How to pickle, among values, what workers could not import: a class by its name.

    Args:
        item: a class, function or module.
        found: takes the classes, whose definitions have to go along.
    """
    if not isinstance(item, type):
        return load_one, (dump(item),)
    name = references.name_of(item)
    found[name] = item
    return references.class_named, (name,)


def definitions_of(classes: Iterable[type]) -> bytes:
    """What `define` needs for these classes; nothing for those that came from there."""
    own = [kind for kind in classes if not references.has_come(kind)]
    return dump(*own) if own else b""


def define(definitions: bytes) -> None:
    """Know the classes that come with a batch of values."""
    global _last
    if definitions != _last[0]:
        _last = definitions, load(definitions)


_last: tuple[bytes, object] = b"", None  # the definitions that came last, and their classes


# What cannot be pickled


def dump_task(label: str, *functions: object) -> bytes:
    """Pickle a task, or a task and its initializer, by value.

    Args:
        label: what to call it in the error.
        functions: what it is made of.

    Raises:
        BadTask: something that they refer to cannot be pickled; it is named.
    """
    try:
        return dump(*functions)
    except Exception as error:
        for function in functions:
            found = _culprit(function, set())
            if found is not None:
                raise BadTask(f"{label} cannot be sent to workers: {found}") from None
        raise BadTask(f"{label} cannot be sent to workers: {_words(error)}") from None


def _culprit(item: object, seen: set[int]) -> str | None:
    """What a function refers to that cannot be pickled, and which function it is; the innermost."""
    function = _function_of(item)
    if function is None or id(function) in seen or references.can_import(function):
        return None
    seen.add(id(function))
    for what, value in _referred(function):
        error = _failure(value)
        if error is None:
            continue
        kind = type(value)
        home = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        return _culprit(value, seen) or (
            f"{what} of {function.__qualname__} is a {home}{kind.__qualname__}, which cannot be"
            f" pickled ({_words(error)}); make it in the task or in an initializer"
        )
    return None


def _function_of(item: object) -> FunctionType | None:
    if isinstance(item, MethodType):
        item = item.__func__
    item = getattr(item, "func", item)  # of a partial
    return item if isinstance(item, FunctionType) else None


def _referred(function: FunctionType) -> Iterator[tuple[str, object]]:
    for name in globals_of(function.__code__):
        if name in function.__globals__:
            yield f"the global {name!r}", function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"the variable {name!r}", cell.cell_contents
        except ValueError:  # it has no value yet
            continue
    for value in function.__defaults__ or ():
        yield "a default value", value


def globals_of(code: CodeType) -> dict[str, None]:
    """The names of the globals that code and the functions in it use, in their order.

    >>> list(globals_of((lambda: print(len.__name__)).__code__))
    ['print', 'len']
    """
    names = {i.argval: None for i in dis.get_instructions(code) if i.opname in _GLOBAL_OPS}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= globals_of(constant)
    return names


_GLOBAL_OPS = {"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME"}


def _failure(value: object) -> Exception | None:
    try:
        dump(value)
    except Exception as error:
        return error
    return None


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
