"""Whether a fresh interpreter could import something, so that it is pickled as its import path.

Anything else is sent by value (`dq.functions.by_value`).
"""

from __future__ import annotations

import os
import sys
import threading
from functools import _lru_cache_wrapper, lru_cache
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType

TYPE_CHECKING = False  # `typing` takes 5 ms to import, and checkers go by the name

if TYPE_CHECKING:
    from typing import Any

MAIN_MODULES = ("__main__", "__mp_main__")  # another module in each process
HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a `class` statement, rather than in C

_modules: dict[str, tuple[ModuleType | None, bool]] = {}  # answers of `can_import_module`


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
    # Each look-up of a method makes a new object.
    return found is item or (isinstance(item, MethodType | BuiltinFunctionType) and found == item)


def can_import_module(name: str) -> bool:
    """Whether a fresh interpreter, with this one's path, finds the same module by its name."""
    module = sys.modules.get(name)
    known, answer = _modules.get(name, (None, False))
    if module is None or known is not module:
        answer = module is not None and name not in MAIN_MODULES and _finders_find(name, module)
        _modules[name] = module, answer
    return answer


def _finders_find(name: str, module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    package, _, _ = name.rpartition(".")
    if package and not can_import_module(package):
        return False
    path = getattr(sys.modules[package], "__path__", None) if package else None
    found, origin = _origin(name, path)
    if found and (file is None or origin is None or is_same_file(origin, file)):
        return True
    return bool(package) and _is_synthetic(name, module, found=found)


def _is_synthetic(name: str, module: ModuleType, *, found: bool) -> bool:
    """Whether a package itself puts the module into `sys.modules`, and so does the same in other
    processes. The module may be new, or an alias, as `collections` makes `collections.abc`."""
    other = getattr(getattr(module, "__spec__", None), "name", name)
    if other != name and sys.modules.get(other) is module:
        return can_import_module(other)
    is_nowhere = getattr(module, "__file__", None) is None
    return not found and (is_nowhere or _top(name) in sys.stdlib_module_names)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _origin(name: str, path: Any) -> tuple[bool, str | None]:
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path, None)
        except Exception:  # a finder of the program's own, which may expect more arguments
            continue
        if spec is not None:
            return True, spec.origin if spec.has_location else None
    return False, None


def is_same_file(one: str, other: str) -> bool:
    """Whether two paths name one file, perhaps through links."""
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def hold_while_forking(lock: threading.Lock | threading.RLock) -> None:
    """Release a lock in the child of a fork, whichever thread holds it."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )


def is_class(item: object) -> bool:
    """Whether it is a class. Up to Python 3.10, `isinstance` accepts `list[int]` as a class too."""
    return issubclass(type(item), type)


def is_definition(kind: type) -> bool:
    """Whether objects of a type are classes, functions or modules, which may have to be sent by
    value."""
    return issubclass(kind, type) or kind in (FunctionType, _lru_cache_wrapper, ModuleType)


def is_by_reference(item: object) -> bool:
    """Whether plain pickle will do for an item: workers can import it, or need not."""
    kind = type(item)
    if issubclass(kind, type):
        return not item.__flags__ & HEAP_TYPE or can_import(item)  # type: ignore[attr-defined]
    if kind is ModuleType:
        return False
    return not is_definition(kind) or can_import(item)


def place_of(item: object) -> tuple[str, str] | None:
    """Module and name of an object that exists once in each process and must not be copied, such as
    `os.environ`, or the methods of the generator behind `random.random`.

    >>> import random
    >>> place_of(random.randint), place_of(os.environ), place_of([1])
    (('random', 'randint'), ('os', 'environ'), None)
    """
    is_method = isinstance(item, MethodType | BuiltinFunctionType)
    owner = getattr(item, "__self__", None) if is_method else item
    name = type(owner).__module__
    module = sys.modules.get(name)
    if module is None or not (_top(name) in sys.stdlib_module_names or _top(name) == "numpy"):
        return None
    if is_method:
        method = getattr(item, "__name__", "")
        return (name, method) if getattr(module, method, None) == item else None
    if name == "builtins":
        return None
    return next(((name, key) for key, value in vars(module).items() if value is item), None)


@lru_cache(maxsize=1000)
def globals_of(code: CodeType) -> tuple[str, ...]:
    """The names of the globals that code, and the functions and classes in it, use.

    >>> globals_of((lambda: print(len.__name__)).__code__)
    ('print', 'len')
    """
    import dis  # here, since few values need it

    names = {i.argval: None for i in dis.get_instructions(code) if i.opname in _GLOBAL_OPS}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= dict.fromkeys(globals_of(constant))
    return tuple(names)


# In the body of a class that a function makes, a global is loaded as a name.
_GLOBAL_OPS = {"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME"}
