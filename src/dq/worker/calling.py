"""How a job's function is called: its input unpacked, in its time, awaited where it is async."""

from __future__ import annotations

import pickle
import sys
import threading
import time
from collections.abc import Callable

from dq._support.frozen import TYPE_CHECKING, cast
from dq._support.naming import setting
from dq.data import outputs
from dq.data.batches import BadValue
from dq.data.decoding import Decoder
from dq.errors import BadTask
from dq.functions import by_value_classes, loading, signatures
from dq.functions.by_value_classes import Scope
from dq.functions.module_versions import NO_VERSION, Version, version_of
from dq.functions.reference import TaskRef
from dq.functions.spec import JobSpec
from dq.worker.cells import DEADLINE, SlotCells
from dq.worker.config import Config, loads_for
from dq.worker.event_loop import EventLoop, is_awaitable
from dq.worker.failure import BadItem

if TYPE_CHECKING:
    from dq.worker.batch import RunningBatch
    from dq.worker.process import Process


class Program:
    """A job's function, ready to be called by the slots of this process."""

    def __init__(self, spec: JobSpec, process: Process) -> None:
        config, loop = process.config, process.loop
        self.spec = spec
        self.other: Version | None = None  # of its module, where that is to be said
        self._scope = Scope()
        self._definitions = process.definitions.setdefault(spec.id, [])
        self._defined = 0  # how many of them
        self._defining = threading.Lock()  # guards that, and the scope meanwhile
        by_value_classes.enter_scope(self._scope)
        function = _load(spec, process)
        self._loads = loads_for(config.allow)
        self._check_version(spec, config)
        self.decoder = Decoder(spec.reading, self._loads)
        self.call = {"": function, "items": _unpacking(function, spec), "call": _calling(function)}[
            spec.unpack
        ]
        if signatures.is_async(function):
            self.call = awaiting(self.call, loop)
        else:
            self.call = self._trying(self.call, loop)
        self.timed = outputs.is_timed(spec.output)
        self.brief = False  # whether its tasks have turned out to be very short

    def enter(self) -> None:
        """Have what this thread unpickles be of this job's classes.

        Raises:
            BadTask: they cannot be had here.
        """
        by_value_classes.enter_scope(self._scope)
        if self._defined == len(self._definitions):
            return
        with self._defining:
            while self._defined < len(self._definitions):
                self._define(*self._definitions[self._defined])
                self._defined += 1

    def _define(self, names: tuple[str, ...], definitions: bytes) -> None:
        if self._loads is not pickle.loads:
            raise BadTask(
                f"inputs of classes by value are code, which {setting('allow')} keeps out"
            )
        if not self._scope.classes.keys() >= set(names):
            from dq.functions import by_value  # here, since few values need it

            try:
                by_value.load(definitions)
            except BadTask:
                raise
            except Exception as error:  # their own code may raise anything
                kind = names[0].partition("@")[0]
                text = f"{type(error).__name__}: {error}"
                raise BadTask(f"the class {kind} of an input cannot be made: {text}") from error

    def _check_version(self, spec: JobSpec, config: Config) -> None:
        """See whether the function is that of the file which the run began with.

        Raises:
            BadTask: it is not, and has to be.
        """
        version = version_of(spec.ref) if spec.digest else NO_VERSION
        if not version.digest or version.digest == spec.digest:
            return
        text = f"{version.file} is not what it was when this run began"
        if spec.strict:
            name = setting("strict_code", by_option=outputs.is_command(spec.output))
            raise BadTask(f"{text} ({name})")
        self.other = version
        if config.parents is None:  # else the master's terminal is this one's
            print(f"dq: {text} at the master", file=sys.stderr, flush=True)

    def _trying(
        self, call: Callable[[object], object], loop: EventLoop
    ) -> Callable[[object], object]:
        """The same function, while it is not known whether its results are to be awaited, though
        it is no `async def`: its first batch says. (A look at each result is a third of a no-op.)
        """
        awaiting_call = awaiting(call, loop)
        self.trying = True

        def tried(item: object) -> object:
            result = call(item)
            if is_awaitable(result):
                self.call, self.trying = awaiting_call, False
                return loop.run(result)
            if self.trying:
                self.call, self.trying = call, False
            return result

        return tried

    def caller(self, batch: RunningBatch, bad: bool) -> Callable[[object], object]:
        """What is called with each input: the function, with only what this job needs
        around it. A bare no-op costs 0.15 µs here; a clock read would double that."""
        call: Callable[[object], object] = self.call
        if self.spec.timeout is not None:
            call = _limited(call, batch.cells, self.spec.timeout)
        if self.timed:
            call = _timing(call, batch)
        return _checking(call) if bad else call


def _load(spec: JobSpec, process: Process) -> Callable[..., object]:
    """A job's function, after its initializer has been called: once in a process or, by value, for
    each job, whose own globals it sets."""
    config, loop = process.config, process.loop
    if spec.init is not None and spec.init.kind == "value" and not spec.init.data:
        assert spec.ref is not None
        config.check(spec.ref)
        function, initializer = loading.load_values(spec.ref)  # together: they share globals
        _initialize(initializer, spec.init, spec, loop)
        return function
    if spec.init is not None and spec.init not in process.initialized:
        _initialize(config.load(spec.init), spec.init, spec, loop)
        if spec.init.kind != "value":
            process.initialized.add(spec.init)
    if spec.ref is not None:
        return config.load(spec.ref)
    assert config.task is not None
    return loading.load(config.task)


def _initialize(
    initializer: Callable[..., object], ref: TaskRef, spec: JobSpec, loop: EventLoop
) -> None:
    try:
        result = initializer()
        if is_awaitable(result):
            loop.run(result)
    except BaseException as error:  # SystemExit too
        name = setting("initializer", by_option=outputs.is_command(spec.output))
        raise BadTask(f"{name} {ref} failed: {type(error).__name__}: {error}") from error


def _unpacking(function: Callable[..., object], spec: JobSpec) -> Callable[[object], object]:
    def call(item: object) -> object:
        if isinstance(item, dict):
            return function(**item)
        if isinstance(item, list | tuple):
            return function(*item)
        name = setting("unpack", by_option=outputs.is_command(spec.output))
        raise TypeError(f"{name} needs a list or a mapping, not {type(item).__name__}")

    return call


_Arguments = tuple[tuple[object, ...], dict[str, object]]  # as Executor.submit has them


def _calling(function: Callable[..., object]) -> Callable[[object], object]:
    def call(item: object) -> object:
        args, kwargs = cast("_Arguments", item)
        return function(*args, **kwargs)

    return call


def awaiting(call: Callable[[object], object], loop: EventLoop) -> Callable[[object], object]:
    """The same function, whose results are awaited where they can be."""

    def awaited(item: object) -> object:
        result = call(item)
        if is_awaitable(result):
            return loop.run(result)
        return result

    return awaited


def _limited(
    call: Callable[[object], object], cells: SlotCells, seconds: float
) -> Callable[[object], object]:
    nanoseconds = int(seconds * 1e9)

    def limited(item: object) -> object:
        cells.view[DEADLINE] = time.monotonic_ns() + nanoseconds
        try:
            return call(item)
        finally:
            cells.view[DEADLINE] = 0

    return limited


def _timing(
    call: Callable[[object], object], batch: RunningBatch
) -> Callable[[object], tuple[object, float]]:
    clock = time.perf_counter

    def timed(item: object) -> tuple[object, float]:
        started = clock()
        try:
            return call(item), clock() - started
        except BaseException:
            batch.seconds = clock() - started
            raise

    return timed


def _checking(call: Callable[[object], object]) -> Callable[[object], object]:
    def checked(item: object) -> object:
        if isinstance(item, BadValue):
            raise BadItem(item.failure)
        return call(item)

    return checked
