"""A job that goes on from a journal, in the queues: whose turn it is, and how much at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from dq.core.jobs import Rules
from dq.core.records import Batch, Done, Reading, Recorded
from dq.data import batches
from dq.data.sources import Source
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.served_job import ServedJob
from dq.errors import BadInput, OutputError
from dq.functions.reference import TaskRef
from dq.functions.spec import JobSpec
from dq.journal.facts import facts
from dq.journal.replay import Replay
from dq.journal.writer import Entry, Journal
from dq.manager.messages import ReportMessage
from dq.manager.protocol import PROTOCOL
from dq.manager.worker_endpoint import WorkerEndpoint
from dq.transport.channel import Channel
from support.fakes import FakeChannel

ABOUT = facts("app:square", reading=Reading("values"), output="values", unpack=False)
SPEC = JobSpec("j", TaskRef("module", "app", "square"))
LARGE = 2**20


def write(path: Path, indices: list[int], size: int = 10) -> None:
    with closing(Journal(str(path), ABOUT)) as journal:
        journal.start(lambda entries: None)
        for index in indices:
            batch = Batch("j", index, 1, batches.dump([index]))
            journal.add(Entry(None, Recorded(batch, Done(1, b"x" * size), 1, "here:1")))


class Run:
    """A job of numbers over a journal; this thread reads and works."""

    def __init__(self, path: Path, count: int, rules: Rules | None = None) -> None:
        self.journal = Journal(str(path), ABOUT)
        self.dispatcher = Dispatcher()
        source = Source(list(range(count)))
        self.line: ServedJob = self.dispatcher.jobs.open(
            SPEC, rules or Rules(), source, Replay(self.journal)
        )

    @contextmanager
    def worker(self) -> Iterator[Run]:
        self.channel = FakeChannel()
        with self.dispatcher.serving(cast(Channel, self.channel)):
            info = {"group": "g", "name": "here:2", "role": "slot", "default": False}
            WorkerEndpoint(self.dispatcher).hello(PROTOCOL, dict(info))
            yield self

    def lease(self) -> Any:
        """Lease number, first index, count; None where there is nothing to do."""
        WorkerEndpoint(self.dispatcher).exchange(None, -1, 0.0)
        _, (_, granted, _) = cast(Any, self.channel.sent.get(timeout=10))
        return None if granted is None else (granted[0], granted[2], granted[3])

    def report(self, lease: int, first: int, count: int) -> None:
        done = (Done(count, b"new"),)
        WorkerEndpoint(self.dispatcher).exchange(
            ReportMessage(self.dispatcher.run, lease, first, done).to_wire(), 0, 0.0
        )

    def read(self) -> list[int] | None:
        records = self.dispatcher.delivery.read(self.line, 0.0)
        return None if records is None else [record.batch.start for record in records]

    def read_all(self) -> list[int]:
        found: list[int] = []
        while records := self.read():
            found += records
        return found


@contextmanager
def running(path: Path, count: int, rules: Rules | None = None) -> Iterator[Run]:
    run = Run(path, count, rules)
    try:
        yield run
    finally:
        run.dispatcher.stop()
        run.journal.close()


def test_only_what_the_journal_lacks_goes_out(tmp_path: Path) -> None:
    write(tmp_path / "j", [0, 1, 3, 4])
    with running(tmp_path / "j", 6) as run, run.worker():
        assert run.lease() is None
        assert run.read_all() == [0, 1]
        [_, first, count] = run.lease()
        assert (first, count) == (2, 1)
        assert run.lease() is None
        assert run.read_all() == [3, 4]
        assert run.lease()[1:] == (5, 1)


def test_no_more_is_read_than_the_window_has_room_for(tmp_path: Path) -> None:
    write(tmp_path / "j", list(range(1, 40)), LARGE)
    with running(tmp_path / "j", 40, Rules(window=5 * LARGE)) as run, run.worker():
        lease = run.lease()
        assert lease[1:] == (0, 1)
        assert run.read_all() == [1, 2, 3, 4, 5]


def test_a_lost_task_goes_out_again_though_it_is_the_journals_turn(tmp_path: Path) -> None:
    write(tmp_path / "j", list(range(1, 40)), LARGE)
    with running(tmp_path / "j", 40, Rules(window=5 * LARGE)) as run:
        with run.worker():
            assert run.lease()[1:] == (0, 1)
        run.read_all()
        with run.worker():
            assert run.lease()[1:] == (0, 1)


def test_a_record_is_read_only_once_it_is_on_disk(tmp_path: Path) -> None:
    with running(tmp_path / "j", 1) as run, run.worker():
        commit = run.journal._commit
        held: list[Any] = []
        run.journal._commit = lambda rows, failed: held.append(rows) or False  # type: ignore[method-assign, func-returns-value]
        run.report(*run.lease())
        while not held:
            assert run.read() == []
        assert run.line.job.finished
        assert run.read() == []
        assert commit(held[0], [])


def test_nothing_goes_out_while_the_disk_is_full(tmp_path: Path) -> None:
    with running(tmp_path / "j", 1) as run, run.worker():
        run.journal.full = True
        assert run.lease() is None
        run.journal.full = False
        assert run.lease() is not None


def test_a_journal_that_failed_is_told_to_who_reads_and_nothing_goes_out(tmp_path: Path) -> None:
    with running(tmp_path / "j", 1) as run, run.worker():
        run.journal.error = OutputError("cannot write the journal")
        assert run.lease() is None
        with pytest.raises(OutputError):
            run.read()


def test_a_job_that_was_stopped_on_a_full_disk_does_not_wait_for_room(tmp_path: Path) -> None:
    with running(tmp_path / "j", 2) as run:
        run.line.unwritten = 1
        run.dispatcher.jobs.halt(run.line, "interrupted")
        assert run.read() == []
        run.journal.full = True
        assert run.read() is None


def test_a_stopped_job_takes_no_more_of_its_journal(tmp_path: Path) -> None:
    write(tmp_path / "j", [0, 1, 2])
    with running(tmp_path / "j", 3) as run:
        run.dispatcher.jobs.halt(run.line, "interrupted")
        assert run.read() is None


def test_fewer_inputs_than_the_journal_has_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "j", [0, 1, 2])
    with running(tmp_path / "j", 2) as run, pytest.raises(BadInput, match="there are 2 inputs"):
        run.read_all()
