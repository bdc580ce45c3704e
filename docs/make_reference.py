"""Writes docs/reference: the commands from click's own records, the Python names from docstrings.

    python docs/make_reference.py

Nothing is taken from click's formatted help or from `inspect`'s formatted signatures, which
differ from version to version; a test compares the files with what this makes.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import dq
from dq import errors
from dq.cli import cli, layout

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Made by docs/make_reference.py; what stands here is written in the source. -->\n"

EXIT_CODES = {
    0: "every task succeeded; or a worker, or a master without inputs, was stopped (SIGTERM,"
    " SIGHUP)",
    1: "a task failed, or dq could not do what it was asked",
    2: "usage: an argument, option, task, input, journal or key cannot be used",
    3: "cannot connect, bind or authenticate",
    4: "stopped before the end: `--fail-fast`, `--max-failures`, SIGTERM, a closed terminal"
    " (SIGHUP), a master that was lost and did not come back, results that cannot be written",
    130: "interrupted with Ctrl-C; also a master or worker that was waiting for work",
}

# Public in the source, but for the modules of dq rather than for people.
INTERNAL = {("Executor", "after_fork")}


def pages() -> dict[str, str]:
    """The text of each file, by its name."""
    return {"cli.md": commands(), "python.md": python()}


# Commands


def commands() -> str:
    parts = [NOTE, "# Commands\n", prose(cli.help), cli_options(), variables(), exit_codes()]
    context = click.Context(cli, info_name="dq")
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        parts.append(of_command(name, command))
    return "\n".join(parts)


def cli_options() -> str:
    return (
        "Each command, and `dq` itself, has `--help` (`-h`), which shows the everyday options;"
        " `--help-all` shows all of a command's; `dq --version` shows the version.\n"
        "[How to](../how-to.md#complete-commands-with-tab) says how to complete them with Tab.\n"
    )


def variables() -> str:
    return (
        "## Environment\n\n"
        "Each option can be set by a variable, `DQ_<COMMAND>_<OPTION>`, which stands in the tables"
        " below; an option on the command line wins. A flag is set by `1` or `true`."
        " There are also:\n\n"
        "| variable | what it is |\n|---|---|\n"
        "| `DQ_AUTHKEY` | the key that master and workers share |\n"
        "| `DQ_AUTHKEY_FILE` | a file that holds it |\n"
        "| `XDG_CONFIG_HOME` | the folder of `dq/authkey`, where `dq keygen` puts the key;"
        " `~/.config` if not set |\n\n"
        "The key is looked for in this order: `--authkey`, `DQ_AUTHKEY`, `--authkey-file`,"
        " `DQ_AUTHKEY_FILE`, the file that `dq keygen` wrote, a question on the terminal.\n"
    )


def exit_codes() -> str:
    """The table, which fails to be made when an error has a code that is not in it."""
    kinds: dict[int, list[str]] = {code: [] for code in EXIT_CODES}
    for name, kind in sorted(vars(errors).items()):
        if isinstance(kind, type) and issubclass(kind, errors.DqError):
            kinds[kind.exit_code].append(f"`{name}`")
    rows = [
        f"| {code} | {meaning} | {', '.join(kinds[code])} |" for code, meaning in EXIT_CODES.items()
    ]
    return "\n".join(
        ["## Exit codes\n", "| code | meaning | from Python |", "|---|---|---|", *rows, ""]
    )


def of_command(name: str, command: click.Command) -> str:
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    options = [p for p in command.params if isinstance(p, click.Option)]
    assert all(isinstance(option, layout.Option) for option in options), "options have a group"
    usage = " ".join(["dq", name, "[OPTIONS]", *map(argument_name, arguments)])
    tables = [option_table(name, title, group) for title, group in layout.grouped(options)]
    return "\n".join(
        [
            f"## dq {name}\n",
            f"```text\n{usage}\n```\n",
            prose(command.help),
            *tables,
        ]
    )


def option_table(command: str, title: str, options: list[click.Option]) -> str:
    """A group of options as a table."""
    rows = [option_row(command, option) for option in options]
    return "\n".join([f"| {title} | what it does | variable |", "|---|---|---|", *rows, ""])


def argument_name(argument: click.Argument) -> str:
    if argument.metavar:
        return argument.metavar
    name = (argument.name or "").upper()
    name = name if argument.required else f"[{name}]"
    return f"{name}..." if argument.nargs == -1 else name


def option_row(command: str, option: click.Option) -> str:
    value = cell(layout.value(option))
    names = ", ".join(f"`{name} {value}`" if value else f"`{name}`" for name in option.opts)
    if option.secondary_opts:
        names += " / " + ", ".join(f"`{name}`" for name in option.secondary_opts)
    default = layout.default(option)
    text = " ".join(part for part in (option.help, getattr(option, "more", "")) if part)
    text += f" Default: `{default}`." if default else ""
    variable = option.envvar or f"DQ_{command}_{option.name}".upper()
    shown = f"`{variable}`" if option.allow_from_autoenv else ""
    return f"| {names} | {cell(text)} | {shown} |"


def cell(text: str) -> str:
    plain = " ".join(text.split()).replace("``", "`")
    return plain.replace("|", "\\|").replace("*", "\\*")


def prose(text: str | None) -> str:
    """A command's help; a paragraph that starts with a backspace is kept as it is."""
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    return "\n".join(
        f"```text\n{inspect.cleandoc(paragraph[1:])}\n```\n"
        if paragraph.startswith("\b")
        else paragraph + "\n"
        for paragraph in paragraphs
    )


# Python


def python() -> str:
    names = {name: getattr(dq, name) for name in dq.__all__}
    raised = {n: v for n, v in names.items() if isinstance(v, type) and issubclass(v, Exception)}
    calls = {n: v for n, v in names.items() if not isinstance(v, type)}
    kinds = {n: v for n, v in names.items() if n not in raised and n not in calls}
    parts = [NOTE, "# Python\n", "`import dq` has all of it.\n", "## Calls\n"]
    parts += [of_function(f"dq.{name}", call, "###") for name, call in calls.items()]
    parts += ["## Classes\n", *(of_class(name, kind) for name, kind in kinds.items())]
    parts += [of_errors(raised)]
    return "\n".join(parts)


def of_function(name: str, function: Any, level: str) -> str:
    return f"{level} {name}\n\n{signature(name, function)}\n{docstring(function)}"


def of_class(name: str, kind: type) -> str:
    parts = [f"### dq.{name}\n", signature(f"dq.{name}", kind), docstring(kind)]
    for member, value in vars(kind).items():
        if member.startswith("_") or (name, member) in INTERNAL:
            continue
        if isinstance(value, property) and value.__doc__:
            parts.append(f"#### {name}.{member}\n\n{docstring(value)}")
        elif inspect.isfunction(value) and value.__doc__:
            parts.append(of_function(f"{name}.{member}", value, "####"))
    return "\n".join(parts)


def of_errors(kinds: dict[str, Any]) -> str:
    rows = []
    for name, kind in kinds.items():
        first = inspect.cleandoc(kind.__doc__).splitlines()[0]
        base = kind.__bases__[0].__name__
        rows.append(f"| `{name}` | `{base}` | {kind.exit_code} | {cell(first)} |")
    head = ["## Errors\n", "| error | is a | exit code | |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def signature(name: str, function: Any) -> str:
    # Annotations are not evaluated anywhere in dq, so each is the text in the source.
    parameters = [
        p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")
    ]
    lines = list(parameter_lines(parameters))
    whole = f"{name}({', '.join(lines)})"
    if len(whole) > 80:
        whole = "\n".join([f"{name}(", *(f"    {line}," for line in lines), ")"])
    result = getattr(function, "__annotations__", {}).get("return")
    arrow = f" -> {result}" if result and not isinstance(function, type) else ""
    return f"```python\n{whole}{arrow}\n```\n"


def parameter_lines(parameters: list[inspect.Parameter]) -> Iterator[str]:
    keyword_only = False
    for p in parameters:
        if p.kind is p.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            yield "*"
        stars = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        annotation = "" if p.annotation is p.empty else f": {p.annotation}"
        default = "" if p.default is p.empty else f" = {p.default!r}"
        yield f"{stars}{p.name}{annotation}{default}"


SECTION = re.compile(r"^(Args|Returns|Raises|Yields):\s*(.*)$")
ENTRY = re.compile(r"^(?P<names>[\w, ]+?): (?P<text>.*)$")


def docstring(owner: Any) -> str:
    """A docstring as Markdown: sections become lists, examples become blocks."""
    lines = inspect.cleandoc(owner.__doc__ or "").splitlines()
    out: list[str] = []
    while lines:
        line = lines.pop(0)
        if line.startswith(">>>"):
            example = [line]
            while lines and lines[0].strip():
                example.append(lines.pop(0))
            out += ["```pycon", *example, "```"]
        elif found := SECTION.match(line):
            body = []
            while lines and (lines[0].startswith(" ") or not lines[0]):
                body.append(lines.pop(0))
            out += section(found[1], found[2], body)
        else:
            out.append(line.replace("``", "`"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out).strip()) + "\n"


def section(title: str, rest: str, body: list[str]) -> list[str]:
    entries: list[str] = []
    for line in inspect.cleandoc("\n".join(body)).replace("``", "`").splitlines():
        if line.startswith(" ") and entries:
            entries[-1] += " " + line.strip()
        else:
            entries.append(line)
    if title in ("Returns", "Yields"):
        return [f"{title}: {' '.join([rest, *entries]).strip()}", ""]
    items = []
    for entry in entries:
        found = ENTRY.match(entry)
        items.append(f"- `{found['names']}`: {found['text']}" if found else f"- {entry}")
    return [f"{title}:", "", *items, ""]


def main() -> int:
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
        print(REFERENCE / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
