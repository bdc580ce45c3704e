"""Functions and classes that workers cannot import, sent by value with cloudpickle.

What this adds to cloudpickle: a module counts as importable only if a fresh interpreter would find
it; a class belongs to the process that defined it, so no worker's copy ever changes the caller's;
and code keeps its file's name, for tracebacks.
"""

from __future__ import annotations

import importlib
import io
import marshal
import pickle
import sys
import threading
from collections.abc import Callable, Iterable
from functools import _lru_cache_wrapper, cached_property, lru_cache, partial, singledispatch
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, cast

import cloudpickle  # type: ignore[import-untyped, unused-ignore]  # it has no types

from dq._support import arrays
from dq._support.memory import copied
from dq.core.blobs import Blob, LargeBlob
from dq.errors import BadTask
from dq.functions import by_value_classes, importable
from dq.functions.by_value_classes import Scope

PYTHON = "{}.{}".format(*sys.version_info)

# Held while modules are registered with cloudpickle, whose registry is global. Reentrant, because
# an object may call `dump` while it is pickled.
_lock = threading.RLock()
importable.hold_while_forking(_lock)


def dump(*items: object) -> bytes:
    """Pickle functions and classes by value, in one pickle, so that they share globals there too.

    Raises:
        Exception: whatever one of them raises when pickled.
    """
    return _dump(items, None)


def dump_large(*items: object) -> Blob:
    """The same, with large arrays that they refer to beside the pickle, as they are now."""
    buffers: list[memoryview] = []
    head = _dump(items, buffers)
    return LargeBlob(head, tuple(map(copied, buffers))) if buffers else head


def _dump(items: tuple[object, ...], buffers: list[memoryview] | None) -> bytes:
    file = io.BytesIO()
    with _lock:
        pickler = _Pickler(file, buffers)
        try:
            pickler.dump(items)
        finally:
            for module in pickler.registered:
                cloudpickle.unregister_pickle_by_value(module)
    return PYTHON.encode() + b"\n" + file.getvalue()


def load(data: Blob) -> tuple[Any, ...]:
    """Unpickle what `dump` or `dump_large` has pickled.

    Raises:
        BadTask: another version of Python made it.
    """
    head, buffers = (data, ()) if isinstance(data, bytes) else (data.head, data.buffers)
    version, _, pickled = head.partition(b"\n")
    if version.decode() != PYTHON:
        raise BadTask(
            f"it was sent by value, from Python {version.decode()}, which Python {PYTHON} here"
            " cannot run; put it into a module that workers can import, or use the same Python"
        )
    before = by_value_classes.current_scope()
    by_value_classes.enter_scope(before or Scope())
    try:
        return cast("tuple[Any, ...]", pickle.loads(pickled, buffers=buffers))
    finally:
        by_value_classes.enter_scope(before)


def load_one(data: Blob) -> object:
    """The one item that was pickled by `dump`."""
    [item] = load(data)
    return item


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc, unused-ignore]  # it has no types
    """Pickles by value what workers cannot import."""

    def __init__(self, file: io.BytesIO, buffers: list[memoryview] | None) -> None:
        keep = None if buffers is None else arrays.keeping(buffers)
        super().__init__(file, buffer_callback=keep)
        self.registered: list[ModuleType] = []

    def reducer_override(self, item: Any) -> Any:
        kind = type(item)
        if kind.__module__ == "numpy":
            reduced = arrays.reduced(item)
            if reduced is not NotImplemented:
                return reduced
        if kind is CodeType:
            # cloudpickle drops the file's name. Version 2 of marshal does not mark shared objects.
            # Such marks depend on reference counts, and the same code must give the same bytes.
            return marshal.loads, (marshal.dumps(item, 2),)
        if kind is io.TextIOWrapper and item not in (sys.stdout, sys.stderr):
            raise pickle.PicklingError("an open file")  # cloudpickle would send a copy of it
        if kind is _lru_cache_wrapper and not importable.can_import(item):
            return _cached, (item.__wrapped__, item.cache_parameters())
        if kind is cached_property:  # it has a lock up to Python 3.11
            return _cached_property, (item.func, item.attrname)
        if kind is ModuleType:
            self._register(item.__name__)
        elif kind is FunctionType:
            return self._function(item)
        elif importable.is_class(item):
            return self._class(item)
        elif (place := importable.place_of(item)) is not None:
            return _found, place
        return super().reducer_override(item)

    def _function(self, function: FunctionType) -> Any:
        self._register(function.__module__)
        reduced = super().reducer_override(function)
        if not isinstance(reduced, tuple):
            return reduced
        if function.__code__ is _DISPATCHER:
            kinds = dict(function.registry)  # type: ignore[attr-defined]  # as singledispatch makes it
            return _dispatching, (kinds.pop(object), kinds)
        make, (code, base, *rest), (attributes, slots), _, _, set_state = reduced
        own = function.__globals__
        used = importable.globals_of(function.__code__)
        slots["__globals__"] |= {name: own[name] for name in used if name in own}
        args = make, code, _key_of(own), dict(base), *rest
        return _make_function, args, (set_state, attributes, slots), None, None, _set_function

    def _class(self, kind: type) -> Any:
        self._register(kind.__module__)
        reduced = super().reducer_override(kind)
        if not isinstance(reduced, tuple) or len(reduced) != 6:
            return reduced
        make, args, state, _, _, set_state = reduced
        if isinstance(args[3], dict):
            args[3].update(_slots_of(kind))
        # The last argument but one lets cloudpickle find a class that it has made before. That may
        # be an older class of another job.
        args = (*args[:-2], None, args[-1])
        name = by_value_classes.name_of(kind)
        return _make_class, (name, make, args), (set_state, state), None, None, _set_class

    def _register(self, name: str | None) -> None:
        """Make cloudpickle pickle a module's contents by value although it is in `sys.modules`."""
        module = sys.modules.get(name or "")
        if module is None or name in importable.MAIN_MODULES:
            return
        if importable.can_import_module(str(name)):
            return
        if module not in self.registered and isinstance(module, ModuleType):
            cloudpickle.register_pickle_by_value(module)
            self.registered.append(module)


def _slots_of(kind: type) -> dict[str, Any]:
    """The `__slots__` of a class. cloudpickle sets them after it has made the class, and they have
    no effect then: the worker's objects would have a `__dict__`, unlike the caller's."""
    own = vars(kind)
    if "__slots__" not in own or NamedTuple in own.get("__orig_bases__", ()):  # makes its own
        return {}
    return {"__slots__": own["__slots__"]}


def _cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Callable[..., Any]:
    """A function wrapped in `functools.lru_cache`, with an empty cache."""
    cached: Callable[..., Any] = lru_cache(**parameters)(function)
    return cached


def _cached_property(function: Callable[..., Any], name: str | None) -> cached_property[Any]:
    made = cached_property(function)
    if name is not None:
        made.__set_name__(object, name)
    return made


def _found(module: str, name: str) -> object:
    found: object = getattr(importlib.import_module(module), name)
    return found


_DISPATCHER: CodeType = cast("Any", singledispatch(lambda x: x)).__code__  # the same for all


def _dispatching(
    function: Callable[..., Any], kinds: dict[type, Callable[..., Any]]
) -> Callable[..., Any]:
    """A function wrapped in `functools.singledispatch`, with its implementations by type."""
    made = singledispatch(function)
    for kind, other in kinds.items():
        made.register(kind, other)
    return made


def _key_of(namespace: dict[str, Any]) -> str:
    """The name of a module's globals on the wire."""
    name = str(namespace.get("__name__"))
    module = sys.modules.get(name)
    if module is not None and vars(module) is namespace:
        return name
    return f"{name}@{id(namespace):x}"


def _make_function(
    make: Callable[..., FunctionType], code: CodeType, key: str, base: dict[str, Any], *rest: Any
) -> FunctionType:
    """A function that shares its globals with all the job's functions of the same module."""
    scope = by_value_classes.current_scope()
    assert scope is not None
    return make(code, scope.globals.setdefault(key, base), *rest)


def _set_function(
    function: FunctionType, state: tuple[Callable[[Any, Any], Any], dict[str, Any], dict[str, Any]]
) -> None:
    """Set the state that cloudpickle has sent for a function, except globals that already exist:
    the task or its initializer may have changed them."""
    set_state, attributes, slots = state
    there = function.__globals__
    slots["__globals__"] = {k: v for k, v in slots["__globals__"].items() if k not in there}
    set_state(function, (attributes, slots))


def _make_class(name: str, make: Callable[..., type], args: tuple[Any, ...]) -> type:
    if by_value_classes.is_own(name):
        return by_value_classes.class_named(name)
    scope = by_value_classes.current_scope()
    assert scope is not None
    kind = scope.classes.get(name)
    if kind is None:
        kind = make(*args)
        by_value_classes.receive(name, kind)
    return kind


def _set_class(kind: type, state: tuple[Callable[[type, Any], Any], Any]) -> None:
    scope = by_value_classes.current_scope()
    assert scope is not None
    if by_value_classes.is_own(by_value_classes.name_of(kind)) or kind in scope.complete:
        return
    scope.complete.add(kind)
    set_state, attributes = state
    set_state(kind, attributes)


def publish(items: Iterable[object]) -> None:
    """Put functions of the caller's `__main__`, and what they refer to there, into this process's
    `__main__`. A task that passes one to a `multiprocessing.Pool` needs it there, because the pool
    pickles it by its name."""
    main = sys.modules["__main__"]
    for item in items:
        function = _function_of(item)
        if function is None or function.__module__ != "__main__":
            continue
        for name, value in [(function.__name__, function), *function.__globals__.items()]:
            if getattr(value, "__module__", None) == "__main__":
                setattr(main, name, value)


def _function_of(item: object) -> FunctionType | None:
    if isinstance(item, MethodType):
        item = item.__func__
    elif isinstance(item, partial):
        item = item.func
    return item if isinstance(item, FunctionType) else None


def reduce_reference(item: object, found: dict[str, type]) -> Any:
    """How to pickle an object in a value that workers cannot import: a class by its name,
    everything else by value.

    Args:
        item: a class, function or module.
        found: takes the classes, whose definitions the other end needs.
    """
    if not importable.is_class(item):
        return load_one, (dump(item),)
    kind = cast("type", item)
    name = by_value_classes.name_of(kind)
    found[name] = kind
    return by_value_classes.class_named, (name,)
