"""The task processes of one machine: started fresh, watched, replaced.

                  ┌ waiter thread per process ─ "it has ended" ┐
    signals ──────┤                                            ├──▶ one queue ──▶ Supervisor.run
                  └ control thread ─ "the master has gone" ────┘

Everything that happens becomes an event in one queue, which one thread takes in turn; only that
thread starts, ends and replaces processes, and it alone talks to the master. Which task a process
is in stands in cells of memory that both share, so that it can be known of one that has died, or
that holds the interpreter's lock for ever.
"""

from __future__ import annotations

import bisect
import contextlib
import multiprocessing
import os
import pickle
import queue
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count

from dq._support import naming, platform
from dq._support.frozen import frozen
from dq._support.hash_seed import hash_seed
from dq._support.naming import setting
from dq.dispatch.roster import BEAT
from dq.errors import (
    AuthenticationFailed,
    BadTask,
    ConnectError,
    DqError,
    MasterLost,
    PlainMaster,
    ProtocolError,
    TlsError,
    UnknownHost,
)
from dq.functions.reference import TaskRef
from dq.manager.client import Client, backoff
from dq.security.tls import PLAIN, Tls
from dq.transport.addresses import Address, show
from dq.worker import cells, logs
from dq.worker.cells import (
    CODED_BY,
    DEADLINE,
    ENCODED,
    ENCODING,
    INDEX,
    LAST,
    LEASE,
    SPAN,
    STATE,
)
from dq.worker.child import Child, dismiss, refuse_within_one, slot_views, start_child
from dq.worker.config import Config, Parents, loads_for
from dq.worker.process_options import ProcessOptions

TICK = 0.05  # seconds between two looks at deadlines and memory
AT_ONCE = 5  # processes that may end before they ever work, one after the other, before it stops
PROMPT = 0.5  # seconds in which a process without a task leaves
SLOWEST = 5.0  # seconds that a process which keeps ending at once waits to be replaced
NO_ROOM = 1.0  # seconds until a process is tried again that the system had no room for
FOLLOW = 0.5  # seconds that what a process has started has to end after it
OVERDUE = 1.0  # seconds beyond its grace after which a process is ended from outside
LONGEST = 30.0  # seconds without any process, for lack of room, after which it stops


@frozen
class Plan:
    """What a supervisor runs.

    Args:
        address: the master's.
        authkey: the shared key.
        processes: how many task processes, and with what limits.
        task: what to do with the items of plain clients and plain masters.
        reconnect: seconds to look for a master that has gone.
        inherit: whether task processes are this program's own, and get its `sys.argv`, its
            `multiprocessing` authkey and how it logs.
        sharing: how many processes the machine's CPUs are for; 0 for as many as it runs.
        tls: how connections are encrypted.
        allow: what the master may name, as `dq.worker.allow.check` has it; empty for anything.
        stderr: makes a descriptor for each task process's standard error, closed here once that
            has it; None for this process's.
    """

    address: Address
    authkey: bytes
    processes: ProcessOptions
    task: TaskRef | None = None
    reconnect: float = 60.0
    inherit: bool = False
    sharing: int = 0
    tls: Tls = PLAIN
    allow: tuple[str, ...] = ()
    stderr: Callable[[], int] | None = None


@frozen
class Ended:
    """A task process has ended."""

    child: Child


@frozen
class Lost:
    """The control connection has ended."""

    client: Client


@frozen
class Drain:
    """Finish what is running, and leave; `told` is called once every process knows, where one of
    them has something to finish."""

    told: Callable[[], None]


@frozen
class Quit:
    """Leave now."""


Event = Ended | Lost | Drain | Quit


class Supervisor:
    """Keeps the task processes of `plan` at work until the master has finished.

    Args:
        plan: what to run.
        log: told, in one line each, what people should know.
        ahead: processes that were started before anything was known but their number of threads;
            taken out as they are used.
    """

    def __init__(
        self,
        plan: Plan,
        log: Callable[[str], None] = lambda line: None,
        ahead: list[Child] | None = None,
    ) -> None:
        self.plan = plan
        self._ahead = [] if ahead is None else ahead
        self.group = os.urandom(8).hex()
        self._log = log
        # Not a SimpleQueue, whose get() waits for ever when its time is up while it takes its lock
        # (CPython 3.10 to 3.13; on 3.10 with a timeout of 0 nearly always).
        self._events: queue.Queue[Event] = queue.Queue()
        self._children: set[Child] = set()
        self._groups: list[tuple[int, float]] = []  # of processes that have left, until when
        self._client: Client | None = None
        self._calling = threading.Lock()  # held while something is asked of the master
        self._said_lack = False
        self._plain = False
        self._charges: list[tuple[str, int, int, int, str]] = []  # not yet told to the master
        self._run = ""
        self._hash_seed = hash_seed()  # until a master says which
        self._overdue = 0  # id of a process that does not come to an end with loading
        self._failures = 0  # processes in a row that ended before they worked
        self._replace_at: list[float] = []
        self._no_room_since: float | None = None
        self._leaving = False
        self._leaving_since = 0.0
        self._told: Callable[[], None] | None = None
        self._lost_at: float | None = None
        self._retry_at = 0.0
        self._attempt = 0
        self._refusal = ""  # the last that was said
        self._lost_for_good = False

    # From any thread, or a signal's handler

    def drain(self, told: Callable[[], None]) -> None:
        """Finish what is running, report, leave; where there is something to finish, `told` is
        called once no more will be started."""
        self._events.put(Drain(told))

    def quit(self) -> None:
        """Leave now; the master gives the work to others."""
        self._events.put(Quit())

    def after_fork(self) -> None:
        """In a process that was forked from the supervisor's: keep nothing of its connection and
        of its processes, which would else not see it end."""
        if self._client is not None:
            self._client.close()
        for child in [*self._children, *self._ahead]:
            child.after_fork()

    # The supervisor's own thread

    def connect(self, patience: float, until: Callable[[], bool] = lambda: False) -> None:
        """Open the control connection, looking for the master for up to `patience` seconds.

        Raises:
            ConnectError: not found, or not with this key.
        """
        deadline, attempt = time.monotonic() + patience, 0
        while True:
            try:
                self._open_control()
                return
            except (AuthenticationFailed, ProtocolError, TlsError, UnknownHost):
                raise
            except ConnectError as error:
                left = deadline - time.monotonic()
                if left <= 0 or until():
                    raise
                if not attempt:
                    end = "" if str(error).endswith("?") else "."
                    self._log(f"{error}{end} Trying for {patience:g} s.")
                time.sleep(min(backoff(attempt, random.random()), left))
                attempt += 1

    def _open_control(self) -> None:
        plan = self.plan
        name = f"{socket.gethostname()}:{os.getpid()}"
        try:
            self._client = Client(
                plan.address,
                plan.authkey,
                role="supervisor",
                group=self.group,
                name=name,
                tls=plan.tls,
                default=plan.task is not None,
                slots=plan.processes.slots,
                loads=loads_for(plan.allow),
            )
        except PlainMaster:
            if plan.task is None:
                raise ProtocolError(
                    f"{show(plan.address)} is a plain BaseManager, which does not say what to do"
                    f" with its tasks; give {setting('task')}"
                ) from None
            self._plain = True
            return
        self._run = self._client.run
        self._hash_seed = self._client.hash_seed
        threading.Thread(target=self._watch_master, args=(self._client,), daemon=True).start()

    def run(self) -> None:
        """Work until the master has finished, or there is another reason to leave.

        Raises:
            MasterLost: it has gone and did not come back in time.
            DqError: task processes cannot be started.
        """
        try:
            refuse_within_one()
            self._replace_at = [0.0] * self.plan.processes.count
            while self._children or self._replace_at:
                self._turn()
        finally:
            self._end_all()
        if self._lost_for_good:
            raise MasterLost(
                f"lost the master at {show(self.plan.address)}; it did not come back in"
                f" {self.plan.reconnect:g} s"
            )

    def _turn(self) -> None:
        now = time.monotonic()
        with contextlib.suppress(queue.Empty):
            wait = 0.0 if min(self._replace_at, default=now) < now else TICK
            self._handle(self._events.get(timeout=wait))
        now = time.monotonic()
        self._enforce(now)
        self._check_loading()
        self._end_left_groups(now)
        self._tell()
        if self._told is not None and self._is_finishing(now):
            self._told()
            self._told = None
        self._look_for_master(now)
        self._start_due(now)

    def _handle(self, event: Event) -> None:
        match event:
            case Ended(child):
                self._reap(child)
            case Lost(client):
                self._on_lost(client)
            case Drain(told):
                self._leave()
                self._told, self._leaving_since = told, time.monotonic()
            case Quit():
                self._leave()
                self._groups = [(pid, 0.0) for pid, _ in self._groups]
                self._end_all()

    def _is_finishing(self, now: float) -> bool:
        """Whether a process here is in a task, or not able to leave at once: it has yet to report
        its last batch, perhaps."""
        views = (
            v for c in self._children for v in slot_views(c.cells, self.plan.processes.threads)
        )
        is_late = bool(self._children) and now > self._leaving_since + PROMPT
        return is_late or any(view[cells.LEASE] for view in views)

    def _leave(self) -> None:
        self._leaving = True
        self._replace_at.clear()
        for child in self._children:
            child.cells.view[cells.LEAVING] = 1
            child.drain()

    # Processes

    def _start_due(self, now: float) -> None:
        """Start those whose time has come: for so long that a signal, or the end, can wait for it,
        and none after one that there is no room for."""
        self._replace_at.sort()
        due = bisect.bisect(self._replace_at, now)
        while due and time.monotonic() < now + TICK:
            try:
                self._start()
            except DqError as error:
                self._on_no_room(error)
                self._replace_at[:due] = [now + NO_ROOM] * due
                return
            self._no_room_since = None
            del self._replace_at[0]
            due -= 1

    def _start(self) -> None:
        child = self._ahead.pop() if self._ahead else self._start_process()
        try:
            message = pickle.dumps(self._config(child))
            threading.Thread(target=self._wait, args=(child, message), daemon=True).start()
        except RuntimeError as error:  # there is no memory for its stack
            dismiss([child])
            raise DqError(f"cannot start a task process: {error}") from None
        self._children.add(child)

    def _start_process(self) -> Child:
        plan = self.plan
        taken = {child.number for child in self._children}
        number = next(number for number in count() if number not in taken)
        sharing = plan.sharing or plan.processes.count
        return start_child(plan.processes.threads, number, sharing, self._hash_seed, plan.stderr)

    def _config(self, child: Child) -> Config:
        plan = self.plan
        return Config(
            address=plan.address,
            authkey=plan.authkey,
            group=self.group,
            number=child.number,
            hash_seed=self._hash_seed,
            threads=plan.processes.threads,
            cells=child.cells.fd,
            parent=os.getpid(),
            path=tuple(sys.path),
            task=plan.task,
            reconnect=plan.reconnect,
            max_tasks=plan.processes.max_tasks,
            grace=plan.processes.grace,
            tls=plan.tls,
            allow=plan.allow,
            parents=_of_this_program() if plan.inherit else None,
            by_options=naming.uses_options(),
        )

    def _on_no_room(self, error: DqError) -> None:
        """Go on with those there are, and try again: descriptors, memory, processes come free."""
        now = time.monotonic()
        if self._no_room_since is None:
            self._no_room_since = now
            running = f"{len(self._children)} of {self.plan.processes.count}"
            self._log(f"{error}; going on with {running}, and trying again")
        elif not self._children and now - self._no_room_since > LONGEST:
            raise error

    def _wait(self, child: Child, message: bytes) -> None:
        child.tell(message)
        child.popen.wait()
        self._events.put(Ended(child))

    def _reap(self, child: Child) -> None:
        self._children.discard(child)
        code, state = child.popen.returncode, child.cells.view[STATE]
        if state in cells.CODES:
            self._reap_left(child, code)
        else:
            _end_group(child)  # whatever a task has started and left
            self._charge_dead(child, code)
        child.close()
        if state == cells.FINISHED:
            self._leave()
        elif state == cells.LOST:
            self._lost_for_good = self._lost_for_good or not self._leaving
            self._leave()
        elif not self._leaving:
            self._plan_replacement(worked=state not in (0, cells.LOADING))

    def _reap_left(self, child: Child, code: int) -> None:
        """One that had no more to do: however it ended, no task was in it."""
        self._groups.append((child.popen.pid, time.monotonic() + FOLLOW))
        if code < 0 and not child.ended:
            self._log(
                f"task process {child.popen.pid} {_how(code)} while it exited, after its tasks"
            )

    def _end_left_groups(self, now: float) -> None:
        """Kill what is left of what processes that have left had started; but not at once, as
        multiprocessing's resource tracker cleans up after its process."""
        for pid, until in list(self._groups):
            if now > until:
                _kill_group(pid)
            if now > until or not _is_group(pid):
                self._groups.remove((pid, until))

    def _plan_replacement(self, *, worked: bool) -> None:
        self._failures = 0 if worked else self._failures + 1
        if self._failures >= AT_ONCE:
            raise DqError(
                f"task processes end as soon as they start ({self._failures} in a row);"
                " what they printed above says why"
            )
        delay = 0.0 if worked else min(0.1 * 2.0**self._failures, SLOWEST)
        self._replace_at.append(time.monotonic() + delay)

    def _charge_dead(self, child: Child, code: int) -> None:
        for view in slot_views(child.cells, self.plan.processes.threads):
            # A process that has grown too large may have done so over what it has yet to report.
            lease = view[LAST] if child.ended else view[LEASE]
            if lease and not child.timed_out:
                how = child.ended or _how(code)
                self._charges.append(("died", lease, *_under_way(view), how))
            elif view[LAST]:
                self._charges.append(("ended", view[LAST], 0, 1, ""))
        if not self._leaving and not child.timed_out:
            self._log(f"task process {child.popen.pid} {child.ended or _how(code)}; replacing it")

    def _enforce(self, now: float) -> None:
        """End processes whose task is over its time, or that are over their memory."""
        for child in self._children:
            if child.ended:
                continue
            state = child.cells.view[STATE]
            if state in cells.CODES:
                self._await_end(child, now)
                continue
            if state == cells.LOADED:
                self._failures = 0
            if state == cells.LOADING and self._is_over_loading(child, now):
                self._overdue = child.popen.pid
                continue
            for view in slot_views(child.cells, self.plan.processes.threads):
                lease, index, span = view[LEASE], *_under_way(view)
                if lease and (_is_over(view, DEADLINE, now) or _is_over(view, CODED_BY, now)):
                    child.ended = "ran a task for too long"
                    child.timed_out = True
                    # Of several, it is not known which: each is tried by itself then.
                    what = "timeout" if span == 1 else "died"
                    self._charges.append((what, lease, index, span, child.ended))
            limit = self.plan.processes.max_memory
            if limit is not None and _resident(child.popen.pid) > limit:
                child.ended = f"grew past {limit} bytes of memory"
            if child.ended:
                self._tell()  # before others are given the task
                _end_group(child)

    def _is_over_loading(self, child: Child, now: float) -> bool:
        views = slot_views(child.cells, self.plan.processes.threads)
        return any(_is_over(view, CODED_BY, now) for view in views)

    def _check_loading(self) -> None:
        """Give up where a function takes for ever to load: it would in the next process, too.

        Raises:
            BadTask: it does.
        """
        if self._overdue:
            raise BadTask(
                f"task process {self._overdue} has not loaded its function in the time limit of"
                f" a task and {cells.LOAD_EXTRA_S:g} s more: what a module does when imported has"
                f" to end ({naming.setting('timeout')})"
            )

    def _await_end(self, child: Child, now: float) -> None:
        """End one that had no more to do, and has not managed to end itself in time."""
        if not child.left:
            child.left = now
        elif now - child.left > self.plan.processes.grace + OVERDUE:
            child.ended = "has not left"
            pid, grace = child.popen.pid, self.plan.processes.grace
            self._log(f"task process {pid} did not exit within {grace:g} s, and is ended")
            _end_group(child)

    @property
    def only_leaving(self) -> bool:
        """Whether nothing but the ends of processes that have no more to do is waited for; from
        any thread."""
        return all(child.left for child in list(self._children))

    def _end_all(self) -> None:
        self._tell()
        for child in self._children:
            _end_group(child)
        for child in list(self._children):
            child.popen.wait()
            self._children.discard(child)
            child.close()
        while self._groups:
            self._end_left_groups(time.monotonic())
            time.sleep(0.001 if self._groups else 0)
        if self._client is not None:
            self._client.channel.shutdown()  # another thread may be waiting for an answer
            self._client.close()

    # The master

    def _watch_master(self, client: Client) -> None:
        """Find out when it has gone, and let it know that this worker has not."""
        self._say_lack(client.lacks_task)
        beat_at = time.monotonic() + BEAT * random.uniform(0.5, 1.0)
        with contextlib.suppress(OSError, ValueError, DqError):
            while not client.channel.closed and not client.channel.peer_closed():
                client.channel.poll(1.0)
                if time.monotonic() >= beat_at:
                    self._beat(client)
                    beat_at = time.monotonic() + BEAT
        self._events.put(Lost(client))

    def _beat(self, client: Client) -> None:
        pids = [child.popen.pid for child in list(self._children)]
        host = socket.gethostname()
        stopped = [f"{host}:{pid}" for pid in pids if platform.is_stopped(pid)]
        with self._calling:
            lacks_task = client.beat(stopped)
        self._say_lack(lacks_task)

    def _say_lack(self, lacks_task: bool) -> None:
        """Say, once, that there is nothing to call with what clients put on the master's queue."""
        if lacks_task and not self._said_lack and not self.plan.inherit:
            self._said_lack = True
            self._log(
                f"nothing to call: the master has no TASK, and this worker no {setting('task')};"
                " start either of them with one"
            )

    def _tell(self) -> None:
        """Charge tasks, as far as the master can be reached; the others keep."""
        while self._charges and self._client is not None:
            try:
                with self._calling:
                    self._client.charge(self._run, *self._charges[0])
            except ConnectError:
                self._client = None
                return
            del self._charges[0]

    def _on_lost(self, client: Client) -> None:
        if self._client is not None and self._client is not client:
            return
        self._client = None
        client.close()
        if not self._leaving and self._lost_at is None:
            self._lost_at = time.monotonic()
            self._attempt = 0

    def _look_for_master(self, now: float) -> None:
        """Open the control connection again; task processes look for themselves."""
        if self._lost_at is None or self._leaving or now < self._retry_at:
            return
        try:
            self._open_control()
        except ConnectError as error:
            self._say_refusal(error)
            if self._attempt == 3:
                self._log(
                    f"lost the master at {show(self.plan.address)}; looking for it for"
                    f" {self.plan.reconnect:g} s"
                )
            self._retry_at = now + backoff(self._attempt, random.random())
            self._attempt += 1
            return
        if self._attempt > 3:
            self._log("found the master again")
        self._lost_at = None

    def _say_refusal(self, error: ConnectError) -> None:
        """Say, once, why somebody who is there again cannot be worked for."""
        known = isinstance(error, AuthenticationFailed | ProtocolError | TlsError)
        if known and str(error) != self._refusal:
            self._refusal = str(error)
            self._log(self._refusal)


def _of_this_program() -> Parents:
    authkey = multiprocessing.current_process().authkey
    return Parents(tuple(sys.argv), bytes(authkey), logs.setup())


def _end_group(child: Child) -> None:
    """Kill a task process and what it has started, unless that has gone elsewhere."""
    _kill_group(child.popen.pid)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def _is_group(pid: int) -> bool:
    """Whether a process group has a process left."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, by now
        return False
    return True


def _under_way(view: memoryview) -> tuple[int, int]:
    """Index of the first task that a slot may be in, and how many it may be: the one that runs,
    and those whose results are being encoded."""
    start, stop = view[INDEX], view[INDEX] + view[SPAN]
    if view[ENCODING]:
        start, stop = min(start, view[ENCODED]), max(stop, view[ENCODED] + view[ENCODING])
    return start, stop - start


def _is_over(view: memoryview, cell: int, now: float) -> bool:
    """Whether a time that a cell gives has come, and is not that of what has ended meanwhile."""
    by = view[cell]
    return bool(by) and now * 1e9 > by == view[cell]


def _how(code: int) -> str:
    """How a process ended.

    >>> _how(-9), _how(3)
    ('was killed by SIGKILL', 'ended with exit code 3')
    """
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _resident(pid: int) -> int:
    """Bytes of resident memory; 0 where the system does not say."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def moved(plan: Plan, address: Address) -> Plan:
    """The same plan for a master elsewhere."""
    return replace(plan, address=address)
