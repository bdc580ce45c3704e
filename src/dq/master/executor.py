"""`dq.Executor`: the interface of `concurrent.futures` over a master."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from dq._support import quantities
from dq.functions import importable, loading
from dq.master.call_job import Call, CallJob, Future, Refs
from dq.master.master import Master
from dq.master.options import Options
from dq.master.runtime import Runtime

if TYPE_CHECKING:
    from typing_extensions import ParamSpec, Unpack

    P = ParamSpec("P")

MAX_FUNCTIONS = 32  # kept here and in the workers after their last call

T = TypeVar("T")


class Executor(concurrent.futures.Executor):
    """Calls in worker processes, each as a future.

    Args:
        max_workers: task processes to start here; None for one for each CPU.
        master: a started master whose workers run the calls; it stays open.
        options: as for `Master`, if none is given.

    >>> with Executor(max_workers=1) as pool:
    ...     pool.submit(pow, 2, 10).result()
    1024
    """

    _master: Master | None

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        master: Master | None = None,
        **options: Unpack[Options],
    ) -> None:
        if "workers" in options:
            raise TypeError("an Executor's task processes are max_workers, not workers")
        self._workers = quantities.cpus() if max_workers is None else max_workers
        self._options = options
        self._owns = master is None
        self._shut = False
        self._reset(master or Master(workers=self._workers, **options))
        if not loading.is_importing():
            self._start()
        _executors.add(self)

    def _reset(self, master: Master | None) -> None:
        """Start without calls. Also called in a fork of the process."""
        self._master = master
        self._started = False
        self._lock = threading.Lock()  # guards `_master`, `_started`, `_jobs`, `_latest`, `_shut`
        self._jobs: dict[Refs, CallJob] = {}
        self._latest: tuple[Callable[..., object], CallJob] | None = None  # of the last call
        self._finishing = threading.Lock()  # held while waiting for calls and closing the master

    def _start(self) -> Master:
        """The master, started if it was not. If a module makes an Executor when it is imported,
        every worker makes one too, and that must not start a master unless it is used."""
        master = self._master or Master(workers=self._workers, **self._options)
        self._master = master
        if self._owns and not self._started:
            master.start()
        self._started = True
        return master

    def after_fork(self) -> None:
        """Prepare a fork of this process, which starts workers of its own at its next call. A
        master that the Executor was given still belongs to the parent."""
        self._reset(None if self._owns else self._master)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call `fn` in a worker process.

        Raises:
            BadTask: workers could not find the function.
            RuntimeError: after `shutdown`.

        The future's exception is what `fn` raised, with the remote traceback as its cause; a
        `TaskError`, if that cannot be raised here; or the reason why workers cannot run calls. It
        can be cancelled until it has its result: a call that no worker has yet is then not run; the
        process of one that runs is ended, first with SIGTERM, and after two seconds with SIGKILL.
        What else runs there runs again.
        """
        future: Call[T] = Call()
        with self._lock:
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            master = self._start()
            runtime = master.runtime
            runtime.lifetime.check_process()
            if master.closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._job_of(runtime, fn).add(future, (args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: return when all calls have ended. They end in any case; the program does not end
                before them.
            cancel_futures: cancel the others, see `submit`.
        """
        with self._lock:
            self._shut = True
            jobs = list(self._jobs.values())
        if cancel_futures:
            for job in jobs:
                job.cancel()
        if wait:
            self._finish(jobs)
        else:
            threading.Thread(target=self._finish, args=(jobs,)).start()

    def _finish(self, jobs: list[CallJob]) -> None:
        with self._finishing:
            for job in jobs:
                job.wait()
                job.close()
            if self._owns and self._master is not None:
                self._master.close()

    def _job_of(self, runtime: Runtime, fn: Callable[..., object]) -> CallJob:
        """The calls of a function as it is now. One that is sent by value is pickled for each call,
        because its globals may have changed."""
        latest, job = self._latest or (None, None)
        if job is not None and latest is fn and importable.can_import(fn):
            return job
        refs = runtime.jobs.refer(fn)
        job = self._job_of_refs(runtime, refs)
        is_importable = all(ref is None or ref.kind == "module" for ref in refs)
        self._latest = (fn, job) if is_importable else None
        return job

    def _job_of_refs(self, runtime: Runtime, refs: Refs) -> CallJob:
        job = self._jobs.get(refs)
        if job is None:
            if len(self._jobs) >= MAX_FUNCTIONS:
                self._drop_idle()
            job = self._jobs[refs] = CallJob(runtime, refs)
        return job

    def _drop_idle(self) -> None:
        """Drop the functions that have no call left. They would pile up: a lambda is a new function
        each time it is made, and a script's function is new whenever its globals have changed."""
        for refs, job in list(self._jobs.items()):
            if job.is_idle:
                del self._jobs[refs]
                job.close()
        self._latest = None


def _after_fork() -> None:
    for executor in list(_executors):
        executor.after_fork()


_executors: weakref.WeakSet[Executor] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
