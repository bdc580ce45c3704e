"""Loads the function that a reference names. If that fails, one line says why."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import traceback
from types import ModuleType

from dq.errors import BadTask, MissingModule
from dq.functions.reference import Function, TaskRef

_importing = threading.local()  # .what: the module or file that this thread is importing


def is_importing() -> bool:
    """Whether this thread is importing a task's module."""
    return getattr(_importing, "what", None) is not None


def refuse_while_importing() -> None:
    """Refuse to start a run while a task's module is imported. The workers of such a run would
    import the module too, and each would start another run.

    Raises:
        BadTask: this thread is importing a task's module.
    """
    what = getattr(_importing, "what", None)
    if what is not None:
        raise BadTask(f"{what} calls dq when imported; put that under `if __name__ == '__main__':`")


def load(ref: TaskRef) -> Function:
    """The function that a reference names.

    Raises:
        BadTask: one line says what was found instead.
    """
    if ref.kind == "value":
        return load_values(ref)[0]
    found: object = _load_module(ref)
    for part in ref.name.split("."):
        if not hasattr(found, part):
            raise BadTask(_missing(ref, part, found))
        found = getattr(found, part)
    if not callable(found):
        raise BadTask(f"{ref} is not a function but {_with_article(type(found).__name__)}")
    return found


def load_values(ref: TaskRef) -> tuple[Function, ...]:
    """The functions that a reference brings: a task, and perhaps its initializer.

    Raises:
        BadTask: they cannot be unpickled here.
    """
    from dq.functions import by_value  # here: nothing that can be imported needs it

    try:
        functions: tuple[Function, ...] = by_value.load(ref.data)
        by_value.publish(functions)
        return functions
    except Exception as error:
        what = str(error) if isinstance(error, BadTask) else f"{type(error).__name__}: {error}"
        raise BadTask(f"{ref} cannot be loaded: {what}") from error


def _load_module(ref: TaskRef) -> ModuleType:
    before = getattr(_importing, "what", None)
    _importing.what = ref.where
    try:
        return importlib.import_module(ref.where) if ref.kind == "module" else _load_file(ref)
    except (BadTask, KeyboardInterrupt):
        raise
    except ImportError as error:
        raise _import_error(ref, error) from error
    except BaseException as error:  # SystemExit too: a module may do anything when imported
        raise BadTask(f"cannot import {ref.where}: {_place(error, ref)}") from error
    finally:
        _importing.what = before


def file_path(ref: TaskRef) -> str:
    """The file of a reference: the path as given if it is a file here, else the caller's absolute
    path."""
    return os.path.abspath(ref.where) if os.path.isfile(ref.where) else ref.path


def _load_file(ref: TaskRef) -> ModuleType:
    """Import a file as a module of the file's name, once."""
    path = file_path(ref)
    if not os.path.isfile(path):
        raise BadTask(f"no file {ref.where} (looked in {os.getcwd()})")
    folder, base = os.path.split(path)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as python itself does for a script
    name = base[:-3]
    while (known := sys.modules.get(name)) is not None:
        if getattr(known, "__file__", None) == path:
            return known
        name = f"dq_task_{name}"
    with open(path, "rb") as file:
        # Otherwise this module's own `from __future__` would apply to it too.
        code = compile(file.read(), path, "exec", dont_inherit=True)
    module = ModuleType(name)
    module.__dict__.update(__file__=path, __package__="")
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _missing(ref: TaskRef, part: str, found: object) -> str:
    import difflib  # here to keep start-up fast, since only errors need it
    import inspect

    names = [name for name in dir(found) if not name.startswith("_")]
    functions = [name for name in names if inspect.isroutine(getattr(found, name, None))]
    close = difflib.get_close_matches(part, names, n=3) or sorted(functions)[:5]
    hint = f"; it has {', '.join(close)}" if close else "; it has no functions"
    return f"{ref.where} has no {part!r}{hint}"


def _import_error(ref: TaskRef, error: ImportError) -> BadTask:
    missing = error.name or ""
    if isinstance(error, ModuleNotFoundError) and f"{ref.where}.".startswith(f"{missing}."):
        return BadTask(_no_module(ref))
    text = f"cannot import {ref.where}: {_place(error, ref)}"
    if ref.kind == "file" and not missing and "relative import" in str(error):
        return BadTask(f"{text}; {_as_part_of_its_package(ref)}")
    return (MissingModule if _is_of_others(error, ref) else BadTask)(text)


def _is_of_others(error: ImportError, ref: TaskRef) -> bool:
    """Whether the module that could not be imported belongs to a library, not to the user's
    code."""
    if not error.name:  # from a library that lacks another library or a driver
        return "relative import" not in str(error)
    if error.name.partition(".")[0] == ref.where.partition(".")[0]:
        return False
    if error.path is None:
        return True
    folders = error.path.split(os.sep)
    installed = "site-packages" in folders or "dist-packages" in folders
    return installed or not error.path.startswith(os.getcwd() + os.sep)


def _as_part_of_its_package(ref: TaskRef) -> str:
    """Advice on how to name a file that is part of a package, since loading it by its path
    fails."""
    root, base = os.path.split(file_path(ref))
    parts = [base[:-3]]
    while not parts[1:] or os.path.isfile(os.path.join(root, "__init__.py")):
        root, package = os.path.split(root)
        parts.insert(0, package)
    if not all(part.isidentifier() for part in parts):
        return "relative imports need a package, and no package has the name of that folder"
    where = "" if root == os.getcwd() else f", in the folder {root}"
    return f"it is part of a package: give {'.'.join(parts)}:{ref.name} as the TASK{where}"


def _no_module(ref: TaskRef) -> str:
    import difflib

    here = sorted(name[:-3] for name in os.listdir(".") if name.endswith(".py"))
    close = difflib.get_close_matches(ref.where, here, n=1)
    hint = f"; the modules here are {', '.join(here[:5])}" if here else ""
    hint = f"; did you mean {close[0]}?" if close else hint
    return f"no module {ref.where!r} in {os.getcwd()} or on the import path{hint}"


def _place(error: BaseException, ref: TaskRef) -> str:
    """An error, with the file and line of the user's code that raised it."""
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, SyntaxError) and error.filename:
        return f"{os.path.basename(error.filename)} line {error.lineno}: SyntaxError: {error.msg}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    if not frames:
        return what
    return f"{os.path.basename(frames[-1].filename)} line {frames[-1].lineno}: {what}"


def _with_article(noun: str) -> str:
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"
