"""Functions and classes that workers cannot import, sent by value with cloudpickle.

Besides what cloudpickle does: a module counts as importable only where a fresh interpreter would
find it; a class keeps its home, so that no worker's copy ever changes the caller's; code keeps its
file's name, for tracebacks; and where something cannot be pickled, the error names it and the
function that refers to it.
"""

from __future__ import annotations

import importlib
import io
import marshal
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import _lru_cache_wrapper, cached_property, lru_cache, partial, singledispatch
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, cast

import cloudpickle  # type: ignore[import-untyped, unused-ignore]  # it has no types

from dq.errors import BadTask
from dq.functions import classes, importable
from dq.functions.classes import Scope

PYTHON = "{}.{}".format(*sys.version_info)

# Held while modules are registered with cloudpickle, which is global. What is pickled may itself
# have something pickled by value.
_lock = threading.RLock()
importable.hold_while_forking(_lock)


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
    before = classes.current()
    classes.enter(before or Scope())
    try:
        return cast("tuple[Any, ...]", pickle.loads(pickled))
    finally:
        classes.enter(before)


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
        if kind is _lru_cache_wrapper and not importable.can_import(item):
            return _cached, (item.__wrapped__, item.cache_parameters())
        if kind is cached_property:  # up to Python 3.11 it has a lock
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
        # The last but one has cloudpickle take the class for one that it has made before: for
        # another job's, of another moment.
        args = (*args[:-2], None, args[-1])
        name = classes.name_of(kind)
        return _make_class, (name, make, args), (set_state, state), None, None, _set_class

    def _register(self, name: str | None) -> None:
        """Have cloudpickle not take a module for importable because it is in `sys.modules`."""
        module = sys.modules.get(name or "")
        if module is None or name in importable.NOWHERE or importable.can_import_module(str(name)):
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


def _found(module: str, name: str) -> object:
    found: object = getattr(importlib.import_module(module), name)
    return found


_DISPATCHER: CodeType = cast("Any", singledispatch(lambda x: x)).__code__  # of all that it makes


def _dispatching(
    function: Callable[..., Any], kinds: dict[type, Callable[..., Any]]
) -> Callable[..., Any]:
    """What `functools.singledispatch` has made of a function."""
    made = singledispatch(function)
    for kind, other in kinds.items():
        made.register(kind, other)
    return made


def _key_of(namespace: dict[str, Any]) -> str:
    """What the globals of a module are called on the wire."""
    name = str(namespace.get("__name__"))
    module = sys.modules.get(name)
    if module is not None and vars(module) is namespace:
        return name
    return f"{name}@{id(namespace):x}"


def _make_function(
    make: Callable[..., FunctionType], code: CodeType, key: str, base: dict[str, Any], *rest: Any
) -> FunctionType:
    """A function whose globals are those of all of the job's functions of its module."""
    scope = classes.current()
    assert scope is not None
    return make(code, scope.globals.setdefault(key, base), *rest)


def _set_function(
    function: FunctionType, state: tuple[Callable[[Any, Any], Any], dict[str, Any], dict[str, Any]]
) -> None:
    """What came with the task stays as it, or its initializer, has changed it since."""
    set_state, attributes, slots = state
    there = function.__globals__
    slots["__globals__"] = {k: v for k, v in slots["__globals__"].items() if k not in there}
    set_state(function, (attributes, slots))


def _make_class(name: str, make: Callable[..., type], args: tuple[Any, ...]) -> type:
    if classes.is_own(name):
        return classes.class_named(name)
    scope = classes.current()
    assert scope is not None
    kind = scope.classes.get(name)
    if kind is None:
        kind = make(*args)
        classes.receive(name, kind)
    return kind


def _set_class(kind: type, state: tuple[Callable[[type, Any], Any], Any]) -> None:
    scope = classes.current()
    assert scope is not None
    if classes.is_own(classes.name_of(kind)) or kind in scope.complete:
        return
    scope.complete.add(kind)
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
    if not importable.is_class(item):
        return load_one, (dump(item),)
    kind = cast("type", item)
    name = classes.name_of(kind)
    found[name] = kind
    return classes.class_named, (name,)


def definitions_of(kinds: Iterable[type]) -> bytes:
    """What `load` knows these classes by; nothing for those that came from there.

    Raises:
        BadTask: one refers to something that cannot be pickled; it is named.
    """
    own = [kind for kind in kinds if not classes.has_come(kind)]
    return dump_task(own[0].__qualname__, *own) if own else b""


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
    if id(item) in seen or importable.can_import(item):
        return None
    seen.add(id(item))
    label = getattr(item, "__qualname__", None) or type(item).__qualname__
    for what, value in _referred(item):
        error = _failure(value)
        if error is None:
            continue
        kind = type(value)
        return _culprit(value, seen) or (
            f"{what} of {label} is a {_public_name(kind)}, which cannot be"
            f" pickled ({_words(error)}); make it in the task or in an initializer"
        )
    return None


def _public_name(kind: type) -> str:
    """What people call a class: those of dq are its own, wherever in it they are defined."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    home = "dq" if kind.__module__.startswith("dq.") else kind.__module__
    return f"{home}.{kind.__qualname__}"


def _function_of(item: object) -> FunctionType | None:
    if isinstance(item, MethodType):
        item = item.__func__
    elif isinstance(item, partial):
        item = item.func
    return item if isinstance(item, FunctionType) else None


def _referred(item: object) -> Iterator[tuple[str, object]]:
    """What an item consists of, and what to call each of it."""
    if isinstance(item, FunctionType):
        yield from _referred_by(item)
    elif isinstance(item, MethodType):
        yield "the function", item.__func__
        yield "the object", item.__self__
    elif isinstance(item, partial):
        yield "the function", item.func
        yield from ((f"the argument {value!r:.40}", value) for value in item.args)
        yield from ((f"the argument {name!r}", value) for name, value in item.keywords.items())
    elif isinstance(item, type | ModuleType):
        own = {name: value for name, value in vars(item).items() if name != "__dict__"}
        yield from ((repr(name), value) for name, value in own.items())
    elif isinstance(getattr(item, "__dict__", None), dict) and not importable.can_import(
        type(item)
    ):
        yield "the class", type(item)
        yield from ((f"the attribute {name!r}", value) for name, value in vars(item).items())


def _referred_by(function: FunctionType) -> Iterator[tuple[str, object]]:
    for name in importable.globals_of(function.__code__):
        if name in function.__globals__:
            yield f"the global {name!r}", function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"the variable {name!r}", cell.cell_contents
        except ValueError:  # it has no value yet
            continue
    for value in function.__defaults__ or ():
        yield "a default value", value


def _failure(value: object) -> Exception | None:
    try:
        dump(value)
    except Exception as error:
        return error
    return None


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
