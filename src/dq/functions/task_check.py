"""Checks of a task and an initializer on the master, before workers are sent them."""

from __future__ import annotations

import sys

from dq.errors import UsageError
from dq.functions import loading, module_versions, reference, signatures
from dq.functions.forked_checks import checks
from dq.functions.reference import Function, TaskRef


def checked(task: str | Function, *, unpack: bool = False) -> TaskRef:
    """Check a task, and return where workers find it.

    Raises:
        BadTask: it cannot be loaded, called or sent.
    """
    check(task, unpack=unpack)
    return reference.refer(task)


def check(task: str | Function, *, unpack: bool = False) -> None:
    """Refuse a task that cannot be found here, or not be called with one input.

    Raises:
        BadTask: it cannot be loaded, or called.
    """
    if isinstance(task, str):
        file = str(checks(task, _check_path, task, unpack))
        module_versions.remember_file(reference.parse(task), file)
        refuse_gevent()
    else:
        signatures.check_call(task, reference.label_of(task), unpack=unpack)


def check_ahead(task: str, *, unpack: bool = False) -> None:
    """Begin the same check in the fork of a command, which meanwhile does something else."""
    checks.ask(_check_path, task, unpack)


def _check_path(task: str, unpack: bool) -> str:
    ref = reference.parse(task)
    if not module_versions.has_changed(ref):  # otherwise only workers know what is in it now
        signatures.check_call(loading.load(ref), str(ref), unpack=unpack)
        module_versions.seen(ref)
    return module_versions.file_of(ref)


def check_initializer(initializer: str | Function) -> None:
    """Refuse an initializer that cannot be found here, called without arguments or sent.

    Raises:
        BadTask: one of these is the case.
    """
    ref = reference.refer(initializer)
    if isinstance(initializer, str):
        checks(str(ref), _check_initializer_path, ref)
    else:
        signatures.check_init(initializer, ref)


def _check_initializer_path(ref: TaskRef) -> None:
    signatures.check_init(loading.load(ref), ref)


def refuse_gevent() -> None:
    """Refuse to work where gevent has replaced threads, because a master would hang.

    Raises:
        UsageError: gevent has patched this process.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        raise UsageError(
            "gevent has patched this process, and a master needs threads as they are: patch with"
            " thread=False, or have the master in a process that does not import what patches"
        )
