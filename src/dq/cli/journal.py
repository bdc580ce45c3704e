"""``dq journal``: shows what is in a journal, and recovers damaged ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import partial

import click

from dq._support.spans import listed
from dq.cli import completion, options
from dq.cli.failures import SHOWN, Groups, failed_line, named
from dq.cli.layout import OUTPUT, Command, option
from dq.core.records import printable
from dq.data.output_file import Writer
from dq.errors import UsageError
from dq.journal import inspect
from dq.journal import recover as recovery
from dq.journal.inspect import Contents, FailedTask


@click.command(cls=Command)
@click.argument("file", type=completion.FILE)
@click.argument("job", required=False)
@option(
    "-f", "--format", type=click.Choice(["text", "jsonl"]), default="text", metavar="FORMAT",
    group=OUTPUT,
    help="text, a summary with the failures; jsonl, records.",
    more="A record is a line of JSON for a task that has an outcome.",
)  # fmt: skip
@option(
    "--failed", is_flag=True, group=OUTPUT,
    help="Only the failed tasks, all of them, with their inputs.",
    more="With --format jsonl these are the records that `--failures` writes.",
)  # fmt: skip
@option(
    "--recover", type=completion.FILE, metavar="NEW", group=OUTPUT,
    help="Save what is whole in FILE to a new journal.",
    more="FILE is left as it is.",
)  # fmt: skip
@options.debug
def journal(
    file: str, job: str | None, format: str, failed: bool, recover: str | None, debug: bool
) -> None:
    """Show what is in a journal, also while a master writes it. If it is the file of a
    master that keeps jobs: the jobs, or what there is of one JOB.

    \b
      dq journal squares.journal
      dq journal squares.journal --format jsonl > done.jsonl
      dq journal squares.journal --failed
      dq journal squares.journal --recover saved.journal
      dq journal jobs.dq last --format jsonl
    """
    from dq.cli import masters_file  # here, since `dq.service` needs the dispatcher's modules

    if masters_file.is_masters(file):
        if recover is not None:
            raise UsageError(f"--recover is for the journal of a run, and {file} is a master's")
        _write(masters_file.lines(file, job, format, failed=failed))
        return
    if job is not None:
        raise UsageError(f"{file} is the journal of a run, which has no jobs: leave out {job}")
    if recover is not None and (format != "text" or failed):
        other = "--failed" if failed else "--format"
        raise UsageError(f"--recover and {other}: give the one or the other")
    if recover is not None:
        lines = saved(recovery.recover(file, recover), recover)
    elif failed and format == "jsonl":
        lines = (task.to_json() for task in inspect.failures(file))
    elif failed:
        lines = map(_line, inspect.failures(file))
    elif format == "jsonl":
        lines = inspect.records(file)
    else:
        lines = summary(inspect.look(file))
    _write(lines)


def _write(lines: Iterable[str]) -> None:
    writer = Writer(None)
    for line in lines:
        writer.write(line.encode(errors="backslashreplace"))


def summary(contents: Contents) -> Iterator[str]:
    """Describe a journal's contents for people."""
    facts = contents.facts
    if not facts:
        yield "empty: no input has an outcome yet\n"
        return
    yield f"{facts['task']}, with {facts['inputs']} in and {facts['output']} out\n"
    unread = f", {contents.unreadable} unreadable" if contents.unreadable else ""
    yield f"{contents.done} done, {len(contents.failed)} failed{unread}\n"
    if contents.spans:
        yield f"tasks {listed(contents.spans)}\n"
    if contents.open:
        yield "open: a master is writing it, or died while it did\n"
    yield from map(_line, contents.failed[:SHOWN])
    if len(contents.failed) > SHOWN:
        yield f"{len(contents.failed) - SHOWN} more failed; --failed lists each of them\n"
    groups = Groups()
    for task in contents.failed:
        groups.add(task.outcome.failure, partial(_name, task))
    yield from (f"{printable(line)}\n" for line in groups.lines())


def _name(task: FailedTask) -> str:
    if task.input is None:
        return named(task.id, known=False)
    return named(task.id, json.loads(task.input))


def _line(task: FailedTask) -> str:
    return printable(failed_line(_name(task), task.outcome.failure, task.attempts)) + "\n"


def saved(contents: Contents, new: str) -> Iterator[str]:
    """Describe what could be recovered, and what could not."""
    total = contents.done + len(contents.failed) + contents.unreadable
    yield f"saved the outcomes of {total} task(s) in {new}\n"
    if contents.gaps:
        yield f"lost: those of tasks {listed(contents.gaps)}\n"
    end = f"after task {contents.spans[-1][1] - 1}" if contents.spans else "of every task"
    yield f"lost, if there were any: those {end}\n"
    yield f"the same command with --journal {new} runs what is lost again\n"
