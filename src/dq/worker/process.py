"""A task process: slots that lease batches, call the function, and report.

Who touches what in a slot: its own thread runs the tasks; the process's monitor, a thread that
also listens to the supervisor, looks at every slot ten times a second: where a batch takes long
it reports what is done, and where a single task does, it hands back what is not started. Both
report under `Slot.lock`. What is not started is whatever the shared list iterator still holds:
`list(iterator)` takes it in one step that the interpreter does not interrupt.
"""

from __future__ import annotations

import _thread
import contextlib
import gc
import multiprocessing
import os
import pickle
import queue
import random
import select
import signal
import socket
import sys
import threading
import time
import traceback
from _thread import start_new_thread
from collections.abc import Callable, Iterator
from itertools import islice
from operator import length_hint

from dq._support import naming, platform
from dq._support.frozen import TYPE_CHECKING, cast, frozen
from dq._support.naming import setting
from dq.core.records import (
    LONGEST_NAME,
    LONGEST_TEXT,
    Done,
    Failed,
    Failure,
    Loads,
    Outcome,
    as_error,
)
from dq.data import inputs, outputs
from dq.errors import BadTask, ConnectError, DqError, PlainMaster, ProtocolError, Unreadable
from dq.functions import classes, tasks
from dq.functions.classes import Scope
from dq.functions.tasks import JobSpec, TaskRef
from dq.functions.versions import NONE, Version, version_of
from dq.manager.client import Client, LeaseMessage, PlainClient, ReportMessage, backoff
from dq.security.tls import PLAIN, Tls
from dq.transport.transport import MAX_MESSAGE, Address
from dq.worker import processes
from dq.worker.processes import CELLS, DRAIN, GRACE, OWN

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable
    from concurrent.futures import Future
    from typing import NoReturn

    from dq.worker.logs import Setup

# Cells that a slot shares with its supervisor: the lease it works on (0 between batches), the
# index of the task it is in, and when that has to be over, in nanoseconds of the monotonic clock;
# the last lease it had, which it may not have reported yet; how many tasks the index stands for;
# and of the results that are being encoded, which may run a task's code too: the first one's index,
# how many (0 when none is), and when that, or to unpickle inputs, has to be over.
LEASE, INDEX, DEADLINE, LAST, SPAN, ENCODED, ENCODING, CODED_BY = range(CELLS)
# The process's own: 0 at first, then one of these, then how it ends, so that a task's own os._exit
# with the same number is not taken for that; and whether it is to leave, which a slot sees here at
# once, while the thread that hears of it on the pipe waits for its turn.
STATE, LEAVING = range(OWN)
CONNECTED, LOADING, LOADED = 1, 2, 3

# How a task process ends, for its supervisor.
CODES = FINISHED, RECYCLE, LOST, DRAINED, REFUSED = 10, 11, 12, 13, 14

LARGE = 1 << 20  # bytes of a function by value that are not left to the garbage collector's turn
TICK = 0.1  # seconds between two looks of the monitor
PATIENCE = 2  # looks at the same task, after which what waits behind it is handed back
LATE = 0.25  # seconds of work after which a look reports what is done, and lets the batch go on,
PAUSE = 3  # or so many times what such a report takes, where the master is far or has much to do
BRIEF = 1e-6  # seconds; of tasks shorter than this only each SPAN_OF_BRIEF-th is announced
SPAN_OF_BRIEF = 64
IDLE = 20.0  # seconds that a slot waits for a batch before it asks again
LOAD_EXTRA = 8.0  # seconds that to load a function may take besides a task's time limit
TO_CODE = 5.0  # seconds that a task with a time limit has besides: to unpickle, to encode results


@frozen
class Parents:
    """What task processes have of the program whose own they are.

    Args:
        argv: its `sys.argv`.
        authkey: multiprocessing's, without which a `Manager`'s proxies could not be used.
        logs: how it logs to its terminal; None where it does not.
    """

    argv: tuple[str, ...]
    authkey: bytes
    logs: Setup | None = None


@frozen
class Config:
    """All that a task process is told, over its standard input: no key is ever in `ps`.

    Args:
        address: the master's.
        authkey: the shared key.
        group: random name of the supervisor.
        number: which of its processes this is, from 0.
        hash_seed: what its hashes have been seeded with.
        threads: task slots.
        cells: descriptor of the shared cells.
        parent: pid of the supervisor.
        path: `sys.path` to use.
        task: what to call with the items of plain clients and plain masters.
        reconnect: seconds to look for a master that has gone.
        max_tasks: tasks after which the process is replaced.
        grace: seconds that it has to leave, once it has no more to do.
        tls: how connections are encrypted.
        allow: patterns of what the master may name; none for anything.
        by_options: whether messages name options of the command, rather than arguments.
        parents: what it has of the program that started it, where that is its own.
    """

    address: Address
    authkey: bytes
    group: str
    number: int = 0
    hash_seed: int = 0
    threads: int = 1
    cells: int = -1
    parent: int = 0
    path: tuple[str, ...] = ()
    task: TaskRef | None = None
    reconnect: float = 60.0
    max_tasks: int | None = None
    grace: float = GRACE
    tls: Tls = PLAIN
    allow: tuple[str, ...] = ()
    by_options: bool = False
    parents: Parents | None = None

    def load(self, ref: TaskRef) -> Callable[..., object]:
        """The function that the master names.

        Raises:
            BadTask: it cannot be loaded, or not from here.
        """
        if not self.allow:
            return tasks.load(ref)
        from dq.worker import allow  # which few workers need

        return allow.load(ref, self.allow)

    def check(self, ref: TaskRef) -> None:
        """See that the master may name a function.

        Raises:
            BadTask: it may not.
        """
        if self.allow:
            from dq.worker import allow

            allow.find(ref, self.allow)


def loads_for(allow: tuple[str, ...]) -> Loads:
    """What unpickles what a master sends: one that may name some functions only must not bring
    others in a pickle."""
    if not allow:
        return pickle.loads
    from dq.security.safe_pickle import safe_loads  # which few workers need

    return safe_loads


class Leave(Exception):
    """Raised when a slot has no more to do; `code` says why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Loop:
    """The event loop on which a process awaits its `async def` tasks, in a thread of its own.

    Whatever a task does to it: no other that is awaited at the same time is left waiting for ever.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()  # guards the loop's start, and what is awaited
        self._awaited: set[Future[tuple[object, BaseException | None]]] = set()
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], None]
        self._closing = False

    def run(self, awaitable: Awaitable[object]) -> object:
        """Await on the loop; the calling slot waits."""
        import asyncio  # here, since it costs every start 30 ms and few tasks need it

        awaiting = _awaited(awaitable)
        with self._lock:
            if self._loop is None:
                self._start()
            assert self._loop is not None
            future = asyncio.run_coroutine_threadsafe(awaiting, self._loop)
            self._awaited.add(future)
        try:
            value, error = future.result()
        finally:
            with self._lock:
                self._awaited.discard(future)
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """End the loop as `asyncio.run` does: what tasks have left running is cancelled."""
        with self._lock:
            loop, self._closing = self._loop, True
        if loop is None:
            return
        import asyncio

        with contextlib.suppress(BaseException):  # it is a task's
            asyncio.run_coroutine_threadsafe(_wind_up(loop), loop).result()
        with contextlib.suppress(RuntimeError):  # closed already
            loop.call_soon_threadsafe(self._stop)
        if self._thread is not None:
            self._thread.join()
            loop.close()

    def _start(self) -> None:
        import asyncio

        with platform.HighDescriptors():
            loop = asyncio.new_event_loop()
        self._stop = loop.stop
        with contextlib.suppress(AttributeError):  # of a loop that is written in C
            loop.stop = _refuse_to_stop  # type: ignore[method-assign]
        self._loop = loop
        self._thread = threading.Thread(target=self._run_for_ever, args=(loop,), daemon=True)
        self._thread.start()

    def _run_for_ever(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the loop again after a SystemExit or KeyboardInterrupt, which end it when they come
        out of what a task has left to run by itself; another one where this has been closed."""
        while not loop.is_closed():
            with contextlib.suppress(BaseException):
                loop.run_forever()
                if self._closing:
                    return
        with self._lock:
            self._loop = None
            left, self._awaited = self._awaited, set()
        for future in left:
            with contextlib.suppress(BaseException):  # it has its result, after all
                future.set_exception(RuntimeError("a task has closed the event loop"))


async def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    import asyncio

    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


def _refuse_to_stop() -> NoReturn:
    raise RuntimeError("the event loop runs other tasks too, and cannot be stopped by one")


async def _awaited(awaitable: Awaitable[object]) -> tuple[object, BaseException | None]:
    """What comes of something awaited; a SystemExit that it raises is not to end the loop."""
    try:
        return await awaitable, None
    except BaseException as error:
        return None, error


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
        classes.enter(self._scope)
        function = _load(spec, process)
        self._loads = loads_for(config.allow)
        self._check_version(spec, config)
        self.decoder = inputs.Decoder(spec.reading, self._loads)
        self.call = {"": function, "items": _unpacking(function, spec), "call": _calling(function)}[
            spec.unpack
        ]
        if tasks.is_async(function):
            self.call = _awaiting(self.call, loop)
        else:
            self.call = self._trying(self.call, loop)
        self.timed = spec.output in outputs.TIMED
        self.brief = False  # whether its tasks have turned out to be very short

    def enter(self) -> None:
        """Have what this thread unpickles be of this job's classes.

        Raises:
            BadTask: they cannot be had here.
        """
        classes.enter(self._scope)
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
        version = version_of(spec.ref) if spec.digest else NONE
        if not version.digest or version.digest == spec.digest:
            return
        text = f"{version.file} is not what it was when this run began"
        if spec.strict:
            name = setting("strict_code", by_option=outputs.is_command(spec.output))
            raise BadTask(f"{text} ({name})")
        self.other = version
        if config.parents is None:  # else the master's terminal is this one's
            print(f"dq: {text} at the master", file=sys.stderr, flush=True)

    def _trying(self, call: Callable[[object], object], loop: Loop) -> Callable[[object], object]:
        """The same function, while it is not known whether its results are to be awaited, though
        it is no `async def`: its first batch says. (A look at each result is a third of a no-op.)
        """
        awaiting = _awaiting(call, loop)
        self.trying = True

        def tried(item: object) -> object:
            result = call(item)
            if is_awaitable(result):
                self.call, self.trying = awaiting, False
                return loop.run(cast("Awaitable[object]", result))
            if self.trying:
                self.call, self.trying = call, False
            return result

        return tried

    def caller(self, slot: Slot, bad: bool) -> Callable[[object], object]:
        """What a slot calls with each input: the function, with only what this job needs
        around it. A bare no-op costs 0.15 µs here; a clock read would double that."""
        call: Callable[[object], object] = self.call
        if self.spec.timeout is not None:
            call = _limited(call, slot, self.spec.timeout)
        if self.timed:
            call = _timing(call, slot)
        return _checking(call) if bad else call


def _load(spec: JobSpec, process: Process) -> Callable[..., object]:
    """A job's function, after its initializer has been called: once in a process or, by value, for
    each job, whose own globals it sets."""
    config, loop = process.config, process.loop
    if spec.init is not None and spec.init.kind == "value" and not spec.init.data:
        assert spec.ref is not None
        config.check(spec.ref)
        function, initializer = tasks.load_values(spec.ref)  # together, so that they share globals
        _initialize(initializer, spec.init, spec, loop)
        return function
    if spec.init is not None and spec.init not in process.initialized:
        _initialize(config.load(spec.init), spec.init, spec, loop)
        if spec.init.kind != "value":
            process.initialized.add(spec.init)
    if spec.ref is not None:
        return config.load(spec.ref)
    assert config.task is not None
    return tasks.load(config.task)


def _initialize(
    initializer: Callable[..., object], ref: TaskRef, spec: JobSpec, loop: Loop
) -> None:
    try:
        result = initializer()
        if is_awaitable(result):
            loop.run(cast("Awaitable[object]", result))
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


def is_awaitable(value: object) -> bool:
    """Whether it is to be awaited."""
    return hasattr(type(value), "__await__")


def _awaiting(call: Callable[[object], object], loop: Loop) -> Callable[[object], object]:
    def awaited(item: object) -> object:
        result = call(item)
        if is_awaitable(result):
            return loop.run(cast("Awaitable[object]", result))
        return result

    return awaited


def _limited(
    call: Callable[[object], object], slot: Slot, seconds: float
) -> Callable[[object], object]:
    nanoseconds = int(seconds * 1e9)

    def limited(item: object) -> object:
        slot.view[DEADLINE] = time.monotonic_ns() + nanoseconds
        try:
            return call(item)
        finally:
            slot.view[DEADLINE] = 0

    return limited


def _timing(
    call: Callable[[object], object], slot: Slot
) -> Callable[[object], tuple[object, float]]:
    clock = time.perf_counter

    def timed(item: object) -> tuple[object, float]:
        started = clock()
        try:
            return call(item), clock() - started
        except BaseException:
            slot.seconds = clock() - started
            raise

    return timed


class BadItem(Exception):
    """Raised in place of calling a function with an input that could not be read."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


def _checking(call: Callable[[object], object]) -> Callable[[object], object]:
    def checked(item: object) -> object:
        if isinstance(item, inputs.Bad):
            raise BadItem(item.failure)
        return call(item)

    return checked


def describe(error: BaseException) -> Failure:
    """An exception in words; whatever its class does when asked for them."""
    if isinstance(error, BadItem):
        return error.failure
    kind = str.__str__(type(error).__qualname__)
    try:
        message = str.__str__(str(error))  # which may be of a class that no master knows
    except BaseException as second:
        message = f"<its str() raised {type(second).__qualname__}>"
    try:
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
            frames = frames.tb_next
        text = "".join(traceback.format_exception(type(error), error, frames))
    except BaseException:
        text = ""
    return Failure(kind[:LONGEST_NAME], message[:LONGEST_TEXT], text[-LONGEST_TEXT:])


class Slot:
    """One task at a time, over one connection."""

    def __init__(self, process: Process, view: memoryview) -> None:
        self.process = process
        self.view = view
        self.lock = threading.Lock()  # guards reports: `client` and everything below it
        self.client: Client | None = None
        self.waiting = False  # whether the client is in a call that can be cut off
        self._grant: LeaseMessage | None = None
        self._program: Program | None = None
        self._left: Iterator[object] = iter(())
        self._items: list[object] = []  # of the batch, as many as are in memory at a time
        self._base = 0  # index of the first of them
        self._rest = 0  # how many are not there yet
        self._results: list[object] = []
        self._outcomes: list[Outcome] = []
        self._first = 0  # index of the first task that is not reported
        self._done = 0  # index of the first task that is not among the outcomes
        self.seconds = 0.0  # what the last task to fail took, where that is wanted
        self._started = 0.0
        self._handed_back = 0
        self._late = LATE
        self._seen = (0, 0)
        self._looks = 0

    # The slot's own thread

    def run(self) -> NoReturn:
        """Work until there is a reason to leave.

        Raises:
            Leave: its code says which.
        """
        outcomes: ReportMessage | None = None
        while True:
            client = self.connect()
            try:
                while True:
                    outcomes = self._work(client, self._next(client, outcomes))
            except ProtocolError:
                outcomes = None  # drop: the master will not have it, now or later
                client.close()
            except ConnectError:
                client.close()  # retry: reporting twice does no harm
                self.process.check_descriptors()

    def connect(self) -> Client:
        """Connect, however often it takes within the patience for that."""
        process = self.process
        started, attempt = time.monotonic(), 0
        if process.is_patched:  # a fresh one, with sockets as they should be, does better
            raise Leave(RECYCLE)
        while True:
            try:
                client = process.connect()
                self._check_run(client)
                with self.lock:
                    self.client = client
                process.note(CONNECTED)
                return client
            except PlainMaster:
                raise
            except ConnectError:
                left = started + process.config.reconnect - time.monotonic()
                if left <= 0:
                    raise Leave(LOST) from None
                if process.draining.wait(min(backoff(attempt, random.random()), left)):
                    raise Leave(DRAINED) from None
                attempt += 1

    def _check_run(self, client: Client) -> None:
        """A master that was started again gets a fresh process: this one has the modules, and
        the plain clients' function, of before. So does one that has another seed for hashes, from
        a supervisor that has not seen it yet."""
        started_for = self.process.config.hash_seed
        if self.process.master not in ("", client.run) or client.hash_seed != started_for:
            client.close()
            raise Leave(RECYCLE)
        self.process.master = client.run

    def _next(self, client: Client, outcomes: ReportMessage | None) -> LeaseMessage:
        """Report, and wait for the next batch. A call that is cut off, to drain, is made again on
        another connection, by a slot that then wants nothing more: reporting twice does no harm."""
        process = self.process
        while True:
            most, answer = process.most(), None
            self.waiting = True  # before it looks: who tells it to leave looks at this afterwards
            try:
                if most and not process.leaving:
                    answer = self._send(client, outcomes, most)
            finally:
                self.waiting = False
            if answer is None:
                self._send(client, outcomes, 0)
                raise Leave(DRAINED if process.leaving else RECYCLE)
            state, grant, spec = answer
            if grant is not None and (spec is not None or client.definitions):
                process.learn(grant.job, spec, client)
            if grant is not None and not process.leaving:
                return grant
            if state == "stop":
                raise Leave(FINISHED)
            outcomes = None if grant is None else _given_back(client, grant)

    def _send(
        self, client: Client, outcomes: ReportMessage | None, most: int
    ) -> tuple[str, LeaseMessage | None, JobSpec | None]:
        """Report, in as many messages as the master's limit takes, and ask for `most` tasks."""
        if outcomes is None:
            return client.exchange(None, most, IDLE)
        *parts, last = split(outcomes, self.process.max_result)
        for part in parts:
            client.exchange(part, 0, 0.0)
        return client.exchange(last, most, IDLE)

    def _work(self, client: Client, grant: LeaseMessage) -> ReportMessage:
        # To import the function or to unpickle an input may run anything: until it is known which
        # task is run, it may be any.
        self._tell(grant.lease, grant.start, grant.count)
        process = self.process
        self._limit_coding(process.specs[grant.job], LOAD_EXTRA)
        try:
            program = process.program(grant.job)
            program.enter()
        except BadTask as error:
            self.view[LEASE] = self.view[CODED_BY] = 0
            return ReportMessage(
                client.run, grant.lease, grant.start, refusal=process.refusal(grant.job, error)
            )
        if program.other is not None:
            client.differ(program.other.file, program.other.digest)
            program.other = None
        if process.leaving:  # to load it has taken its time
            self.view[LEASE] = self.view[CODED_BY] = 0
            return _given_back(client, grant)
        self._limit_coding(program.spec)
        for items, bad in _chunks(program.decoder, grant):
            self._check_fork()
            if not self._open(program, grant, items):
                break
            self._execute(bad)
            if not self._rest:  # else what has been handed back would be unpickled for nothing
                break
        return self._finish(client.run)

    def _open(self, program: Program, grant: LeaseMessage, items: list[object]) -> bool:
        """Go on to these items of a batch; False where they have been handed back."""
        with self.lock:
            if self._grant is None:
                self._grant, self._program = grant, program
                self._rest = grant.count
                self._outcomes = []
                self._first = self._done = grant.start
                self._handed_back = 0
                self._started = time.monotonic()
            self.view[CODED_BY] = 0
            if not self._rest:
                return False
            self._items, self._left = items, iter(items)
            self._results = []
            self._base = self._done
            self._rest -= len(items)
            return True

    def _tell(self, lease: int, index: int, span: int) -> None:
        """Let the supervisor know which tasks this slot may be in."""
        view = self.view
        view[INDEX], view[SPAN] = index, span
        view[LEASE] = view[LAST] = lease

    def _execute(self, bad: bool) -> None:
        grant, program = self._grant, self._program
        assert grant is not None
        assert program is not None
        call = program.caller(self, bad)
        brief = program.brief and len(self._items) > SPAN_OF_BRIEF
        run = self._run_brief if brief else self._run_each
        self._tell(grant.lease, self._base, 1)
        while True:
            try:
                run(call, self._base + len(self._items))
                break
            except BaseException as error:  # SystemExit and KeyboardInterrupt are the task's
                if self.process.forked:
                    _end_fork(error)
                self.process.restore_depth()
                self._fail(error)
        self._check_fork()
        self.process.restore_depth()
        with self.lock:
            if self._rest:
                self._flush()
                self._check_fork()
                # To unpickle them may run anything.
                self._tell(grant.lease, self._done, self._rest)
                self._limit_coding(program.spec)

    def _check_fork(self) -> None:
        """End a copy of the process, which a task, an input or a result has made."""
        if self.process.forked:
            _end_fork(None)

    def _limit_coding(self, spec: JobSpec, extra: float = TO_CODE) -> None:
        if spec.timeout is not None:
            self.view[CODED_BY] = time.monotonic_ns() + int((spec.timeout + extra) * 1e9)

    def _run_each(self, call: Callable[[object], object], stop: int) -> None:
        """Call with each input, and tell the supervisor which it is, in 25 ns."""
        view, left, append = self.view, self._left, self._results.append
        for view[INDEX], item in enumerate(left, stop - length_hint(left)):
            append(call(item))

    def _run_brief(self, call: Callable[[object], object], stop: int) -> None:
        """The same for tasks of which those 25 ns would be a third: tell of many at a time."""
        view, left, extend = self.view, self._left, self._results.extend
        view[SPAN] = SPAN_OF_BRIEF
        while remaining := length_hint(left):
            view[INDEX] = stop - remaining
            extend(map(call, islice(left, SPAN_OF_BRIEF)))

    def _finish(self, run: str) -> ReportMessage:
        program, grant = self._program, self._grant
        assert program is not None
        assert grant is not None
        count = grant.count - self._handed_back
        if count >= SPAN_OF_BRIEF:
            each = (time.monotonic() - self._started) / count
            program.brief = each < BRIEF and not program.timed and program.spec.timeout is None
        with self.lock:
            self.process.finished(count)
            report = self._report(run, 0)
            self._check_fork()
            self._grant = None
            self.view[CODED_BY] = 0
        # What is on its way now: whose results they are that take a process beyond its memory.
        self._tell(report.lease, report.first, sum(one.count for one in report.outcomes))
        self.view[LEASE] = 0
        return report

    def _fail(self, error: BaseException) -> None:
        with self.lock:
            assert self._program is not None
            timeout = self._program.spec.timeout
            if timeout is not None:  # what an exception says of itself is the task's code too
                self.view[DEADLINE] = time.monotonic_ns() + int(timeout * 1e9)
            failed = Failed(describe(error), self.seconds, retry=not isinstance(error, BadItem))
            self.view[DEADLINE] = 0
            # Its frames may keep all the memory there is, which encoding results needs some of.
            traceback.clear_frames(error.__traceback__)
            self._flush()
            self._outcomes.append(failed)
            self._done += 1

    # Under the lock

    def _flush(self) -> None:
        """Turn the results so far into outcomes."""
        count = len(self._results)
        if not count:
            return
        assert self._program is not None
        assert self._grant is not None
        start = self._done
        self._done += count
        if count == len(self._items):  # nothing will be added: no copies, a tenth of a short task
            items, results, self._results = self._items, self._results, []
        else:
            place = start - self._base
            items = self._items[place : place + count]
            results = self._results[:count]
            del self._results[:count]
        limit, view = self.process.max_result, self.view
        self._limit_coding(self._program.spec)
        view[ENCODED], view[ENCODING] = start, count
        self._outcomes += encode(
            self._program.spec.output,
            start,
            items,
            results,
            self._grant.attempt,
            self.process.name,
            limit,
            self.process.loop.run,
        )
        view[ENCODING] = view[CODED_BY] = 0

    def _report(self, run: str, handed_back: int) -> ReportMessage:
        self._flush()
        assert self._grant is not None
        busy = time.monotonic() - self._started
        return ReportMessage(
            run, self._grant.lease, self._first, tuple(self._outcomes), handed_back, busy
        )

    # The monitor's thread

    def look(self) -> None:
        """Hand back what waits behind a task that takes long; report what is done, where all of
        them together do."""
        if self._grant is None:
            return
        seen = (self.view[LEASE], self.view[INDEX])
        self._looks = self._looks + 1 if seen == self._seen else 0
        self._seen = seen
        if self._looks == PATIENCE:
            self.hand_back()
        elif time.monotonic() - self._started > self._late:
            self._report_so_far(keep=True)

    def hand_back(self) -> None:
        """Report what is done, and hand back what is not started."""
        self._report_so_far(keep=False)

    def _report_so_far(self, keep: bool) -> None:
        """Report what is done; `keep` what is not started, or hand it back."""
        if not self.lock.acquire(blocking=False):
            return  # it is reporting by itself
        try:
            if self.client is None or self._grant is None:
                return
            # All at once: no other thread runs meanwhile.
            tail = 0 if keep else len(list(self._left)) + self._rest
            report = self._report(self.client.run, tail)
            if not report.outcomes and not tail:
                return
            if report.outcomes:
                self._started += report.busy
            if tail:
                self._rest = 0
                self._handed_back += tail
            sent = time.monotonic()
            self._send(self.client, report, 0)
            self._late = max(LATE, PAUSE * (time.monotonic() - sent))
            self._first = self._done
            self._outcomes = []
        except (ConnectError, DqError):
            pass  # the slot will see that when it reports, and report all of it again
        finally:
            self.lock.release()

    # At the process's end

    def forget(self) -> None:
        """Keep nothing of a task's."""
        self._program = self._grant = None
        self._left = iter(())
        self._items, self._results, self._outcomes = [], [], []

    # A task's

    def let_go(self) -> None:
        """In a process that a task has forked: neither go on with the batch, nor touch what the
        supervisor sees."""
        list(self._left)
        self._rest = 0
        self.view = memoryview(bytearray(8 * CELLS)).cast("Q")

    # The listener's thread

    def interrupt(self) -> None:
        """Let a slot that only waits for a batch wait no longer; one that still reports is not cut
        off, its tasks would be run again."""
        client = self.client
        if self.waiting and client is not None and client.sent:
            client.channel.hang_up()


def _chunks(decoder: inputs.Decoder, grant: LeaseMessage) -> Iterator[tuple[list[object], bool]]:
    """The inputs of a batch, some at a time, and whether one of these could not be had."""
    missing = grant.count
    failure = Failure("UnpicklingError", "this input is missing")
    try:
        for items, bad in decoder.chunks(grant.blob, grant.skip, grant.count):
            missing -= len(items)
            yield items, bad
    except Exception as error:
        failure = describe(error)
    if missing:
        yield [inputs.Bad(failure)] * missing, True


def _given_back(client: Client, grant: LeaseMessage) -> ReportMessage:
    """A batch of which nothing was started."""
    return ReportMessage(client.run, grant.lease, grant.start, handed_back=grant.count)


def _end_fork(error: BaseException | None) -> None:
    """End a process that a task has forked and that came out of the task again, as a script
    would end there."""
    code: int | None = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int | None) else 1
    elif error is not None:
        code = 1
        with contextlib.suppress(BaseException):
            traceback.print_exception(error)
    _flush()
    os._exit(int(code or 0) & 0xFF)


def split(outcomes: ReportMessage, limit: int) -> list[ReportMessage]:
    """A report as several, each with up to about `limit` bytes of results."""
    parts: list[list[Outcome]] = [[]]
    size = 0
    for outcome in outcomes.outcomes:
        nbytes = _size(outcome)
        if parts[-1] and size + nbytes > limit:
            parts.append([])
            size = 0
        parts[-1].append(outcome)
        size += nbytes
    if len(parts) == 1:
        return [outcomes]
    from dataclasses import replace  # here to keep start-up fast: few results are so large

    reports, first = [], outcomes.first
    for part in parts:
        busy = outcomes.busy / len(parts)
        reports.append(
            replace(outcomes, first=first, outcomes=tuple(part), handed_back=0, busy=busy)
        )
        first += sum(outcome.count for outcome in part)
    reports[0] = replace(reports[0], handed_back=outcomes.handed_back)
    return reports


def _size(outcome: Outcome) -> int:
    """Bytes that an outcome takes in a message, at most."""
    if isinstance(outcome, Done):
        return 100 + len(outcome.blob)
    failure = outcome.failure
    return 100 + 4 * (len(failure.type) + len(failure.message) + len(failure.traceback))


def encode(
    form: str,
    start: int,
    items: list[object],
    results: list[object],
    attempt: int,
    worker: str,
    limit: int,
    finish: Callable[[Awaitable[object]], object],
) -> list[Outcome]:
    """The outcomes of consecutive tasks that returned: one blob, or as many as it takes to keep a
    result that cannot be encoded, or is over the limit, by itself. What is to be awaited, as few
    results that come here are, is finished by `finish`."""
    count = len(results)
    try:
        blob, seconds = _blob(form, start, items, results, attempt, worker)
        _check_run(form, blob, results)
        if len(blob) <= limit:
            return [Done(count, blob, seconds)]
        if count == 1:
            name = setting("max_message", by_option=outputs.is_command(form))
            text = f"this result has {len(blob)} bytes, over the limit of {limit} ({name})"
            return [Failed(Failure("ResultTooLarge", text), retry=False)]
    except BaseException as error:  # SystemExit too: it is the result's
        if count == 1:
            return _settle(form, start, items, results[0], error, attempt, worker, limit, finish)
    half = count // 2
    rest = attempt, worker, limit, finish
    first = encode(form, start, items[:half], results[:half], *rest)
    return first + encode(form, start + half, items[half:], results[half:], *rest)


def _settle(
    form: str,
    start: int,
    items: list[object],
    result: object,
    error: BaseException,
    attempt: int,
    worker: str,
    limit: int,
    finish: Callable[[Awaitable[object]], object],
) -> list[Outcome]:
    """The outcome of a task whose result cannot be encoded as it is."""
    value, seconds = _value(form, result)
    if not is_awaitable(value):
        return [Failed(_unsendable(value, error), retry=False)]
    try:
        value = finish(cast("Awaitable[object]", value))
    except BaseException as raised:  # the task's
        return [Failed(describe(raised))]
    again: object = (value, seconds) if form in outputs.TIMED else value
    return encode(form, start, items, [again], attempt, worker, limit, finish)


def _value(form: str, result: object) -> tuple[object, float]:
    """A result without its seconds, and those."""
    return cast("tuple[object, float]", result) if form in outputs.TIMED else (result, 0.0)


def _check_run(form: str, blob: bytes, results: list[object]) -> None:
    """Refuse what is still to be run: its `str`, or its pickle, is of no use to anybody.

    Raises:
        TypeError: there is a generator, a coroutine or the like in the results.
    """
    if is_suspicious(form, blob):
        for result in results:
            complaint = _complaint(_value(form, result)[0])
            if complaint is not None:
                raise TypeError(complaint)


def is_suspicious(form: str, blob: bytes) -> bool:
    """Whether there may be iterators or awaitables among encoded results: the `str` of one has its
    address, and of those that can be pickled each is of one of two modules. (A look at each result
    would take a tenth of a short task.)

    >>> is_suspicious("text", f"{map(str, [])}".encode()), is_suspicious("text", b"1\\n2\\n")
    (True, False)
    """
    if outputs.is_command(form):
        return any(mark in blob for mark in (b" at 0x", b"<_io.", b"count(", b"repeat("))
    return b"builtins" in blob or b"itertools" in blob


def _complaint(value: object) -> str | None:
    from dq.data import lazy  # which few results give a reason to import

    return lazy.complaint(value)


def _unsendable(value: object, error: BaseException) -> Failure:
    complaint = _complaint(value)
    if complaint is not None:
        return Failure("TypeError", complaint)
    found = describe(error)
    return Failure(found.type, f"this result cannot be sent: {found.message}")


def _blob(
    form: str, start: int, items: list[object], results: list[object], attempt: int, worker: str
) -> tuple[bytes, float]:
    if form == "values":
        return inputs.dump(results, apart=False), 0.0
    if form in outputs.TEXTS:
        return outputs.text(form, results), 0.0
    pairs = cast("list[tuple[object, float]]", results)  # as timed slots have them
    seconds = [took for _, took in pairs]
    if form == "jsonl":
        return outputs.encode(form, start, items, pairs, attempt, worker), sum(seconds)
    values = inputs.dump([value for value, _ in pairs], apart=False)
    return pickle.dumps((values, seconds)), sum(seconds)


class Process:
    """All of a task process."""

    def __init__(self, config: Config, cells: platform.Cells) -> None:
        self.config = config
        self.cells = cells
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.specs: dict[str, JobSpec] = {}
        self.definitions: dict[
            str, list[tuple[tuple[str, ...], bytes]]
        ] = {}  # of each job's classes
        self.initialized: set[TaskRef] = set()  # initializers that have been called
        self.master = ""  # its random id
        self.forked = False  # whether this is a copy that a task has made
        self.draining = threading.Event()
        self.max_result = MAX_MESSAGE
        self._programs: dict[str, Program] = {}
        self._loading = threading.Lock()  # guards programs
        self.loop = Loop()
        self._lock = threading.Lock()  # guards the count of tasks, and `_codes`
        self._codes: list[int] = []  # of slots that have left
        self._joins: list[Callable[[float], object]] = []  # of the threads that serve it
        with platform.HighDescriptors():
            self._bell, self._ring = os.pipe()  # the second is closed when they are to end
        self._left = config.max_tasks
        self._depth = sys.getrecursionlimit()
        self.slots = [Slot(self, view) for view in processes.slots(cells, config.threads)]

    def connect(self) -> Client:
        config = self.config
        client = Client(
            config.address,
            config.authkey,
            role="slot",
            group=config.group,
            name=self.name,
            tls=config.tls,
            default=config.task is not None,
            loads=loads_for(config.allow),
        )
        self.max_result = client.max_message
        return client

    def program(self, job: str) -> Program:
        """A job's function, loaded once for all slots."""
        with self._loading:
            program = self._programs.get(job)
            if program is None:
                spec = self.specs[job]
                self.note(LOADING)
                try:
                    program = Program(spec, self)
                except KeyboardInterrupt as error:  # the module's own: Ctrl-C does nothing here
                    raise BadTask(f"cannot import {spec.ref}: KeyboardInterrupt") from error
                finally:
                    self.note(LOADED)
                self._programs[job] = program
            return program

    def learn(self, job: str, spec: JobSpec | None, client: Client) -> None:
        """Know of a job what has come, and keep nothing of those that have ended: a function may
        have a large table with it, and each call of `map` is a job."""
        large = False
        for id in client.ended:
            self._programs.pop(id, None)
            self.definitions.pop(id, None)
            old = self.specs.pop(id, None)
            large = large or (old is not None and old.nbytes > LARGE)
        if spec is not None:
            self.specs[job] = spec
        self.definitions.setdefault(job, []).extend(client.definitions)
        client.ended, client.definitions = [], []
        if large:
            gc.collect()  # a function and its globals refer to each other

    def refusal(self, job: str, error: BadTask) -> str:
        """What the master is told of a job that cannot be done here; who runs the worker, too."""
        ref = self.specs[job].ref
        is_named = ref is None or ref.kind != "value"
        if self.config.parents is None:  # else the master's terminal is this one's
            is_absent = is_named and not self.config.allow
            hint = "; this worker needs the same code as the master" if is_absent else ""
            print(f"dq: cannot load this job: {error}{hint}", file=sys.stderr, flush=True)
        text = f"worker {self.name} cannot load this job: {error}"
        if is_named:
            text += f"; its sys.path is {sys.path}"
        return text[:LONGEST_TEXT]

    def note(self, state: int) -> None:
        """Let the supervisor know how far this process has come."""
        self.cells.view[STATE] = state

    @property
    def leaving(self) -> bool:
        """Whether it is to take no more tasks."""
        return self.cells.view[LEAVING] != 0

    def most(self) -> int:
        """How many tasks the next batch may have, -1 for any number."""
        return -1 if self._left is None else max(self._left, 0)

    def finished(self, count: int) -> None:
        """Count tasks towards the process's end."""
        with self._lock:
            if self._left is not None:
                self._left -= count

    def run(self) -> int:
        """Work in as many threads as there are slots; what the process is to end with."""
        others = [
            threading.Thread(target=self._run_slot, args=(slot,), daemon=True)
            for slot in self.slots[1:]
        ]
        for thread in others:
            thread.start()
        self._run_slot(self.slots[0])
        for thread in others:
            thread.join()
        return min(self._codes)

    def _run_slot(self, slot: Slot) -> None:
        try:
            code = self._run(slot)
        except BaseException:
            traceback.print_exc()
            _flush()
            os._exit(1)
        with self._lock:
            self._codes.append(code)

    def leave(self, code: int) -> NoReturn:
        """End the process as an interpreter ends: threads that are no daemons are waited for,
        what is registered with atexit is called, files are flushed; for `grace` seconds at most.

        From here on its end is nobody's fault, whatever it is.
        """
        for slot in self.slots:
            if slot.client is not None:
                slot.client.close()  # before all that: the master need not wait for it
        self.note(code)
        if not self.config.grace:
            _flush()
            os._exit(code)
        with contextlib.suppress(RuntimeError):  # no more threads: the supervisor ends it, then
            begun = threading.Lock()
            begun.acquire()
            start_new_thread(_leave_in_time, (code, self.config.grace, begun))
            # CPython may crash where a thread begins when the interpreter has ended.
            begun.acquire()
        self.loop.close()
        self._forget()
        self._end_service()
        raise SystemExit(code)

    def _forget(self) -> None:
        """Keep nothing of the tasks': the threads that still run, and with them all that this has,
        outlive everything, so that a file which a task's module has open would not be flushed."""
        self._programs.clear()
        self.specs.clear()
        for slot in self.slots:
            slot.forget()

    def _run(self, slot: Slot) -> int:
        try:
            slot.run()
        except PlainMaster:
            pass
        except Leave as leave:
            return leave.code
        return self._run_plain()  # here, or that would be the context of what a task raises

    def _run_plain(self) -> int:
        """Serve a plain recipe master: get a task, put a bare result."""
        if self.config.task is None:
            return REFUSED
        with self._loading:
            self.note(LOADING)
            function = tasks.load(self.config.task)
        call: Callable[[object], object] = function
        call = _awaiting(call, self.loop)
        while True:
            try:
                config = self.config
                loads = loads_for(config.allow)
                client = PlainClient(config.address, config.authkey, config.tls, loads)
                self.note(CONNECTED)
                self._serve_plain(client, call)
            except (ConnectError, EOFError):
                return RECYCLE  # the next process looks for the master, plain or not
            except Leave as leave:
                return leave.code

    def _serve_plain(self, client: PlainClient, call: Callable[[object], object]) -> None:
        while not self.leaving:
            if self.most() == 0:
                raise Leave(RECYCLE)
            try:
                item = client.get(1.0)
            except queue.Empty:
                continue
            except Unreadable as error:
                value: object = as_error(describe(error.__cause__ or error))
            else:
                value = _answer(call, item)
            _put(client, value)
            self.finished(1)
        raise Leave(DRAINED)

    def check_descriptors(self) -> None:
        """Leave after the next report, where a task has closed what is not its own."""
        try:
            os.fstat(self.cells.fd)
        except OSError:
            with self._lock:
                self._left = 0

    @property
    def is_patched(self) -> bool:
        """Whether a task's module has put something else in the place of sockets."""
        return sys.modules["socket"].__dict__.get("socket") is not socket.socket

    def restore_depth(self) -> None:
        """Take back what a task has left of the recursion limit: less than this process needs to
        report, say."""
        if sys.getrecursionlimit() < self._depth:
            sys.setrecursionlimit(self._depth)

    def after_fork(self) -> None:
        """In the copy, when a task has forked."""
        self.forked = True
        for slot in self.slots:
            slot.let_go()

    def listen(self, lifeline: int) -> None:
        """Hear what the supervisor says, and when it has died."""
        with contextlib.suppress(OSError):  # a task has closed what is not its own
            while lifeline in select.select([lifeline, self._bell], [], [])[0]:
                if os.read(lifeline, 1) != DRAIN:
                    os.kill(os.getpid(), signal.SIGKILL)
                self.drain()

    def monitor(self) -> None:
        """Look at the slots now and then."""
        while not self._is_to_end():
            for slot in self.slots:
                if self.leaving:  # again: it may have been reporting when it was told to
                    slot.hand_back()
                    slot.interrupt()
                else:
                    slot.look()

    def _is_to_end(self) -> bool:
        """Wait for `TICK`, and whether the process ends."""
        try:
            return bool(select.select([self._bell], [], [], TICK)[0])
        except OSError:  # a task has closed what is not its own
            time.sleep(TICK)
            return False

    def start_service(self, lifeline: int) -> None:
        """Listen and monitor, in threads that `threading` knows nothing of: a module that patches
        it, as gevent's does, finds no thread but its own, as it has to; and no task counts them."""
        self._joins = [_start_unseen(self.listen, lifeline), _start_unseen(self.monitor)]

    def _end_service(self) -> None:
        """End those threads: CPython 3.10 and 3.11 may crash where one comes back from a wait in
        the moment when the interpreter has ended."""
        with contextlib.suppress(OSError):
            os.close(self._ring)
        for join in self._joins:
            join(1.0)

    def drain(self) -> None:
        """Finish what is running, report, leave."""
        self.draining.set()
        for slot in self.slots:
            slot.hand_back()
            slot.interrupt()


def _start_unseen(work: Callable[..., None], *args: object) -> Callable[[float], object]:
    """Start a thread that `threading` knows nothing of; what waits for its end, for so long."""
    if hasattr(_thread, "start_joinable_thread"):  # from Python 3.13 on
        handle = _thread.start_joinable_thread(lambda: work(*args))
        return cast("Callable[[float], object]", handle.join)
    ends = []  # a lock that is free once the interpreter has forgotten the thread

    def run() -> None:
        ends.append(_thread._set_sentinel())  # type: ignore[attr-defined]  # as `threading` has it
        work(*args)

    start_new_thread(run, ())
    return lambda seconds: ends and ends[0].acquire(timeout=seconds)


def _answer(call: Callable[[object], object], item: object) -> object:
    """What goes to a plain master: a value, or why there is none."""
    try:
        value = call(item)
    except BaseException as error:  # SystemExit too: it is the task's
        return as_error(describe(error))
    complaint = _complaint(value)
    return value if complaint is None else as_error(Failure("TypeError", complaint))


def _put(client: PlainClient, value: object) -> None:
    """Put a result, or why it could not be: the master has nothing else of that task."""
    try:
        client.put(value)
    except ProtocolError as error:  # the master cannot unpickle it, say
        text = str(error).rstrip()[-LONGEST_TEXT:]  # a traceback, of a plain BaseManager
        client.put(as_error(Failure("ResultRefused", text.rpartition("\n")[2], text)))
    except ConnectError:
        raise
    except Exception as error:
        failure = describe(error)
        client.put(as_error(Failure(failure.type, f"cannot be sent: {failure.message}")))


def main() -> NoReturn:
    """What a supervisor starts, without the garbage collector until here."""
    gc.freeze()
    gc.enable()
    os.environ.pop(processes.MARK, None)  # a program that a task starts is no task process
    with platform.HighDescriptors():
        lifeline = os.dup(0)
        try:
            config = _read_config(lifeline)
        except EOFError:
            os._exit(1)  # there was nothing to do after all
        platform.die_with_parent(config.parent)
        cells = platform.Cells.open(os.dup(config.cells), processes.count(config.threads))
    os.close(config.cells)
    naming.use_options(config.by_options)
    with open(os.devnull, "rb") as devnull:
        os.dup2(devnull.fileno(), 0)
    os.dup2(2, 1)  # what a task prints, or a program it starts, must not end up among results
    if sys.stdout is not None:
        # As standard error is: where standard output is a file, prints would come at the very end.
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # no TextIO
    sys.path[:] = config.path
    _become(config)
    classes.name_apart()
    process = Process(config, cells)
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the supervisor's to understand
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=process.after_fork)
    _keep_originals()
    process.start_service(lifeline)
    process.leave(process.run())


def _keep_originals() -> None:
    """Have dq go on with what these modules have now, whatever a task's module does to them."""
    kept = {}
    for module in (select, socket, threading, time):
        copy = kept[id(module)] = type(module)(module.__name__)
        copy.__dict__.update(module.__dict__)
    for name in [name for name in sys.modules if name.startswith("dq.")]:
        names = sys.modules[name].__dict__
        names.update({key: kept[id(names[key])] for key in names if id(names[key]) in kept})


def _read_config(pipe: int) -> Config:
    """What a supervisor tells, and not a byte of what it may say later.

    Raises:
        EOFError: nothing.
    """
    size = int.from_bytes(_read(pipe, processes.SIZE), "big")
    config: Config = pickle.loads(_read(pipe, size))
    return config


def _read(pipe: int, size: int) -> bytes:
    """So many bytes: a pipe has 64 KiB at a time."""
    parts: list[bytes] = []
    while size:
        parts.append(os.read(pipe, size))
        if not parts[-1]:
            raise EOFError
        size -= len(parts[-1])
    return b"".join(parts)


def _become(config: Config) -> None:
    """Have what tasks may look for in the process that runs them: as a Pool's have it."""
    current = multiprocessing.current_process()
    current._identity = (config.number + 1,)  # where recipes for a Pool look
    if config.parents is None:
        return
    sys.argv[:] = config.parents.argv
    current.authkey = config.parents.authkey
    if config.parents.logs is not None:
        from dq.worker import logs  # which few programs need

        logs.apply(config.parents.logs)


def _leave_in_time(code: int, grace: float, begun: threading.Lock) -> None:
    """End the process where it has not ended by itself, and say what it has been waiting for."""
    begun.release()
    time.sleep(grace)
    with contextlib.suppress(BaseException):  # a task may have done anything to what this uses
        print(
            f"dq: task process {os.getpid()} has waited {grace:g} s at its end for {_left()};"
            f" it ends without that ({setting('grace')})",
            file=sys.stderr,
            flush=True,
        )
    os._exit(code)


def _left() -> str:
    """What keeps this process from ending."""
    threads = [
        f"the thread {thread.name!r}"
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread()
    ]
    children = [f"the process {child.pid}" for child in multiprocessing.active_children()]
    # Processes are waited for after threads, by what multiprocessing has registered.
    return ", ".join(threads or children) or "what is registered with atexit"


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
