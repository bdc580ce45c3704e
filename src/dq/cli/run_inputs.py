"""The inputs of a run: INPUTs, or the contents of the files of `--input`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from dq._support.frozen import frozen
from dq.cli.counting import Counter
from dq.cli.options import is_typed
from dq.cli.selection import Selection
from dq.core.records import Reading
from dq.data.formats import format_of
from dq.data.input_files import InputFiles
from dq.errors import UsageError


@frozen
class RunInputs:
    """The inputs of a run: where they come from, how many there are, and where each of them is.

    Args:
        reading: how workers turn them into values.
        text: the files that they are read from; None for arguments.
        counter: counts them ahead of the run, if that is possible.
        selection: those that are run; None for all. `items` has no others.
    """

    items: Iterable[bytes]
    reading: Reading
    text: InputFiles | None = None
    counter: Counter | None = None
    selection: Selection | None = None

    def place(self, index: int) -> str:
        """The place of an input, for messages."""
        return self.line(index) or f"the input of task {index}"

    def line(self, index: int) -> str:
        """The file and line of an input that comes from a file."""
        return "" if self.text is None else self.text.place(index)

    @property
    def name(self) -> str:
        """The name of what they are read from."""
        return "the inputs" if self.text is None else self.text.name

    def count(self) -> int | None:
        """How many are run; None if they have not been counted."""
        if self.selection is not None:
            return self.selection.count
        return None if self.counter is None else self.counter.total

    def start_counting(self) -> None:
        """Count them in the background."""
        if self.counter is not None:
            self.counter.start()

    def stop_counting(self) -> None:
        """Stop counting."""
        if self.counter is not None:
            self.counter.stop()


def run_inputs(given: dict[str, Any]) -> RunInputs:
    """The inputs that the options ask for."""
    inputs = _all_inputs(given)
    if not given["only"]:
        return inputs
    if given["journal"] is not None:
        raise UsageError(
            "--only goes with no journal, which has the outcomes of all inputs from the first on:"
            " leave out --journal or --only"
        )
    selection = Selection(given["only"])
    chosen: Iterable[bytes] = selection.of(inputs.items)
    if inputs.text is None:
        chosen = list(chosen)  # at once, since all of them are known
    return RunInputs(chosen, inputs.reading, inputs.text, selection=selection)


def _all_inputs(given: dict[str, Any]) -> RunInputs:
    # End arguments like lines, so that workers cut off this end and not a newline that belongs to
    # the argument.
    arguments = [os.fsencode(argument) + b"\r\n" for argument in given["inputs"]]
    if given["input"] is None:
        for name in ("input_format", "delimiter", "skip_bad", "field"):
            if is_typed(name):
                option = name.replace("_", "-")
                raise UsageError(f"--{option} goes with --input FILE, and INPUTs are given instead")
        return RunInputs(arguments, Reading("raw" if given["raw"] else "lines"))
    if arguments:
        raise UsageError("INPUTs and --input together: give the one or the other")

    def opened() -> InputFiles:
        return InputFiles(
            given["input"], _input_format(given), delimiter=given["delimiter"], raw=given["raw"],
            field=given["field"] or "",
        )  # fmt: skip

    text = opened()
    counter = Counter(opened) if text.can_be_counted else None
    return RunInputs(text, text.reading, text, counter)


def _input_format(given: dict[str, Any]) -> str | None:
    """The format in the options; None to go by the names of the files."""
    if given["null"] and given["input_format"] not in (None, "lines", "null"):
        raise UsageError(
            f"--null and --input-format {given['input_format']}: give the one or the other"
        )
    if given["null"] and given["input_format"] is None:
        for path in given["input"]:
            if (other := format_of(path)) != "lines":
                raise UsageError(
                    f"--null goes with names that end in NUL, and {path} is read as {other}: leave"
                    " it out, or give --input-format null"
                )
    return "null" if given["null"] else given["input_format"]
