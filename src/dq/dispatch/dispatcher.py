"""The dispatcher: the lock and the waiting around the board, and the parts that share them.

One lock guards the board, the sources and the records that are not read yet. The board's
transitions never wait; the waiting is done here. Each part is a module of its own:

    connections       the clients that are connected
    pending_requests  the requests that wait for something to lease
    batch_maker       what a connection gets next
    leasing           plain clients' requests, whose threads wait for a task
    worker_requests   dq workers' requests, which wait without a thread
    hand_outs         the thread that hands out to these
    delivery          records on their way to journals, readers and plain clients
    replaying         records that are in a journal already
    feeding           inputs that are read ahead, or pushed
    job_registry      opening and closing of jobs
    plain_queue       items and results of plain clients
    plain_answers     plain clients' results for the master's own inputs
    rejections        jobs that workers cannot load
    death_reports     which task a process died in
    commands          what workers are to be told
    cancellation      cancels tasks and jobs
    other_versions    workers whose files are not those that the run began with
    output            what tasks print
    presence          what users are told of workers
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from dq.core.jobs import Rules
from dq.core.records import Loads
from dq.data.sources import Source
from dq.dispatch.batch_maker import BatchMaker
from dq.dispatch.cancellation import Cancellation
from dq.dispatch.commands import Commands
from dq.dispatch.connections import Connection, Connections
from dq.dispatch.death_reports import DeathReports
from dq.dispatch.delivery import Delivery
from dq.dispatch.feeding import Feeding
from dq.dispatch.hand_outs import HandOuts
from dq.dispatch.job_registry import JobRegistry
from dq.dispatch.leasing import Leasing
from dq.dispatch.other_versions import OtherVersions
from dq.dispatch.output import Output
from dq.dispatch.pending_requests import PendingRequests
from dq.dispatch.plain_answers import PlainAnswers
from dq.dispatch.plain_queue import PlainQueue
from dq.dispatch.presence import Presence
from dq.dispatch.rejections import Rejections
from dq.dispatch.replaying import Replaying
from dq.dispatch.served_job import PLAIN
from dq.dispatch.stack_requests import StackRequests
from dq.dispatch.state import DispatchState
from dq.dispatch.worker_requests import WorkerRequests
from dq.functions.spec import JobSpec
from dq.security.safe_pickle import safe_loads
from dq.transport.channel import Channel
from dq.transport.limits import KEEPALIVE_S, MAX_MESSAGE_BYTES

_PLAIN_RULES = Rules(window=2**62)  # `maxsize` bounds what plain clients put


class Dispatcher:
    """Serves jobs to workers and plain clients.

    Args:
        default: the function for items of plain clients; None if workers' ``--task`` has it.
        rules: what applies to these items.
        maxsize: how many tasks plain clients may have waiting; 0 for any number.
        redeliver: requeue what a plain client got if its connection ends.
        max_message: bytes of the largest input or result.
        keepalive: seconds after which the connection of a machine that does not respond is closed.
        hash_seed: the hash seed of all its task processes.
        loads: unpickles the results that plain clients get.
        clock: seconds of a steady clock.
        notify: called with each line for users.

    Attributes:
        run: a random name. Reports with another one are for an earlier master, and are dropped.
    """

    def __init__(
        self,
        *,
        default: JobSpec | None = None,
        rules: Rules = _PLAIN_RULES,
        maxsize: int = 0,
        redeliver: bool = True,
        max_message: int = MAX_MESSAGE_BYTES,
        keepalive: int = KEEPALIVE_S,
        hash_seed: int = 0,
        loads: Loads = safe_loads,
        clock: Callable[[], float] = time.monotonic,
        notify: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.run = os.urandom(8).hex()
        self.max_message = max_message
        self.keepalive = keepalive
        self.hash_seed = hash_seed
        self.notify = notify
        self._state = state = DispatchState(clock)
        self.clock = state.clock
        self.lock = state.lock
        self.board = state.board  # guarded by the lock
        self.served_jobs = state.served_jobs  # guarded by the lock
        self.connections = Connections(state)
        self.commands = Commands(state)
        self.output = Output()
        self.pending = PendingRequests(state)
        self.plain = PlainQueue(state, loads=loads, maxsize=maxsize, redeliver=redeliver)
        self.delivery = Delivery(state, self.pending, self.plain, Replaying(state, self.pending))
        self.plain_answers = PlainAnswers(state, self.delivery, max_message=max_message)
        batches = BatchMaker(
            state, self.pending, self.plain, self.delivery, max_message=max_message
        )
        self.leasing = Leasing(state, self.connections, self.pending, batches, self.delivery)
        self.requests = WorkerRequests(
            state, self.connections, self.pending, batches, self.delivery
        )
        self.hand_outs = HandOuts(state, self.pending, self.requests)
        self.feeding = Feeding(state, self.pending, self.requests)
        self.jobs = JobRegistry(state, self.pending, self.delivery)
        self.rejections = Rejections(state, self.pending, self.delivery)
        self.death_reports = DeathReports(state, self.pending, self.connections, self.delivery)
        self.cancellation = Cancellation(state, self.commands, self.delivery, self.jobs)
        self.delivery.on_ending = self.cancellation.end_running
        self.delivery.on_superseded = self.cancellation.end_superseded
        self.other_versions = OtherVersions(state)
        self.presence = Presence(state, self.commands)
        self.stacks = StackRequests(state, self.commands, self.connections, self.presence)
        self.jobs.open(default or JobSpec(id=PLAIN, ref=None), rules, Source(iter(())))

    @property
    def stopping(self) -> bool:
        """Whether the master is shutting down."""
        return self._state.stopping

    @property
    def busy(self) -> int:
        """How many leases are active."""
        return len(self.board.leases)

    @property
    def slots(self) -> int:
        """How many task slots are connected."""
        return self.board.slots

    @contextmanager
    def serving(self, channel: Channel) -> Iterator[None]:
        """Serve a connection within this context, and requeue what it holds at the end.

        Raises:
            OSError: there are too many threads.
        """
        self.hand_outs.start()
        connection = self.connections.open(channel)
        channel.on_received = lambda: self._received(connection)
        channel.on_sent = connection.result_held.clear
        try:
            yield
        finally:
            self.requests.cancel(connection)
            self._leave(connection)

    def _received(self, connection: Connection) -> None:
        """Handle the arrival of a connection's next request, which also says that the last answer
        has arrived."""
        self.requests.settle(connection)
        self.plain.ack(connection)

    def _leave(self, connection: Connection) -> None:
        holder = connection.holder
        with self.lock:
            self.presence.leave(connection)
            self.plain.put_back(connection)
            # These are the master's own inputs, so the plain client is treated as a worker that
            # died. Each is requeued at the front, so the oldest has to be the last.
            for lease in reversed(connection.inputs_held):
                died = self.board.died(lease.id, lease.next, "its connection ended", self.clock())
                self.delivery.deliver(died)
            self.death_reports.await_death_report(holder)
            self.board.leave(holder)
            self.commands.leave(holder)
            self.rejections.readmit(holder.group)
            self.connections.changed.notify_all()
            self.pending.announce()

    def run_maintenance(self) -> None:
        """Supply what slow sources have read so far, expire leases, and close abandoned jobs. It is
        called at intervals."""
        self.jobs.close_abandoned()
        with self.lock:
            self.feeding.supply_read()
            self.delivery.deliver(self.board.expire(self.clock()))
            if self.board.due() is not None:
                self.pending.announce()
        self.delivery.run_sinks()

    def drain(self) -> None:
        """Lease nothing more; running tasks may finish."""
        with self.lock:
            self.board.draining = True
            self.jobs.halt_all("drained")
            self.pending.wake_all()

    def stop(self) -> None:
        """Lease nothing more, and answer each request with the end of the run."""
        with self.lock:
            self.board.draining = True
            self._state.stopping = True
            self.jobs.end_feeding()
            self.pending.wake_all()
            self.plain.stop()
            self.commands.wake_all()
            self.connections.changed.notify_all()


def plain_rules(rules: Rules) -> Rules:
    """What of the rules of other jobs is for the items of plain clients: where and when they are
    run. What becomes of one that fails is up to the client that put it."""
    return replace(_PLAIN_RULES, rate=rules.rate, needs=rules.needs, speculate=rules.speculate)
