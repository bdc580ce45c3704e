"""A thousand connections at once, ten thousand, and one after the other without a pause: none is
refused, and nothing of them stays."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Client
from multiprocessing.managers import dispatch
from pathlib import Path
from typing import NamedTuple

import pytest

from dq.manager.client import Client as Slot
from faults.scene import KEY, Hazards
from support import Running, fds, rss, serving, threads, wait_until

pytestmark = pytest.mark.slow

CROWD = Path(__file__).with_name("crowd.py")
FED = ("--input", "-", "--format", "jsonl", "--batch", "1", "-q")
#: What may be there after a second crowd beyond what was there after the first: the system keeps
#: some of the memory of threads that have ended, and how much depends on how they fell together.
MORE_BYTES = 8 * 2**20
#: The same after thousands one by one; measured: 0.2 MB.
MORE_OF_PASSING = 2 * 2**20
#: Bytes of resident memory for each connection; measured: 22 KiB, with its thread.
EACH = 64 * 2**10


class Had(NamedTuple):
    """What a process has."""

    fds: int
    threads: int
    rss: int

    @classmethod
    def by(cls, pid: int) -> Had:
        return cls(fds(pid), threads(pid), rss(pid))

    def wait_for(self, pid: int) -> None:
        """Until there are as few descriptors and threads again; one thread may be ending."""

        def settled() -> bool:
            return fds(pid) <= self.fds and threads(pid) <= self.threads + 1

        wait_until(settled, message=lambda: f"{self}, and now {Had.by(pid)}")


@dataclass
class Crowd:
    """Processes full of clients; see `crowd.py`."""

    processes: list[Running]
    count: int

    def all(self, word: str, timeout: float = 60) -> None:
        """Have them do the next thing, all at once: connect, or ask something."""
        for process in self.processes:
            process.write("now\n")
        for process in self.processes:
            done = int(process.wait_for(rf"^{word} (\d+)$", timeout, "stdout")[1])
            assert done == self.count, process.printed

    def leave(self) -> None:
        for process in self.processes:
            process.close_stdin()
        for process in self.processes:
            assert process.wait() == 0, process.printed


@contextmanager
def crowd(hazards: Hazards, port: int, processes: int, each: int) -> Iterator[Crowd]:
    """Ready to come: so many processes with so many clients each."""
    argv = (sys.executable, CROWD, str(port), str(each), "50")
    with ExitStack() as stack:
        started = [
            stack.enter_context(Running(*argv, env=hazards.env, stdin=subprocess.PIPE))
            for _ in range(processes)
        ]
        for process in started:
            process.wait_for("^here$", stream="stdout")
        yield Crowd(started, each)


@contextmanager
def fed(hazards: Hazards, *args: str) -> Iterator[tuple[Running, int]]:
    """A master that is given inputs by `write`, with one worker that has been at work."""
    place = {"cwd": hazards.folder, "env": hazards.env, "stdin": subprocess.PIPE}
    with (
        serving("hazards:short", *FED, *args, **place) as (master, port),
        hazards.worker(port, "-p", "1", *args) as worker,
    ):
        master.write("0\n")
        master.wait_for('"id": 0,', stream="stdout")
        yield master, port
        master.close_stdin()
        assert [master.wait(), worker.wait()] == [0, 0], master.printed


def visit(hazards: Hazards, master: Running, port: int, processes: int, each: int) -> int:
    """A crowd comes, is served, and leaves; bytes of memory of the master's then."""
    before, most = Had.by(master.pid), processes * each
    with crowd(hazards, port, processes, each) as guests:
        guests.all("in")
        assert fds(master.pid) >= before.fds + most
        guests.all("answered")
        assert rss(master.pid) <= before.rss + most * EACH + MORE_BYTES
        guests.leave()
    before.wait_for(master.pid)
    return rss(master.pid)


def test_a_thousand_at_once_are_all_let_in_and_leave_nothing(hazards: Hazards) -> None:
    with fed(hazards) as (master, port):
        first = visit(hazards, master, port, processes=2, each=500)
        second = visit(hazards, master, port, processes=2, each=500)
        master.write("".join(f"{x}\n" for x in range(1, 100)))
        assert second <= first + MORE_BYTES
    assert "refused" not in master.stderr_text
    hazards.history(list(range(100)), master.stdout_text).check()


def test_work_goes_on_while_a_thousand_come(hazards: Hazards) -> None:
    with fed(hazards) as (master, port), crowd(hazards, port, 2, 500) as guests:
        master.write("".join(f"{x}\n" for x in range(1, 400)))
        guests.all("in")
        guests.all("answered")
        master.wait_for('"id": 399,', stream="stdout")
    assert hazards.history(list(range(400)), master.stdout_text).check().extra == 0


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_ten_thousand_at_once_are_all_let_in_and_leave_nothing(hazards: Hazards) -> None:
    count = int(os.environ.get("DQ_TEST_SOAK_CONNECTIONS", "10000"))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 100:
        pytest.skip(f"a process here may have {hard} descriptors only (ulimit -Hn)")
    with fed(hazards) as (master, port):
        idle = rss(master.pid)
        # A thousand at a time are on their way; all are there at once.
        first = visit(hazards, master, port, processes=2, each=count // 2)
        second = visit(hazards, master, port, processes=2, each=count // 2)
        print(f"{count} connections, twice: {idle} bytes, then {first}, then {second}")
        assert second <= first + 2 * MORE_BYTES


# One after the other


def plain(port: int) -> None:
    """What the standard library's proxies open for each thing that they do."""
    with Client(("127.0.0.1", port), authkey=KEY.encode()) as client:
        dispatch(client, None, "accept_connection", ("passing",))


def slot(port: int) -> None:
    """A task slot of dq's own."""
    client = Slot(("127.0.0.1", port), KEY.encode(), role="slot", group="passing", name="passing:1")
    client.close()


def abrupt(port: int) -> None:
    """Gone before it is known."""
    Client(("127.0.0.1", port), authkey=None).close()


PASSING = [plain, slot, abrupt]


@pytest.mark.parametrize("passing", PASSING)
def test_who_comes_and_goes_without_a_pause_leaves_nothing(
    hazards: Hazards, passing: Callable[[int], None]
) -> None:
    with fed(hazards) as (master, port):
        pass_by(master.pid, port, passing, 2000)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("passing", PASSING)
def test_ten_thousand_who_come_and_go_leave_nothing(
    hazards: Hazards, passing: Callable[[int], None]
) -> None:
    with fed(hazards) as (master, port):
        pass_by(master.pid, port, passing, 10_000)


def pass_by(pid: int, port: int, passing: Callable[[int], None], count: int) -> None:
    before = Had.by(pid)
    for _ in range(count // 10):
        passing(port)
    warm = rss(pid)
    for _ in range(count):
        passing(port)
    before.wait_for(pid)
    print(f"{count} connections: {before}, after some {warm} bytes, now {Had.by(pid)}")
    assert rss(pid) <= warm + MORE_OF_PASSING


# What they have sent and been given

LARGE = 2**23
#: So that memory which is free is the system's again: else glibc keeps some for each few threads.
LEAN = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072"}


def test_what_an_idle_slot_has_reported_is_not_kept(hazards: Hazards) -> None:
    place = {"cwd": hazards.folder, "env": {**hazards.env, **LEAN}, "stdin": subprocess.PIPE}
    with (
        serving("hazards:gated_and_large", *FED, "--output", "out.txt", **place) as (master, port),
        hazards.worker(port, "-p", "1", "-t", "16") as worker,
    ):
        master.write("".join(f"{x}\n" for x in range(16)))
        hazards.wait_for_executions(16)
        before = rss(master.pid)
        hazards.open_gate()
        wait_until(lambda: written(hazards.folder) > 16 * LARGE)
        # Well before they ask again.
        wait_until(lambda: rss(master.pid) < before + 4 * LARGE, 10, message=lambda: f"{before}")
        master.close_stdin()
        assert [master.wait(), worker.wait()] == [0, 0], master.printed


def written(folder: Path) -> int:
    """Bytes of an output that is on its way."""
    return sum(path.stat().st_size for path in folder.glob("out.txt*"))


def test_what_an_idle_plain_client_has_put_is_not_kept(hazards: Hazards) -> None:
    with ExitStack() as stack:
        place = {"cwd": hazards.folder, "env": {**hazards.env, **LEAN}}
        master, port = stack.enter_context(serving(**place))
        before = rss(master.pid)
        items = [bytes([number]) * LARGE for number in range(16)]
        for item in items:
            plain_call(stack, port, "put", item)
        for item in items:
            assert plain_call(stack, port, "get", then="qsize") == item
        wait_until(lambda: rss(master.pid) < before + 4 * LARGE, message=lambda: f"{before}")


def test_what_a_call_had_that_failed_is_not_kept(hazards: Hazards) -> None:
    with ExitStack() as stack:
        place = {"cwd": hazards.folder, "env": {**hazards.env, **LEAN}}
        master, port = stack.enter_context(serving(**place))
        before = rss(master.pid)
        for _ in range(16):
            with pytest.raises(TypeError):
                plain_call(stack, port, "put", bytes(LARGE), True, "no number of seconds")
        wait_until(lambda: rss(master.pid) < before + 4 * LARGE, message=lambda: f"{before}")


def plain_call(stack: ExitStack, port: int, name: str, *args: object, then: str = "") -> object:
    """Call the task queue's method, `then` another, by a client that stays."""
    with Client(("127.0.0.1", port), authkey=KEY.encode()) as client:
        ident, _ = dispatch(client, None, "create", ("get_task_queue",))
    client = stack.enter_context(Client(("127.0.0.1", port), authkey=KEY.encode()))
    dispatch(client, None, "accept_connection", ("idle",))
    result: object = dispatch(client, ident, name, args)
    if then:
        dispatch(client, ident, then)
    return result


def test_a_plain_client_is_not_kept_by_a_delayed_acknowledgement(hazards: Hazards) -> None:
    """It sends two messages in a row at the end of the handshake, the second by Nagle's rule."""

    def seconds() -> float:
        started = time.monotonic()
        plain(port)
        return time.monotonic() - started

    with fed(hazards, "--tls", "off") as (_, port):  # else it waits for a client to begin with TLS
        assert min(seconds() for _ in range(20)) < 0.03  # where it is kept: 0.04, each time
