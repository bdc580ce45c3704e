"""A supervisor's beats: what it says of its worker, and the commands that come back.

They have a connection of their own, since a beat waits for commands, and charges must not wait for
that.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from dq._support import platform, usage
from dq.core.beats import Command, WorkerState
from dq.errors import DqError
from dq.manager.client import Client, backoff
from dq.manager.messages import BeatWire
from dq.worker import stacks
from dq.worker.child import Child
from dq.worker.outbox import Outbox
from dq.worker.slot_states import SlotStates

FIRST_INTERVAL_S = 1.0  # until the master says how often it wants to hear of this worker
IDLE_INTERVAL_S = 2.0  # at least, between two beats that have nothing new to say
LEAST_INTERVAL_S = 0.1  # between two beats whose answers bring no command
POST_TIMEOUT_S = 2.0  # for the last beat to be sent when the supervisor leaves


class Beat:
    """Sends beats, in a thread of its own for as long as the supervisor's other connection lasts.

    Args:
        states: what the slots do.
        outbox: what tasks have printed.
        children: returns the task processes.
        threads: how many slots each has.
        on_command: called with each command.
        on_lack: called with whether there are tasks that nobody has a function for.
    """

    def __init__(
        self,
        states: SlotStates,
        outbox: Outbox,
        children: Callable[[], list[Child]],
        threads: int,
        on_command: Callable[[Command], None],
        on_lack: Callable[[bool], None],
    ) -> None:
        self._states = states
        self._outbox = outbox
        self._children = children
        self._threads = threads
        self._on_command = on_command
        self._on_lack = on_lack
        self._client: Client | None = None
        # Held while lines are taken and sent: who gets it finds all others in the outbox.
        self._posting = threading.Lock()
        self._usage = usage.CpuUsage()

    def start(self, control: Client, dial: Callable[[], Client]) -> None:
        """Send beats while the connection `control` lasts.

        Args:
            control: the supervisor's other connection.
            dial: opens the connection for beats.
        """
        threading.Thread(target=self._run, args=(control, dial), daemon=True).start()

    def close(self) -> None:
        """Close the connection, in which another thread may be waiting."""
        if self._client is not None:
            self._client.channel.shutdown()

    def after_fork(self) -> None:
        """Close a fork's copy of the connection."""
        if self._client is not None:
            self._client.close()

    def _run(self, control: Client, dial: Callable[[], Client]) -> None:
        attempt = 0
        while not control.channel.closed:
            with contextlib.suppress(OSError, ValueError, DqError):
                self._client = client = dial()
                attempt = 0
                try:
                    self._talk(client, control)
                finally:
                    client.close()
            time.sleep(backoff(attempt))
            attempt += 1

    def _talk(self, client: Client, control: Client) -> None:
        """Send beats over one connection, until one of the two is lost."""
        seen, interval, last, asked = 0, FIRST_INTERVAL_S, WorkerState(), 0
        while not control.channel.closed:
            sent = time.monotonic()
            last = self._post(client, asked, seen, interval, last)
            commands, interval, lacks_task, wants_lines = self._answer(client, last)
            self._outbox.want(wants_lines)
            asked = 0
            self._on_lack(lacks_task)
            for number, what, lease, index in commands:
                seen = max(seen, number)
                if what == "stacks":
                    asked = number  # the next beat, which is sent at once, has the answer
                else:
                    self._on_command(Command(number, what, lease, index))
            took = time.monotonic() - sent
            if not commands and took < LEAST_INTERVAL_S:  # as while the master stops
                time.sleep(LEAST_INTERVAL_S - took)

    def _post(
        self, client: Client, asked: int, seen: int, interval: float, last: WorkerState
    ) -> WorkerState:
        """Send a beat, whose answer has to be received next. Returns what it says.

        Args:
            client: the connection for beats.
            asked: the number of a command to say where threads are; 0 if there is none.
            seen: the number of the last command that has come.
            interval: seconds until the next beat if this one has something new to say.
            last: what the last one said.
        """
        with self._posting:
            state = self._state(asked)
            is_news = bool(state.slots or state.lines) or state.stopped != last.stopped
            wait = interval if is_news else max(interval, IDLE_INTERVAL_S)
            with self._kept(state):
                client.post_beat(state, seen, wait)
        return state

    def _answer(self, client: Client, state: WorkerState) -> BeatWire:
        """The answer to the beat that said `state`."""
        with self._kept(state):
            return client.beat_answer()

    @contextlib.contextmanager
    def _kept(self, state: WorkerState) -> Iterator[None]:
        """Put lines back that may not have come to the master: to send them twice is better than
        not at all."""
        try:
            yield
        except BaseException:
            self._outbox.put_back(state.lines, state.dropped)
            raise

    def send_rest(self, dial: Callable[[], Client]) -> None:
        """Send what tasks have printed last, before the supervisor leaves. The other connection may
        be waiting for a command."""
        if not self._posting.acquire(timeout=POST_TIMEOUT_S):
            return  # the master reads nothing
        try:
            if self._outbox.is_empty:
                return
            with (
                contextlib.suppress(OSError, ValueError, DqError),
                contextlib.closing(dial()) as client,
            ):
                client.post_beat(self._state(0), 0, 0.0)
                client.beat_answer()
        finally:
            self._posting.release()

    def _state(self, asked: int) -> WorkerState:
        """What to say now.

        Args:
            asked: the number of a command to say where threads are; 0 if there is none.
        """
        children = self._children()
        lines, dropped = self._outbox.take()
        return WorkerState(
            slots=self._states.current(time.monotonic()),
            stopped=tuple(child.name for child in children if platform.is_stopped(child.pid)),
            cpu=self._usage.since_last(),
            memory=sum(usage.resident(child.pid) for child in children),
            lines=lines,
            dropped=dropped,
            stacks=stacks.take(children, self._threads) if asked else (),
            answered=asked,
        )
