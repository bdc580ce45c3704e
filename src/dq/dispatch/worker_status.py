"""What a master knows of each of its workers, for people."""

from __future__ import annotations

from dq._support.frozen import frozen


@frozen
class RunningTask:
    """A task that a worker runs.

    Args:
        slot: number of the slot at its worker, from 0.
        job: the job's id.
        index: number of the task.
        age: seconds since it has begun.
        done: how far it is, as it says itself; None if it does not.
        total: of how much; None if it does not say.
    """

    slot: int
    job: str
    index: int
    age: float
    done: int | None = None
    total: int | None = None


@frozen
class ProcessStacks:
    """Where the threads of a worker's task process are.

    Args:
        worker: the worker's name.
        process: ``host:pid``; "" if the worker did not answer.
        running: the tasks that the process runs.
        text: the calls of each thread that runs a task's code, and of each coroutine that waits, as
            tracebacks have them; "" if there is none: no task runs, or one in C code only.
        error: why there is no text.
    """

    worker: str
    process: str
    running: tuple[RunningTask, ...]
    text: str
    error: str


@frozen
class WorkerStatus:
    """A worker: a supervisor with its processes, or a plain client that gets tasks.

    Args:
        name: ``host:pid``, or a plain client's host.
        slots: how many tasks it works on at a time.
        busy: how many of its slots have tasks.
        running: tasks that it runs, as it has said last. Brief ones are hardly ever among them.
        heard: seconds since its last beat; since it has come if there was none.
        connected: seconds since it has come.
        cpu: how much of its machine's processors is in use, from 0 to 1; None if that is unknown.
        memory: bytes of resident memory of its processes; 0 if that is unknown.
        stopped: names of its processes that are stopped (SIGSTOP).
        local: whether the master started it.
        security: how its connection is encrypted.
        dq: its version of dq; "" for a plain client.
        python: its version of Python; "" for a plain client.
    """

    name: str
    slots: int
    busy: int
    running: tuple[RunningTask, ...]
    heard: float
    connected: float
    cpu: float | None
    memory: int
    stopped: tuple[str, ...]
    local: bool
    security: str
    dq: str
    python: str
