"""Shell completion of values: files, folders, and the functions of a Python file.

A program with completions of its own has to ask the shell to complete files; otherwise the shell
offers none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dq.functions.suggestions import functions_in

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Path(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic in new clicks
    """The name of a file or folder. It is not checked here, but when it is opened."""

    def __init__(self, kind: str) -> None:
        self.name = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return _paths(incomplete, self.name)


class Task(Path):
    """A file and, after a colon, one of its functions."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        module, colon, name = incomplete.rpartition(":")
        if not colon:
            return _paths(incomplete, "file")
        return _plain(f"{module}:{found}" for found in functions_in(module, name))


class Input(Path):
    """A file, because inputs are often names of files; or the end of the TASK in front of it,
    because bash splits words at a colon."""

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
    from click.shell_completion import CompletionItem  # here, since only completion needs it

    return [CompletionItem(incomplete, type=kind)]


def _plain(names: Any) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in names]
