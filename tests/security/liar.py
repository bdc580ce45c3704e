"""A client that has the key and lies, and a run that it should not be able to harm."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dq
from dq.core.records import Done, Recorded
from dq.data import batches
from dq.functions.task_check import checked
from dq.manager.client import Client
from dq.manager.messages import LeaseMessage, ReportMessage
from dq.manager.protocol import PROTOCOL
from dq.master.job_reader import JobReader
from dq.transport import dialing
from interop.plain import KEY
from security import pickles
from support import wait_until

PATIENCE = 20.0


class Liar:
    """One connection to a master, with no client's manners."""

    def __init__(self, port: int) -> None:
        self.channel = dialing.connect(("127.0.0.1", port), KEY.encode())
        assert self.ask(None, "accept_connection", "liar") == ("#RETURN", None)

    def __enter__(self) -> Liar:
        return self

    def __exit__(self, *exc: object) -> None:
        self.channel.close()

    def hello(self) -> str:
        """Say who it is, in truth; the run's id."""
        info = {"role": "slot", "group": "liars", "name": "liar:1", "default": True}
        kind, answer = self.ask("dq", "hello", PROTOCOL, info)
        assert kind == "#RETURN", answer
        run: str = answer["run"]
        return run

    def take(self) -> LeaseMessage:
        """A lease of its own, of one task."""
        kind, answer = self.ask("dq", "exchange", None, 1, PATIENCE)
        assert kind == "#RETURN", answer
        assert answer[0] == "go", answer
        return LeaseMessage(*answer[1])

    def ask(self, ident: object, method: object, *args: object) -> tuple[str, Any]:
        """What it is told; ("", None) where the connection is ended instead."""
        return self.tell(pickles.request(*map(pickles.dumped, (ident, method, args))))

    def tell(self, message: bytes) -> tuple[str, Any]:
        """The same for any message."""
        self.channel.set_deadline(PATIENCE)
        try:
            self.channel.send_bytes(message)
            kind, answer = self.channel.recv()  # type: ignore[misc]  # a pair
        except TimeoutError:
            raise
        except (OSError, EOFError):
            return "", None
        return kind, answer

    @property
    def ended(self) -> bool:
        """Whether the master has ended the connection."""
        return self.channel.poll(0) and self.channel.peer_closed()

    def ends(self) -> bool:
        """Whether it does so now."""
        return self.channel.poll(PATIENCE) and self.channel.peer_closed()


@dataclass
class Scene:
    """A master in this process, whose inputs are numbers to be negated, and one honest worker."""

    port: int
    count: int
    job: JobReader
    records: list[Recorded] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        name = {"role": "slot", "group": "honest", "name": "honest:1"}
        self.honest = Client(("127.0.0.1", self.port), KEY.encode(), **name)

    def _read(self) -> None:
        try:
            self.records.extend(self.job.unordered())
        except BaseException as error:
            self.errors.append(error)

    def take(self) -> LeaseMessage:
        """A lease of the honest worker's."""
        _, grant, _ = self.honest.exchange(None, 1, PATIENCE)
        assert grant is not None
        return grant

    def finish(self, grant: LeaseMessage | None) -> None:
        """Let the honest worker do all that is left, from a lease that it has."""

        def work() -> bool:
            nonlocal grant
            report = None if grant is None else self._work(grant)
            _, grant, _ = self.honest.exchange(report, -1, 0.05)
            return not self._reader.is_alive()

        wait_until(work)
        self.honest.close()

    def _work(self, grant: LeaseMessage) -> ReportMessage:
        values = batches.load(grant.blob)[grant.skip : grant.skip + grant.count]
        blob = batches.dump([-value for value in values])  # type: ignore[operator]  # a number
        return ReportMessage(
            self.honest.run, grant.lease, grant.start, (Done(grant.count, blob, 0.0),), 0, 0.0
        )

    def check(self) -> None:
        """That each input has its one outcome, of the honest worker's."""
        assert not self.errors, self.errors
        found: dict[int, object] = {}
        for record in self.records:
            batch, outcome = record.batch, record.outcome
            assert isinstance(outcome, Done), record
            assert record.worker == "honest:1", record
            for place, value in enumerate(batches.load(outcome.blob)):
                assert batch.start + place not in found, f"recorded twice: {record}"
                found[batch.start + place] = value
        assert found == {number: -number for number in range(self.count)}


@contextmanager
def scene(count: int = 40, **options: Any) -> Iterator[Scene]:
    with dq.Master(host="127.0.0.1", port=0, authkey=KEY, **options) as master:
        job = master.runtime.jobs.open(checked("operator:neg"), range(count), output="values")
        port = master.address[1]
        assert isinstance(port, int)
        yield Scene(port, count, job)
