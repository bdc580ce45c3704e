"""A worker as a master's people know it, and the lines that they are shown."""

from __future__ import annotations

from dataclasses import dataclass, field

from dq._support.frozen import frozen

LONGEST_SHOWN_NAME = 100  # characters of a name: who has the key may send any
MOST_SINGLE_NOTES = 5  # that are shown one by one; of more, the first few or a summary


@frozen
class Note:
    """A line for people; a `warning` also for those who want no others."""

    line: str
    warning: bool = False


@dataclass(slots=True)
class ConnectedWorker:
    """One `dq worker` with all of its processes, or one connection of a plain client that gets
    tasks.

    Args:
        name: ``host:pid``, or a plain client's host.
        slots: how many tasks it works on at a time.
        security: how its connection is encrypted.
        group: what its processes' connections have in common; "" for a plain client.
        local: whether the master has started it.
        has_task: whether it knows what to do with what plain clients put.

    Attributes:
        heartbeat_at: when its last heartbeat came.
        is_silent: whether people have been told that none has come since.
        stopped: its processes that are stopped, and since when.
        noted: those of them that people have been told of.
    """

    name: str
    slots: int
    security: str
    group: str = ""
    local: bool = False
    has_task: bool = True
    heartbeat_at: float = 0.0
    is_silent: bool = False
    stopped: dict[str, float] = field(default_factory=dict)
    noted: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        name = self.name[:LONGEST_SHOWN_NAME]
        return f"worker {name}" if self.group else f"plain worker on {name}"
