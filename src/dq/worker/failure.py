"""Describes the exceptions of tasks."""

from __future__ import annotations

import os
import traceback

from dq.core.records import LONGEST_NAME, LONGEST_TEXT, Failure

_HERE = os.path.dirname(__file__)


class BadItem(Exception):
    """Raised in place of calling a function with an input that could not be read."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


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
        text = "".join(traceback.format_exception(type(error), error, frames))
    except BaseException:
        text = ""
    return Failure(kind[:LONGEST_NAME], message[:LONGEST_TEXT], text[-LONGEST_TEXT:])


def _is_own(file: str) -> bool:
    """Whether a frame belongs to dq's calling code, which is at the top of each traceback."""
    return os.path.dirname(file) == _HERE
