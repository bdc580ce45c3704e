"""What a fresh interpreter can import, and the names by which the classes go that it cannot.

A function or class that workers can import is pickled as its import path. Anything else is sent by
value (`dq.by_value`). A class by value has a name on the wire, so that each end knows its own class
again: what a task returns is of the caller's class, and what the caller sends is of the class that
the function has in the worker.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import weakref
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

TYPE_CHECKING = False  # `typing` takes 5 ms to import, and checkers go by the name

if TYPE_CHECKING:
    from typing import Any

NOWHERE = ("__main__", "__mp_main__")  # modules that are another one in each process
HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a `class` statement, rather than in C

_modules: dict[str, tuple[ModuleType | None, bool]] = {}  # what has been found out of them


def can_import(item: object) -> bool:
    """Whether a fresh interpreter finds this very object by its module and name.

    >>> can_import(os.path.join), can_import(lambda: 0)
    (True, False)
    """
    module, name = getattr(item, "__module__", None), getattr(item, "__qualname__", None)
    return (
        isinstance(module, str)
        and isinstance(name, str)
        and can_import_module(module)
        and _is_found(module, name, item)
    )


def _is_found(module: str, name: str, item: object) -> bool:
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    # A method is another object each time it is looked up.
    return found is item or (isinstance(item, MethodType | BuiltinFunctionType) and found == item)


def can_import_module(name: str) -> bool:
    """Whether a fresh interpreter, with this one's path, finds the same module by its name."""
    module = sys.modules.get(name)
    known, answer = _modules.get(name, (None, False))
    if module is None or known is not module:
        answer = module is not None and name not in NOWHERE and _is_there(name, module)
        _modules[name] = module, answer
    return answer


def _is_there(name: str, module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    package, _, _ = name.rpartition(".")
    if package and not can_import_module(package):
        return False
    path = getattr(sys.modules[package], "__path__", None) if package else None
    found, origin = _origin(name, path)
    if not found:
        return bool(package) and file is None  # its package makes it up, and does so there too
    return file is None or origin is None or _is_same_file(origin, file)


def _origin(name: str, path: Any) -> tuple[bool, str | None]:
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path, None)
        except Exception:  # a finder of the program's own, which may want more
            continue
        if spec is not None:
            return True, spec.origin if spec.has_location else None
    return False, None


def _is_same_file(one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)


# Classes by value


def hold_while_forking(lock: threading.Lock | threading.RLock) -> None:
    """Have a lock free in the child of a fork, whatever thread might have held it."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )


_lock = threading.Lock()  # guards the names' making
hold_while_forking(_lock)
_classes: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
_names: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()
_received: weakref.WeakSet[type] = weakref.WeakSet()  # those that another process has defined
_counts: dict[str, int] = {}  # classes of each module and name that have got a name
_salt = ""


def name_apart() -> None:
    """Have the classes that this process makes not be taken for those that others make."""
    global _salt
    _salt = f"@{os.urandom(6).hex()}"


def name_of(kind: type) -> str:
    """The name on the wire of a class that goes by value: in the same program the same one."""
    with _lock:
        name = _names.get(kind)
        if name is None:
            base = f"{kind.__module__}.{kind.__qualname__}{_salt}"
            count = _counts[base] = _counts.get(base, 0) + 1
            name = base if count == 1 else f"{base}#{count}"
            _names[kind] = name
            _classes[name] = kind
        return name


def class_named(name: str) -> type:
    """The class of that name; what pickles of values by value call.

    Raises:
        pickle.UnpicklingError: it is not known here.
    """
    kind = _classes.get(name)
    if kind is None:
        raise pickle.UnpicklingError(f"the class {name} is not known here any more")
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
    with _lock:
        _classes[name] = kind
        _names[kind] = name
        _received.add(kind)


def is_by_reference(item: object) -> bool:
    """Whether pickle can have its own way with an item: with all but what workers cannot import."""
    if isinstance(item, type):
        return not item.__flags__ & HEAP_TYPE or can_import(item)
    kind = type(item)
    return kind is not ModuleType and (kind is not FunctionType or can_import(item))
