"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from dq import units
from dq.tls import MODES

F = TypeVar("F", bound=Callable[..., Any])


class Group(click.Group):
    """A group whose commands are loaded when one is called: ``dq --help`` needs no more than the
    lines given here.

    Args:
        homes: for each command its import path and its line of help.
    """

    def __init__(self, *args: Any, homes: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._homes = dict(homes)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._homes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._homes:
            return None
        module, _, name = self._homes[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._homes.items()])

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
    """A value that a function of `dq.units` reads."""

    def __init__(self, name: str, parse: Callable[[str], float | int]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | int:
        if not isinstance(value, str):
            number: float | int = value
            return number
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Whole(click.IntRange):
    """A whole number in a range, of which click says "integer range" where it is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number", param, ctx)
        return super().convert(value, param, ctx)


class OneFile(click.Option):
    """A file's name, which is refused where it is empty or there are two: click would take the
    last and say nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"multiple": True})

    def value_from_envvar(self, ctx: click.Context) -> Any:
        value = self.resolve_envvar_value(ctx)
        return None if value is None else (value,)  # not split at its spaces

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        names = super().process_value(ctx, value)
        if not names:
            return None
        if len(names) > 1:
            raise click.BadParameter(f"given {len(names)} times: name one file", ctx, self)
        if not names[0]:
            raise click.BadParameter("it is empty: name a file", ctx, self)
        return names[0]


def _keepalive(text: str) -> int:
    seconds = units.duration(text)
    least, most = units.KEEPALIVE
    if not least <= seconds <= most:
        raise ValueError(f"{text!r} is not from {least} to {most} seconds")
    return round(seconds)


SECONDS = Parsed("seconds", units.duration)
MESSAGE = Parsed("size", lambda text: units.size(text, 1))
MEMORY = Parsed("size", lambda text: units.size(text, units.LEAST_MEMORY))
PROCESSES = Parsed("n", lambda text: units.processes(text, units.cpus()))

COUNT = Whole(min=0)
POSITIVE = Whole(min=1)
THREADS = Whole(1, units.MOST_THREADS)
PORT = Whole(0, 65535)
KEEPALIVE = Parsed("seconds", _keepalive)


def is_typed(name: str) -> bool:
    """Whether an option of the command that runs stands on its command line, rather than being a
    default, or one of the environment's."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def stacked(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several decorators as one, in the order in which help shows them."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


authkey = stacked(
    click.option(
        "--authkey", metavar="KEY", envvar="DQ_AUTHKEY", show_envvar=False,
        help="The key that master and workers share. Others on this machine can read it in `ps`;"
        " DQ_AUTHKEY and --authkey-file they cannot.",
    ),
    click.option(
        "--authkey-file", metavar="FILE", envvar="DQ_AUTHKEY_FILE", show_envvar=False,
        help="A file that holds the key; `dq keygen` writes one.",
    ),
)  # fmt: skip

tls = stacked(
    click.option(
        "--tls", type=click.Choice(MODES), default="auto", show_default=True,
        help="Encrypt connections: auto with certificates where they are given, else from the key"
        " where the Python on both ends can (3.13 and newer), else not; require the same, but"
        " nothing plain; psk and certs insist on the key or on certificates; off never.",
    ),
    click.option(
        "--tls-cert", metavar="FILE", help="The certificate to show; `dq keygen --tls` makes one."
    ),
    click.option("--tls-key", metavar="FILE", help="Its private key."),
    click.option(
        "--tls-ca", metavar="FILE", help="What the other end's certificate is signed by."
    ),
)  # fmt: skip

debug = click.option("--debug", is_flag=True, help="Show the traceback of dq's own errors.")
quiet = click.option("-q", "--quiet", is_flag=True, help="No progress, only what has to be known.")

threads = click.option(
    "-t", "--threads", type=THREADS, default=1, show_default=True, metavar="N",
    help="Task slots in each process, for tasks that wait rather than compute; as many `async`"
    " tasks are awaited at once.",
)  # fmt: skip
limits = stacked(
    click.option(
        "--max-tasks", type=POSITIVE, metavar="N", help="Replace a process after so many tasks."
    ),
    click.option(
        "--max-memory", type=MEMORY, metavar="SIZE",
        help="End a process that grows past this (512M, 2G), as if its worker had died.",
    ),
)  # fmt: skip

inputs = stacked(
    click.option(
        "-i", "--input", cls=OneFile, metavar="FILE",
        help="One input a line; `-` is standard input. .csv gives a mapping for each row, .jsonl"
        " (.ndjson) a value for each line.",
    ),
    click.option(
        "--input-format", type=click.Choice(["lines", "jsonl", "csv"]),
        help="What --input holds, where its name does not say.",
    ),
    click.option("--raw", is_flag=True, help="Keep inputs strings, also where they are JSON."),
    click.option(
        "--unpack", is_flag=True, help="Call f(*input) with a list, f(**input) with a mapping."
    ),
    click.option("--skip-bad", is_flag=True, help="Go on without lines that cannot be read."),
)  # fmt: skip

outputs = stacked(
    click.option(
        "-f", "--format", type=click.Choice(["text", "jsonl"]), default="text",
        show_default=True, help="Values as `print` shows them, or a JSON record for each task.",
    ),
    click.option(
        "-o", "--output", cls=OneFile, metavar="FILE",
        help="Write results to FILE, complete or not at all, rather than to standard output,"
        " which is `-`.",
    ),
    click.option("--unordered", is_flag=True, help="Results as they come, not in input order."),
)  # fmt: skip

max_message = click.option(
    "--max-message", type=MESSAGE, default="64M", show_default=True, metavar="SIZE",
    help="Bytes of the largest input or result that is taken.",
)  # fmt: skip

keepalive = click.option(
    "--keepalive", type=KEEPALIVE, default="25", show_default=True, metavar="SECONDS",
    help="A machine that is silent for so long counts as gone, to the master and to its workers.",
)  # fmt: skip

journal = stacked(
    click.option(
        "--journal", cls=OneFile, metavar="FILE",
        help="Write every outcome to FILE before it is shown; the same command again goes on"
        " where this one stopped, however it did.",
    ),
    click.option(
        "--retry-failed", is_flag=True, help="With --journal: run the tasks again that failed."
    ),
)  # fmt: skip

failures = stacked(
    click.option(
        "--retries", type=COUNT, default=0, show_default=True, metavar="N",
        help="Further attempts at a task that raised or ran out of time.",
    ),
    click.option(
        "--retry-delay", type=SECONDS, default="0", metavar="SECONDS",
        help="How long to wait before each of them (500ms, 2s, 5m).",
    ),
    click.option(
        "--timeout", type=SECONDS, metavar="SECONDS",
        help="How long a task may run (30, 5m, 2h); its process is ended then.",
    ),
    click.option(
        "--max-deaths", type=POSITIVE, default=3, show_default=True, metavar="N",
        help="Worker processes that a task may take with it before it is failed.",
    ),
    click.option(
        "--max-failures", type=POSITIVE, metavar="N", help="Stop after so many failed tasks."
    ),
    click.option(
        "--fail-fast", is_flag=True,
        help="Stop after the first failed task; others that have begun may end unseen.",
    ),
    click.option(
        "--batch", type=POSITIVE, metavar="N",
        help="Tasks that go out together; by default as many as keep a worker busy for some"
        " 100 ms.",
    ),
    click.option("--init", metavar="TASK", help="Called once in each worker process first."),
)  # fmt: skip
