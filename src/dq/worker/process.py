"""A task process: its slots, and what they share."""

from __future__ import annotations

import os
import socket
import sys
import threading
import traceback

from dq._support import platform
from dq._support.frozen import TYPE_CHECKING
from dq.errors import PlainMaster
from dq.worker.cells import LEAVING, LOADED, LOADING, REFUSED, STATE, slot_views
from dq.worker.config import Config
from dq.worker.connecting import Connector, Leave
from dq.worker.ending import leave_within
from dq.worker.event_loop import EventLoop
from dq.worker.forked import end_fork, flush
from dq.worker.imports import ProcessImports
from dq.worker.plain import PlainWorker
from dq.worker.programs import Programs
from dq.worker.service import Service
from dq.worker.slot import Slot

if TYPE_CHECKING:
    from typing import NoReturn


class Process:
    """All of a task process."""

    def __init__(self, config: Config, cells: platform.Cells) -> None:
        self.config = config
        self.cells = cells
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.forked = False  # whether this is a fork that a task has made
        self.draining = threading.Event()
        self.loop = EventLoop()
        self.connector = Connector(config, self.name, self.draining)
        self.programs = Programs(config, ProcessImports(), self.name, self.loop, self.set_state)
        self._lock = threading.Lock()  # guards the count of tasks, and `_codes`
        self._codes: list[int] = []  # exit codes of slots that have left
        self._service: Service | None = None
        self._tasks_left = config.max_tasks
        self._recursion_limit = sys.getrecursionlimit()
        first = config.number * config.threads
        views = slot_views(cells, config.threads)
        self.slots = [Slot(self, view, number) for number, view in enumerate(views, first)]

    @property
    def max_result(self) -> int:
        """The largest result that the master accepts, in bytes."""
        return self.connector.max_result

    def set_state(self, state: int) -> None:
        """Show the supervisor the state of this process. A module that closes dq's descriptors when
        it is imported would do so in each: it counts as one that ends the process."""
        if state == LOADED and self.cells.view[STATE] == LOADING and not self._has_descriptors():
            os._exit(LOADING)
        self.cells.view[STATE] = state

    @property
    def leaving(self) -> bool:
        """Whether it must not take more tasks."""
        return self.cells.view[LEAVING] != 0

    def max_tasks(self) -> int:
        """How many tasks the next batch may have; -1 for any number."""
        return -1 if self._tasks_left is None else max(self._tasks_left, 0)

    def count_tasks(self, count: int) -> None:
        """Count tasks towards `max_tasks`."""
        with self._lock:
            if self._tasks_left is not None:
                self._tasks_left -= count

    def run(self) -> int:
        """Work in one thread for each slot, and return the exit code."""
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
        """End the process as an interpreter ends, within `grace` seconds: wait for threads that are
        no daemons, call what is registered with atexit, and flush files.

        From here on no task is charged, however the process ends.
        """
        for slot in self.slots:
            if slot.client is not None:
                slot.client.close()  # first, so that the master does not wait for the rest
        self.set_state(code)
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
        """Drop all references to the tasks' objects. Threads that still run keep this object alive
        to the very end, so a file that a task's module has open would never be flushed."""
        self.programs.clear()
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
        # Outside the `except`, or PlainMaster would be the context of whatever a task raises.
        return PlainWorker(self, self.config.task).run()

    def check_descriptors(self) -> None:
        """Leave after the next report, if a task has closed a descriptor of dq."""
        if not self._has_descriptors():
            self.recycle()

    def _has_descriptors(self) -> bool:
        try:
            os.fstat(self.cells.fd)
        except OSError:
            return False
        return True

    def recycle(self) -> None:
        """Leave after the next report, for another process in its place."""
        with self._lock:
            self._tasks_left = 0

    @property
    def is_patched(self) -> bool:
        """Whether a task's module has patched `socket.socket`."""
        return sys.modules["socket"].__dict__.get("socket") is not socket.socket

    def restore_recursion_limit(self) -> None:
        """Undo a lower recursion limit that a task has set: it may be too low to report."""
        if sys.getrecursionlimit() < self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)

    def after_fork(self) -> None:
        """Prepare a fork that a task has made."""
        self.forked = True
        for slot in self.slots:
            slot.after_fork()

    def check_fork(self) -> None:
        """End this process if it is a fork that a task, an input or a result has made."""
        if self.forked:
            end_fork(None)

    def serve(self, lifeline: int) -> None:
        """Start to listen to the supervisor and to monitor the slots."""
        self._service = Service(self, lifeline)

    def drain(self) -> None:
        """Finish the running tasks, report them, and leave."""
        self.draining.set()
        for slot in self.slots:
            slot.partial_reports.hand_back()
            slot.interrupt()
