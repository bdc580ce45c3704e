"""The limits of task processes: time for a task, memory, and time to exit."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dq._support.naming import setting
from dq._support.usage import resident
from dq.errors import BadTask
from dq.worker import charges, groups
from dq.worker.cells import EXIT_CODES, LOAD_EXTRA_S, LOADING
from dq.worker.child import Child
from dq.worker.control import Control
from dq.worker.process_options import ProcessOptions

OVERDUE_S = 1.0  # beyond its grace period, before an exiting process is killed


class Limits:
    """Kills processes that are over a limit.

    Args:
        options: the limits.
        control: charges tasks.
        log: called with each line that people should see.
        are_all: whether the master has no other workers.
    """

    def __init__(
        self,
        options: ProcessOptions,
        control: Control,
        log: Callable[[str], None],
        *,
        are_all: bool,
    ) -> None:
        self._options = options
        self._are_all = are_all
        self._control = control
        self._log = log

    def enforce(self, children: Iterable[Child], now: float) -> None:
        """Kill processes that exceed the time for a task, the memory, or the time to exit.

        Raises:
            BadTask: loading a function takes too long, and there are no other workers.
        """
        for child in children:
            state = child.state
            if child.kill_reason:
                continue
            if state in EXIT_CODES:
                self._await_exit(child, now)
            elif state == LOADING:
                self._check_loading(child, now)
            else:
                self._check(child, now)

    def _check_loading(self, child: Child, now: float) -> None:
        reason = (
            f"has not loaded its function in the time limit of a task and {LOAD_EXTRA_S:g} s more:"
            f" what a module does when imported has to end ({setting('timeout')})"
        )
        found = list(charges.of_endless_loading(child, self._options.threads, now, reason))
        if not found:
            self._check(child, now)
            return
        if self._are_all:
            raise BadTask(f"task process {child.pid} {reason}")
        for charge in found:
            self._control.charge(charge)
        child.kill_reason, child.is_charged = reason, True
        self._control.send_charges()
        self._log(f"task process {child.pid} {reason}; replacing it")
        groups.kill(child.pid)

    def _check(self, child: Child, now: float) -> None:
        reason = "ran a task for too long"
        for charge in charges.of_overdue(child, self._options.threads, now, reason):
            child.kill_reason, child.is_charged = reason, True
            self._control.charge(charge)
        limit = self._options.max_memory
        if limit is not None and resident(child.pid) > limit:
            child.kill_reason = f"grew past {limit} bytes of memory"
        if child.kill_reason:
            self._control.send_charges()  # before the task is given to others
            groups.kill(child.pid)

    def _await_exit(self, child: Child, now: float) -> None:
        """Kill an exiting process that does not end in time."""
        grace = self._options.grace
        if not child.exiting_since:
            child.exiting_since = now
        elif now - child.exiting_since > grace + OVERDUE_S:
            child.kill_reason = "has not left"
            self._log(f"task process {child.pid} did not exit within {grace:g} s, and is ended")
            groups.kill(child.pid)
