"""The task processes of one machine: started, watched, replaced.

                  ┌ waiter thread per process ── "it has ended" ──┐
    signals ──────┤                                               ├──▶ one queue ──▶ Supervisor.run
                  └ watcher thread ─ "the connection was lost" ───┘

Everything that happens becomes an event in one queue. One thread handles the events in turn. Only
that thread starts, ends and replaces processes, and charges tasks at the master.
"""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections.abc import Callable

from dq._support.frozen import TYPE_CHECKING, frozen
from dq.core.beats import Command
from dq.errors import MasterLost
from dq.manager.client import Client
from dq.transport.addresses import show
from dq.worker import cells, charges, groups
from dq.worker.cancelling import Cancelling
from dq.worker.child import Child
from dq.worker.control import Control
from dq.worker.limits import Limits
from dq.worker.outbox import Outbox
from dq.worker.plan import Plan
from dq.worker.pool import Pool
from dq.worker.slot_states import SlotStates
from dq.worker.spawn import Spawner, reject_nested

if TYPE_CHECKING:
    from dq.worker.output import Output

CHECK_INTERVAL_S = 0.05  # between two checks of deadlines and memory
PROMPT_EXIT_S = 0.5  # for a process without a task to leave


@frozen
class Ended:
    """A task process has ended."""

    child: Child


@frozen
class Lost:
    """The connection to the master was lost."""

    client: Client


@frozen
class Drain:
    """Finish the running tasks, and leave. If there is a task to finish, `notify` is called once
    every process has been told."""

    notify: Callable[[], None]


@frozen
class Quit:
    """Leave now."""


@frozen
class Commanded:
    """The master has sent a command."""

    command: Command


Event = Ended | Lost | Drain | Quit | Commanded


class Supervisor:
    """Runs the task processes of `plan` until the master has finished.

    Args:
        plan: what to run.
        log: called with each line that people should see.
        prestarted: processes that were started before their configuration was known; removed
            from this list as they are used.
        spawner: starts the others; None for a new one.
    """

    def __init__(
        self,
        plan: Plan,
        log: Callable[[str], None] = lambda line: None,
        prestarted: list[Child] | None = None,
        spawner: Spawner | None = None,
    ) -> None:
        self.plan = plan
        self.group = os.urandom(8).hex()
        self._log = log
        # Not a SimpleQueue: its get() waits for ever if the timeout expires while it takes its lock
        # (CPython 3.10 to 3.13; on 3.10 nearly always with a timeout of 0).
        self._events: queue.Queue[Event] = queue.Queue()
        self._spawner = spawner or Spawner(
            plan.processes.preload, plan.sharing or plan.processes.count
        )
        outbox = Outbox()
        self._output = None if plan.output == "own" else _reading_output(plan, outbox)
        self._pool = Pool(
            plan,
            self.group,
            log,
            on_end=lambda child: self._events.put(Ended(child)),
            prestarted=[] if prestarted is None else prestarted,
            spawner=self._spawner,
            output=self._output,
        )
        self._states = SlotStates(plan.processes.threads)
        self._control = Control(
            plan,
            self.group,
            log,
            children=lambda: list(self._pool.children),
            on_lost=lambda client: self._events.put(Lost(client)),
            on_command=lambda command: self._events.put(Commanded(command)),
            states=self._states,
            outbox=outbox,
        )
        self._cancelling = Cancelling(self._control, plan.processes.threads)
        self._limits = Limits(plan.processes, self._control, log, are_all=plan.are_all)
        self._left_groups = groups.LeftGroups()
        self._leaving = False
        self._leaving_since = 0.0
        self._notify: Callable[[], None] | None = None
        self._lost_for_good = False

    # From any thread, or a signal's handler

    def drain(self, notify: Callable[[], None]) -> None:
        """Finish the running tasks, report them, and leave. If there is a task to finish, `notify`
        is called once no more will be started."""
        self._events.put(Drain(notify))
        self.interrupt()

    def quit(self) -> None:
        """Leave now; the master gives the work to others."""
        self._events.put(Quit())
        self._spawner.kill()

    def interrupt(self) -> None:
        """Stop waiting for modules that are being preloaded: no task has begun."""
        self._spawner.interrupt()

    @property
    def only_leaving(self) -> bool:
        """Whether all remaining processes are exiting."""
        return all(child.exiting_since for child in list(self._pool.children))

    def after_fork(self) -> None:
        """Close a fork's copies of the connection and the pipes. The master and the task processes
        would otherwise not see the supervisor end."""
        self._control.after_fork()
        self._pool.after_fork()

    # The supervisor's own thread

    def start(self) -> None:
        """Start the task processes even before there is a connection, for a master that is known
        to be there."""
        self._pool.start_due(time.monotonic(), self._control.hash_seed)

    def connect(self, patience: float, until: Callable[[], bool] = lambda: False) -> None:
        """Connect to the master, looking for it for up to `patience` seconds.

        Raises:
            ConnectError: there is no master, or it has another key.
        """
        self._control.connect(patience, until)

    def run(self) -> None:
        """Work until the master has finished, or there is another reason to leave.

        Raises:
            MasterLost: the connection was lost, and the master did not come back in time.
            DqError: task processes cannot be started.
        """
        try:
            reject_nested()
            while not self._pool.is_empty:
                self._turn()
        finally:
            self.end()
        if self._lost_for_good:
            raise MasterLost(
                f"lost the master at {show(self.plan.address)}; it did not come back in"
                f" {self.plan.reconnect:g} s"
            )

    def _turn(self) -> None:
        wait = 0.0 if self._pool.has_due(time.monotonic()) else CHECK_INTERVAL_S
        with contextlib.suppress(queue.Empty):
            self._handle(self._events.get(timeout=wait))
        now, children = time.monotonic(), self._pool.children
        if any(child.state == cells.LOADED for child in children):
            self._pool.failed_starts = 0
        self._cancelling.enforce(children, now)
        self._limits.enforce(children, now)
        self._states.observe(children, now)
        self._left_groups.kill_due(now)
        self._control.send_charges()
        if self._notify is not None and self._is_finishing(now):
            self._notify()
            self._notify = None
        if not self._leaving:
            self._control.reconnect(now)
        self._pool.start_due(now, self._control.hash_seed)

    def _handle(self, event: Event) -> None:
        match event:
            case Ended(child):
                self._reap(child)
            case Lost(client):
                self._control.lose(client)
            case Commanded(command):
                self._obey(command)
            case Drain(notify):
                self._leave()
                self._notify, self._leaving_since = notify, time.monotonic()
            case Quit():
                self._leave()
                self._left_groups.hurry()
                self.end()

    def _obey(self, command: Command) -> None:
        match command.what:
            case "cancel":
                self._cancelling.add(command.lease, command.index, time.monotonic())
            case "drain":
                self._log("drained by the master: finishing running tasks")
                self._leave()
            case "leave":
                self._log("ended by the master")
                self._handle(Quit())

    def _is_finishing(self, now: float) -> bool:
        """Whether a process runs a task, or cannot leave at once, for example because it has not
        reported its last batch yet."""
        children, threads = self._pool.children, self.plan.processes.threads
        is_late = bool(children) and now > self._leaving_since + PROMPT_EXIT_S
        views = (view for child in children for view in child.slot_views(threads))
        return is_late or any(view[cells.LEASE] for view in views)

    def _leave(self) -> None:
        self._leaving = True
        self._pool.drain()

    def _reap(self, child: Child) -> None:
        self._pool.children.discard(child)
        code, state = child.popen.wait(), child.state
        worked = not self._has_failed_to_start(child)
        if state in cells.EXIT_CODES:
            self._reap_left(child, code)
        else:
            if child.kill_at:
                self._left_groups.add(child.pid, child.kill_at)  # the other processes clean up, too
            else:
                groups.kill(child.pid)  # to end whatever its tasks have started
            self._charge(child, code)
        if state != cells.FINISHED:
            self._control.charge(charges.of_end(child))
        child.close()
        if state == cells.FINISHED:
            self._leave()
        elif state == cells.LOST:
            self._lost_for_good = self._lost_for_good or not self._leaving
            self._leave()
        elif not self._leaving:
            if state == cells.GONE:
                self._control.look_for_master()
            self._pool.replace(worked=worked)

    def _reap_left(self, child: Child, code: int) -> None:
        """Handle the end of a process that was exiting. However it ended, it ran no task."""
        self._left_groups.add(child.pid)
        if code < 0 and not child.kill_reason:
            how = charges.how_ended(code)
            self._log(f"task process {child.pid} {how} while it exited, after its tasks")

    def _charge(self, child: Child, code: int) -> None:
        threads = self.plan.processes.threads
        # With several slots, another one may run a task that is to blame.
        loading = threads == 1 and child.state == cells.LOADING
        for charge in charges.of_dead(child, threads, code, loading=loading):
            self._control.charge(charge)
        if not self._leaving and not child.is_charged:
            how = child.kill_reason or charges.how_ended(code)
            self._log(f"task process {child.pid} {how}; replacing it")

    def _has_failed_to_start(self, child: Child) -> bool:
        """Whether a process has ended before it could work. That it was loading a job's function
        says nothing of other jobs and other workers, if there may be any."""
        if child.state != cells.LOADING:
            return child.state == 0
        views = child.slot_views(self.plan.processes.threads)
        return self.plan.are_all or not any(view[cells.LEASE] for view in views)

    def end(self) -> None:
        """End all processes now, and the connection."""
        self._control.send_charges()
        children = self._pool.children
        for child in children:
            groups.kill(child.pid)
        self._spawner.close()  # first, or a server that was stopped would never tell their ends
        for child in list(children):
            child.popen.wait()
            children.discard(child)
            child.close()
        self._left_groups.join()
        if self._output is not None:
            self._output.join()
        self._control.close()


def _reading_output(plan: Plan, outbox: Outbox) -> Output:
    from dq.worker.output import Output  # here, since `dq run` has no use for it

    return Output(outbox, plan.processes.threads, echo=plan.output == "both")
