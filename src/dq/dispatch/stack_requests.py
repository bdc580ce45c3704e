"""Asks workers where the threads of their task processes are."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from dq.core.beats import Stacks, WorkerState
from dq.dispatch.commands import Commands
from dq.dispatch.connections import Connections
from dq.dispatch.presence import Presence
from dq.dispatch.state import DispatchState
from dq.dispatch.wording import no_such_worker
from dq.dispatch.worker_status import ProcessStacks, WorkerStatus


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
        # The answer to each command that somebody waits for, by its worker's group and its number;
        # None as long as there is none. The lock guards it.
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
            for name in names:
                if name not in groups.values():
                    raise no_such_worker(name, groups.values())
            wanted = [group for group, name in groups.items() if not names or name in names]
            asked = [(group, self._commands.send(group, "stacks")) for group in wanted]
            self._answers.update(dict.fromkeys(asked))
            try:
                self._connections.changed.wait_for(lambda: self._are_answered(asked), seconds)
            finally:
                answers = {key[0]: self._answers.pop(key) for key in asked}
            workers = self._presence.dq_workers()
        return [
            one
            for group, stacks in answers.items()
            if group in workers  # otherwise it has left
            for one in _of_worker(workers[group], stacks, seconds)
        ]

    def _are_answered(self, asked: list[tuple[str, int]]) -> bool:
        here = self._presence.groups()
        return self._state.stopping or all(
            self._answers[key] is not None or key[0] not in here for key in asked
        )


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
