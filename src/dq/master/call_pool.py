"""What an executor's calls need: a master, and the job that they are tasks of.

It outlives its executor until the calls have ended, so that what was submitted is run also if the
program drops the executor or ends.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from dq.functions.reference import Function
from dq.master.call_functions import Name
from dq.master.call_job import Call, CallJob
from dq.master.master import Master
from dq.master.runtime import Runtime

# Python 3.12.0 and 3.12.1 start no thread once the main thread has ended (cpython#113964). So its
# workers, each of which needs one here, must be connected before.
THREADS_END_EARLY = (3, 12, 0) <= sys.version_info[:3] <= (3, 12, 1)
START_TIMEOUT_S = 10.0

AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"
AFTER_EXIT = "cannot schedule new futures after interpreter shutdown"


class CallPool:
    """The master and the calls of one executor.

    Args:
        make: makes a master of its own.
        master: the master that it uses instead, and that stays open.
        options: those of the calls that are not the master's.
    """

    def __init__(
        self,
        make: Callable[[], Master],
        master: Master | None = None,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._make = make
        self._given = master
        self._options = options
        self._is_shut = False
        self._is_abandoned = False
        self._reset()
        _pools.add(self)

    def _reset(self) -> None:
        """Begin without calls. Also called in a fork of the process."""
        self._master = self._given
        self._job: CallJob | None = None
        self._lock = threading.Lock()  # guards `_master`, `_job`, `_is_shut`, the order of calls
        self._finishing = threading.Lock()  # held while waiting for calls and closing the master
        self._is_finished = False

    def start(self) -> CallJob:
        """Start the master and the job, unless this has been done."""
        with self._lock:
            return self._start()

    def _start(self) -> CallJob:
        if self._job is not None:
            return self._job
        master = self._master
        if master is None:
            master = self._make()
            master.start()
            self._master = master
            if THREADS_END_EARLY:
                _await_workers(master.runtime)
        master.runtime.lifetime.check_process()
        job = self._job = CallJob(master.runtime, self._options)
        job.on_check = self._end_if_abandoned
        _unfinished.add(self)
        return job

    # Calls

    def submit(self, function: str | Function, *call: object) -> Call[Any]:
        """Make a call: the function, and the rest of what `dq.functions.called` says."""
        job = self._job or self._open_job()
        name = job.functions.name(function)
        return self._add(job, name, call)

    def submit_chunks(
        self, function: str | Function, chunks: Iterable[list[tuple[object, ...]]]
    ) -> Iterator[Call[Any]]:
        """Make a call for each chunk of arguments, of a function as it is now."""
        job = self._open_job()
        functions = job.functions
        name = functions.name(function)
        try:
            for chunk in chunks:
                functions.retain(name)
                yield self._add(job, name, (chunk,))
        finally:
            functions.release_later(name)

    def _open_job(self) -> CallJob:
        """The job, if calls may be added to it.

        Raises:
            RuntimeError: there can be no more calls.
        """
        with self._lock:
            self._check_open()
            return self._start()

    def _check_open(self) -> None:
        if _is_exiting:
            raise RuntimeError(AFTER_EXIT)
        master = self._master
        if self._is_shut or (master is not None and master.closed):
            raise RuntimeError(AFTER_SHUTDOWN)
        if self._job is not None and self._job.error is not None:
            raise self._job.error

    def _add(self, job: CallJob, name: Name, call: tuple[object, ...]) -> Call[Any]:
        future: Call[Any] = Call(job, name)
        try:
            with self._lock:
                self._check_open()
                job.add(future, (name, *call))
        except BaseException:
            job.functions.release(name)
            raise
        job.hand_out()
        return future

    # The end

    def shut(self, *, cancel: bool = False) -> None:
        """Take no more calls.

        Args:
            cancel: cancel those that no worker has yet.
        """
        with self._lock:
            self._is_shut = True
            job = self._job
        if cancel and job is not None:
            job.cancel()

    def finish(self) -> None:
        """Wait for the calls, and close what was opened for them."""
        with self._finishing:
            if self._is_finished or self._job is None:
                return
            self._job.wait()
            self._job.close()
            if self._given is None and self._master is not None:
                self._master.close()
            self._is_finished = True
        _unfinished.discard(self)

    def finish_soon(self) -> None:
        """The same in a thread. The program does not end before that."""
        if self._job is None:
            return
        try:
            threading.Thread(target=self.finish, name="dq-finish", daemon=True).start()
        except RuntimeError:  # there are too many threads, or the interpreter is about to end
            self.finish()

    def abandon(self) -> None:
        """Have it finished soon. The garbage collector may call this in any thread, at any moment,
        so it takes no lock: the thread that checks the job sees it."""
        self._is_abandoned = True
        if self._given is not None and self._given.closed:
            _unfinished.discard(self)  # its calls have failed, and nobody checks them any more

    def _end_if_abandoned(self) -> None:
        if self._is_abandoned and not self._is_shut:
            self.shut()
            self.finish_soon()

    def after_fork(self) -> None:
        """Prepare a fork of this process, which starts workers of its own at its next call. A
        master that it was given still belongs to the parent."""
        self._reset()


def _await_workers(runtime: Runtime) -> None:
    """Wait until each local slot is connected, and their supervisor."""
    slots = runtime.workers.count * runtime.workers.threads
    runtime.dispatcher.connections.wait_for_workers(slots + 1 if slots else 0, START_TIMEOUT_S)


_pools: weakref.WeakSet[CallPool] = weakref.WeakSet()  # for `_after_fork`
_unfinished: set[CallPool] = set()  # those that were started, which nothing else may keep
_is_exiting = False


def _finish_all() -> None:
    """Run what was submitted, before the interpreter shuts down."""
    global _is_exiting
    _is_exiting = True
    for pool in list(_unfinished):
        pool.shut()
    for pool in list(_unfinished):
        pool.finish()


def _after_fork() -> None:
    _unfinished.clear()
    for pool in list(_pools):
        pool.after_fork()


# As `concurrent.futures.process` has it: called at the end of the main thread, when new threads can
# still be started, which those registered with `atexit` are too late for.
threading._register_atexit(_finish_all)  # type: ignore[attr-defined]
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
