"""Follows which workers are connected and which tasks they hold, to tell users.

`dq.dispatch.roster` decides which notices there are; this module keeps it up to date.
"""

from __future__ import annotations

from dq._support.frozen import TYPE_CHECKING
from dq._support.naming import setting
from dq.core.records import printable
from dq.dispatch.connected_worker import ConnectedWorker, Note
from dq.dispatch.held_tasks import HeldTasks, unfinished_of
from dq.dispatch.roster import CHECK_INTERVAL_S, Roster
from dq.dispatch.unmet_needs import UnmetNeeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dq.core.beats import WorkerState
    from dq.core.jobs import Job
    from dq.core.leases import LeaseHolder
    from dq.dispatch.commands import Commands
    from dq.dispatch.connections import Connection
    from dq.dispatch.state import DispatchState
    from dq.dispatch.worker_status import RunningTask, WorkerStatus


def _nothing() -> None:
    pass


class Presence:
    """The workers of a master. A method is called with the dispatcher's lock held, except
    `add_plain_client` and where it says otherwise.

    Args:
        state: what the dispatcher's parts share.
        commands: tells workers.

    Attributes:
        local_group: the group of the workers that the master started itself.
        only_plain: whether only plain clients will put tasks.
        on_notes: called, without the lock, when there may be notes.
    """

    def __init__(self, state: DispatchState, commands: Commands) -> None:
        self._state = state
        self._commands = commands
        self._roster = Roster(state.clock())
        self._held_tasks = HeldTasks(state)
        self._unmet_needs = UnmetNeeds(state)
        self._supervisors: dict[str, int] = {}  # ids of their connections, by group
        self.local_group = ""
        self.only_plain = False
        self.on_notes: Callable[[], None] = _nothing
        self._missing_task: Note | None = None  # a warning that has not been shown yet
        self._has_warned = False  # of a missing task
        self._check_at = 0.0

    # Joining and leaving

    def add_connection(self, holder: LeaseHolder) -> None:
        """Add a connection of one of dq's own workers, once it has named its group."""
        self._held_tasks.add(holder)

    def add_supervisor(
        self, connection: Connection, slots: int, dq: str = "", python: str = ""
    ) -> None:
        """Add a supervisor."""
        holder = connection.holder
        worker = ConnectedWorker(
            name=printable(holder.name),
            slots=slots,
            security=connection.channel.security(),
            group=holder.group,
            local=bool(holder.group) and holder.group == self.local_group,
            has_task=connection.has_default,
            dq=printable(dq),
            python=printable(python),
        )
        self._roster.join(holder.id, worker, self._state.clock())
        self._supervisors[holder.group] = holder.id
        if self.lacks_task(connection) and not worker.local:
            self._warn_of_missing_task(
                f"{worker} has nothing to call: it has no {setting('task')}, this master no TASK"
            )

    def add_plain_client(self, connection: Connection) -> None:
        """Add a plain client that asks for its first task."""
        connection.gets_tasks = True
        channel = connection.channel
        worker = ConnectedWorker(name=channel.peer(), slots=1, security=channel.security())
        with self._state.lock:
            self._roster.join(connection.holder.id, worker, self._state.clock())
        self.on_notes()

    def heartbeat(self, group: str, state: WorkerState) -> None:
        """Note what a supervisor says of its worker."""
        names = [printable(name) for name in state.stopped]
        id = self._supervisors.get(group, 0)
        self._roster.heartbeat(id, names, self._state.clock())
        worker = self._roster.workers.get(id)
        if worker is not None:
            worker.state = state

    def leave(self, connection: Connection) -> None:
        """Note that a connection has ended; called before its leases are requeued."""
        if self._state.stopping:
            return  # which is why it has
        holder, now = connection.holder, self._state.clock()
        if holder.id in self._roster.workers:
            if holder.group:
                unfinished = self._held_tasks.left_behind(holder.group, now)
            else:
                unfinished = unfinished_of(connection.inputs_held)
            self._roster.leave(holder.id, unfinished, now)
            if self._supervisors.get(holder.group) == holder.id:
                del self._supervisors[holder.group]
        elif holder.is_slot:
            self._held_tasks.slot_lost(holder, now)
        self._held_tasks.remove(holder)

    # What there is

    def workers(self) -> list[WorkerStatus]:
        """All workers, the oldest first. This may be called without the lock."""
        with self._state.lock:
            return [self._status(worker) for worker in self._roster.workers.values()]

    def dq_workers(self) -> dict[str, WorkerStatus]:
        """dq's own workers, by their groups. This may be called without the lock."""
        with self._state.lock:
            workers = self._roster.workers.values()
            return {worker.group: self._status(worker) for worker in workers if worker.group}

    def groups(self) -> dict[str, str]:
        """The names of dq's own workers by their groups. This may be called without the lock."""
        with self._state.lock:
            workers = self._roster.workers.values()
            return {worker.group: worker.name for worker in workers if worker.group}

    def refusal_of_all(self, job: Job) -> str:
        """Why no worker runs a job's tasks: "" unless some are connected and each of them has
        rejected it. Called with the lock held."""
        groups = self._supervisors.keys()
        if not job.rejected or not groups or not groups <= job.rejected.keys():
            return ""
        return job.rejected[next(iter(groups))]

    def _status(self, worker: ConnectedWorker) -> WorkerStatus:
        from dq.dispatch.worker_status import WorkerStatus  # here, since few masters are asked

        now, state = self._state.clock(), worker.state
        running = self._running(worker, now - worker.heartbeat_at) if worker.group else ()
        return WorkerStatus(
            name=worker.name,
            slots=worker.slots,
            busy=self._held_tasks.busy_slots(worker.group) if worker.group else 0,
            running=tuple(running),
            heard=now - worker.heartbeat_at,
            connected=now - worker.joined_at,
            cpu=state.cpu,
            memory=state.memory,
            stopped=tuple(worker.stopped),
            local=worker.local,
            security=worker.security,
            dq=worker.dq,
            python=worker.python,
        )

    def _running(self, worker: ConnectedWorker, since: float) -> Iterator[RunningTask]:
        """The tasks that a worker has said it runs, without those that it has reported since."""
        from dq.dispatch.worker_status import RunningTask  # likewise

        for slot in worker.state.slots:
            lease = self._state.board.leases.get(slot.lease)
            if lease is None or not lease.next <= slot.index < lease.stop:
                continue
            if lease.holder.group == worker.group:
                yield RunningTask(
                    slot=slot.slot,
                    job=lease.batch.job,
                    index=slot.index,
                    age=slot.age + since,
                    done=slot.done,
                    total=slot.total,
                )

    def drain_worker(self, name: str, *, now: bool = False) -> bool:
        """Have a worker finish what it runs, and leave. This may be called without the lock.

        Args:
            name: its name, as `workers` has it.
            now: whether it leaves at once, and its tasks are run elsewhere.

        Returns:
            Whether there is such a worker. The master's own cannot be drained, and plain clients
            can be told nothing.
        """
        with self._state.lock:
            workers = [one for one in self._roster.workers.values() if one.name == name]
            told = [
                self._commands.send(worker.group, "leave" if now else "drain")
                for worker in workers
                if worker.group and not worker.local
            ]
            return any(told)

    # Notices

    def notes(self) -> list[Note]:
        """The notes to show now."""
        now, notes = self._state.clock(), []
        if now >= self._check_at:
            self._check_at = now + CHECK_INTERVAL_S
            self._check_items()
            notes = self._unmet_needs.notes(now)
        notes += self._roster.notes(now, self._held_tasks.described)
        if self._missing_task is not None:
            notes.append(self._missing_task)
            self._missing_task = None
        return notes

    def no_worker_notice(self) -> str | None:
        """A notice, given once, that there has been no worker for a while."""
        if self._state.board.draining:
            return None
        return self._roster.no_worker_notice(self._state.clock())

    # A function for the items of plain clients

    def lacks_task(self, connection: Connection) -> bool:
        """Whether neither the master nor this worker has a function for the items of plain clients,
        and there are such items, or there will be no other tasks."""
        return not connection.has_default and self.needs_task()

    def needs_task(self) -> bool:
        """Whether workers need a function of their own for the tasks that there are."""
        state = self._state
        return state.lacks_plain_task() and (self.only_plain or state.has_items_without_task())

    def _check_items(self) -> None:
        """Warn of items for which no connected worker has a function."""
        if not self._state.has_items_without_task():
            return
        workers = self._roster.workers.values()
        if workers and not any(worker.has_task for worker in workers):
            self._warn_of_missing_task(
                "nothing says what to call with the tasks that clients have put"
            )

    def _warn_of_missing_task(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            line = f"{text}; start dq master with a TASK, or dq worker with --task TASK"
            self._missing_task = Note(line, warning=True)
