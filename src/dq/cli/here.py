"""The work of ``dq run --here``: the tasks run in this process, and not in worker processes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dq._support.naming import setting
from dq.cli import runs
from dq.cli.options import is_typed
from dq.cli.run_inputs import RunInputs
from dq.cli.surroundings import enter_directory, quietly
from dq.functions.task_check import checked
from dq.master.in_process import refuse_in_process
from dq.worker.spawn import NUMBER

if TYPE_CHECKING:
    from typing import BinaryIO

    from dq.functions.reference import TaskRef

# Options of worker processes. The others that cannot be followed here, `check_in_process` refuses
# in Python too.
TYPED = ("workers", "batch", "grace", "max_deaths", "host", "keepalive")


def run_here(given: dict[str, Any]) -> None:
    """``dq run --here``. The TASK is imported in this process too, and not checked in a fork: a
    debugger or coverage tool is to see that as well."""
    refuse_others(given)
    enter_directory()
    with results_apart() as stdout:
        with quietly():
            ref = checked(given["task"], unpack=given["unpack"])
        serve_here(ref, runs.prepared(given), given, stdout)


def serve_here(
    ref: TaskRef,
    source: RunInputs,
    given: dict[str, Any],
    stdout: BinaryIO | None,
    init: TaskRef | None = None,
) -> None:
    """Run a task with inputs in this process, and print the results."""
    os.environ[NUMBER] = "0"  # as the only task process has it
    runtime = runs.make_runtime(None, given, None, 0, in_process=True)
    if given["debug"] and runtime.in_process is not None:
        runtime.in_process.raise_errors()
    runs.serve_job(runtime, ref, source, given, None, stdout, init=init)


def refuse_others(given: dict[str, Any]) -> None:
    """Refuse options of worker processes.

    Raises:
        UsageError: one was given.
    """
    for name in TYPED:
        if is_typed(name):
            refuse_in_process("-w" if name == "workers" else setting(name))
    if given["port"] is not None:
        refuse_in_process(setting("port"))


@contextlib.contextmanager
def results_apart() -> Iterator[BinaryIO | None]:
    """Standard output for results alone: within this context, what tasks and their programs print
    goes to standard error. None if standard output is closed."""
    if sys.stdout is None:
        yield None
        return
    sys.stdout.flush()
    was_line_buffered = sys.stdout.line_buffering
    results = open(os.dup(1), "wb")  # noqa: SIM115  # closed below
    os.dup2(2, 1)
    # As in task processes. In a file, prints would otherwise come at the end.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # no TextIO
    try:
        yield results
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os.dup2(results.fileno(), 1)
        sys.stdout.reconfigure(line_buffering=was_line_buffered)  # type: ignore[union-attr]
        with contextlib.suppress(OSError):  # the reader of the results has gone, which was said
            results.close()
