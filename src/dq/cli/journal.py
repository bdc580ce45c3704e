"""``dq journal``: what is in one, and what can be saved of it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from dq import salvage
from dq.cli import completion, options
from dq.cli.layout import OUTPUT, Command, option
from dq.errors import UsageError
from dq.failures import failed_line, named
from dq.salvage import Contents
from dq.spans import listed
from dq.writer import Writer


@click.command(cls=Command)
@click.argument("file", type=completion.FILE)
@option(
    "-f", "--format", type=click.Choice(["text", "jsonl"]), default="text", metavar="FORMAT",
    group=OUTPUT,
    help="text, a summary with the failures; jsonl, records.",
    more="A record is a line of JSON for a task that has an outcome.",
)  # fmt: skip
@option(
    "--recover", type=completion.FILE, metavar="NEW", group=OUTPUT,
    help="Save what is whole in FILE to a new journal.",
    more="FILE is left as it is.",
)  # fmt: skip
@options.debug
def journal(file: str, format: str, recover: str | None, debug: bool) -> None:
    """Show what is in a journal, also while a master writes it.

    \b
      dq journal squares.journal
      dq journal squares.journal --format jsonl > done.jsonl
      dq journal squares.journal --recover saved.journal
    """
    if recover is not None and format != "text":
        raise UsageError("--recover and --format: give the one or the other")
    if recover is not None:
        lines = saved(salvage.recover(file, recover), recover)
    elif format == "jsonl":
        lines = salvage.records(file)
    else:
        lines = summary(salvage.look(file))
    writer = Writer(None)
    for line in lines:
        writer.write(line.encode(errors="backslashreplace"))


def summary(contents: Contents) -> Iterator[str]:
    """What a journal has, for people."""
    facts = contents.facts
    if not facts:
        yield "empty: no input has an outcome yet\n"
        return
    yield f"{facts['task']}, with {facts['inputs']} in and {facts['output']} out\n"
    yield f"{contents.done} done, {len(contents.failed)} failed\n"
    if contents.spans:
        yield f"tasks {listed(contents.spans)}\n"
    if contents.open:
        yield "open: a master is writing it, or died while it did\n"
    for row in contents.failed:
        failure = row.outcome.failure  # type: ignore[union-attr]  # it failed
        yield failed_line(named(row.start, known=False), failure, row.attempts) + "\n"


def saved(contents: Contents, new: str) -> Iterator[str]:
    """What could be saved, and what could not."""
    total = contents.done + len(contents.failed)
    yield f"saved the outcomes of {total} task(s) in {new}\n"
    if contents.gaps:
        yield f"lost: those of tasks {listed(contents.gaps)}\n"
    end = f"after task {contents.spans[-1][1] - 1}" if contents.spans else "of all tasks"
    yield f"lost, if there were any: those {end}\n"
    yield f"the same command with --journal {new} runs what is lost again\n"
