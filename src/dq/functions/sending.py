"""Pickles tasks and classes by value, and names what they refer to that cannot be pickled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType, ModuleType

from dq.core.blobs import Blob
from dq.errors import BadTask
from dq.functions import by_value_classes, importable
from dq.functions.by_value import dump, dump_large


def dump_task(label: str, *functions: object) -> Blob:
    """Pickle a task, or a task and its initializer, by value.

    Args:
        label: what to call it in the error.
        functions: what it is made of.

    Raises:
        BadTask: something that they refer to cannot be pickled; it is named.
    """
    with _explained(label, functions):
        return dump_large(*functions)


def definitions_of(kinds: Iterable[type]) -> bytes:
    """The definitions of classes, for `by_value.load`; those that the other end has sent need none.

    Raises:
        BadTask: one refers to something that cannot be pickled; it is named.
    """
    own = [kind for kind in kinds if not by_value_classes.is_received(kind)]
    if not own:
        return b""
    with _explained(own[0].__qualname__, own):
        return dump(*own)


@contextmanager
def _explained(label: str, items: Iterable[object]) -> Iterator[None]:
    """Say which part of the items cannot be pickled."""
    try:
        yield
    except Exception as error:
        for item in items:
            found = _culprit(item, set())
            if found is not None:
                raise BadTask(f"{label} cannot be sent to workers: {found}") from None
        raise BadTask(f"{label} cannot be sent to workers: {_words(error)}") from None


def _culprit(item: object, seen: set[int]) -> str | None:
    """The innermost object that cannot be pickled among those a function refers to, and what refers
    to it."""
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
    """A class as users know it: one of dq by its public name, without the module inside dq."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    home = "dq" if kind.__module__.startswith("dq.") else kind.__module__
    return f"{home}.{kind.__qualname__}"


def _referred(item: object) -> Iterator[tuple[str, object]]:
    """The parts of an item, each with a description."""
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
