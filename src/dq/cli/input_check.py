"""Checks the first inputs of a run as the run would read them, without calling anything."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

from dq._support.frozen import frozen
from dq.cli.failures import named
from dq.cli.run_inputs import RunInputs
from dq.core.records import Failure
from dq.data.batches import dump
from dq.data.decoding import Decoder
from dq.data.encoding import encode
from dq.data.pieces import BadValue
from dq.errors import BadInput
from dq.functions.binding import Fit, fit_of
from dq.functions.forked_checks import checks
from dq.functions.reference import TaskRef

CHECKED = 100  # inputs of a file
COUNT_TIMEOUT_S = 2.0  # to count all inputs of a file


@frozen
class Checked:
    """What is known of a run's inputs.

    Args:
        lines: the first ones, which were read.
        total: how many there are; None if that is not known.
        skipped: how many of those that were read cannot be decoded, and would be skipped.
        fit: whether the others fit the function; None if the function cannot be imported here.
        problem: the first task that would fail, and why; "" where none was found.
    """

    lines: list[bytes]
    total: int | None
    skipped: int
    fit: Fit | None
    problem: str = ""


def check_inputs(
    source: RunInputs, given: dict[str, Any], ref: TaskRef, *, importable: bool
) -> Checked:
    """Read the first inputs, decode and pickle them, and bind them to the function's arguments.

    Args:
        source: the inputs.
        given: the command's options.
        ref: the function.
        importable: whether it can be imported here.

    Raises:
        BadInput: an input cannot be read.
        BadTask: the function cannot be loaded.
    """
    lines = list(islice(source.items, None if source.text is None else CHECKED))
    numbers = list(islice(_numbers(source), len(lines)))
    values = Decoder(source.reading).decode(dump(lines), 0, len(lines))
    good = [(number, value) for number, value in zip(numbers, values, strict=True)]
    for number, value in list(good):
        if isinstance(value, BadValue):
            if not given["skip_bad"]:
                raise BadInput(f"{source.place(number)} {value.failure.message}")
            good.remove((number, value))
    fit = _fit(ref, given["unpack"], [value for _, value in good]) if importable else None
    return Checked(
        lines=lines,
        total=_total(source, len(lines)),
        skipped=len(lines) - len(good),
        fit=fit,
        problem=_too_large(source, lines, numbers, given["max_message"])
        or _misfit(source, good, ref, fit),
    )


def _fit(ref: TaskRef, unpack: bool, values: list[object]) -> Fit:
    """Whether inputs fit the function, which the fork has imported."""
    fit = checks(str(ref), fit_of, ref, unpack, values)
    assert isinstance(fit, Fit)
    return fit


def _numbers(source: RunInputs) -> Iterator[int]:
    """The numbers of the inputs, in order."""
    if source.selection is None:
        return count()
    return (number for span in source.selection.spans for number in range(*span))


def _total(source: RunInputs, checked: int) -> int | None:
    """How many inputs there are, if they are all read already or can soon be counted."""
    if source.text is None or (source.selection is None and checked < CHECKED):
        return checked
    if source.selection is not None:
        return source.selection.count
    source.start_counting()
    deadline = time.monotonic() + COUNT_TIMEOUT_S
    while source.counter is not None and source.count() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    source.stop_counting()
    return source.count()


def _too_large(source: RunInputs, lines: list[bytes], numbers: list[int], limit: int) -> str:
    """What is wrong with the first input that cannot be sent; "" if all can be."""
    place = 0
    for some, blob in encode(list(lines), limit):
        if isinstance(blob, Failure):
            name = named(numbers[place], place=source.line(numbers[place]), known=False)
            return f"{name} would fail: {blob.type}: {blob.message}"
        place += some
    return ""


def _misfit(
    source: RunInputs, good: list[tuple[int, object]], ref: TaskRef, fit: Fit | None
) -> str:
    if fit is None or fit.misfit is None:
        return ""
    number, value = good[fit.misfit]
    name = named(number, value, source.line(number))
    return f"{name} would fail: it does not fit {ref}{fit.signature}: {fit.why}"
