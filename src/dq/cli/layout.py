"""The layout of help: options in groups, one line each, with rare ones only in --help-all.

The definition of an option says which group it belongs to, and whether it is rare.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

INPUT, OUTPUT, JOB, FAILURES, WORKERS = "Input", "Output", "Job", "Failures", "Workers"
CONNECTION, SECURITY, OTHER = "Connection", "Security", "Other"
GROUPS = (INPUT, OUTPUT, JOB, FAILURES, WORKERS, CONNECTION, SECURITY, OTHER)
SERVICE_PORTS = ("tcp://", "udp://", "sctp://")  # how Kubernetes begins a service's port
NAMES_WIDTH = 26  # the most: the text of longer names starts on the next line

EXIT_CODES = {
    0: "success",
    1: "a task failed",
    2: "usage",
    3: "cannot connect, bind or authenticate",
    4: "stopped early",
    130: "interrupted",
}


class Option(click.Option):
    """An option with its group in help.

    Args:
        group: one of `GROUPS`.
        rare: whether only ``--help-all`` shows it.
        help: one line of at most 50 characters, its default included where that is shown.
        more: additional text for ``--help-all`` and the reference.
    """

    def __init__(
        self, *args: Any, group: str, rare: bool = False, more: str = "", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.group = group
        self.rare = rare
        self.more = more

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The value of its environment variable, unless Kubernetes has set that. For a service
        `dq-master`, Kubernetes sets DQ_MASTER_PORT=tcp://10.96.0.5:5000 in every pod next to it."""
        value = super().resolve_envvar_value(ctx)
        is_port = self.name is not None and self.name.endswith("port")
        return None if value and is_port and value.startswith(SERVICE_PORTS) else value


def option(
    *names: str, group: str, cls: type[Option] = Option, **attributes: Any
) -> Callable[[F], F]:
    """Like `click.option`, but makes an `Option`."""
    return click.option(*names, group=group, cls=cls, **attributes)


class Command(click.Command):
    """A command whose help shows its options in groups."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            Option(
                ["--help-all"], group=OTHER, is_flag=True, is_eager=True, expose_value=False,
                allow_from_autoenv=False, callback=_show_all,
                help="Show the rare options as well, and exit.",
            )
        )  # fmt: skip

    def invoke(self, ctx: click.Context) -> Any:
        """Call it, with garbage collection, which `dq.__main__` has turned off."""
        gc.enable()
        return super().invoke(ctx)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """With ``--help`` right before ``--help-all``."""
        params = super().get_params(ctx)
        return sorted(params, key=lambda param: param.name == "help_all")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        in_full = _is_in_full(ctx)
        options = [
            param
            for param in self.get_params(ctx)
            if isinstance(param, click.Option) and is_shown(param, in_full)
        ]
        width = min(max(len(names(option, in_full)) for option in options), NAMES_WIDTH)
        for title, group in grouped(options):
            with formatter.section(title):
                formatter.write_dl(
                    [
                        (names(option, in_full).ljust(width), text(option, in_full))
                        for option in group
                    ],
                    col_max=NAMES_WIDTH,
                )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        prefix = ctx.auto_envvar_prefix
        codes = ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
        formatter.write_paragraph()
        formatter.write_text(f"Exit codes: {codes}.")
        has = {param.name for param in self.params}
        key = "; DQ_AUTHKEY or DQ_AUTHKEY_FILE the key" if "authkey" in has else ""
        server = "; DQ_SERVER the master" if "server" in has else ""
        end = f"{key}{server}."
        formatter.write_text(f"Environment: {prefix}_OPTION sets --option ({prefix}_DEBUG=1){end}")


def _show_all(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta[__name__] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


def _is_in_full(ctx: click.Context) -> bool:
    return bool(ctx.meta.get(__name__))


def is_shown(option: click.Option, in_full: bool) -> bool:
    return not option.hidden and (in_full or not getattr(option, "rare", False))


def grouped(options: Iterable[click.Option]) -> Iterable[tuple[str, list[click.Option]]]:
    """Options by group, with rare ones last. Options of click itself (``--help``) are under
    Other."""
    ordered = sorted(options, key=lambda option: getattr(option, "rare", False))
    for title in GROUPS:
        group = [option for option in ordered if getattr(option, "group", OTHER) == title]
        if group:
            yield title, group


def names(option: click.Option, in_full: bool) -> str:
    """The names of an option, with its value: the first short and long name, or all of them.

    >>> names(click.Option(["-w", "--workers", "-j", "--jobs"], metavar="N"), False)
    '-w, --workers N'
    """
    short = [name for name in option.opts if not name.startswith("--")]
    long = [name for name in option.opts if name.startswith("--")]
    shown = [*short, *long] if in_full else [*short[:1], *long[:1]]
    joined = ", ".join(shown) + "".join(f"/{name}" for name in option.secondary_opts)
    return f"{joined} {value(option)}".rstrip()


def value(option: click.Option) -> str:
    """The placeholder for an option's value; "" for a flag."""
    if option.is_flag:
        return ""
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return (option.name or "").upper()


def default(option: click.Option) -> str:
    """The default of an option as help shows it; "" if there is none to show."""
    if option.is_flag:
        return option.opts[0] if option.secondary_opts and option.default is True else ""
    # Some versions of click have a special value for "no default".
    known = isinstance(option.default, (str, int, float)) and option.default != ""
    return str(option.default) if known else ""


def text(option: click.Option, in_full: bool) -> str:
    """The description of an option, on one line or in full."""
    shown = default(option) if in_full or option.show_default else ""
    parts = [option.help or "", getattr(option, "more", "") if in_full else ""]
    return " ".join(part for part in [*parts, f"[{shown}]" if shown else ""] if part)
