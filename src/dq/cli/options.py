"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from dq._support import quantities, spans
from dq.cli import completion
from dq.cli.layout import (
    CONNECTION,
    FAILURES,
    INPUT,
    OTHER,
    OUTPUT,
    SECURITY,
    WORKERS,
    Option,
    option,
)
from dq.data.formats import FORMATS
from dq.data.outputs import CHOICES
from dq.security.tls import MODES

F = TypeVar("F", bound=Callable[..., Any])


class Group(click.Group):
    """A group that loads a command only when it is called. ``dq --help`` needs just the lines given
    here.

    Args:
        sections: by their titles, the import path and the line of help of each command.
    """

    def __init__(
        self, *args: Any, sections: Mapping[str, Mapping[str, tuple[str, str]]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections
        self._homes = {name: home for homes in sections.values() for name, home in homes.items()}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the help if no arguments are given. click's own way differs between its versions."""
        help_ = ctx.help_option_names[-1]
        if args[:1] == ["help"]:  # as in git
            args = [*args[1:], help_]
        return super().parse_args(ctx, args or [help_])

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._homes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._homes:
            return None
        module, _, name = self._homes[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self._homes))
        for title, homes in self._sections.items():
            with formatter.section(title):
                lines = [(name.ljust(width), line) for name, (_, line) in homes.items()]
                formatter.write_dl(lines)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            import difflib

            close = difflib.get_close_matches(args[0], self._homes, n=1)
            hint = f"; did you mean {close[0]}?" if close else "."
            names = ", ".join(self._homes)
            raise click.UsageError(f"no command {args[0]!r}{hint} There are {names}", ctx) from None


class Parsed(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic in new clicks
    """A value that a function of `dq._support` reads."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Whole(click.IntRange):
    """A whole number in a range, with plainer error messages than click's."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number", param, ctx)
        least, most = int(self.min or 0), self.max
        if number < least or (most is not None and number > most):
            span = f"{least} or more" if most is None else f"a number from {least} to {most}"
            self.fail(f"{number} is out of range: give {span}", param, ctx)
        return number


class OneFile(Option):
    """The name of a file. It must not be empty or given twice: click would silently use the
    last."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"type": completion.FILE, **kwargs, "multiple": True})

    def value_from_envvar(self, ctx: click.Context) -> Any:
        value = self.resolve_envvar_value(ctx)
        return None if value is None else (value,)  # do not split it at spaces

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        names = super().process_value(ctx, value)
        if not names:
            return None
        if len(names) > 1:
            raise click.BadParameter(f"given {len(names)} times: name one file", ctx, self)
        if not names[0]:
            raise click.BadParameter("it is empty: name a file", ctx, self)
        return names[0]


class SomeFiles(OneFile):
    """The same for an option that may be given several times. The value is a tuple of all names."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        names = Option.process_value(self, ctx, value)
        if not names:
            return None
        if "" in names:
            raise click.BadParameter("it is empty: name a file", ctx, self)
        if names.count("-") > 1:
            raise click.BadParameter("standard input can be read only once", ctx, self)
        return tuple(names)


def _delimiter(text: str) -> str:
    r"""Read an ASCII character, or one of the usual spellings of a tab.

    >>> _delimiter(";"), _delimiter("\\t"), _delimiter("tab")
    (';', '\t', '\t')
    """
    character = {"\\t": "\t", "tab": "\t"}.get(text, text)
    if len(character) != 1 or not character.isascii() or character in '"\r\n\0':
        raise ValueError(f"{text!r} is not one character that can stand between two cells")
    return character


def _keepalive(text: str) -> int:
    seconds = quantities.duration(text)
    least, most = quantities.KEEPALIVE
    if not least <= seconds <= most:
        raise ValueError(f"{text!r} is not from {least} to {most} seconds")
    return round(seconds)


SECONDS = Parsed("seconds", quantities.duration)
MESSAGE = Parsed("size", lambda text: quantities.size(text, 1))
MEMORY = Parsed("size", lambda text: quantities.size(text, quantities.LEAST_MEMORY))
PROCESSES = Parsed("n", lambda text: quantities.processes(text, quantities.cpus()))

COUNT = Whole(min=0)
POSITIVE = Whole(min=1)
THREADS = Whole(1, quantities.MOST_THREADS)
PORT = Whole(0, 65535)
KEEPALIVE = Parsed("seconds", _keepalive)


def is_typed(name: str) -> bool:
    """Whether an option of the current command was given on the command line, rather than as a
    default or by the environment."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def stacked(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several decorators as one, in the order in which help shows them."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


class Server(Option):
    """The address of a master. A variable of the one command goes before that of all."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        own = os.environ.get(f"{ctx.auto_envvar_prefix}_SERVER")
        return own or os.environ.get("DQ_SERVER") or None


server = option(
    "-s", "--server", cls=Server, default="127.0.0.1:5000", metavar="HOST[:PORT]",
    group=CONNECTION,
    help="Where the master is; by default this machine.",
    more="DQ_SERVER says so for all commands.",
)  # fmt: skip

authkey = stacked(
    option(
        "--authkey", metavar="KEY", envvar="DQ_AUTHKEY", group=SECURITY,
        help="The key that master and workers share.",
        more="Others on this machine can read it in `ps`; DQ_AUTHKEY and --authkey-file they"
        " cannot.",
    ),
    option(
        "--authkey-file", type=completion.FILE, metavar="FILE", envvar="DQ_AUTHKEY_FILE",
        group=SECURITY,
        help="A file that holds the key; `dq keygen` writes one.",
    ),
)  # fmt: skip

tls = stacked(
    option(
        "--tls", type=click.Choice(MODES), default="auto", metavar="MODE",
        group=SECURITY, rare=True,
        help="Encrypt connections: auto, psk, certs, require or off.",
        more="auto: with certificates if they are given, else from the key if both ends have Python"
        " 3.13 or newer, else not. require: the same, but never without encryption. psk: from the"
        " key. certs: with certificates.",
    ),
    option(
        "--tls-cert", type=completion.FILE, metavar="FILE", group=SECURITY, rare=True,
        help="The certificate to show; `dq keygen --tls` makes one.",
    ),
    option(
        "--tls-key", type=completion.FILE, metavar="FILE", group=SECURITY, rare=True,
        help="The private key of that certificate.",
    ),
    option(
        "--tls-ca", type=completion.FILE, metavar="FILE", group=SECURITY, rare=True,
        help="The CA that signed the other end's certificate.",
    ),
)  # fmt: skip

dry_run = option(
    "--dry-run", is_flag=True, group=OTHER, rare=True,
    help="Check and say what would run; run and write nothing.",
    more="The TASK is imported, and the first 100 lines of --input, or all INPUTs, are read and"
    " compared with its arguments. Exit code 1 says that a task would fail, and 2 that there would"
    " be no run.",
)  # fmt: skip
shown = option(
    "--task-output", type=click.Choice(["master", "own", "none"]), default="master",
    show_default=True, metavar="WHERE", group=OUTPUT, rare=True,
    help="Where prints of tasks elsewhere go: own or none.",
    more="master is standard error here, with the process and the task's number before each line;"
    " own is where the workers are. With none, nothing that tasks of this command print is shown"
    " here either.",
)  # fmt: skip
debug = option(
    "--debug", is_flag=True, group=OTHER, rare=True, help="Show the traceback of dq's own errors."
)
quiet = option(
    "-q", "--quiet", is_flag=True, group=OTHER, help="No progress, only results and trouble."
)

threads = option(
    "-t", "--threads", type=THREADS, default=1, show_default=True, metavar="N", group=WORKERS,
    help="Tasks at once in each process, for I/O.",
    more="As many `async` tasks are awaited at once.",
)  # fmt: skip
limits = stacked(
    option(
        "--max-tasks", type=POSITIVE, metavar="N", group=WORKERS, rare=True,
        help="Replace a process after so many tasks.",
    ),
    option(
        "--max-memory", type=MEMORY, metavar="SIZE", group=WORKERS, rare=True,
        help="End a process that grows past this (512M, 2G).",
        more="The task that it was in is treated as if its worker had died.",
    ),
    option(
        "--grace", type=SECONDS, default="5", show_default=True, metavar="SECONDS", group=WORKERS,
        rare=True, help="How long a process may take to leave.",
        more="At its end it waits for threads that tasks have left, calls what is registered with"
        " atexit, and flushes files.",
    ),
    option(
        "--preload", multiple=True, metavar="MODULE", group=WORKERS,
        rare=True, help="Import MODULE once, for all processes.",
        more="They share its memory, and start without importing it. May be given several times."
        " A module that starts threads, or opens files or connections, must not be preloaded.",
    ),
    option(
        "--tags", type=click.UNPROCESSED, default=(), metavar="TAG[,TAG]...",
        group=WORKERS, rare=True,
        help="What these workers have, for --needs (gpu,eu).",
    ),
)  # fmt: skip

calls = stacked(
    option(
        "--strict-code", is_flag=True, group=WORKERS, rare=True,
        help="Refuse workers whose TASK's file differs.",
        more="The file that TASK is in may have been edited since the run began, or be another one"
        " on another machine. Without this such a worker works with what it has, and one line says"
        " so.",
    ),
    option(
        "--batch", type=POSITIVE, metavar="N", group=WORKERS, rare=True,
        help="Tasks that a worker is sent at a time.",
        more="By default as many as keep it busy for some 150 ms.",
    ),
    option(
        "--rate", type=Parsed("rate", quantities.rate), metavar="RATE", group=WORKERS,
        rare=True, help="Start no more tasks than this (10/s, 300/m, 2/h).",
        more="That is of all workers together, and includes retries.",
    ),
    option(
        "--needs", type=click.UNPROCESSED, default=(), metavar="TAG[,TAG]...",
        group=WORKERS, rare=True,
        help="Only workers with these tags; see `dq worker --tags`.",
    ),
    option(
        "--speculate", is_flag=True, group=WORKERS, rare=True,
        help="Run the slowest last tasks a second time elsewhere.",
        more="That is a task that takes three times as long as 95 of 100 others, once nothing else"
        " is left to be started. The first of the two to end counts.",
    ),
    option(
        "--init", type=completion.TASK, metavar="TASK", group=WORKERS,
        help="Call TASK once in each process, before the rest.",
    ),
)  # fmt: skip

readable = stacked(
    option(
        "-i", "--input", cls=SomeFiles, metavar="FILE", group=INPUT,
        help="Read inputs, one on a line, from FILE; - is stdin.",
        more=".csv and .tsv give a mapping for each row, .jsonl (.ndjson) a value for each line,"
        " .json the items of an array; .gz, .bz2 and .xz are unpacked. It may be given several"
        " times.",
    ),
    option(
        "-0", "--null", is_flag=True, group=INPUT,
        help="Inputs and results end with NUL, not newline.",
        more="As `find -print0` writes them and `xargs -0` reads them; `--input-format null` is for"
        " the inputs alone. A record of `--format jsonl` is a line all the same.",
    ),
    option("--raw", is_flag=True, group=INPUT, help="Keep inputs strings, also if they are JSON."),
    option(
        "--unpack", is_flag=True, group=INPUT,
        help="Call f(*input) for lists, f(**input) for mappings.",
    ),
    option(
        "--input-format", type=click.Choice(list(FORMATS)), metavar="FORMAT",
        group=INPUT, rare=True,
        help="What --input holds, where its name does not say.",
        more="lines, null (records that end with NUL), jsonl, json (an array), csv or tsv.",
    ),
    option(
        "--delimiter", type=Parsed("delimiter", _delimiter), metavar="CHAR", group=INPUT, rare=True,
        help="Read --input as CSV with CHAR between two cells.",
        more="tab, or \\t, is a tab.",
    ),
    option(
        "--field", metavar="NAME", group=INPUT, rare=True,
        help="Take this field of each record as the input.",
        more="Records are the lines of .jsonl, which `--failures` and `-f jsonl` write, and the"
        " rows of .csv.",
    ),
)  # fmt: skip

only = option(
    "--only", type=Parsed("numbers", spans.parse), metavar="N,N-M", group=INPUT,
    rare=True,
    help="Run only the inputs with these numbers, from 0.",
    more="They are the numbers that messages have, and `id` in jsonl.",
)  # fmt: skip
skip_bad = option(
    "--skip-bad", is_flag=True, group=INPUT, rare=True,
    help="Go on without lines that cannot be read.",
)  # fmt: skip

inputs = stacked(readable, only, skip_bad)

outputs = stacked(
    option(
        "-o", "--output", cls=OneFile, metavar="FILE", group=OUTPUT,
        help="Write results to FILE, complete or not at all.",
        more="FILE may be -, which is standard output.",
    ),
    option(
        "-f", "--format", type=click.Choice(CHOICES), metavar="FORMAT", group=OUTPUT,
        help="text, as print() shows it; jsonl, with details.",
        more="By default text, or jsonl where the name given with -o ends in .jsonl or .ndjson."
        " Text has nothing for a failed task: its lines match the inputs only with --fill, and"
        " where no result has a newline in it.",
    ),
    option(
        "--fill", metavar="TEXT", group=OUTPUT, rare=True,
        help="Write TEXT in place of a failed task's result.",
        more="So that the lines of --format text match the inputs.",
    ),
    option(
        "--unordered", is_flag=True, group=OUTPUT,
        help="Results as they come, not in input order.",
    ),
)  # fmt: skip

max_message = option(
    "--max-message", type=MESSAGE, default="64M", show_default=True, metavar="SIZE",
    group=CONNECTION, rare=True,
    help="Bytes of the largest input or result.",
)  # fmt: skip

keepalive = option(
    "--keepalive", type=KEEPALIVE, default="25", show_default=True, metavar="SECONDS",
    group=CONNECTION, rare=True,
    help="Disconnect a machine that is silent so long.",
    more="This sets it for the master and its workers.",
)  # fmt: skip

journal = stacked(
    option(
        "--journal", cls=OneFile, metavar="FILE", group=OUTPUT,
        help="Keep outcomes in FILE, to continue from after a stop.",
        more="Every outcome is written to FILE before it is shown. The same command again continues"
        " where this one stopped.",
    ),
    option(
        "--retry-failed", is_flag=True, group=FAILURES, rare=True,
        help="With --journal: run the tasks again that failed.",
    ),
)  # fmt: skip

retries = option(
    "--retries", type=COUNT, default=0, show_default=True, metavar="N", group=FAILURES,
    help="Try a task that failed again, up to N times.",
    more="That includes tasks that raised an exception or took too long.",
)  # fmt: skip
failures_file = option(
    "--failures", cls=OneFile, metavar="FILE", group=FAILURES,
    help="Write the record of each failed task to FILE.",
    more="A line of JSON for each, with the input: `--input FILE --field input` runs them"
    " again.",
)  # fmt: skip
after_failures = stacked(
    option(
        "--retry-delay", type=SECONDS, default="0", metavar="SECONDS", group=FAILURES, rare=True,
        help="Wait before each retry (500ms, 2s, 5m).",
    ),
    option(
        "--timeout", type=SECONDS, metavar="SECONDS", group=FAILURES,
        help="End a task that takes longer (30, 5m, 2h).",
        more="Its process is ended, and a new one started.",
    ),
    option(
        "--fail-fast", is_flag=True, group=FAILURES,
        help="Stop after the first failed task.",
        more="Others that run are ended, and a later run with the same journal does them again.",
    ),
    option(
        "--max-failures", type=POSITIVE, metavar="N", group=FAILURES, rare=True,
        help="Stop after N failed tasks, as `--fail-fast` does after one.",
    ),
    option(
        "--max-deaths", type=POSITIVE, default=3, show_default=True, metavar="N", group=FAILURES,
        rare=True,
        help="Fail a task in which N worker processes died.",
    ),
)  # fmt: skip
failures = stacked(retries, failures_file, after_failures)
