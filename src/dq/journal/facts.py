"""The facts that identify a journal's run, so that it is never used for another one."""

from __future__ import annotations

from collections.abc import Mapping

from dq._support.naming import setting
from dq.core.records import Reading
from dq.data.decoding import INPUT_KINDS
from dq.errors import BadJournal

Facts = Mapping[str, str]


def facts(
    task: object,
    code: str = "",
    *,
    reading: Reading,
    output: str,
    unpack: bool,
    origin: str = "",
    version: str = "",
) -> Facts:
    """The facts about a run on which its results depend.

    Args:
        task: its import path, or its name.
        code: for a task without an import path, a digest of its code.
        reading: how the inputs are read.
        output: the format of the results.
        unpack: whether inputs are unpacked into arguments.
        origin: where a command's inputs come from, "arguments" or "a file".
        version: of the task's file. If it differs, a message says so, and the run continues.
    """
    about = {"task": str(task), "inputs": reading.kind, "output": output, "unpack": str(unpack)}
    if code:
        about["code"] = code
    if INPUT_KINDS[reading.kind].has_columns:
        about |= {"columns": ", ".join(map(repr, reading.fields)), "raw": str(reading.raw)}
    if reading.delimiter != ",":
        about["delimiter"] = reading.delimiter
    if reading.field:
        about["field"] = reading.field
    if origin:
        about["origin"] = origin
    if version:
        about["version"] = version
    return about


# Only the first difference is shown, so the most helpful ones come first.
COMPARED = ("task", "inputs", "output", "unpack", "raw", "columns", "delimiter", "field")


def compare(path: str, then: Facts, now: Facts) -> None:
    """Check that a journal belongs to this run.

    Raises:
        BadJournal: it does not.
    """
    another = f"give another {setting('journal')}"
    moved = then.get("origin") not in (None, now.get("origin"))
    for key in COMPARED:
        if then.get(key) != now.get(key):
            places = [
                f" from {facts['origin']}" if moved and key == "inputs" else ""
                for facts in (then, now)
            ]
            raise BadJournal(
                f"{path} is the journal of another run, with {key} {then.get(key)}{places[0]} where"
                f" this one has {now.get(key)}{places[1]}; {another}"
            )
    if moved:
        raise BadJournal(
            f"{path} is the journal of inputs from {then.get('origin')}, and this run's are from"
            f" {now.get('origin')}: give the same inputs in the same way, or {another}"
        )
    if then.get("code") != now.get("code"):
        raise BadJournal(
            f"{path} was made with another {now['task']}: its code, its constants or what it refers"
            f" to have changed since; {another}"
        )
