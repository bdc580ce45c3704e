"""Tasks: from an import path or an object to a function, and the error when there is none."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, FunctionType, ModuleType

from dq._support.frozen import cast, frozen
from dq._support.naming import setting
from dq.core.records import Reading
from dq.errors import BadTask, MissingModule
from dq.functions import importable

Function = Callable[..., object]

CO_COROUTINE = 0x80  # as in `inspect`

_importing = threading.local()  # .what: the module or file that this thread is importing


def is_importing() -> bool:
    """Whether this thread is importing a task's module."""
    return getattr(_importing, "what", None) is not None


def refuse_while_importing() -> None:
    """Called first by everything that starts a run: a module that starts one when it is imported
    would have each of that run's workers, which import it too, start another.

    Raises:
        BadTask: this thread is importing a task's module.
    """
    what = getattr(_importing, "what", None)
    if what is not None:
        raise BadTask(f"{what} calls dq when imported; put that under `if __name__ == '__main__':`")


@frozen
class TaskRef:
    """Where a worker finds a function.

    Args:
        kind: "module", "file" or "value".
        where: the module's name, the file's path as given, or what to call a function by value.
        name: dotted attribute in it.
        path: the file's absolute path.
        data: the function by value; empty for an initializer whose task has both in its own.
    """

    kind: str
    where: str = ""
    name: str = ""
    path: str = ""
    data: bytes = b""

    def __str__(self) -> str:
        return f"{self.where}:{self.name}" if self.name else self.where

    def to_wire(self) -> tuple[str, str, str, str, bytes]:
        return (self.kind, self.where, self.name, self.path, self.data)


def parse(text: str) -> TaskRef:
    """Read ``package.module:function`` or ``path/to/file.py:function``.

    Raises:
        BadTask: it is neither.

    >>> parse("math:sqrt").where, parse("jobs/app.py:Shop.open").name
    ('math', 'Shop.open')
    """
    where, colon, name = text.rpartition(":")
    if not colon or not where or not all(part.isidentifier() for part in name.split(".")):
        raise _no_task(text, "is neither package.module:function nor path/to/file.py:function")
    if where.endswith(".py"):
        return TaskRef("file", where, name, os.path.abspath(where))
    if not all(part.isidentifier() for part in where.split(".")):
        raise _no_task(text, f"names {where!r}, which is neither a module's name nor a .py file")
    return TaskRef("module", where, name)


def _no_task(text: str, why: str) -> BadTask:
    from dq.functions.hints import meant  # here, since few need it

    return BadTask(f"TASK {text!r} {why}{meant(text)}")


def refer(task: str | Function) -> TaskRef:
    """Where workers find `task`: an import path, or the function itself where there is none.

    Raises:
        BadTask: it cannot be called, or cannot be sent.

    >>> import math
    >>> str(refer(math.sqrt))
    'math:sqrt'
    """
    return _import_path(task) or _by_value(task)


def refer_both(
    task: str | Function, initializer: str | Function | None
) -> tuple[TaskRef, TaskRef | None]:
    """The same for a task and its initializer. By value they go together, so that the task sees
    the globals that its initializer has set."""
    if initializer is None:
        return refer(task), None
    ref, init = _import_path(task), _import_path(initializer)
    if ref is None and init is None:
        return _by_value(task, initializer), TaskRef("value", label_of(initializer))
    return ref or _by_value(task), init or _by_value(initializer)


def _import_path(task: str | Function) -> TaskRef | None:
    if isinstance(task, str):
        return parse(task)
    if not callable(task):
        raise BadTask(f"a task must be callable or an import path, not {type(task).__name__}")
    if not importable.can_import(task):
        return None
    return TaskRef("module", task.__module__, task.__qualname__)


def _by_value(task: str | Function, *more: str | Function) -> TaskRef:
    from dq.functions import by_value  # here: nothing that can be imported needs it

    label = label_of(task)
    return TaskRef("value", label, data=by_value.dump_task(label, task, *more))


def label_of(task: str | Function) -> str:
    """What to call a function; the same in each process.

    >>> import functools
    >>> label_of(functools.partial(print, end="")), label_of("abc".upper)
    ('partial of print', 'str.upper')
    """
    if isinstance(task, partial):
        return f"partial of {label_of(task.func)}"
    name = getattr(task, "__qualname__", None)
    return name if isinstance(name, str) else type(task).__qualname__


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
        raise BadTask(f"{ref} is not a function but {_article(type(found).__name__)}")
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
    """The file that a reference means: as given here where there is one, else as it was there."""
    return os.path.abspath(ref.where) if os.path.isfile(ref.where) else ref.path


def _load_file(ref: TaskRef) -> ModuleType:
    """Import a file under its own name, once."""
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
        # Else this file's own `from __future__` would hold in it too.
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
    import difflib  # here to keep start-up fast, as everything that only errors need
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
    """Whether what could not be imported, or not from, is a library rather than the user's own."""
    if not error.name:  # said by a library that lacks another, or the driver of a device
        return "relative import" not in str(error)
    if error.name.partition(".")[0] == ref.where.partition(".")[0]:
        return False
    if error.path is None:
        return True
    folders = error.path.split(os.sep)
    installed = "site-packages" in folders or "dist-packages" in folders
    return installed or not error.path.startswith(os.getcwd() + os.sep)


def _as_part_of_its_package(ref: TaskRef) -> str:
    """What to do about a file that is part of a package, which its path does not say."""
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
    """An error with the file and line of the user's code that it came from."""
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


def _article(noun: str) -> str:
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def check_init(function: Function, ref: TaskRef) -> None:
    """Refuse a function that could not be called without arguments.

    Raises:
        BadTask: it takes some.
    """
    import inspect  # here, since task processes need none of it

    try:
        inspect.signature(function).bind()
    except ValueError:
        return  # a built-in that does not say
    except TypeError:
        name = setting("initializer")
        raise BadTask(f"{name} {ref} is called without arguments, and takes some") from None


def check_call(function: Function, ref: str, *, unpack: bool) -> None:
    """Refuse a function that could not be called with one input.

    Raises:
        BadTask: it takes another number of arguments, or is no function.
    """
    import inspect  # here, since task processes need none of it

    if not callable(function):
        raise BadTask(f"a task must be callable or an import path, not {type(function).__name__}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise BadTask(f"{ref} is a generator function; return its values as a list")
    if unpack:
        return
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # a built-in that does not say
    try:
        signature.bind(None)
    except TypeError:
        raise BadTask(
            f"{ref}{signature} cannot be called with one input: let it take one argument, or"
            f" use {setting('unpack')} to spread each input, a list or mapping, over several"
        ) from None


def is_async(function: Function) -> bool:
    """Whether calling it gives something to be awaited."""
    if type(function) is BuiltinFunctionType:
        return False
    if type(function) is FunctionType and not function.__dict__:  # where a mark would stand
        return bool(function.__code__.co_flags & CO_COROUTINE)
    import inspect  # here to keep start-up fast: few tasks are anything else

    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # an object with an async __call__
    )


@frozen
class JobSpec:
    """What a worker has to know of a job.

    Args:
        id: random, so that another run's job is never taken for this one.
        ref: the function; None where the worker's own default is meant.
        reading: how to make a value of an input.
        unpack: "" calls ``f(input)``, "items" ``f(*list)`` or ``f(**mapping)``, "call" with the
            positional and keyword arguments that the input is a pair of.
        output: "values", "results" (with seconds), "text" or "jsonl".
        timeout: seconds a task may run.
        init: called once in each process first.
        digest: of the file that the function's module is in; "" for none.
        strict: whether a worker with another file there is to do nothing.
    """

    id: str
    ref: TaskRef | None
    reading: Reading = Reading()
    unpack: str = ""
    output: str = "values"
    timeout: float | None = None
    init: TaskRef | None = None
    digest: str = ""
    strict: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of what goes by value in it."""
        return sum(len(ref.data) for ref in (self.ref, self.init) if ref is not None)

    def to_wire(self) -> tuple[object, ...]:
        """As built-in types, for any Python and any dq of the same protocol."""
        ref = self.ref.to_wire() if self.ref else None
        init = self.init.to_wire() if self.init else None
        return (
            self.id,
            ref,
            self.reading.to_wire(),
            self.unpack,
            self.output,
            self.timeout,
            init,
            self.digest,
            self.strict,
        )

    @classmethod
    def from_wire(cls, wire: tuple[object, ...]) -> JobSpec:
        """The inverse of `to_wire`."""
        id, ref, reading, unpack, output, timeout, init, digest, strict = cast("_Wire", wire)
        kind, fields, raw, field, delimiter = reading
        return cls(
            id,
            _ref(ref),
            Reading(kind, tuple(fields), raw, field, delimiter),
            unpack,
            output,
            timeout,
            _ref(init),
            digest,
            strict,
        )


_WireRef = tuple[str, str, str, str, bytes]
_WireReading = tuple[str, tuple[str, ...], bool, str, str]
_Wire = tuple[
    str, _WireRef | None, _WireReading, str, str, float | None, _WireRef | None, str, bool
]


def _ref(wire: _WireRef | None) -> TaskRef | None:
    return TaskRef(*wire) if wire else None
