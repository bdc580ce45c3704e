"""Asks workers where the threads of their task processes are."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from dq.core.beats import Stacks, WorkerState
from dq.core.records import printable
from dq.dispatch.commands import Commands
from dq.dispatch.connections import Connections
from dq.dispatch.presence import Presence
from dq.dispatch.state import DispatchState
from dq.dispatch.worker_status import ProcessStacks, WorkerStatus
from dq.errors import UsageError


class StackRequests:
    """A request is a command to each worker, and a worker's next beat is the answer.

    Args:
        state: what the dispatcher's parts share.
        commands: tells workers.
        connections: notified of answers.
        presence: the workers.
    """

    def __init__(
        self, state: DispatchState, commands: Commands, connections: Connections, presence: Presence
    ) -> None:
        self._state = state
        self._commands = commands
        self._connections = connections
        self._presence = presence
        # The answer to each command that somebody waits for, by its worker's group and its number.
        # The lock guards it.
        self._answers: dict[tuple[str, int], tuple[Stacks, ...] | None] = {}

    def take(self, group: str, state: WorkerState) -> None:
        """Take a worker's answer from its beat, if there is one; called with the lock held."""
        if not state.answered:
            return
        for asked, number in self._answers:
            if asked == group and number <= state.answered:
                self._answers[asked, number] = state.stacks
        self._connections.changed.notify_all()

    def ask(self, names: Collection[str], seconds: float) -> list[ProcessStacks]:
        """Where the threads of workers' task processes are.

        Args:
            names: the workers' names; none for all of dq's own.
            seconds: to wait for the answers.

        Raises:
            UsageError: there is no such worker, or it is a plain client.
        """
        with self._state.lock:
            groups = self._presence.groups()
            _check(names, groups.values())
            wanted = {group: name for group, name in groups.items() if not names or name in names}
            asked = {(group, self._commands.send(group, "stacks")): group for group in wanted}
            self._answers.update(dict.fromkeys(asked))
            try:
                self._connections.changed.wait_for(lambda: self._are_answered(asked), seconds)
                found = {wanted[group]: self._answers[key] for key, group in asked.items()}
            finally:
                for key in asked:
                    del self._answers[key]
            workers = {worker.name: worker for worker in self._presence.workers()}
        return [
            one
            for name, stacks in found.items()
            if name in workers  # otherwise it has left
            for one in _of_worker(workers[name], stacks, seconds)
        ]

    def _are_answered(self, asked: dict[tuple[str, int], str]) -> bool:
        here = self._presence.groups()
        return all(self._answers[key] is not None or key[0] not in here for key in asked)


def _check(names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            there = ", ".join(known) or "none"
            raise UsageError(f"there is no worker {printable(name)!r}: there are {there}")


def _of_worker(
    worker: WorkerStatus, stacks: tuple[Stacks, ...] | None, seconds: float
) -> Iterator[ProcessStacks]:
    if stacks is None:
        error = f"the worker did not answer within {seconds:g} s"
        yield ProcessStacks(worker.name, "", worker.running, "", error)
        return
    for one in stacks:
        first, count = one.slots
        running = tuple(task for task in worker.running if first <= task.slot < first + count)
        yield ProcessStacks(worker.name, one.process, running, one.text, one.error)
