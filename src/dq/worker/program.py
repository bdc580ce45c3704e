"""A job's function, loaded."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable

from dq._support.frozen import TYPE_CHECKING
from dq._support.naming import setting
from dq.core.blobs import Blob
from dq.data import outputs
from dq.data.decoding import Decoder
from dq.errors import BadTask
from dq.functions import by_value_classes, loading, signatures
from dq.functions.by_value_classes import Scope
from dq.functions.module_versions import Version
from dq.functions.reference import TaskRef
from dq.functions.spec import JobSpec
from dq.worker.calling import awaiting, checking, limited, timing, unpacking
from dq.worker.cells import CODING_EXTRA_S
from dq.worker.config import loads_for
from dq.worker.event_loop import is_awaitable

if TYPE_CHECKING:
    from typing import Protocol

    from dq.functions.definitions import Definition
    from dq.worker.batch import RunningBatch
    from dq.worker.config import Parents
    from dq.worker.event_loop import Awaiter
    from dq.worker.imports import Imports

    class FunctionSource(Protocol):
        """Where a process gets its functions from; `Config` is one."""

        @property
        def allow(self) -> tuple[str, ...]: ...
        @property
        def task(self) -> TaskRef | None: ...
        @property
        def parents(self) -> Parents | None: ...
        def load(self, ref: TaskRef) -> Callable[..., object]: ...
        def load_both(
            self, ref: TaskRef, init: TaskRef
        ) -> tuple[Callable[..., object], Callable[..., object]]: ...
        def lets_through(self, error: BaseException) -> bool: ...


# Fetches a function by value by its job and its digest; None if there is none any more.
Fetch = Callable[[str, bytes], "Blob | None"]


class UnfitJob(BadTask):
    """Raised when a job's function can be imported here, and the job cannot run all the same."""


class Program:
    """A job's function, ready to be called by the slots of this process. The calls of an executor
    bring functions of their own: see `dq.worker.call_program`.

    Args:
        spec: the job.
        config: says which functions the master may name.
        imports: what this process has imported.
        loop: awaits what the function returns.
        definitions: of the job's classes; more may be added.
        initialized: the initializers that have been called in this process.

    Attributes:
        other: the version of the function's module, if it differs and has to be reported.
        timed: whether results come with their seconds.
        brief: whether the tasks have turned out to be very short.
        isolates: whether tasks share nothing, so that none may change the result of another.
        decoding_extra_s: seconds beyond a task's time limit, to unpickle inputs.
    """

    isolates = False
    decoding_extra_s = CODING_EXTRA_S

    def __init__(
        self,
        spec: JobSpec,
        config: FunctionSource,
        imports: Imports,
        loop: Awaiter,
        definitions: list[Definition],
        initialized: set[TaskRef],
    ) -> None:
        self.spec = spec
        self.other: Version | None = None
        self._imports = imports
        self._scope = Scope()
        self._definitions = definitions
        self._defined = 0  # how many definitions have been loaded
        self._defining = threading.Lock()  # guards `_defined`, and the scope while it changes
        by_value_classes.enter_scope(self._scope)
        self._loads = loads_for(config.allow)
        self._is_local = config.parents is not None
        self.decoder = Decoder(spec.reading, self._loads)
        self.call = self._load(config, loop, initialized)
        self.timed = outputs.is_timed(spec.output)
        self.brief = False

    def _load(
        self, config: FunctionSource, loop: Awaiter, initialized: set[TaskRef]
    ) -> Callable[[object], object]:
        """What is called with each input, loaded after the initializer was called."""
        spec = self.spec
        function = self._load_function(config, loop, initialized)
        self._check_version(spec.ref, spec.digest)
        call = unpacking(function, spec) if spec.unpack else function
        if signatures.is_async(function):
            return awaiting(call, loop)
        return self._trying(call, loop)

    def _load_function(
        self, config: FunctionSource, loop: Awaiter, initialized: set[TaskRef]
    ) -> Callable[..., object]:
        """The function, loaded after the initializer was called. That is called once in a process
        or, if it was sent by value, once for each job, because it sets that job's globals."""
        spec = self.spec
        if spec.init is not None and spec.init.kind == "value" and not spec.init.data:
            assert spec.ref is not None
            function, initializer = config.load_both(spec.ref, spec.init)
            _initialize(initializer, spec, config, loop)
            return function
        initialize(spec, config, loop, initialized)
        if spec.ref is not None:
            return self._imports.load(spec.ref, config.load)
        assert config.task is not None
        return loading.load(config.task)

    def enter(self, fetch: Fetch) -> None:
        """Make this thread unpickle objects with this job's classes.

        Args:
            fetch: fetches the functions by value that inputs name.

        Raises:
            BadTask: they cannot be made here.
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

    def _check_version(self, ref: TaskRef | None, digest: str) -> None:
        """Check that the file of a function's module is the one that the run began with.

        Raises:
            BadTask: it is another one, and the job is strict.
            Outdated: it is an older one than the file on disk.
        """
        if ref is None or not digest:
            return
        version = self._imports.version_of(ref)
        if not version.digest or version.digest == digest:
            return
        self._imports.check_version(ref)
        text = f"{version.file} {self._imports.why_other(version.file)}"
        if self.spec.strict:
            name = setting("strict_code", by_option=outputs.is_command(self.spec.output))
            raise UnfitJob(f"{text} ({name})")
        self.other = version
        if not self._is_local:  # otherwise the master, on the same terminal, reports it
            print(f"dq: {text}", file=sys.stderr, flush=True)

    def _trying(
        self, call: Callable[[object], object], loop: Awaiter
    ) -> Callable[[object], object]:
        """The same function, until its first result shows whether results have to be awaited. A
        function that is no `async def` may also return awaitables. (Checking every result takes a
        third of the time of a no-op.)"""
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
        """What is called with each input: the function, and only those wrappers that this job
        needs. A bare no-op takes 0.15 µs here; reading the clock would double that."""
        call: Callable[[object], object] = self.call
        if self.spec.timeout is not None:
            call = limited(call, batch.cells, self.spec.timeout)
        if self.timed:
            call = timing(call, batch)
        return checking(call) if bad else call


def initialize(
    spec: JobSpec, config: FunctionSource, loop: Awaiter, initialized: set[TaskRef]
) -> None:
    """Call a job's initializer, if this process has not called it yet.

    Raises:
        BadTask: it raised an error, or cannot be loaded.
    """
    if spec.init is not None and spec.init not in initialized:
        _initialize(config.load(spec.init), spec, config, loop)
        if spec.init.kind != "value":
            initialized.add(spec.init)


def _initialize(
    initializer: Callable[..., object], spec: JobSpec, config: FunctionSource, loop: Awaiter
) -> None:
    try:
        result = initializer()
        if is_awaitable(result):
            loop.run(result)
    except BaseException as error:  # SystemExit too
        if config.lets_through(error):
            raise
        name = setting("initializer", by_option=outputs.is_command(spec.output))
        raise UnfitJob(f"{name} {spec.init} failed: {type(error).__name__}: {error}") from error
