"""Results into a file that is whole or absent, and what is kept of one that is neither."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from dq.data.output_file import Writer
from dq.errors import OutputError, UsageError

FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "out.part"


def test_a_file_is_absent_until_it_is_complete(path: Path) -> None:
    writer = Writer(str(path))
    writer.write(b"1\n")
    assert not path.exists()
    writer.commit()
    writer.close()
    assert path.read_bytes() == b"1\n"
    assert os.listdir(path.parent) == ["out"]


def test_a_file_of_no_results_is_empty(path: Path, part: Path) -> None:
    part.write_bytes(b"of an earlier run\n")
    writer = Writer(str(path))
    writer.commit()
    writer.close()
    assert path.read_bytes() == b""
    assert not part.exists()


def test_what_was_written_is_in_the_part_at_once(path: Path, part: Path) -> None:
    writer = Writer(str(path))
    writer.write(b"1\n")
    assert part.read_bytes() == b"1\n"
    writer.close()
    assert part.read_bytes() == b"1\n"
    assert writer.kept == str(part)


def test_a_file_from_before_stays_until_there_is_a_new_one(path: Path, part: Path) -> None:
    path.write_bytes(b"old\n")
    writer = Writer(str(path))
    writer.write(b"half")
    writer.close()
    assert path.read_bytes() == b"old\n"
    assert part.read_bytes() == b"half"


def test_an_earlier_part_is_replaced_by_the_first_result_and_not_before(
    path: Path, part: Path
) -> None:
    part.write_bytes(b"of an earlier run\n")
    writer = Writer(str(path))
    writer.close()
    assert part.read_bytes() == b"of an earlier run\n"
    writer = Writer(str(path))
    writer.write(b"1\n")
    writer.close()
    assert part.read_bytes() == b"1\n"


def test_no_part_is_left_where_there_was_no_result(path: Path) -> None:
    writer = Writer(str(path))
    assert writer.kept is None
    writer.close()
    assert os.listdir(path.parent) == []


def test_a_file_that_another_run_writes_is_refused(path: Path, part: Path) -> None:
    first = Writer(str(path))
    first.write(b"1\n")
    with pytest.raises(UsageError, match=r"another run is writing .*out: wait"):
        Writer(str(path))
    first.write(b"2\n")
    first.commit()
    assert path.read_bytes() == b"1\n2\n"
    second = Writer(str(path))
    second.write(b"3\n")
    assert (path.read_bytes(), part.read_bytes()) == (b"1\n2\n", b"3\n")
    second.close()


def test_a_link_is_kept_and_what_it_leads_to_replaced(path: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path.symlink_to("folder/file")
    writer = Writer(str(path))
    writer.write(b"1\n")
    assert writer.kept == str((tmp_path / "folder").resolve() / "file.part")
    writer.commit()
    writer.close()
    assert path.is_symlink()
    assert (tmp_path / "folder" / "file").read_bytes() == b"1\n"


def test_a_part_is_as_private_as_the_file_that_it_replaces(path: Path, part: Path) -> None:
    path.write_bytes(b"old\n")
    path.chmod(0o400)
    writer = Writer(str(path))
    writer.write(b"1\n")
    assert stat.S_IMODE(part.stat().st_mode) == 0o600  # the next run has to write it, too
    writer.commit()
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_a_part_that_is_no_file_is_refused(path: Path, part: Path, kind: str) -> None:
    if kind == "folder":
        part.mkdir()
    elif kind == "pipe":
        os.mkfifo(part)
    else:
        part.symlink_to(path.parent / "elsewhere")
    with pytest.raises(UsageError, match=r"cannot write .*out\.part: "):
        Writer(str(path))
    assert not (path.parent / "elsewhere").exists()


def test_a_file_that_cannot_be_opened_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*No such file or directory"):
        Writer(str(tmp_path / "missing" / "out"))


def test_a_write_that_fails_leaves_whole_blobs(
    path: Path, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        """A file on a disk with room for three bytes more."""

        def __init__(self, file: object) -> None:
            self._file = file
            self._room = 3

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

        def write(self, data: memoryview) -> int:
            if not self._room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written, self._room = data[: self._room], max(0, self._room - len(data))
            count: int = self._file.write(written)  # type: ignore[attr-defined]
            return count

    writer = Writer(str(path))
    writer.write(b"one\n")
    monkeypatch.setattr(writer, "_file", Full(writer._file))
    with pytest.raises(OutputError, match="No space left"):
        writer.write(b"two\n")
    assert part.read_bytes() == b"one\ntwo"
    writer.close()
    assert part.read_bytes() == b"one\n"
    assert writer.kept == str(part)


@FULL
def test_a_full_disk_is_said_and_leaves_a_device_alone() -> None:
    writer = Writer("/dev/full")
    with pytest.raises(OutputError, match=os.strerror(errno.ENOSPC)):
        writer.write(b"x")
    writer.close()
    assert os.path.exists("/dev/full")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_named_pipe_is_written_and_not_replaced(path: Path) -> None:
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = Writer(str(path))
    writer.write(b"1\n")
    writer.commit()
    assert os.read(reader, 10) == b"1\n"
    os.close(reader)
    assert path.is_fifo()
