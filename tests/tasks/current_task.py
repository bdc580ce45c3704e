"""Tasks of `test_api_current_task.py`."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import dq


def who(x: int) -> tuple[int, dq.CurrentTask | None]:
    return x, dq.current_task()


async def who_awaits(x: int) -> tuple[int, dq.CurrentTask | None]:
    before = dq.current_task()
    await asyncio.sleep(0.002)
    await asyncio.create_task(asyncio.sleep(0))
    after = dq.current_task()
    return (x, after) if before == after else (x, None)


def hardly_anything(x: int) -> tuple[int, int] | None:
    """Takes less than a microsecond nearly always, so that dq looks at 64 tasks at a time."""
    if x % 97:
        return None
    task = dq.current_task()
    return x, -1 if task is None else task.id


def once(path: Path) -> int:
    """Die at the first attempt."""
    if not path.exists():
        path.touch()
        os._exit(1)
    task = dq.current_task()
    assert task is not None
    return task.attempt


class AsksWhenPickled:
    """A result that asks while it is encoded, when no task runs."""

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (repr(dq.current_task()),)


def in_a_thread(x: int) -> object:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(dq.current_task()))
    thread.start()
    thread.join()
    dq.progress(1, 2)
    return found


def slot_and_process(x: int) -> tuple[tuple[str, int], int]:
    task = dq.current_task()
    assert task is not None
    return (os.environ["DQ_SLOT"], task.slot), os.getpid()


def results_that_ask(x: int) -> object:
    return AsksWhenPickled()


def refused(arguments: tuple[float, ...]) -> str:
    try:
        dq.progress(*arguments)
    except ValueError as error:
        return str(error)
    return ""


def steps(path: Path) -> bool:
    """Say how far it is, until the file is there."""
    from support import wait_until  # not above: most tasks do without

    dq.progress(3, 7.5)
    return bool(wait_until(path.exists))
