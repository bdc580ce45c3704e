"""Where the threads of task processes are, for people who wonder what a task waits for.

A thread of the process itself looks, while the others hold still for it. To look from outside, or
in a signal's handler (as `faulthandler` can), would meet a thread amid a change of its frames, and
crash the process. So nothing can be seen of a process while a task keeps the interpreter's lock.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from types import FrameType

from dq._support import platform
from dq._support.frozen import TYPE_CHECKING
from dq.core.beats import Stacks
from dq.worker import cells

if TYPE_CHECKING:
    import asyncio

    from dq.worker.child import Child  # not at run time: task processes need none

TIMEOUT_S = 0.8  # for all processes of a worker to answer: each looks every 0.1 s if it is asked
POLL_INTERVAL_S = 0.005
LATE = f"no answer within {TIMEOUT_S:g} s: code in C may keep the interpreter's lock"
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_AWAITS = os.path.join(_OURS, "worker", "event_loop.py")
_LOOPS = {"asyncio", "concurrent", "selectors", "threading"}  # modules in which loops wait
_numbers = itertools.count(1)

Call = tuple[FrameType, int]  # a frame, and the line where it is


# In a task process


def answer(memory: platform.Cells, loop: asyncio.AbstractEventLoop | None) -> None:
    """Answer the supervisor, if it has asked.

    Args:
        memory: this process's cells.
        loop: the event loop of its `async` tasks.
    """
    asked = memory.view[cells.ASKED]
    if asked == memory.view[cells.ANSWERED]:
        return
    try:
        text = _described(loop)
    except Exception as error:  # the names of threads and files are a task's
        text = f"{type(error).__name__}: {error}"
    cells.write_stacks(memory, text.encode("utf-8", "backslashreplace"))
    memory.view[cells.ANSWERED] = asked


def _described(loop: asyncio.AbstractEventLoop | None) -> str:
    """The calls of each thread that runs a task's code, and of each coroutine that waits."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    found = [
        _text(f"thread {names.get(ident, ident)}", calls)
        for ident, frame in sys._current_frames().items()
        if (calls := _of_task([*traceback.walk_stack(frame)][::-1]))
    ]
    if loop is not None:
        found += _coroutines(loop)
    return "\n".join(found)


def _coroutines(loop: asyncio.AbstractEventLoop) -> Iterator[str]:
    import asyncio  # here: it has been imported if there is a loop

    for task in sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name()):
        if calls := _of_task([*_awaited(task.get_coro())]):
            yield _text(f"coroutine {task.get_name()}", calls)


def _awaited(coroutine: object) -> Iterator[Call]:
    """The calls of a suspended coroutine, from the outermost to the one that waits."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            yield frame, frame.f_lineno
        inner = getattr(coroutine, "cr_await", None)
        coroutine = inner if inner is not None else getattr(coroutine, "gi_yieldfrom", None)


def _of_task(calls: list[Call]) -> list[Call]:
    """The calls within the innermost one of dq's own, from the outermost on."""
    ours = [at for at, (frame, _) in enumerate(calls) if _file(frame).startswith(_OURS)]
    if not ours:
        return calls
    within = calls[ours[-1] + 1 :]
    if _file(calls[ours[-1]][0]) == _AWAITS:  # a loop that waits, or who waits for it
        within = [*itertools.dropwhile(lambda call: _package(call[0]) in _LOOPS, within)]
    return within


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def _text(title: str, calls: list[Call]) -> str:
    lines = traceback.StackSummary.extract(iter(calls)).format()
    return f"{title}:\n{''.join(lines)}"


# In its supervisor's process


def take(children: Iterable[Child], threads: int) -> tuple[Stacks, ...]:
    """Where the threads of task processes are; in any thread.

    Args:
        children: the processes.
        threads: how many slots each has.
    """
    number, asked = next(_numbers), sorted(children, key=lambda child: child.number)
    errors = {child: _ask(child, number, threads) for child in asked}
    answers: dict[Child, bytes] = {}
    late = [child for child in asked if not errors[child]]
    deadline = time.monotonic() + TIMEOUT_S
    while late and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL_S)
        for child in late:
            if (answer := child.answer(number)) is not None:
                answers[child] = answer
        late = [child for child in late if child not in answers]
    errors.update(dict.fromkeys(late, LATE))
    return tuple(
        Stacks(
            process=child.name,
            slots=(child.number * threads, threads),
            text=answers.get(child, b"").decode("utf-8", "replace").rstrip("\n"),
            error=errors[child],
        )
        for child in asked
    )


def _ask(child: Child, number: int, threads: int) -> str:
    """Ask a process; return why it cannot be asked, or ""."""
    if platform.is_stopped(child.pid):
        return "it is stopped (SIGSTOP)"
    return child.ask(number, threads)
