"""What a worker's supervisor says of it, again and again, and what it is told."""

from __future__ import annotations

from dq._support.frozen import frozen
from dq.core.records import printable


@frozen
class SlotState:
    """What a slot of a worker does at the moment.

    Args:
        slot: its number at its worker, from 0.
        lease: the batch that it has.
        index: the task that it runs.
        age: seconds since that has begun.
        done: how far the task is, as it says itself; None if it does not.
        total: of how much; None if it does not say.
    """

    slot: int
    lease: int
    index: int
    age: float
    done: int | None = None
    total: int | None = None


@frozen
class OutputLine:
    """A line that a task has printed.

    Args:
        process: ``host:pid``.
        job: id of the job; "" if that is unknown.
        index: number of the task; -1 if that is unknown.
        text: without the newline.

    >>> str(OutputLine("host17:4242", "", 3, "a")), str(OutputLine("host17:4242", "", -1, "b"))
    ('host17:4242 task 3: a', 'host17:4242: b')
    """

    process: str
    job: str
    index: int
    text: str

    def __str__(self) -> str:
        task = f" task {self.index}" if self.index >= 0 else ""
        return printable(f"{self.process}{task}: {self.text}")


@frozen
class Stacks:
    """Where the threads of a task process are.

    Args:
        process: ``host:pid``.
        slots: the numbers of its slots at its worker: the first, and how many they are.
        text: the calls of each thread that runs a task's code, and of each coroutine that waits; ""
            if there is none.
        error: why there is no text.
    """

    process: str
    slots: tuple[int, int]
    text: str
    error: str


@frozen
class WorkerState:
    """What a worker's supervisor says of it.

    Args:
        slots: what its busy slots do.
        stopped: names of its processes that are stopped.
        cpu: how much of its machine's processors is in use, from 0 to 1; None if that is unknown.
        memory: bytes of resident memory of its processes.
        lines: what its tasks have printed.
        dropped: how many lines more there were.
        stacks: where the threads of its processes are, if it was asked.
        answered: the number of the last command that `stacks` is the answer to; 0 if there is none.
    """

    slots: tuple[SlotState, ...] = ()
    stopped: tuple[str, ...] = ()
    cpu: float | None = None
    memory: int = 0
    lines: tuple[OutputLine, ...] = ()
    dropped: int = 0
    stacks: tuple[Stacks, ...] = ()
    answered: int = 0

    def to_wire(self) -> tuple[object, ...]:
        """As built-in types."""
        slots = [(s.slot, s.lease, s.index, s.age, s.done, s.total) for s in self.slots]
        lines = [(line.process, line.job, line.index, line.text) for line in self.lines]
        stacks = [(one.process, one.slots, one.text, one.error) for one in self.stacks]
        return (
            slots, list(self.stopped), self.cpu, self.memory, lines, self.dropped, stacks,
            self.answered,
        )  # fmt: skip


@frozen
class Command:
    """What a worker is told.

    Args:
        number: later commands have higher numbers.
        what: "cancel", to end a task; "drain", to finish what runs and leave; "leave", now; or
            "stacks", to say where the threads of its processes are.
        lease: the lease that a "cancel" is about.
        index: the task of it that is to be ended; -1 for any of them.
    """

    number: int
    what: str
    lease: int = 0
    index: int = -1

    def to_wire(self) -> tuple[int, str, int, int]:
        """As built-in types."""
        return (self.number, self.what, self.lease, self.index)
