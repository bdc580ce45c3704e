"""Passes the calling program's logging set-up on to the task processes that it starts.

A script usually sets up logging in its main part, which task processes do not run. Without this,
messages that tasks log would be lost.
"""

from __future__ import annotations

import sys

from dq._support.frozen import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    import logging


@frozen
class Setup:
    """How to log to standard error.

    Args:
        level: the root logger's.
        levels: those of the other loggers that have a level.
        least: the handler's own level.
        form, dates: its formatter's two formats; None for the defaults.
        style: how the first is written: "%", "{" or "$".
    """

    level: int
    levels: dict[str, int]
    least: int
    form: str | None
    dates: str | None
    style: str


def setup() -> Setup | None:
    """How this process logs to standard output or error; None if it does not."""
    logging = sys.modules.get("logging")
    if logging is None:
        return None
    for handler in logging.root.handlers:
        stream = getattr(handler, "stream", None)
        if isinstance(handler, logging.StreamHandler) and stream in (sys.stderr, sys.stdout):
            return _setup(handler)
    return None


def _setup(handler: logging.Handler) -> Setup:
    import logging  # has been imported already

    loggers = list(logging.root.manager.loggerDict.items())
    levels = {name: one.level for name, one in loggers if isinstance(one, logging.Logger)}
    form, dates, style = None, None, "%"
    # A subclass may format in another way, and may be missing in a task process.
    if type(handler.formatter) is logging.Formatter:
        form, dates = handler.formatter._fmt, handler.formatter.datefmt
        style = _style(handler.formatter)
    return Setup(
        logging.root.level,
        {name: level for name, level in levels.items() if level},
        handler.level,
        form,
        dates,
        style,
    )


def _style(formatter: logging.Formatter) -> str:
    import logging

    styles: dict[object, str] = {kind: style for style, (kind, _) in logging._STYLES.items()}
    return styles.get(type(formatter._style), "%")


def apply(setup: Setup) -> None:
    """Log to standard error in this process as another process does."""
    import logging  # here, since few programs log

    handler = logging.StreamHandler()
    handler.setLevel(setup.least)
    handler.setFormatter(logging.Formatter(setup.form, setup.dates, setup.style))  # type: ignore[arg-type]
    logging.root.addHandler(handler)
    logging.root.setLevel(setup.level)
    for name, level in setup.levels.items():
        logging.getLogger(name).setLevel(level)
