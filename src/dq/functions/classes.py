"""Classes that go by value: their names on the wire, and what a job has of them in a worker.

Each end knows its own class again by its name: what a task returns is of the caller's class, and
what the caller sends is of the class that the job's function has in the worker. Nothing here loads
cloudpickle.
"""

from __future__ import annotations

import os
import pickle
import threading
import weakref
from collections import deque

from dq.functions.importable import hold_while_forking

RECENT = 10_000  # classes that stay known though the program has dropped them


class Scope:
    """What one job has by value in this process: as it was when the job was begun, whatever another
    job of the same caller has later.

    Attributes:
        classes: by their names.
        complete: those that need nothing more.
        globals: of the functions, by the caller's names for the modules that these are of.
    """

    def __init__(self) -> None:
        self.classes: dict[str, type] = {}
        self.complete: set[type] = set()
        self.globals: dict[str, dict[str, object]] = {}


_here = threading.local()  # .scope: of the job that this thread works on


def current() -> Scope | None:
    """That of the job that this thread works on, in a task process."""
    return getattr(_here, "scope", None)


def enter(scope: Scope | None) -> None:
    """Work on another job in this thread."""
    _here.scope = scope


_lock = threading.Lock()  # guards the names' making
hold_while_forking(_lock)
_classes: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
_names: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()
_received: weakref.WeakSet[type] = weakref.WeakSet()  # those that another process has defined
_recent: deque[type] = deque(maxlen=RECENT)  # of whose values some may be on their way
_salt = ""


def name_apart() -> None:
    """Have the classes that this process makes not be taken for those that others make."""
    global _salt
    _salt = os.urandom(6).hex()


def name_of(kind: type) -> str:
    """The name on the wire of a class that goes by value: for the same class the same one, in the
    next process too, so that a journal knows values of it again."""
    name = _names.get(kind)
    if name is not None:
        return name
    content = _salt or _digest(kind)
    with _lock:
        base = name = f"{kind.__module__}.{kind.__qualname__}@{content}"
        number = 2
        while name in _classes:  # two classes that are alike
            name, number = f"{base}#{number}", number + 1
        name = _names.setdefault(kind, name)
        _classes[name] = kind
        _recent.append(kind)
    return name


def _digest(kind: type) -> str:
    from dq.functions import digests  # here, since few values need it

    try:
        return digests.digest_of(kind)
    except digests.NoDigest:
        return os.urandom(6).hex()  # no journal will know its values again


def class_named(name: str) -> type:
    """The class of that name; what pickles of values by value call.

    Raises:
        pickle.UnpicklingError: it is not known here.
    """
    scope = current()
    kind = (scope.classes.get(name) if scope is not None else None) or _classes.get(name)
    if kind is None:
        raise pickle.UnpicklingError(f"the class {name.partition('@')[0]} is not known here")
    return kind


def has_come(kind: type) -> bool:
    """Whether another process has defined a class, so that it need not be told what it is."""
    return kind in _received


def is_own(name: str) -> bool:
    """Whether a class of that name has its home here, so that nobody else is to change it."""
    kind = _classes.get(name)
    return kind is not None and kind not in _received


def receive(name: str, kind: type) -> None:
    """Know a class by this name that another process has defined."""
    scope = current()
    if scope is not None:
        scope.classes[name] = kind
    with _lock:
        _classes[name] = kind
        _names[kind] = name
        _received.add(kind)
