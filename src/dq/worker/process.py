"""A task process: its slots, and what they share."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable

from dq._support import platform
from dq._support.frozen import TYPE_CHECKING
from dq.core.records import LONGEST_TEXT
from dq.errors import BadTask, PlainMaster
from dq.functions import loading
from dq.functions.reference import TaskRef
from dq.functions.spec import JobSpec
from dq.manager.client import Client
from dq.transport.limits import MAX_MESSAGE_BYTES
from dq.worker.calling import Program
from dq.worker.cells import LEAVING, LOADED, LOADING, REFUSED, STATE, slot_views
from dq.worker.config import Config, loads_for
from dq.worker.ending import leave_within
from dq.worker.event_loop import EventLoop
from dq.worker.forked import end_fork, flush
from dq.worker.plain import PlainWorker
from dq.worker.service import Service
from dq.worker.slot import Leave, Slot

if TYPE_CHECKING:
    from typing import NoReturn

LARGE_BYTES = 1 << 20  # of a function by value that is not left to the garbage collector's turn


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
        self.max_result = MAX_MESSAGE_BYTES
        self._programs: dict[str, Program] = {}
        self._loading = threading.Lock()  # guards programs
        self.loop = EventLoop()
        self._lock = threading.Lock()  # guards the count of tasks, and `_codes`
        self._codes: list[int] = []  # of slots that have left
        self._service: Service | None = None
        self._left = config.max_tasks
        self._depth = sys.getrecursionlimit()
        self.slots = [Slot(self, view) for view in slot_views(cells, config.threads)]

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
            large = large or (old is not None and old.nbytes > LARGE_BYTES)
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
            flush()
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
            flush()
            os._exit(code)
        leave_within(code, self.config.grace)
        self.loop.close()
        self._forget()
        if self._service is not None:
            self._service.close()
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
        if self.config.task is None:
            return REFUSED
        # Here, or that would be the context of what a task raises.
        return PlainWorker(self, self.config.task).run()

    def load_alone(self, ref: TaskRef) -> Callable[..., object]:
        """A function that this process works with whatever the master says."""
        with self._loading:
            self.note(LOADING)
            return loading.load(ref)

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
            slot.after_fork()

    def check_fork(self) -> None:
        """End a copy of the process, which a task, an input or a result has made."""
        if self.forked:
            end_fork(None)

    def serve(self, lifeline: int) -> None:
        """Listen to the supervisor, and look at the slots, from now on."""
        self._service = Service(self, lifeline)

    def drain(self) -> None:
        """Finish what is running, report, leave."""
        self.draining.set()
        for slot in self.slots:
            slot.hand_back()
            slot.interrupt()
