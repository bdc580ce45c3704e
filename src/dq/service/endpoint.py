"""The object that clients of a master that keeps jobs call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from dq.core.records import LONGEST_NAME
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.leasing import LIVENESS_CHECK_S
from dq.errors import UsageError
from dq.manager.message_checks import as_count, as_text
from dq.service.answering import answered, time_to_wait
from dq.service.calls import CallService
from dq.service.calls_endpoint import CallsEndpoint
from dq.service.endpoint_names import PROTOCOL
from dq.service.jobs import JobService
from dq.service.looking import Looking
from dq.service.one_task import OneTask
from dq.service.options import JobOptions
from dq.service.probing import Probing
from dq.service.selectors import the_one
from dq.service.specs import from_client
from dq.service.status import running_to_wire
from dq.service.stored_job import StoredJob

MOST_SELECTORS = 10_000

T = TypeVar("T")
Wire = dict[str, object]


class JobsEndpoint(CallsEndpoint):
    """Methods for clients. All arguments and results are built-in types. A method answers with a
    pair: "ok" and its result, or the name of an error of dq and its message.

    Args:
        service: keeps the jobs.
        calls: has the calls of executors run.
        dispatcher: the master's.
        on_stop: called when a client wants the master to end: now, or after the running tasks.
    """

    EXPOSED = (
        "hello", "begin", "block", "commit", "jobs", "status", "whereabouts", "spec", "results",
        "failures", "retry", "lines", "cancel", "forget", "wait", "workers", "stacks", "drain",
        "probe", "stop",
        *CallsEndpoint.EXPOSED,
    )  # fmt: skip

    def __init__(
        self,
        service: JobService,
        calls: CallService,
        dispatcher: Dispatcher,
        on_stop: Callable[[bool], None],
    ) -> None:
        super().__init__(calls, dispatcher)
        self._service = service
        self._looking = Looking(service, dispatcher)
        self._one_task = OneTask(service, dispatcher)
        self._probing = Probing(dispatcher)
        self._on_stop = on_stop

    def hello(self, protocol: int) -> object:
        """Get the facts about the master."""
        if protocol != PROTOCOL:
            text = f"this master keeps jobs by protocol {PROTOCOL}, the client by {protocol}"
            return ("ProtocolError", f"{text}; install the same dq on both")
        q = self._dispatcher
        q.connections.current.channel.peer_sends_at_once()
        return ("ok", {"max_message": q.max_message, "keepalive": q.keepalive})

    def begin(self, id: str, spec: object, functions: object, options: object) -> object:
        """Submit a job, whose inputs will follow; see `Submissions.begin`."""

        def begin() -> int:
            checked = from_client(spec, functions)  # by the client's own bytes
            blob = functions if type(functions) is bytes else None
            return self._service.submissions.begin(
                as_text(id)[:LONGEST_NAME], checked, blob, self._options(options)
            )

        return answered(begin)

    def _options(self, wire: object) -> JobOptions:
        """A job's options, in which jobs that it is to follow are selectors."""
        if type(wire) is not dict or type(wire.get("after", [])) is not list:
            raise UsageError("these are not the options of a job")
        after = [as_text(one) for one in wire.get("after", [])]
        ids = [job.id for job in self._service.select(after)]
        return JobOptions.from_wire({**wire, "after": ids})

    def block(self, id: str, number: int, data: bytes) -> object:
        """Send a block of a job's inputs; see `Submissions.add_block`."""
        if type(data) is not bytes:
            return ("UsageError", "not a block of inputs")
        return answered(
            lambda: self._service.submissions.add_block(as_text(id), as_count(number), data)
        )

    def commit(self, id: str, blocks: int, total: int) -> object:
        """End the submission of a job; see `Submissions.commit`."""
        return answered(
            lambda: self._service.submissions.commit(as_text(id), as_count(blocks), as_count(total))
        )

    def jobs(self, selectors: list[str]) -> object:
        """The figures of jobs."""
        return answered(lambda: [self._looking.status(job) for job in self._selected(selectors)])

    def status(self, selector: str) -> object:
        """The figures of one job, why it does not run, and how its inputs are read."""

        def status() -> Wire:
            job = self._one(selector)
            return {
                **self._looking.status(job),
                "why_not": self._looking.why_not(job),
                "reading": self._looking.reading(job),
            }

        return answered(status)

    def whereabouts(self, selector: str, index: int) -> object:
        """Where one task of a job is."""
        return answered(lambda: self._one_task.whereabouts(self._one(selector), as_count(index)))

    def results(
        self, selector: str, cursor: int, ordered: bool, inputs: bool, wait: float
    ) -> object:
        """The next results of a job, waiting for some if there are none yet."""
        return answered(
            lambda: self._waiting(
                self._one(selector),
                wait,
                lambda job: self._looking.results(
                    job, as_count(cursor), bool(ordered), bool(inputs)
                ),
                lambda answer: bool(answer["rows"] or answer["over"]),
            )
        )

    def failures(self, selector: str, cursor: int) -> object:
        """The next failed tasks of a job."""
        return answered(lambda: self._looking.failures(self._one(selector), as_count(cursor)))

    def spec(self, selector: str) -> object:
        """What workers need to know of a job, and its functions by value with large buffers."""
        return answered(lambda: self._looking.spec(self._one(selector)))

    def retry(self, selector: str, ids: list[int] | None) -> object:
        """Run failed tasks of a job again; all of them if no ids are given."""

        def retry() -> int:
            if ids is not None and type(ids) is not list:
                raise UsageError("not a list of tasks")
            checked = None if ids is None else [as_count(one) for one in ids]
            return self._service.retry(self._one(selector), checked)

        return answered(retry)

    def lines(self, selector: str, cursor: int, wait: float) -> object:
        """The next lines that a job's tasks have printed."""
        return answered(
            lambda: self._waiting(
                self._one(selector),
                wait,
                lambda job: self._looking.lines(job, as_count(cursor)),
                lambda answer: bool(answer["lines"] or answer["over"]),
            )
        )

    def cancel(self, selectors: list[str]) -> object:
        """Cancel jobs. Returns the numbers of those that had not ended."""
        return answered(
            lambda: [job.number for job in self._selected(selectors) if self._service.cancel(job)]
        )

    def forget(self, selectors: list[str]) -> object:
        """Remove jobs that have ended. Returns their numbers."""

        def forget() -> list[int]:
            jobs = self._selected(selectors)
            for job in reversed(jobs):  # first those that follow others
                self._service.forget(job)
            return [job.number for job in jobs]

        return answered(forget)

    def wait(self, selector: str, version: int, wait: float) -> object:
        """The figures of a job, once they are others than those with this version."""
        return answered(
            lambda: self._waiting(
                self._one(selector),
                wait,
                self._looking.status,
                lambda answer: answer["version"] != version,
            )
        )

    def probe(self, spec: object, functions: object, wait: float) -> object:
        """What each worker finds for the task of a job, without a call; see `Probing.ask`."""

        def probe() -> list[Wire]:
            ref = from_client(spec, functions).ref
            assert ref is not None  # which `from_client` checks
            return self._probing.ask(ref, time_to_wait(wait))

        return answered(probe)

    def workers(self) -> object:
        """The workers that are connected."""
        found = self._dispatcher.presence.workers()
        return answered(lambda: [running_to_wire(one, self._service.number_of) for one in found])

    def stacks(self, workers: list[str], wait: float) -> object:
        """Where the threads of workers' task processes are; see `StackRequests.ask`."""

        def stacks() -> list[Wire]:
            names = _as_texts(workers, "workers")
            found = self._dispatcher.stacks.ask(names, time_to_wait(wait))
            return [running_to_wire(one, self._service.number_of) for one in found]

        return answered(stacks)

    def drain(self, worker: str, now: bool) -> object:
        """Have a worker finish what it runs, and leave; see `Presence.drain_worker`."""
        drain = self._dispatcher.presence.drain_worker
        return answered(lambda: drain(as_text(worker), now=bool(now)))

    def stop(self, now: bool) -> object:
        """Have the master end: now, or once the running tasks have ended."""
        return answered(lambda: self._on_stop(bool(now)))

    def _selected(self, selectors: list[str]) -> list[StoredJob]:
        return self._service.select(_as_texts(selectors, "jobs"))

    def _one(self, selector: str) -> StoredJob:
        return the_one(selector, self._selected([selector]))

    def _waiting(
        self,
        job: StoredJob,
        seconds: float,
        look: Callable[[StoredJob], Wire],
        is_enough: Callable[[Wire], bool],
    ) -> Wire:
        """Look at a job until there is enough to see, the time is up or the client has gone."""
        channel = self._dispatcher.connections.current.channel
        deadline = time.monotonic() + time_to_wait(seconds)
        while True:
            version = job.version
            answer = look(job)
            left = deadline - time.monotonic()
            if is_enough(answer) or left <= 0 or self._dispatcher.stopping:
                return answer
            self._await_change(job, version, min(left, LIVENESS_CHECK_S))
            if channel.peer_closed():
                raise EOFError

    def _await_change(self, job: StoredJob, version: int, seconds: float) -> None:
        """Wait until a job has changed, which is notified for any of them."""
        with self._service.changed:
            self._service.changed.wait_for(lambda: job.version != version, seconds)


def _as_texts(given: object, what: str) -> list[str]:
    """Check that something is a list of texts, not too long.

    Raises:
        UsageError: it is no such list.
        ValueError: something in it is no text.
    """
    if type(given) is not list or len(given) > MOST_SELECTORS:
        raise UsageError(f"not a list of {what}")
    return [as_text(one) for one in given]
