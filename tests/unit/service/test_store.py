"""The file of a serving master: what is on disk, when, and what happens where it cannot be."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from dq.core.records import Batch, Done, Failed, Failure, Reading, Recorded
from dq.data.blocks import pack
from dq.errors import BadJournal, OutputError
from dq.functions.reference import TaskRef
from dq.functions.spec import JobSpec
from dq.journal.writer import Journal
from dq.service import rows
from dq.service.options import JobOptions
from dq.service.results import Tally
from dq.service.specs import OUTPUT
from dq.service.store import Store
from support.journals import ABOUT

SPEC = JobSpec(id="s", ref=TaskRef("module", "app", "f"), reading=Reading("lines"), output=OUTPUT)


EVERY_OUTCOME = (
    "SELECT seq, job, start, count, attempts, worker, outcome, failure, seconds, checksum FROM"
    " outcomes"
)


def add_job(store: Store, id: str = "a", blocks: int = 2) -> int:
    key = store.ask(
        lambda db: rows.add_job(db, id=id, spec=SPEC, functions=None, options=JobOptions(name="n"))
    )
    for number in range(blocks):
        block = pack([b"%d" % (3 * number + place) for place in range(3)])
        store.ask(lambda db, n=number, b=block: rows.add_block(db, key, n, 3, b))  # type: ignore[misc]
    return key


def outcome(start: int, count: int = 1, *, failed: bool = False) -> Recorded:
    batch = Batch("s", start, count, b"")
    how = Failed(Failure("ValueError", "no")) if failed else Done(count, b"blob", 0.5)
    return Recorded(batch, how, 1, "here:1")


def test_a_job_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    path = str(tmp_path / "jobs")
    with closing(Store(path)) as store:
        key = add_job(store)
        assert store.ask(lambda db: rows.commit_job(db, key, 2, 6)) == 1
        store.ask(lambda db: rows.add_outcome(db, key, outcome(0, 3), 0))
    with closing(Store(path)) as store:
        [job] = store.read(lambda db: list(rows.jobs(db, path)))
        assert (job.number, job.name, job.task, job.state) == (1, "n", "app:f", rows.OPEN)
        assert (job.total, job.done, job.failed) == (6, 3, 0)
        assert store.read(lambda db: rows.spans(db, key)) == [(0, 3)]
        assert store.read(lambda db: rows.block_with(db, key, 4))[0] == 3
        assert store.read(lambda db: rows.spec_of(db, key)) == SPEC


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    with closing(Store(str(tmp_path / "jobs"))) as store:
        key = add_job(store)
        assert add_job(store) == key
        for _ in range(2):
            assert store.ask(lambda db: rows.commit_job(db, key, 2, 6)) == 1
            store.ask(lambda db: rows.add_outcome(db, key, outcome(1), 0))
        [job] = store.read(lambda db: list(rows.jobs(db, "")))
        assert (job.total, job.done) == (6, 1)


def test_a_job_without_all_of_its_inputs_is_not_begun(tmp_path: Path) -> None:
    with closing(Store(str(tmp_path / "jobs"))) as store:
        key = add_job(store)
        assert store.ask(lambda db: rows.commit_job(db, key, 3, 9)) is None
        [job] = store.read(lambda db: list(rows.jobs(db, "")))
        assert (job.number, job.state) == (None, rows.RECEIVING)


def test_a_number_is_never_used_again(tmp_path: Path) -> None:
    with closing(Store(str(tmp_path / "jobs"))) as store:
        for number in (1, 2):
            key = add_job(store)
            assert store.ask(lambda db: rows.commit_job(db, key, 2, 6)) == number  # noqa: B023
            assert not store.ask(lambda db: rows.forget(db, key))  # noqa: B023
            store.ask(lambda db: rows.cancel_job(db, key, "no need"))  # noqa: B023
            assert store.ask(lambda db: rows.forget(db, key))  # noqa: B023
        assert store.read(lambda db: list(rows.jobs(db, ""))) == []


def test_how_a_job_has_ended_follows_from_its_outcomes(tmp_path: Path) -> None:
    with closing(Store(str(tmp_path / "jobs"))) as store:
        key = add_job(store)
        store.ask(lambda db: rows.commit_job(db, key, 2, 6))
        store.ask(lambda db: rows.add_outcome(db, key, outcome(0, 5), 0))
        assert store.ask(lambda db: rows.end_job(db, key, "")) is None  # one is missing
        store.ask(lambda db: rows.add_outcome(db, key, outcome(5, failed=True), 0))
        assert store.ask(lambda db: rows.end_job(db, key, "")) == rows.FAILED
        assert store.ask(lambda db: rows.cancel_job(db, key, "late")) is False
        assert store.ask(lambda db: rows.drop_failures(db, key, None)) == [5]
        assert store.read(lambda db: rows.attempts_before(db, key)) == {5: 1}
        store.ask(lambda db: rows.add_outcome(db, key, outcome(5), 1))
        assert store.ask(lambda db: rows.end_job(db, key, "")) == rows.DONE


def test_whoever_waits_is_told_when_a_write_cannot_be_followed_up(tmp_path: Path) -> None:
    with closing(Store(str(tmp_path / "jobs"))) as store:

        def then(_: object) -> None:
            raise BadJournal("it is damaged")

        with pytest.raises(OutputError, match=r"cannot go on with .*: it is damaged"):
            store.ask(lambda db: None, then)
        with pytest.raises(OutputError, match="it is damaged"):
            store.ask(lambda db: None)


def test_a_damaged_row_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "jobs")
    with closing(Store(path)) as store:
        key = add_job(store)
        store.ask(lambda db: rows.add_outcome(db, key, outcome(0), 0))
        store.ask(lambda db: db.execute("UPDATE blocks SET data = x'00' WHERE number = 1"))
        store.ask(lambda db: db.execute("UPDATE outcomes SET outcome = x'00'"))
        store.ask(lambda db: db.execute("UPDATE jobs SET task = 'other:f'"))
        with pytest.raises(BadJournal, match="the input of task 3 is damaged"):
            store.read(lambda db: rows.block_with(db, key, 3))
        with pytest.raises(BadJournal, match="the outcome of task 0 is damaged"):
            store.read(lambda db: list(rows.outcomes_from(db, key, 0)))
        with pytest.raises(BadJournal, match="is damaged: what it says of job"):
            store.read(lambda db: list(rows.jobs(db, path)))


@pytest.mark.parametrize("change", ["state = 'dome'", "state = 'done'", "total = 2", "failed = -9"])
def test_figures_of_a_job_that_cannot_be_are_refused(tmp_path: Path, change: str) -> None:
    with closing(Store(str(tmp_path / "jobs"))) as store:
        key = add_job(store)
        store.ask(lambda db: rows.commit_job(db, key, 2, 6))
        store.ask(lambda db: rows.add_outcome(db, key, outcome(0, 3), 0))
        assert len(store.read(lambda db: list(rows.jobs(db, "")))) == 1
        store.ask(lambda db: db.execute(f"UPDATE jobs SET {change}"))
        with pytest.raises(BadJournal, match="is damaged: what it says of job 1"):
            store.read(lambda db: list(rows.jobs(db, "")))


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    with closing(Store(str(tmp_path / "jobs"))) as store:
        key = add_job(store)
        for start in (0, 1):
            store.ask(lambda db, at=start: rows.add_outcome(db, key, outcome(at), 0))  # type: ignore[misc]
        # As it looks from above when an index has another row's number.
        of_another = "UPDATE outcomes SET job = 7 WHERE start = 1"
        store.ask(lambda db: db.execute(of_another))
        with pytest.raises(BadJournal, match="the outcome of task 1 is damaged"):
            list(rows._rows(store.read(lambda db: db.execute(EVERY_OUTCOME)), key))
        twice = 2 * store.read(lambda db: list(rows.outcomes_from(db, key, 0)))
        with pytest.raises(BadJournal, match="an index of outcomes is damaged"):
            list(rows._ascending(twice, lambda row: row.seq, 0))


def test_outcomes_that_an_index_has_lost_are_missed() -> None:
    row = (0, 3, 1, "here:1", b"", None, 0.5, None)
    tally = Tally()
    tally.add([row], None)
    tally.add([row], 7)
    with pytest.raises(BadJournal, match="outcomes of 1 tasks are missing"):
        tally.check()
    tally.add([row], 9)
    tally.check()


def test_another_master_cannot_have_it(tmp_path: Path) -> None:
    path = str(tmp_path / "jobs")
    with closing(Store(path)), pytest.raises(BadJournal, match="in use by another master"):
        Store(path)


def test_the_journal_of_a_run_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    with closing(Journal(str(path), ABOUT)):
        pass
    before = path.read_bytes()
    with pytest.raises(BadJournal, match="the journal of one run"):
        Store(str(path))
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, " * 500)
    with pytest.raises(BadJournal):
        Store(str(path))
    assert path.read_text() == "not a database, " * 500


def test_what_waits_for_the_disk_is_refused_when_the_file_is_closed(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "jobs"))
    store.close()
    with pytest.raises(OutputError, match="closing"):
        store.ask(lambda db: None)


def test_an_error_of_the_disk_is_told_to_all_who_wait(tmp_path: Path) -> None:
    said: list[str] = []
    with closing(Store(str(tmp_path / "jobs"), log=said.append)) as store:

        def fails(db: sqlite3.Connection) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        with pytest.raises(OutputError, match="disk I/O error"):
            store.ask(fails)
        with pytest.raises(OutputError, match="disk I/O error"):
            store.ask(lambda db: None)
        assert isinstance(store.error, OutputError)
        assert len(said) == 1


def test_a_full_disk_refuses_what_is_new_and_keeps_what_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dq.service.store.RETRY_INTERVAL_S", 0.01)
    said: list[str] = []
    is_full = True
    written = threading.Event()

    def action(db: sqlite3.Connection) -> None:
        if is_full:
            raise sqlite3.OperationalError("database or disk is full")

    with closing(Store(str(tmp_path / "jobs"), log=said.append)) as store:
        with pytest.raises(OutputError, match="no space left"):
            store.ask(action)
        store.write(action, lambda _: written.set())
        with pytest.raises(OutputError, match="no space left"):
            store.ask(action)
        assert not written.is_set()
        is_full = False
        assert written.wait(30)
        assert store.ask(lambda db: "there") == "there"
    assert ["no space" in line for line in said] == [True, False]
