"""Classes sent by value: their names on the wire, and the classes that each job has in a worker.

A class is looked up by its name at either end. So what a task returns is of the caller's own class,
and what the caller sends is of the class that the job's function uses in the worker. Nothing here
imports cloudpickle.
"""

from __future__ import annotations

import os
import pickle
import threading
import weakref
from collections import deque

from dq.functions.importable import can_import_module, hold_while_forking

RECENT_CLASSES = 10_000  # stay known even if the program has dropped them


class Scope:
    """The classes and globals that one job, or one function of an executor's calls, has brought by
    value. They are kept apart, because another one of the same caller may bring later versions of
    them.

    Args:
        outer: where to look for a class that is not here.

    Attributes:
        classes: by their names.
        complete: those whose attributes are set.
        globals: of the functions, by the caller's names of their modules.
    """

    def __init__(self, outer: Scope | None = None) -> None:
        self.classes: dict[str, type] = {}
        self.complete: set[type] = set()
        self.globals: dict[str, dict[str, object]] = {}
        self._outer = outer

    def copy(self, outer: Scope | None = None) -> Scope:
        """A scope with the same classes, and with globals of its own that have the same values."""
        scope = Scope(outer)
        scope.classes |= self.classes
        scope.complete |= self.complete
        scope.globals |= {name: dict(values) for name, values in self.globals.items()}
        return scope

    def find(self, name: str) -> type | None:
        """The class of that name, here or in the outer scope."""
        kind = self.classes.get(name)
        return self._outer.find(name) if kind is None and self._outer is not None else kind


_thread = threading.local()  # .scope: of the job that this thread works on


def current_scope() -> Scope | None:
    """The scope of the job that this thread works on, in a task process."""
    return getattr(_thread, "scope", None)


def enter_scope(scope: Scope | None) -> None:
    """Make this thread work on the job with this scope."""
    _thread.scope = scope


_lock = threading.Lock()  # guards the creation of names
hold_while_forking(_lock)
_classes: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
_names: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()
_received: weakref.WeakSet[type] = weakref.WeakSet()  # those defined by another process
_recent: deque[type] = deque(maxlen=RECENT_CLASSES)  # objects of them may be in transit
_salt = ""


def use_unique_names() -> None:
    """Name the classes that this process defines as no other process does."""
    global _salt
    _salt = os.urandom(6).hex()


def name_of(kind: type) -> str:
    """The name of a class on the wire. It has a digest of the class, so that the same class has the
    same name in the next process and a journal recognizes its values."""
    name = _names.get(kind)
    if name is not None:
        return name
    content = _salt or _digest(kind)
    with _lock:
        base = name = f"{kind.__module__}.{kind.__qualname__}@{content}"
        number = 2
        while name in _classes:  # another class with the same code
            name, number = f"{base}#{number}", number + 1
        name = _names.setdefault(kind, name)
        _classes[name] = kind
        _recent.append(kind)
    return name


def _digest(kind: type) -> str:
    from dq.functions import code_digests  # here, since few values need it

    try:
        return code_digests.digest_of(kind)
    except code_digests.NoDigest:
        return os.urandom(6).hex()  # no journal will recognize its values


def class_named(name: str) -> type:
    """The class of that name. Pickles of its values call this.

    Raises:
        pickle.UnpicklingError: it is not known here.
    """
    scope = current_scope()
    kind = (scope.find(name) if scope is not None else None) or _classes.get(name)
    if kind is None:
        raise pickle.UnpicklingError(f"the class {name.partition('@')[0]} is not known here")
    return kind


def is_received(kind: type) -> bool:
    """Whether a class was defined by another process, which needs no definition of it."""
    return kind in _received


def is_own(name: str) -> bool:
    """Whether this process has defined the class of that name. No pickle may then change it."""
    kind = _classes.get(name)
    return kind is not None and kind not in _received


def content_of(kind: type) -> list[dict[str, object]]:
    """The attributes of a class and of its bases that are sent by value."""
    return [
        {name: value for name, value in vars(base).items() if name != _MEMO}
        for base in kind.__mro__
        if not can_import_module(base.__module__)
    ]


_MEMO = "__slotnames__"  # set by `copyreg` when an object is pickled


def is_same(before: list[dict[str, object]], now: list[dict[str, object]]) -> bool:
    """Whether these are the same attributes, with the same objects."""
    return len(before) == len(now) and all(
        old.keys() == new.keys() and all(old[name] is new[name] for name in new)
        for old, new in zip(before, now, strict=True)
    )


def receive(name: str, kind: type) -> None:
    """Register a class that another process has defined."""
    scope = current_scope()
    if scope is not None:
        scope.classes[name] = kind
    with _lock:
        _classes[name] = kind
        _names[kind] = name
        _received.add(kind)
