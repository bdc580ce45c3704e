"""What an executor's calls need: a master, and the job that they are tasks of.

It outlives its executor until the calls have ended, so that what was submitted is run also if the
program drops the executor or ends.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from dq.functions.reference import Function
from dq.master.call_functions import Name
from dq.master.call_job import Call, CallJob
from dq.master.call_runner import CallHost

AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"
AFTER_EXIT = "cannot schedule new futures after interpreter shutdown"


class CallPool:
    """The calls of one executor.

    Args:
        host: where they run.
    """

    def __init__(self, host: CallHost) -> None:
        self._host = host
        self._is_shut = False
        self._is_abandoned = False
        self._reset()
        _pools.add(self)

    def _reset(self) -> None:
        """Begin without calls. Also called in a fork of the process."""
        self._job: CallJob | None = None
        self._lock = threading.Lock()  # guards `_job`, `_is_shut`, the order of calls
        self._finishing = threading.Lock()  # held while waiting for calls and closing the host
        self._is_finished = False

    def start(self) -> CallJob:
        """Start the host and the job, unless this has been done."""
        with self._lock:
            return self._start()

    def _start(self) -> CallJob:
        if self._job is not None:
            return self._job
        self._host.start()
        job = self._job = CallJob(self._host.runner())
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
        if self._is_shut or self._host.closed:
            raise RuntimeError(AFTER_SHUTDOWN)
        if self._job is not None and self._job.error is not None:
            raise self._job.error

    def _add(self, job: CallJob, name: Name, call: tuple[object, ...]) -> Call[Any]:
        future: Call[Any] = Call(job, name)
        try:
            item = job.encode((name, *call))
            with self._lock:
                self._check_open()
                job.add(future, item)
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
            self._host.close()
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
        if self._host.closed:
            _unfinished.discard(self)  # its calls have failed, and nobody checks them any more

    def _end_if_abandoned(self) -> None:
        if self._is_abandoned and not self._is_shut:
            self.shut()
            self.finish_soon()

    def after_fork(self) -> None:
        """Prepare a fork of this process, which starts anew at its next call."""
        self._host.after_fork()
        self._reset()


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
