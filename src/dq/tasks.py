"""Tasks: from an import path or an object to a function, and the error when there is none."""

from __future__ import annotations

import atexit
import importlib
import os
import pickle
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, ModuleType

from dq.errors import BadTask
from dq.light import TYPE_CHECKING, cast, frozen

if TYPE_CHECKING:
    from typing import NoReturn

Function = Callable[..., object]

CO_COROUTINE = 0x80  # as in `inspect`

MAIN = "__mp_main__"  # what multiprocessing calls a worker's copy of the parent's __main__


class LoadingStopped(BaseException):
    """Raised where something that is being loaded for its functions comes to its own `dq.run`."""


_state = threading.local()


class Loading:
    """Something that is being loaded, which may come to a call of dq.

    With `go_on`, as task processes load scripts, that call never returns. What the process has to
    do goes on from there, in the midst of the script: so no `except:` or `finally:` around the
    call is run, nor what stands below it. Where it is a thread of the script's that calls, or an
    event loop runs in this one, it goes on in a thread of its own, and those wait for ever.

    Args:
        go_on: what to do then; does not return. None raises LoadingStopped.
    """

    def __init__(self, go_on: Callable[[], object] | None = None) -> None:
        self._go_on = go_on
        self._lock = threading.Lock()  # guards `stopped`
        self.stopped = False
        self._before: set[threading.Thread] | None = None
        self._register = atexit.register
        self.globals: dict[str, object] = {}  # of the script

    def __enter__(self) -> None:
        _state.loading = self
        if self._go_on is not None:
            atexit.register = self._registered  # type: ignore[assignment]  # with fewer types
        if strays.watched:
            self._before = set(threading.enumerate())
            strays.current = self

    def __exit__(self, *exc: object) -> None:
        if _state.loading is self:
            self._leave()
        if self._go_on is not None and self.stopped:
            wait_for_ever()  # a thread of the script's was first

    def _leave(self) -> None:
        _state.loading = None
        atexit.register = self._register
        if self._before is not None:
            strays.add(set(threading.enumerate()) - self._before, self)
            strays.current = self._before = None

    def _registered(self, function: Function, *args: object, **kwargs: object) -> Function:
        """In place of `atexit.register`: what a script wants at its end is not wanted at that of
        each task process; what it imports goes on as it is."""
        if sys._getframe(1).f_globals is not self.globals:
            self._register(function, *args, **kwargs)
        return function

    def is_new(self, thread: threading.Thread) -> bool:
        """Whether a thread has been started since."""
        return self._before is not None and thread not in self._before

    def stop(self) -> NoReturn:
        """Come to a call of dq, in whatever thread."""
        with self._lock:
            first, self.stopped = not self.stopped, True
        if self._go_on is None:
            raise LoadingStopped
        if first and _state_loading() is self and not _in_event_loop():
            self._leave()
            self._go_on()
        elif first:
            threading.Thread(target=self._go_on, daemon=True).start()
        wait_for_ever()


def _state_loading() -> Loading | None:
    """What this thread is loading."""
    return getattr(_state, "loading", None)


def _in_event_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def wait_for_ever() -> NoReturn:
    """Wait, in a thread that has nothing to come back to."""
    while True:
        threading.Event().wait()


class Strays:
    """Threads that something starts while a task process loads it: their `dq.run` is the script's.

    Attributes:
        watched: whether this is a task process; elsewhere a thread may be anybody's.
        current: what is being loaded.
    """

    def __init__(self) -> None:
        self.watched = False
        self.current: Loading | None = None
        self._found: weakref.WeakKeyDictionary[threading.Thread, Loading] = (
            weakref.WeakKeyDictionary()
        )

    def add(self, threads: set[threading.Thread], loading: Loading) -> None:
        """Know them from now on."""
        for thread in threads:
            self._found[thread] = loading

    def stop(self) -> None:
        """Go no further in the calling thread, if it is one."""
        thread, current = threading.current_thread(), self.current
        if current is not None and current.is_new(thread):
            current.stop()
        loading = self._found.get(thread)
        if loading is None:
            return
        if loading.stopped:
            wait_for_ever()
        raise SystemExit  # which ends a thread without a traceback


strays = Strays()


def stop_loading() -> None:
    """Called first by everything that starts a run: a worker that loads a script wants the
    functions above that line, not another run. So a script needs no `__main__` guard."""
    loading = _state_loading()
    if loading is not None:
        loading.stop()
    strays.stop()


@frozen
class TaskRef:
    """Where a worker finds a function.

    Args:
        kind: "module", "file", "main" (the parent's script) or "pickle".
        where: the module's name, or the file's path as given.
        name: dotted attribute in it.
        path: the file's absolute path; for "pickle", of a script whose names are in it.
        package: `__package__` of a script started with ``python -m``.
        data: the pickled function.
    """

    kind: str
    where: str = ""
    name: str = ""
    path: str = ""
    package: str = ""
    data: bytes = b""

    def __str__(self) -> str:
        return f"{self.where}:{self.name}" if self.name else self.where

    def to_wire(self) -> tuple[str, str, str, str, str, bytes]:
        return (self.kind, self.where, self.name, self.path, self.package, self.data)


def parse(text: str) -> TaskRef:
    """Read ``package.module:function`` or ``path/to/file.py:function``.

    Raises:
        BadTask: it is neither.

    >>> parse("math:sqrt").where, parse("jobs/app.py:Shop.open").name
    ('math', 'Shop.open')
    """
    where, colon, name = text.rpartition(":")
    if not colon or not where or not all(part.isidentifier() for part in name.split(".")):
        raise BadTask(
            f"TASK {text!r} is neither package.module:function nor path/to/file.py:function"
        )
    if where.endswith(".py"):
        return TaskRef("file", where, name, os.path.abspath(where))
    if not all(part.isidentifier() for part in where.split(".")):
        raise BadTask(f"TASK {text!r}: {where!r} is neither a module's name nor a .py file")
    return TaskRef("module", where, name)


def refer(task: str | Function) -> TaskRef:
    """Where workers find `task`: an import path, or a function to be sent as one.

    Raises:
        BadTask: workers could not find it.

    >>> import math
    >>> str(refer(math.sqrt))
    'math:sqrt'
    """
    if isinstance(task, str):
        return parse(task)
    if not callable(task):
        raise BadTask(f"a task must be callable or an import path, not {type(task).__name__}")
    module = getattr(task, "__module__", None)
    name = getattr(task, "__qualname__", "")
    if module and _finds(module, name, task):
        return (
            _main_ref(name, task)
            if module in ("__main__", MAIN)
            else TaskRef("module", module, name)
        )
    return _pickled(task)


def _finds(module: str, name: str, task: Function) -> bool:
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is task


def _main_ref(name: str, task: Function) -> TaskRef:
    script = main_script()
    if script is None:
        return _pickled(task)
    path, package = script
    return TaskRef("main", path, name, path, package)


def main_script() -> tuple[str, str] | None:
    """Path and package of the script that this process runs; None in a REPL or ``python -c``."""
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if path is None or not os.path.isfile(path):
        return None
    spec = getattr(main, "__spec__", None)
    return os.path.abspath(path), spec.parent if spec is not None else ""


def _pickled(task: Function) -> TaskRef:
    label = getattr(task, "__qualname__", None) or repr(task)
    try:
        data = pickle.dumps(task)
        if b"__main__" not in data:
            return TaskRef("pickle", label, data=data)
        if (script := main_script()) is not None:  # a method of an object of its class, say
            path, package = script
            return TaskRef("pickle", label, path=path, package=package, data=data)
    except Exception:
        pass  # a lambda or closure: by value, or not at all
    try:
        import cloudpickle  # type: ignore[import-untyped, unused-ignore]  # the closures extra
    except ImportError:
        raise BadTask(
            f"{label} cannot be found by import, so workers cannot load it; put it into a module,"
            " or pip install 'dq-toolkit[closures]' to send it by value"
        ) from None
    try:
        return TaskRef("pickle", label, data=cloudpickle.dumps(task))
    except Exception as error:
        raise BadTask(f"{label} can be neither imported by workers nor pickled: {error}") from None


def load(ref: TaskRef) -> Function:
    """The function that a reference names.

    Raises:
        BadTask: one line says what was found instead.
    """
    if ref.kind == "pickle":
        return _unpickle(ref)
    module = _load_module(ref)
    found: object = module
    for part in ref.name.split("."):
        if not hasattr(found, part):
            raise BadTask(_missing(ref, part, found))
        found = getattr(found, part)
    if not callable(found):
        raise BadTask(f"{ref} is not a function but {_article(type(found).__name__)}")
    return found


def _unpickle(ref: TaskRef) -> Function:
    script = _script_of(ref)
    if script is not None:
        _load_module(script)
    try:
        function = pickle.loads(ref.data)
    except Exception as error:
        raise BadTask(f"{ref} cannot be unpickled: {type(error).__name__}: {error}") from None
    if not callable(function):
        raise BadTask(f"{ref} is not callable")
    return function  # type: ignore[no-any-return]  # callable() is all there is to know


def enter(ref: TaskRef, go_on: Callable[[], object]) -> None:
    """Load the script that a reference names, where it names one; in a task process.

    Args:
        ref: the reference.
        go_on: called in place of returning, from where the script calls dq.

    Raises:
        BadTask: the script cannot be loaded.
    """
    script = _script_of(ref)
    if script is not None:
        _load_module(script, Loading(go_on))


def _script_of(ref: TaskRef) -> TaskRef | None:
    """The script that has to be loaded for a reference."""
    if ref.kind == "pickle":
        return TaskRef("main", ref.path, "", ref.path, ref.package) if ref.path else None
    return ref if ref.kind in ("file", "main") else None


def _load_module(ref: TaskRef, loading: Loading | None = None) -> ModuleType:
    loading = loading or Loading()
    try:
        with loading:
            if ref.kind != "module":
                return run_script(ref, loading)
            module = importlib.import_module(ref.where)
        if loading.stopped:
            raise LoadingStopped
        return module
    except BadTask:
        raise
    except LoadingStopped:
        raise BadTask(
            f"{ref.where} calls dq when imported; put that under `if __name__ == '__main__':`"
        ) from None
    except ModuleNotFoundError as error:
        raise BadTask(_no_module(ref, error)) from error
    except BaseException as error:  # SystemExit too: a module may do anything when imported
        raise BadTask(f"cannot import {ref.where}: {_place(error, ref)}") from error


def script_path(ref: TaskRef) -> str:
    """The file that a reference means: as given here where there is one, else as it was there."""
    if ref.kind == "file" and os.path.isfile(ref.where):
        return os.path.abspath(ref.where)
    return ref.path


def run_script(ref: TaskRef, loading: Loading) -> ModuleType:
    """Run a file as a module, as far as its own first call of dq."""
    path = script_path(ref)
    if not os.path.isfile(path):
        raise BadTask(f"no file {ref.where} (looked in {os.getcwd()})")
    folder, base = os.path.split(path)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as python itself does for a script
    name = MAIN if ref.kind == "main" else base[:-3]
    while (known := sys.modules.get(name)) is not None:
        if getattr(known, "__file__", None) == path:
            return known
        if ref.kind == "main":
            break  # multiprocessing's name for what runs here, which the script takes the place of
        name = f"dq_task_{name}"
    with open(path, "rb") as file:
        # Else this file's own `from __future__` would hold in it too.
        code = compile(file.read(), path, "exec", dont_inherit=True)
    module = ModuleType(name)
    module.__dict__.update(__file__=path, __package__=ref.package)
    loading.globals = module.__dict__
    sys.modules[name] = module
    if ref.kind == "main":
        sys.modules["__main__"] = module  # so that what the parent pickled as __main__.X is found
    try:
        exec(code, module.__dict__)
    except LoadingStopped:
        return module
    except BaseException:
        sys.modules.pop(name, None)
        raise
    if loading.stopped:
        raise BadTask(
            f"{ref.where} went on after its own call of dq: something caught what ends its"
            " loading; put the call under `if __name__ == '__main__':`"
        )
    return module


def _missing(ref: TaskRef, part: str, found: object) -> str:
    import difflib  # here to keep start-up fast, as everything that only errors need
    import inspect

    names = [name for name in dir(found) if not name.startswith("_")]
    functions = [name for name in names if inspect.isroutine(getattr(found, name, None))]
    close = difflib.get_close_matches(part, names, n=3) or sorted(functions)[:5]
    hint = f"; it has {', '.join(close)}" if close else "; it has no functions"
    if ref.kind == "main":
        hint = " above its first call of dq, where workers stop reading it; define it there"
    return f"{ref.where} has no {part!r}{hint}"


def _no_module(ref: TaskRef, error: ModuleNotFoundError) -> str:
    missing = error.name or ref.where
    if missing != ref.where and not ref.where.startswith(f"{missing}."):
        return f"cannot import {ref.where}: {_place(error, ref)}"
    import difflib

    here = sorted(name[:-3] for name in os.listdir(".") if name.endswith(".py"))
    close = difflib.get_close_matches(ref.where, here, n=3) or here[:5]
    hint = f"; here are {', '.join(close)}" if close else ""
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
        raise BadTask(f"--init {ref} is called without arguments, and takes some") from None


def check_call(function: Function, ref: TaskRef, *, unpack: bool) -> None:
    """Refuse a function that could not be called with one input.

    Raises:
        BadTask: it takes another number of arguments.
    """
    import inspect  # here, since task processes need none of it

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
            f"{ref}{signature} cannot be called with one input; give each task one argument,"
            " or use unpack (--unpack) to spread a list or mapping over several"
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
        inputs: how to read an input: "values", "lines", "raw", "jsonl" or "csv".
        fields: names of the columns, for "csv".
        raw: whether cells stay strings, for "csv".
        unpack: "" calls ``f(input)``, "items" ``f(*list)`` or ``f(**mapping)``, "call" with the
            positional and keyword arguments that the input is a pair of.
        output: "values", "results" (with seconds), "text" or "jsonl".
        timeout: seconds a task may run.
        init: called once in each process first.
    """

    id: str
    ref: TaskRef | None
    inputs: str = "values"
    fields: tuple[str, ...] = ()
    raw: bool = False
    unpack: str = ""
    output: str = "values"
    timeout: float | None = None
    init: TaskRef | None = None

    def to_wire(self) -> tuple[object, ...]:
        """As built-in types, for any Python and any dq of the same protocol."""
        ref = self.ref.to_wire() if self.ref else None
        init = self.init.to_wire() if self.init else None
        return (
            self.id,
            ref,
            self.inputs,
            self.fields,
            self.raw,
            self.unpack,
            self.output,
            self.timeout,
            init,
        )

    @classmethod
    def from_wire(cls, wire: tuple[object, ...]) -> JobSpec:
        """The inverse of `to_wire`."""
        id, ref, inputs, fields, raw, unpack, output, timeout, init = cast("_Wire", wire)
        return cls(
            id,
            _ref(ref),
            inputs,
            tuple(fields),
            raw,
            unpack,
            output,
            timeout,
            _ref(init),
        )


_WireRef = tuple[str, str, str, str, str, bytes]
_Wire = tuple[
    str, _WireRef | None, str, tuple[str, ...], bool, str, str, float | None, _WireRef | None
]


def _ref(wire: _WireRef | None) -> TaskRef | None:
    return TaskRef(*wire) if wire else None
