"""A connected worker, as it is shown to users, and the notes about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from dq._support.frozen import frozen
from dq.core.beats import WorkerState

LONGEST_SHOWN_NAME = 100  # characters of a name: anybody who has the key can send a long one
MOST_SINGLE_NOTES = 5  # shown one by one; if there are more, only the first of them or a summary


@frozen
class Note:
    """A line for users. A `warning` is shown even if other lines are not wanted."""

    line: str
    warning: bool = False


@dataclass(slots=True)
class ConnectedWorker:
    """One `dq worker` with all of its processes, or one connection of a plain client that gets
    tasks from the queue.

    Args:
        name: ``host:pid``, or a plain client's host.
        slots: how many tasks it works on at a time.
        security: how its connection is encrypted.
        group: random name that all connections of a worker have; "" for a plain client.
        local: whether the master started it.
        has_task: whether it has a function for the items of plain clients.
        dq: its version of dq; "" for a plain client.
        python: its version of Python; likewise.

    Attributes:
        joined_at: when it has joined.
        state: what its supervisor has said last.
        heartbeat_at: when its last heartbeat came.
        is_silent: whether users have been notified that heartbeats are missing.
        stopped: its processes that are stopped, and since when.
        noted: the stopped processes that users have been notified of.
    """

    name: str
    slots: int
    security: str
    group: str = ""
    local: bool = False
    has_task: bool = True
    dq: str = ""
    python: str = ""
    joined_at: float = 0.0
    state: WorkerState = WorkerState()  # noqa: RUF009  # it never changes
    heartbeat_at: float = 0.0
    is_silent: bool = False
    stopped: dict[str, float] = field(default_factory=dict)
    noted: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        name = self.name[:LONGEST_SHOWN_NAME]
        return f"worker {name}" if self.group else f"plain worker on {name}"
