"""The task processes that a master starts itself, and the thread that supervises them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.served_job import ServedJob
from dq.errors import BadTask
from dq.master.serving import Serving
from dq.worker.child import Child
from dq.worker.plan import Plan
from dq.worker.process_options import ProcessOptions
from dq.worker.supervisor import Supervisor

SHUTDOWN_TIMEOUT_S = 5.0  # for workers to leave when the master has finished
JOIN_INTERVAL_S = 0.05  # between two looks at whether they only have to end


class LocalWorkers:
    """Starts, supervises and ends a master's own task processes.

    Args:
        options: how many, and with what limits.
        dispatcher: its readers are woken when the processes cannot go on.
        report: called with each line that people should see.

    Attributes:
        started_ahead: task processes that were started before the master; it uses them first.
        sharing: how many processes the machine's CPUs are for.
        stderr: see `Plan`.
    """

    def __init__(
        self, options: ProcessOptions, dispatcher: Dispatcher, report: Callable[[str], None]
    ) -> None:
        self.count = options.count
        self.started_ahead: list[Child] | None = None
        self.sharing = options.count
        self.stderr: Callable[[], int] | None = None
        self._options = options
        self._dispatcher = dispatcher
        self._report = report
        self._are_all = False  # whether no others can come
        self._supervisor: Supervisor | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, serving: Serving) -> None:
        """Start them, if there are to be any."""
        if not self.count:
            return
        plan = Plan(
            address=serving.local_address,
            authkey=serving.authkey,
            processes=self._options,
            inherit=True,
            sharing=self.sharing,
            # They connect to where this process listens, which its certificate need not name.
            tls=replace(serving.tls, check_name=False),
            stderr=self.stderr,
        )
        self._supervisor = Supervisor(plan, self._report, self.started_ahead)
        self._dispatcher.presence.local_group = self._supervisor.group
        self._are_all = not serving.has_port
        if self._are_all:
            self._dispatcher.rejections.own_group = self._supervisor.group
        self._thread = threading.Thread(
            target=self._supervise, args=(self._supervisor,), name="dq-supervisor", daemon=True
        )
        self._thread.start()

    def _supervise(self, supervisor: Supervisor) -> None:
        try:
            supervisor.connect(0.0)
            supervisor.run()
        except BaseException as error:
            self._error = error
            self._dispatcher.delivery.wake_readers()

    def check(self, served: ServedJob | None = None) -> None:
        """Raise what keeps them from working, where nobody else could work in their place.

        Args:
            served: a job; None to look at no job's refusals.
        """
        if self._error is not None:
            raise self._error
        if served is None or not self._are_all or self._supervisor is None:
            return
        reason = served.job.rejected.get(self._supervisor.group)
        if reason is not None:
            raise BadTask(reason)

    def quit(self) -> None:
        """End them now; another thread waits for that."""
        if self._supervisor is not None:
            self._supervisor.quit()

    def join(self) -> None:
        """Wait for them to leave, once the master has finished, and end those that do not."""
        if self._thread is None or self._supervisor is None:
            return
        self._thread.join(SHUTDOWN_TIMEOUT_S)
        # A process that has no more to do but to end takes no longer than its `grace`.
        while self._thread.is_alive() and self._supervisor.only_leaving:
            self._thread.join(JOIN_INTERVAL_S)
        if self._thread.is_alive():
            self._supervisor.quit()
            self._thread.join()

    def after_fork(self) -> None:
        """Close what this process has of them: only its parent can wait for them."""
        if self._supervisor is not None:
            self._supervisor.after_fork()
