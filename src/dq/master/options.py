"""The keyword arguments of `Master`, for the calls that pass them on."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypedDict

from dq.functions.reference import Function

StrPath = str | os.PathLike[str]


class CallOptions(TypedDict, total=False):
    """The fields of `TaskOptions`, `ProcessOptions`, `ServerOptions` and `TlsOptions` that
    `Executor` accepts in addition to its own arguments."""

    threads: int
    retries: int
    retry_delay: float
    timeout: float | None
    max_deaths: int
    max_failures: int | None
    max_tasks: int | None
    max_memory: int | None
    grace: float
    preload: Sequence[str]
    unpack: bool
    strict_code: bool
    batch: int | None
    rate: float | str | None
    needs: str | Collection[str]
    speculate: bool
    tags: str | Collection[str]
    max_message: int
    keepalive: int
    tls: str
    tls_cert: StrPath | None
    tls_key: StrPath | None
    tls_ca: StrPath | None
    report: Callable[[str], None] | None


class Options(CallOptions, total=False):
    """The same that `run` and `run_master` accept."""

    initializer: str | Function | None


def check_names(call: str, given: Mapping[str, object], kind: type) -> None:
    """Refuse a keyword argument that a call does not know.

    Args:
        call: its name.
        given: its keyword arguments.
        kind: which of these there are.

    Raises:
        TypeError: it does not; the message names both.

    >>> check_names("run", {"timout": 3}, Options)
    Traceback (most recent call last):
    TypeError: run() got an unexpected keyword argument 'timout'
    """
    unknown = [name for name in given if name not in kind.__annotations__]
    if unknown:
        raise TypeError(f"{call}() got an unexpected keyword argument {unknown[0]!r}")
