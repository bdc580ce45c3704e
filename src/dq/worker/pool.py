"""The task processes that a supervisor keeps: started, and replaced when they have ended."""

from __future__ import annotations

import bisect
import multiprocessing
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable
from itertools import count

from dq._support import naming
from dq._support.frozen import TYPE_CHECKING
from dq._support.tags import tags
from dq.errors import BadTask, DqError
from dq.worker import logs
from dq.worker.child import Child, dismiss
from dq.worker.config import Config, Parents
from dq.worker.fork_client import ServerDied
from dq.worker.plan import Plan
from dq.worker.server_start import has_server
from dq.worker.spawn import Spawner, no_room

if TYPE_CHECKING:
    from dq.worker.output import Output

MAX_FAILED_STARTS = 5  # processes in a row that end before they work
MAX_DELAY_S = 5.0  # before a process that keeps ending at once is replaced
RETRY_S = 1.0  # before another try to start a process that the system had no room for
LACK_TIMEOUT_S = 30.0  # with no process, for lack of room, before an error is raised
START_INTERVAL_S = 0.05  # to spend on starting processes before other events are handled


class Pool:
    """Runs as many task processes as `plan` asks for, each with a thread that waits for its end.

    Args:
        plan: what they are to do.
        group: the supervisor's random name.
        log: called with each line that people should see.
        on_end: called with a process that has ended, in the thread that waits for it.
        prestarted: processes that were started before their configuration was known; removed
            from this list as they are used.
        spawner: starts the others.
        output: reads what they print; None to leave that where the plan says.

    Attributes:
        children: those that run.
        failed_starts: how many processes in a row have ended before they worked.
    """

    def __init__(
        self,
        plan: Plan,
        group: str,
        log: Callable[[str], None],
        on_end: Callable[[Child], None],
        prestarted: list[Child],
        spawner: Spawner,
        output: Output | None = None,
    ) -> None:
        self.children: set[Child] = set()
        self.failed_starts = 0
        self._plan = plan
        self._group = group
        self._log = log
        self._on_end = on_end
        self._prestarted = prestarted
        self._spawner = spawner
        self._output = output
        self._start_at = [0.0] * plan.processes.count  # when to start each process that is due
        self._no_room_since: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no process runs, and none will be started."""
        return not self.children and not self._start_at

    def has_due(self, now: float) -> bool:
        """Whether a process is due to be started."""
        return min(self._start_at, default=now) < now

    def start_due(self, now: float, seed: int) -> None:
        """Start the processes that are due. Stop after a short time, so that signals and the end of
        the run are not delayed, and after one that the system has no room for."""
        self._start_at.sort()
        due = bisect.bisect(self._start_at, now)
        while due and time.monotonic() < now + START_INTERVAL_S:
            try:
                self._start(seed)
            except BadTask:
                raise
            except ServerDied:
                del self._start_at[0]
                self.replace(worked=False)
                return
            except DqError as error:
                self._on_no_room(error)
                self._start_at[:due] = [now + RETRY_S] * due
                return
            self._no_room_since = None
            del self._start_at[0]
            due -= 1

    def replace(self, *, worked: bool) -> None:
        """Schedule a process to replace one that has ended.

        Raises:
            DqError: too many in a row have ended before they `worked`.
        """
        self.failed_starts = 0 if worked else self.failed_starts + 1
        if self.failed_starts >= MAX_FAILED_STARTS:
            raise DqError(
                f"task processes end as soon as they start ({self.failed_starts} in a row);"
                " what they printed above says why"
            )
        delay = 0.0 if worked else min(0.1 * 2.0**self.failed_starts, MAX_DELAY_S)
        self._start_at.append(time.monotonic() + delay)

    def drain(self) -> None:
        """Start no more processes, and tell the running ones to leave."""
        self._start_at.clear()
        for child in self.children:
            child.drain()

    def after_fork(self) -> None:
        """Close a fork's copies of what belongs to the processes."""
        self._spawner.after_fork()
        for child in [*self.children, *self._prestarted]:
            child.after_fork()

    def _start(self, seed: int) -> None:
        child = self._prestarted.pop() if self._prestarted else self._spawn(seed)
        try:
            _ = child.pid  # a process without one could not be forked
            config = pickle.dumps(self._config(child, seed))
            threading.Thread(target=self._wait, args=(child, config), daemon=True).start()
        except DqError:
            dismiss([child])
            raise
        except RuntimeError as error:  # there is no memory for its stack
            dismiss([child])
            raise DqError(f"cannot start a task process: {error}") from None
        self.children.add(child)

    def _spawn(self, seed: int) -> Child:
        if self._output is None:
            return self._spawned(seed, self._plan.stderr)
        with no_room():
            pipe = self._output.open()
        try:
            child = self._spawned(seed, pipe.give)
        except BaseException:
            pipe.close()
            raise
        try:
            pipe.read(child)
        except RuntimeError as error:  # there is no memory for its stack
            pipe.close()
            dismiss([child])
            raise DqError(f"cannot start a task process: {error}") from None
        return child

    def _spawned(self, seed: int, stderr: Callable[[], int] | None) -> Child:
        plan = self._plan
        taken = {child.number for child in self.children}
        return self._spawner.start(
            plan.processes.threads,
            number=next(number for number in count() if number not in taken),
            sharing=plan.sharing or plan.processes.count,
            seed=seed,
            stderr=stderr,
        )

    def _config(self, child: Child, seed: int) -> Config:
        plan = self._plan
        return Config(
            address=plan.address,
            authkey=plan.authkey,
            group=self._group,
            cells=child.cells.fd,
            parent=os.getpid(),
            path=tuple(sys.path),
            number=child.number,
            hash_seed=seed,
            threads=plan.processes.threads,
            task=plan.task,
            reconnect=plan.reconnect,
            max_tasks=plan.processes.max_tasks,
            grace=plan.processes.grace,
            tls=plan.tls,
            allow=plan.allow,
            by_options=naming.uses_options(),
            parents=_of_this_program() if plan.inherit else None,
            tags_output=self._output is not None,
            preload=() if has_server() else tuple(plan.processes.preload),
            tags=tuple(sorted(tags(tags=plan.processes.tags))),
        )

    def _wait(self, child: Child, config: bytes) -> None:
        child.send_config(config)
        child.popen.wait()
        self._on_end(child)

    def _on_no_room(self, error: DqError) -> None:
        """Go on with the running processes, and try again later, when resources may be free."""
        now = time.monotonic()
        if self._no_room_since is None:
            self._no_room_since = now
            running = f"{len(self.children)} of {self._plan.processes.count}"
            self._log(f"{error}; going on with {running}, and trying again")
        elif not self.children and now - self._no_room_since > LACK_TIMEOUT_S:
            raise error


def _of_this_program() -> Parents:
    authkey = multiprocessing.current_process().authkey
    return Parents(argv=tuple(sys.argv), authkey=bytes(authkey), logs=logs.setup())
