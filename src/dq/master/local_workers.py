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
from dq.worker.spawn import Spawner
from dq.worker.supervisor import Supervisor

SHUTDOWN_TIMEOUT_S = 5.0  # for workers to leave when the master has finished
JOIN_INTERVAL_S = 0.05  # between two checks whether they are all exiting


class LocalWorkers:
    """Starts, supervises and ends a master's own task processes.

    Args:
        options: how many, and with what limits.
        dispatcher: its readers are woken if the supervisor fails.
        report: called with each line that people should see.

    Attributes:
        count, threads: as in the options.
        started_ahead: task processes that were started before the master; it uses them first.
        spawner: starts the others; None for one of their own.
        sharing: how many processes share the machine's CPUs.
        stderr, output: see `Plan`.
    """

    def __init__(
        self, options: ProcessOptions, dispatcher: Dispatcher, report: Callable[[str], None]
    ) -> None:
        self.count = options.count
        self.threads = options.threads
        self.started_ahead: list[Child] | None = None
        self.spawner: Spawner | None = None
        self.sharing = options.count
        self.stderr: Callable[[], int] | None = None
        self.output = "own"
        self._options = options
        self._dispatcher = dispatcher
        self._report = report
        self._are_all = False  # whether no remote workers can join
        self._supervisor: Supervisor | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, serving: Serving) -> None:
        """Start them, if there are any to start."""
        if not self.count:
            return
        self._are_all = not serving.has_port
        plan = Plan(
            address=serving.local_address,
            authkey=serving.authkey,
            processes=self._options,
            inherit=True,
            sharing=self.sharing,
            # They connect to a local address, which the certificate need not name.
            tls=replace(serving.tls, check_name=False),
            stderr=self.stderr,
            are_all=self._are_all,
            output=self.output,
        )
        self._supervisor = Supervisor(plan, self._report, self.started_ahead, self.spawner)
        self._dispatcher.presence.local_group = self._supervisor.group
        if self._are_all:
            self._dispatcher.rejections.own_group = self._supervisor.group
        self._thread = threading.Thread(
            target=self._supervise, args=(self._supervisor,), name="dq-supervisor", daemon=True
        )
        self._thread.start()

    def _supervise(self, supervisor: Supervisor) -> None:
        try:
            supervisor.start()  # before it connects, which takes as long as they take
            supervisor.connect(0.0)
            supervisor.run()
        except BaseException as error:
            self._error = error
            supervisor.end()
            self._dispatcher.delivery.wake_readers()

    def check(self, served: ServedJob | None = None) -> None:
        """Raise the error that stops them, if no other worker could take over.

        Args:
            served: a job whose rejections to check as well; None for none.
        """
        if self._error is not None:
            raise self._error
        if served is None or not self._are_all or self._supervisor is None:
            return
        reason = served.job.rejected.get(self._supervisor.group)
        if reason is not None:
            raise BadTask(reason)

    def quit(self) -> None:
        """End them now, without waiting; `join` waits."""
        if self._supervisor is not None:
            self._supervisor.quit()

    def join(self) -> None:
        """Wait for them to leave after the master has finished, and kill those that do not."""
        if self._thread is None or self._supervisor is None:
            return
        self._supervisor.interrupt()
        self._thread.join(SHUTDOWN_TIMEOUT_S)
        # An exiting process takes no longer than its `grace`, so there is no need to kill it.
        while self._thread.is_alive() and self._supervisor.only_leaving:
            self._thread.join(JOIN_INTERVAL_S)
        if self._thread.is_alive():
            self._supervisor.quit()
            self._thread.join()

    def after_fork(self) -> None:
        """Close a fork's copies of their pipes and connection. Only the parent can wait for
        them."""
        if self._supervisor is not None:
            self._supervisor.after_fork()
