"""The pipe between a supervisor and a task process."""

from __future__ import annotations

import os
import threading

import pytest

from dq.worker import lifeline


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_what_is_sent_is_received_and_nothing_of_what_follows(size: int) -> None:
    reader, writer = os.pipe()
    message = bytes(size)

    def send() -> None:
        lifeline.send(writer, message)
        os.write(writer, lifeline.DRAIN)

    sender = threading.Thread(target=send)  # which waits while the pipe is full
    sender.start()
    assert lifeline.receive(reader) == message
    assert os.read(reader, 2) == lifeline.DRAIN
    sender.join()
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("begun", [b"", b"\0\0", (9).to_bytes(lifeline.LENGTH_BYTES, "big") + b"x"])
def test_a_supervisor_that_dies_before_it_has_sent_all_is_an_end_of_file(begun: bytes) -> None:
    reader, writer = os.pipe()
    os.write(writer, begun)
    os.close(writer)
    with pytest.raises(EOFError):
        lifeline.receive(reader)
    os.close(reader)
