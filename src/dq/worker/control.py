"""A supervisor's connection to the master, and everything that it sends over it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable

from dq import __version__
from dq._support.hash_seed import hash_seed
from dq._support.naming import setting
from dq.core.beats import Command
from dq.errors import (
    AuthenticationFailed,
    ConnectError,
    DqError,
    PlainMaster,
    ProtocolError,
    TlsError,
    UnknownHost,
)
from dq.manager.client import Client, backoff
from dq.transport.addresses import show
from dq.worker.beat import Beat
from dq.worker.charges import Charge
from dq.worker.child import Child
from dq.worker.config import loads_for
from dq.worker.outbox import Outbox
from dq.worker.plan import Plan
from dq.worker.slot_states import SlotStates

POLL_INTERVAL_S = 1.0  # between two checks of the connection
QUIET_ATTEMPTS = 3  # to reconnect before the loss of the master is logged


class Control:
    """Opens the connection, watches it in a thread of its own, and opens it again when it is lost.

    Args:
        plan: where the master is.
        group: the supervisor's random name.
        log: called with each line that people should see.
        children: returns the task processes; called in another thread.
        on_lost: called in that thread when the connection is lost.
        on_command: called with each command of the master, in another thread.
        states: what the task slots do.
        outbox: what tasks have printed.

    Attributes:
        hash_seed: the seed for hashes in the task processes of this master.
    """

    def __init__(
        self,
        plan: Plan,
        group: str,
        log: Callable[[str], None],
        children: Callable[[], list[Child]],
        on_lost: Callable[[Client], None],
        on_command: Callable[[Command], None],
        states: SlotStates,
        outbox: Outbox,
    ) -> None:
        self.hash_seed = hash_seed()  # until a master sends its own
        self._plan = plan
        self._group = group
        self._log = log
        self._on_lost = on_lost
        self._client: Client | None = None
        self._beat = Beat(
            states, outbox, children, plan.processes.threads, on_command, self._log_lack
        )
        self._run = ""
        self._charges: list[Charge] = []  # not yet sent
        self._has_logged_lack = False
        self._lost_at: float | None = None
        self._retry_at = 0.0
        self._attempt = 0
        self._refusal = ""  # the last refusal that was logged

    def connect(self, patience: float, until: Callable[[], bool] = lambda: False) -> None:
        """Open the connection, looking for the master for up to `patience` seconds.

        Raises:
            ConnectError: there is no master, or it has another key.
        """
        deadline, attempt = time.monotonic() + patience, 0
        while True:
            try:
                self._open()
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
                time.sleep(min(backoff(attempt), left))
                attempt += 1

    def charge(self, charge: Charge) -> None:
        """Keep a charge until `send_charges` reaches the master."""
        self._charges.append(charge)

    def send_charges(self) -> None:
        """Send the charges to the master, and keep those that cannot be sent now."""
        while self._charges and self._client is not None:
            charge = self._charges[0]
            try:
                self._client.charge(
                    self._run,
                    charge.what,
                    charge.lease,
                    charge.index,
                    charge.span,
                    charge.detail,
                )
            except ConnectError:
                self._client = None
                return
            del self._charges[0]

    def lose(self, client: Client) -> None:
        """Start to look for the master after a connection to it was lost."""
        if self._client is not None and self._client is not client:
            return
        self._client = None
        client.close()
        self.look_for_master()

    def look_for_master(self) -> None:
        """Start to look for a master that is lost, if it is. A plain one is lost by the task
        processes: the supervisor has no connection to it."""
        if self._client is None and self._lost_at is None:
            self._lost_at = time.monotonic()
            self._attempt = 0

    def reconnect(self, now: float) -> None:
        """Open a lost connection again, if the next attempt is due. Task processes reconnect by
        themselves."""
        if self._lost_at is None or now < self._retry_at:
            return
        try:
            self._open()
        except ConnectError as error:
            self._log_refusal(error)
            if self._attempt == QUIET_ATTEMPTS:
                self._log(
                    f"lost the master at {show(self._plan.address)}; looking for it for"
                    f" {self._plan.reconnect:g} s"
                )
            self._retry_at = now + backoff(self._attempt)
            self._attempt += 1
            return
        if self._attempt > QUIET_ATTEMPTS:
            self._log("found the master again")
        self._lost_at = None

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None and not self._client.channel.closed:
            self._beat.send_rest(lambda: self._dial("beat"))
        if self._client is not None:
            self._client.channel.shutdown()  # another thread may be waiting for its end
            self._client.close()
        self._beat.close()  # last, or it would open its connection again

    def after_fork(self) -> None:
        """Close a fork's copies of the connections. The master would otherwise not see them end."""
        self._beat.after_fork()
        if self._client is not None:
            self._client.close()

    def _open(self) -> None:
        plan = self._plan
        try:
            self._client = self._dial("supervisor")
        except PlainMaster:
            if plan.task is None:
                raise ProtocolError(
                    f"{show(plan.address)} is a plain BaseManager, which does not say what to do"
                    f" with its tasks; give {setting('task')}"
                ) from None
            return
        self._run = self._client.run
        self.hash_seed = self._client.hash_seed
        threading.Thread(target=self._watch, args=(self._client,), daemon=True).start()
        self._beat.start(self._client, lambda: self._dial("beat"))

    def _dial(self, role: str) -> Client:
        plan = self._plan
        return Client(
            plan.address,
            plan.authkey,
            role=role,
            group=self._group,
            name=f"{socket.gethostname()}:{os.getpid()}",
            tls=plan.tls,
            default=plan.task is not None,
            slots=plan.processes.slots,
            versions=(__version__, "{}.{}.{}".format(*sys.version_info)),
            loads=loads_for(plan.allow),
        )

    def _watch(self, client: Client) -> None:
        """Find out when the connection is lost."""
        self._log_lack(client.lacks_task)
        with contextlib.suppress(OSError, ValueError, DqError):
            while not client.channel.closed and not client.channel.peer_closed():
                client.channel.poll(POLL_INTERVAL_S)
        self._on_lost(client)

    def _log_lack(self, lacks_task: bool) -> None:
        """Log once that there is no function for what clients put on the master's queue."""
        if lacks_task and not self._has_logged_lack and not self._plan.inherit:
            self._has_logged_lack = True
            self._log(
                f"nothing to call: the master has no TASK, and this worker no {setting('task')};"
                " start either of them with one"
            )

    def _log_refusal(self, error: ConnectError) -> None:
        """Log once why a master that has come back refuses this worker."""
        known = isinstance(error, AuthenticationFailed | ProtocolError | TlsError)
        if known and str(error) != self._refusal:
            self._refusal = str(error)
            self._log(self._refusal)
