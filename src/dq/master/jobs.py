"""Opens the jobs of a master, with their specs, journals, inputs and readers."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from dq._support.naming import setting
from dq.core.records import Reading
from dq.data.sources import Source
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.served_job import ServedJob
from dq.errors import UsageError
from dq.functions.constants import with_constants
from dq.functions.definitions import CurrentDefinitions
from dq.functions.job_specs import VALUES, JobSpecs
from dq.functions.module_versions import Version, version_of
from dq.functions.reference import Function, TaskRef
from dq.master.job_reader import JobReader
from dq.master.lifetime import Lifetime
from dq.master.local_workers import LocalWorkers
from dq.master.options import StrPath
from dq.master.progress import Report, check_progress

if TYPE_CHECKING:
    from dq.journal.facts import Facts
    from dq.journal.replay import Replay
    from dq.journal.writer import Journal
    from dq.master.in_process import InProcessWorker


class Jobs:
    """Opens jobs. `map`, `stream`, `Executor` and the command line are built on this.

    Args:
        specs: makes their specs.
        dispatcher: serves them.
        workers: checked by their readers.
        lifetime: the master's.
        report: called with each line that people should see.
        in_process: runs their tasks in the threads that read their records; None where workers do.
    """

    def __init__(
        self,
        specs: JobSpecs,
        dispatcher: Dispatcher,
        workers: LocalWorkers,
        lifetime: Lifetime,
        report: Callable[[str], None],
        in_process: InProcessWorker | None = None,
    ) -> None:
        self._specs = specs
        self._dispatcher = dispatcher
        self._in_process = in_process
        self._workers = workers
        self._lifetime = lifetime
        self._report = report
        self._calls: dict[str, Calls] = {}  # of executors, by their jobs' ids

    # With inputs from an iterable

    def open_call(
        self,
        task: str | Function,
        source: Iterable[object],
        *,
        output: str,
        journal: StrPath | None = None,
        retry_failed: bool = False,
        reader_feeds: bool = False,
        progress: bool | Report = False,
        constants: Mapping[str, object] | None = None,
    ) -> JobReader:
        """Start a job whose inputs are values; arguments as for `Master.map` and `open`."""
        self._lifetime.check_process()
        check_progress(progress)
        task = with_constants(task, constants)
        self._specs.check(task)
        ref, init = self.refer(task)
        self._know(ref, init, task)
        opened = self.open_journal(
            journal, ref, output=output, retry_failed=retry_failed, function=task
        )
        try:
            job = self.open(
                ref,
                source,
                init=init,
                output=output,
                journal=opened,
                reader_feeds=reader_feeds,
                version=version_of(ref, task),
            )
            job.show_progress(progress, len(source) if isinstance(source, Sized) else None)
            return job
        except BaseException:
            if opened is not None:
                opened.close()
            raise

    def _know(self, ref: TaskRef, init: TaskRef | None, task: str | Function) -> None:
        """Where tasks run in this process, have the given objects called, and no copies."""
        if self._in_process is None:
            return
        self._in_process.know(ref, task)
        if init is not None and self._specs.options.initializer is not None:
            self._in_process.know(init, self._specs.options.initializer)

    def open_journal(
        self,
        path: StrPath | None,
        ref: TaskRef,
        *,
        reading: Reading = VALUES,
        output: str,
        retry_failed: bool = False,
        function: str | Function = "",
        origin: str = "",
    ) -> Journal | None:
        """Open the journal from which a job with these arguments continues; None without a path.
        The journal recognizes a `function` that is sent by value by a digest of its code."""
        if path is None:
            if retry_failed:
                raise UsageError(f"{setting('retry_failed')} goes with {setting('journal')}")
            return None
        from dq.journal.writer import Journal  # SQLite, which few runs need

        self._dispatcher.jobs.close_abandoned()  # one of them may still have this journal open
        version = version_of(ref, function)
        about = self.facts(ref, reading=reading, output=output, function=function, origin=origin)
        opened = Journal(os.fspath(path), about, retry_failed=retry_failed, log=self._report)
        if opened.left and opened.version not in ("", version.digest):
            self._report(
                f"{version.file} is not what it was when the journal {path} was begun: the results"
                f" in it stay as they are; another {setting('journal')} has all of them made again"
            )
        return opened

    def facts(
        self,
        ref: TaskRef,
        *,
        reading: Reading = VALUES,
        output: str,
        function: str | Function = "",
        origin: str = "",
    ) -> Facts:
        """The facts by which a journal of a job with these arguments is recognized."""
        from dq.journal.facts import facts  # here, since few runs need it

        return facts(
            ref,
            self._specs.code_digest(function, ref),
            reading=reading,
            output=output,
            unpack=self._specs.options.unpack,
            origin=origin,
            version=version_of(ref, function).digest,
        )

    def open(
        self,
        ref: TaskRef,
        source: Iterable[object],
        *,
        init: TaskRef | None = None,
        output: str,
        reading: Reading = VALUES,
        journal: Journal | None = None,
        reader_feeds: bool = False,
        skips: Iterable[tuple[int, int]] = (),
        version: Version | None = None,
    ) -> JobReader:
        """Start a job.

        Args:
            ref: the function.
            source: the inputs: values, or lines of bytes.
            init: the initializer, if it was referred to together with the function.
            output: what results become, one of `dq.data.outputs.OUTPUT_FORMATS`.
            reading: how workers make values of the inputs.
            journal: to continue from and to write to; closed with the job or the master.
            reader_feeds: whether the thread that reads the job's records also reads its inputs;
                otherwise a separate thread does.
            skips: ranges of indices that the source does not yield; see `Board.open_job`.
            version: of the function's module; None for what is on disk.
        """
        self._lifetime.check_begun()
        spec = self._specs.spec(ref, init, output=output, reading=reading, version=version)
        reader = Source(source)
        replay = None if journal is None else _replay(journal)
        reader_feeds = (reader_feeds or self._in_process is not None) and reader.length is None
        served = self._dispatcher.jobs.open(
            spec, self._specs.options.rules, reader, replay, reader_feeds=reader_feeds, skips=skips
        )
        job = JobReader(
            served,
            dispatcher=self._dispatcher,
            workers=self._workers,
            lifetime=self._lifetime,
            reads_inputs=reader_feeds,
            in_process=self._in_process,
        )
        if reader.length is None and not reader_feeds:
            context = contextvars.copy_context()  # the inputs' code may use context variables
            threading.Thread(
                target=context.run, args=(job.feed,), name="dq-feeder", daemon=True
            ).start()
        return job

    def refer(self, task: str | Function) -> tuple[TaskRef, TaskRef | None]:
        """Where workers find a task, and the initializer, as they are now."""
        return self._specs.refer(task)

    # With calls as inputs, added one by one

    def open_calls(self, options: Mapping[str, Any]) -> ServedJob:
        """Start a job whose inputs are calls, pushed one by one: see `dq.functions.called`.

        Args:
            options: those of its tasks that are not the master's.
        """
        specs = self._specs.with_options(options)
        spec = replace(specs.spec(None), unpack="call")
        rules = replace(specs.options.rules, pushed=True)
        served = self._dispatcher.jobs.open(spec, rules, Source(iter(())))
        served.definitions = CurrentDefinitions()
        return served

    def watch_calls(self, served: ServedJob, calls: Calls) -> None:
        """Have the calls of a job told if some of them will never be made."""
        self._calls[served.spec.id] = calls

    def close_calls(self, served: ServedJob) -> None:
        """End a job of calls."""
        self._calls.pop(served.spec.id, None)
        self._dispatcher.jobs.close(served)

    def check_workers(self, served: ServedJob) -> None:
        """Raise the error for which local workers can do nothing of a job, if there are no
        others."""
        self._workers.check(served)

    def check_calls(self) -> None:
        """Have all jobs of calls checked. It is called at intervals."""
        for calls in list(self._calls.values()):
            calls.check()

    def fail_calls(self, error: BaseException) -> None:
        """Fail all jobs of calls."""
        for calls in list(self._calls.values()):
            calls.fail(error)


class Calls(Protocol):
    """The calls of an executor."""

    def check(self) -> None:
        """Fail those that will never be made."""

    def fail(self, error: BaseException) -> None:
        """Fail them all."""


def _replay(journal: Journal) -> Replay:
    from dq.journal.replay import Replay  # SQLite, which few runs need

    return Replay(journal)
