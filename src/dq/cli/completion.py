"""What the Tab key offers for values: files, folders, and the functions of a file of Python.

A shell completes files itself where it is asked to; without that, it would offer none to a
program that has completions of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dq.functions.suggestions import functions_in

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Path(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic in new clicks
    """The name of a file or folder; whoever opens it says what is wrong with it."""

    def __init__(self, kind: str) -> None:
        self.name = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return _paths(incomplete, self.name)


class Task(Path):
    """A file, and after a colon one of its functions."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        module, colon, name = incomplete.rpartition(":")
        if not colon:
            return _paths(incomplete, "file")
        return _plain(f"{module}:{found}" for found in functions_in(module, name))


class Input(Path):
    """A file, as an input often is the name of one; or the end of the TASK before it, since bash
    takes what is on either side of a colon, and the colon, for words of their own."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        task, inputs = ctx.params.get("task"), ctx.params.get("inputs") or ()
        if task and inputs == () and incomplete == ":":
            return _plain(functions_in(task))
        if task and inputs == (":",):
            return _plain(functions_in(task, incomplete))
        return _paths(incomplete, "file")


FILE = Path("file")
FOLDER = Path("dir")
TASK = Task("task")
INPUT = Input("input")


def _paths(incomplete: str, kind: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem  # here, since only the Tab key needs it

    return [CompletionItem(incomplete, type=kind)]


def _plain(names: Any) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in names]
