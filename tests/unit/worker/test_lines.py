"""What task processes print, cut into lines with the task of each."""

from __future__ import annotations

from random import Random

import pytest

from dq.core.beats import OutputLine
from dq.worker.lines import LONGEST_LINE, NO_TASK, Lines
from dq.worker.outbox import MOST_BYTES, Outbox
from dq.worker.tagging import mark

STREAM = b"".join(
    [
        *(b"before\n", mark(0, 0, "j"), b"by C code\n"),
        *(mark(7, 6, "j"), b"seven\n", mark(8, 3, "j"), b"no ", b"end"),
        *(mark(9, 10, "k"), b"two\nlines\n", b"with a \x1e of its own\n"),
    ]
)
FOUND = [
    (("", 5), b"before\n"),
    (("j", 5), b"by C code\n"),
    (("j", 7), b"seven\n"),
    (("j", 8), b"no "),
    (("j", 5), b"end"),
    (("k", 9), b"two\n"),
    (("k", 9), b"lines\n"),
    (("k", 5), b"with a \x1e of its own\n"),
]


@pytest.mark.parametrize("seed", range(50))
def test_lines_have_their_tasks_however_the_text_arrives(seed: int) -> None:
    random, lines, found, rest = Random(seed), Lines(lambda: 5), [], STREAM
    while rest:
        count = random.randint(1, len(rest))
        found += lines.feed(rest[:count])
        rest = rest[count:]
    assert found + list(lines.rest()) == FOUND


def test_what_only_looks_like_a_mark_is_text() -> None:
    lines = Lines(lambda: 5)
    fakes = [b"\x1e" + b"9" * 5000 + b",5,ab\x1fx\n", b"\x1e5,99999999,ab\x1fx\n", b"\x1e\x1e\n"]
    found = [text for _, text in lines.feed(b"".join(fakes))]
    assert found == fakes


def test_a_line_without_an_end_is_cut() -> None:
    lines = Lines(lambda: NO_TASK)
    found = [text for _, text in lines.feed(b"x" * (3 * LONGEST_LINE + 5))]
    assert found == [b"x" * LONGEST_LINE] * 3
    assert list(lines.rest()) == [(("", NO_TASK), b"xxxxx")]


def test_what_has_no_room_is_counted() -> None:
    outbox, line = Outbox(), OutputLine("h:1", "j", 0, "x" * 1000)
    for _ in range(100):
        outbox.add(line)
    lines, dropped = outbox.take()
    assert len(lines) + dropped == 100
    assert sum(len(one.text) for one in lines) <= MOST_BYTES
    assert outbox.is_empty
    outbox.add(line)
    outbox.put_back(lines, dropped)
    again, more = outbox.take()
    assert again == lines
    assert more == dropped + 1


def test_lines_that_nobody_wants_are_not_kept() -> None:
    outbox = Outbox()
    outbox.add(OutputLine("h:1", "j", 0, "x"))
    outbox.want(False)
    outbox.add(OutputLine("h:1", "j", 0, "y"))
    assert outbox.take() == ((), 0)
