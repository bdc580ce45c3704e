"""A journal has one master at a time, and is a regular file."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from dq.errors import BadJournal
from dq.journal.writer import Entry, Journal
from support.journals import (
    ABOUT,
    Written,
    lines,
    read,
    record,
)


def test_a_second_journal_on_the_file_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "j")
    with closing(Journal(path, ABOUT)) as journal:
        with pytest.raises(BadJournal, match="in use by another master"):
            Journal(path, ABOUT)
        journal.start(Written())
        journal.add(Entry(None, record(0, lines(0, 1))))
    assert len(read(tmp_path / "j", lines(0, 1))) == 1


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadJournal, match=r"cannot open the journal .*No such file"):
        Journal(str(tmp_path / "nowhere" / "j"), ABOUT)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises(BadJournal, match="it is no regular file"):
            Journal(str(path), ABOUT)
