"""Checks a run's files: the format of the output, and that no file is used for two purposes."""

from __future__ import annotations

import os
from typing import Any

from dq.data import outputs
from dq.data.output_file import part_of
from dq.errors import UsageError


def output_format(given: dict[str, Any]) -> str:
    """The format of the results."""
    form: str = given["format"] or outputs.format_of(given["output"])
    if suffix := outputs.compressed_suffix_of(given["output"]):
        raise UsageError(f"-o writes no {suffix} files: leave it out, and pipe results to a packer")
    if given["fill"] is not None:
        _check_fill(given["fill"], form, given)
    return outputs.NUL_ENDED if form == "text" and given["null"] else form


def _check_fill(fill: str, form: str, given: dict[str, Any]) -> None:
    if form != "text":
        raise UsageError("--fill goes with --format text: in jsonl a failed task has a record")
    if "\n" in fill and not given["null"]:
        raise UsageError("--fill has more than one line: lines would not match the inputs")


def check_files(given: dict[str, Any]) -> None:
    """Refuse to use one file for two purposes. The run would overwrite one content with the other,
    or read what it has just written."""
    used = {_code_of(given["task"]): "task"}
    if given["journal"] is not None:
        path = os.path.realpath(given["journal"])
        used |= dict.fromkeys((path + end for end in ("", "-wal", "-shm")), "journal")
    for name in ("output", "failures"):
        path = given[name] or "-"
        if path == "-":
            continue
        for taken in (os.path.realpath(path), part_of(os.path.realpath(path))):
            _claim(used, taken, given, name)
    if given["failures"] == "-" and (given["output"] or "-") == "-":
        raise UsageError("--failures - is where the results go: give -o FILE, or --failures FILE")
    used.pop(_code_of(given["task"]))  # it may be an input
    # At the end, the output may replace the input that it was made from, and the records of
    # failures may be replaced by those of tasks that failed again.
    named = ("output", "failures") if given["field"] else ("output",)
    own = {os.path.realpath(given[name]) for name in named if given[name]}
    for read in given["input"] or ():
        if read != "-" and os.path.realpath(read) not in own:
            _claim(used, os.path.realpath(read), {**given, "input": read}, "input")


def _code_of(task: str) -> str:
    """The file of a TASK's module, if the module is below the current folder."""
    where = task.rpartition(":")[0]
    return os.path.realpath(where if where.endswith(".py") else f"{where.replace('.', '/')}.py")


def _claim(used: dict[str, str], path: str, given: dict[str, Any], name: str) -> None:
    other = used.setdefault(path, name)
    if other == "task":
        raise UsageError(
            f"--{name} {given[name]} would replace the code of {given['task']}: give another file"
        )
    if other == "journal":
        raise UsageError(
            f"--{name} {given[name]} is a file of the journal {given['journal']}: give another"
            f" --{name}"
        )
    if other != name:
        raise UsageError(
            f"--{name} {given[name]} and --{other} {given[other]} are one file: give two"
        )
