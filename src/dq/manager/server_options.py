"""The options of a server: where it listens, and how it treats its clients."""

from __future__ import annotations

import pickle
from collections.abc import Callable

from dq._support import quantities
from dq._support.frozen import frozen
from dq._support.hash_seed import hash_seed
from dq._support.naming import setting
from dq.core.jobs import Rules
from dq.core.records import Loads
from dq.dispatch.dispatcher import Dispatcher, plain_rules
from dq.errors import UsageError
from dq.functions.spec import JobSpec
from dq.security.safe_pickle import safe_loads
from dq.transport.limits import KEEPALIVE_S, MAX_MESSAGE_BYTES

LOADS: dict[str, Loads] = {"safe": safe_loads, "any": pickle.loads}


@frozen
class ServerOptions:
    """Where a server listens, and how it treats its clients.

    Args:
        host: address to listen on; "" for all addresses of this machine.
        port: TCP port; 0 for a free one, None for no port.
        max_message: bytes of the largest input or result.
        keepalive: seconds after which the connection of a machine that does not respond is closed.
        maxsize: how many tasks plain clients may have waiting; 0 for any number.
        redeliver: requeue what a plain client got if its connection ends.
        pickle: which items of plain clients to unpickle: "safe" data only, or "any".

    Raises:
        UsageError: a value cannot be used.
    """

    host: str = ""
    port: int | None = None
    max_message: int = MAX_MESSAGE_BYTES
    keepalive: int = KEEPALIVE_S
    maxsize: int = 0
    redeliver: bool = True
    pickle: str = "safe"

    def __post_init__(self) -> None:
        quantities.whole(0, maxsize=self.maxsize)
        quantities.whole(1, max_message=self.max_message)
        quantities.whole(*quantities.KEEPALIVE, keepalive=self.keepalive)
        quantities.whole(0, 65535, **quantities.given(port=self.port))
        quantities.text(host=self.host)
        if self.host.count(":") == 1 or "]:" in self.host:
            name = setting("port")
            raise UsageError(f"host {self.host!r} has a port in it: leave that out ({name} has it)")
        if self.pickle not in LOADS:
            raise UsageError(f"pickle must be 'safe' or 'any', not {self.pickle!r}")

    @property
    def address(self) -> tuple[str, int] | None:
        """Where to listen; None for no port."""
        if self.port is None:
            return None
        return self.host.removeprefix("[").removesuffix("]"), self.port

    @property
    def loads(self) -> Loads:
        """The function that unpickles items of plain clients."""
        return LOADS[self.pickle]

    def dispatcher(
        self,
        notify: Callable[[str], None],
        default: JobSpec | None = None,
        rules: Rules | None = None,
    ) -> Dispatcher:
        """Make a dispatcher with these options.

        Args:
            notify: called with each line for users.
            default: the function for items of plain clients.
            rules: those of the master's own jobs, some of which are for these items too.
        """
        return Dispatcher(
            default=default,
            rules=plain_rules(rules or Rules()),
            maxsize=self.maxsize,
            redeliver=self.redeliver,
            max_message=self.max_message,
            keepalive=self.keepalive,
            hash_seed=hash_seed(),
            loads=self.loads,
            notify=notify,
        )
