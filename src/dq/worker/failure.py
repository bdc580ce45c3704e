"""Makes outcomes of the exceptions of tasks."""

from __future__ import annotations

import os
import traceback
from types import CodeType, TracebackType

from dq.core.records import LONGEST_NAME, LONGEST_TEXT, Failed, Failure
from dq.data import outputs

_HERE = os.path.dirname(__file__)


class BadItem(Exception):
    """Raised in place of calling a function with an input that could not be read."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


def failed(error: BaseException, form: str, seconds: float = 0.0) -> Failed:
    """The outcome of a task that raised.

    Args:
        error: what it raised.
        form: of the job's results. The exception itself goes along only where it is raised again.
        seconds: how long the task ran.
    """
    if isinstance(error, BadItem):
        return Failed(error.failure, seconds, retry=False)
    failure = describe(error)
    if not outputs.has_exceptions(form):
        return Failed(failure, seconds)
    from dq.data import exceptions  # here to keep start-up fast: few tasks fail

    return Failed(failure, seconds, exception=exceptions.dump(error))


def describe(error: BaseException) -> Failure:
    """Describe an exception, even if the methods of its class fail."""
    if isinstance(error, BadItem):
        return error.failure
    kind = str.__str__(type(error).__qualname__)
    try:
        message = str.__str__(str(error))  # the master may not know its subclass of str
    except BaseException as second:
        message = f"<its str() raised {type(second).__qualname__}>"
    try:
        frames = error.__traceback__
        while frames is not None and _is_own(frames.tb_frame.f_code.co_filename):
            frames = frames.tb_next
        text = _text_of(error, frames)
    except BaseException:
        text = ""
    return Failure(kind[:LONGEST_NAME], message[:LONGEST_TEXT], text[-LONGEST_TEXT:])


MOST_STACKS = 100  # that are kept formatted,
MOST_FRAMES = 50  # each with at most so many frames


class _Stack(traceback.StackSummary):
    """A stack that is formatted once. Since Python 3.11, which parses each line to mark a part of
    it, that takes two thirds of the time of a task that just fails, and many fail alike."""

    lines: list[str] | None = None
    codes: list[CodeType]  # kept, so that no other code gets their ids

    def format(self, **options: object) -> list[str]:
        if self.lines is None:
            self.lines = super().format()
        return self.lines


_stacks: dict[tuple[int, ...], _Stack] = {}  # by the codes and instructions of their frames


def _text_of(error: BaseException, frames: TracebackType | None) -> str:
    """The same as `traceback.format_exception` has."""
    parts = traceback.TracebackException(type(error), error, frames, compact=True)
    codes, key = [], []
    while frames is not None:
        code = frames.tb_frame.f_code
        codes.append(code)
        key += [id(code), frames.tb_lasti]
        frames = frames.tb_next
    if len(codes) > MOST_FRAMES:
        return "".join(parts.format())
    stack = _stacks.get(tuple(key))
    if stack is None:
        stack = _Stack(parts.stack)
        stack.codes = codes
        if len(_stacks) >= MOST_STACKS:
            _stacks.clear()
        _stacks[tuple(key)] = stack
    parts.stack = stack
    return "".join(parts.format())


def _is_own(file: str) -> bool:
    """Whether a frame belongs to dq's calling code, which is at the top of each traceback."""
    return os.path.dirname(file) == _HERE
