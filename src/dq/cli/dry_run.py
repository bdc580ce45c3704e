"""``--dry-run``: checks a run, and says what would run where. Nothing is run or written."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

import dq
from dq.cli import here, runs
from dq.cli.input_check import Checked, check_inputs
from dq.cli.printer import say
from dq.cli.run_inputs import RunInputs
from dq.cli.surroundings import enter_directory, key_to_serve, quietly
from dq.data.input_files import STDIN
from dq.dispatch.replaying import too_few
from dq.errors import BadInput, InputChanged, MissingModule, UsageError
from dq.functions.forked_checks import checks
from dq.functions.module_versions import version_of
from dq.functions.reference import TaskRef, refer
from dq.functions.task_check import checked
from dq.master.runtime import Runtime

if TYPE_CHECKING:
    from dq.journal.inspect import Contents


def check_run(given: dict[str, Any], workers: int) -> None:
    """``dq run --dry-run``."""
    if given["here"]:
        here.refuse_others(given)
    _check(given, workers, serves=given["port"] is not None)


def check_master(given: dict[str, Any]) -> None:
    """``dq master --dry-run``."""
    runs.check_master_options(given)
    _check(given, given["workers"] or 0, serves=True)


def _check(given: dict[str, Any], workers: int, *, serves: bool) -> None:
    problem = ""
    enter_directory()
    checks.begin(given["timeout"])
    try:
        ref, missing = find_task(given, workers, needed=workers > 0 or not serves)
        authkey = key_to_serve(given, given["host"]) if serves else None
        is_here = given.get("here", False)
        runtime = runs.make_runtime(None, given, authkey, workers, in_process=is_here)
        show_task(ref, missing)
        show("workers", _workers(given, workers, serves=serves))
        if given["inputs"] or given["input"] is not None:
            assert ref is not None
            problem = _check_job(given, runtime, ref, importable=not missing)
        elif given["journal"] is not None:
            _check_writable(given["journal"])
            show("journal", f"{given['journal']}, which keeps the jobs of clients")
        click.echo("nothing was run, and nothing was written")
    finally:
        checks.close()
    if problem:
        say(problem)
        raise click.exceptions.Exit(1)


def show(name: str, text: str) -> None:
    """Show a line of what would be done."""
    click.echo(f"{name:<9}{text}")


# The task


def find_task(given: dict[str, Any], workers: int, *, needed: bool) -> tuple[TaskRef | None, str]:
    """Where the TASK is, and why it cannot be imported here, if only other machines need it."""
    if not given["task"]:
        return None, ""
    try:
        with quietly():
            return checked(given["task"], unpack=given["unpack"]), ""
    except MissingModule as error:
        if needed:
            raise
        return refer(given["task"]), str(error)


def show_task(ref: TaskRef | None, missing: str) -> None:
    """Show where the TASK is, and in which version."""
    if ref is None:
        show("task", "none: workers call what they have with --task")
    elif missing:
        show("task", f"{ref}, which is not checked: {missing}")
    else:
        version = version_of(ref)
        show("task", f"{ref}" + (f" in {version.file}" if version.file else ""))
        if version.digest:
            show("digest", version.digest)
    python = ".".join(map(str, sys.version_info[:3]))
    show("with", f"dq {dq.__version__} and Python {python}")


def _workers(given: dict[str, Any], workers: int, *, serves: bool) -> str:
    if given.get("here"):
        return "none: the tasks run in the command's own process, one after the other"
    threads = given["threads"]
    each = f" with {threads} threads each" if threads > 1 else ""
    local = f"{workers} process{'es' * (workers != 1)} on this machine{each}"
    if not serves:
        return local
    host = given["host"] or "all addresses"
    port = f"port {given['port']}" if given["port"] else "a free port"
    joined = f"those that connect to {port} of {host}"
    return f"{local}, and {joined}" if workers else joined


# The inputs and results


def _check_job(given: dict[str, Any], runtime: Runtime, ref: TaskRef, *, importable: bool) -> str:
    """Check the inputs and files. Returns what is wrong with a task; "" if nothing was found."""
    runs.check_retry_failed(given)
    source = runs.prepared(given)
    for name in ("output", "failures"):
        _check_writable(given[name])
    found = check_inputs(source, given, ref, importable=importable)
    show("inputs", inputs_shown(given, source, found))
    if "-" in (given["input"] or ()):
        show("", f"{STDIN} has been read as far as that: the run needs all of it")
    form = "text" if given["format"].startswith("text") else given["format"]
    show("output", f"{given['output'] or 'standard output'}, as {form}")
    if given["failures"] is not None:
        show("failures", given["failures"])
    if given["journal"] is not None:
        show("journal", _journal(given, runtime, ref, source, found))
    return found.problem


def inputs_shown(given: dict[str, Any], source: RunInputs, found: Checked) -> str:
    """What was found out about the inputs, for people."""
    names = "arguments" if source.text is None else ", ".join(map(_name, given["input"]))
    total = "an unknown number" if found.total is None else str(found.total)
    if source.selection is not None:
        total += " of them (--only)"
    parts = [f"{names}: {total}"]
    if found.total != len(found.lines):
        parts.append(f"the first {len(found.lines)} checked")
    if found.skipped:
        parts.append(f"{found.skipped} of these cannot be read, and are skipped")
    if found.fit is not None and not found.fit.signature:
        parts.append("the function has no signature to compare them with")
    elif found.fit is not None and not found.problem:
        parts.append(f"they fit {given['task']}{found.fit.signature}")
    return "; ".join(parts)


def _name(path: str) -> str:
    return STDIN if path == "-" else path


def _check_writable(path: str | None) -> None:
    """Refuse a file that could not be written.

    Raises:
        UsageError: its folder is missing, or is not this user's to write.
    """
    if path in (None, "-"):
        return
    target = os.path.realpath(str(path))
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise UsageError(f"cannot write {path}: there is no folder {folder}")
    if os.path.isdir(target):
        raise UsageError(f"cannot write {path}: it is a folder")
    is_special = os.path.exists(target) and not os.path.isfile(target)  # a device or a pipe
    if not os.access(target if is_special else folder, os.W_OK):  # FILE.part is made in the folder
        raise UsageError(f"cannot write {path}: permission denied")


def _journal(
    given: dict[str, Any], runtime: Runtime, ref: TaskRef, source: RunInputs, found: Checked
) -> str:
    """What is in the journal, which is only read.

    Raises:
        BadJournal: it is damaged, or of another run.
        BadInput: it is of other inputs.
    """
    from dq.journal.facts import compare
    from dq.journal.inspect import changed_line, look  # SQLite, which few runs need

    path, again = given["journal"], given["retry_failed"]
    _check_writable(path)
    if not os.path.exists(path):
        return f"{path}, which is made"
    contents = look(path)
    if not contents.facts:
        return f"{path}, which is empty"
    compare(path, contents.facts, runtime.jobs.facts(ref, **runs.journal_options(source, given)))
    index = changed_line(path, found.lines, retry_failed=again)
    if index is not None:
        raise BadInput(f"{source.place(index)} {InputChanged(index).reason}")
    left = contents.spans[-1][1] if contents.spans else 0
    if found.total is not None and found.total < left and not again:
        raise BadInput(too_few(found.total, path, left))
    return f"{path}: {_progress(contents, found.total, again)}"


def _progress(contents: Contents, total: int | None, again: bool) -> str:
    """How far a journal's run is.

    Args:
        contents: the journal's.
        total: how many inputs there are, if that is known.
        again: whether the tasks that failed run again.
    """
    failed = len(contents.failed)
    done = contents.done + (0 if again else failed + contents.unreadable)
    text = f"continues with {done}{'' if total is None else f' of {total}'} done"
    if failed:
        text += f"; {failed} failed" + (" and run again" if again else "")
    if contents.open:
        text += "; another run has it open, or ended without closing it"
    return text
