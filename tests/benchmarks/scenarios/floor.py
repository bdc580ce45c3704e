"""What an exchange costs the master, beside one receive and one send of the same bytes."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from benchmarks import stats
from benchmarks.measure import Options, Sample, collect, piped
from benchmarks.report import Goal, Table
from benchmarks.simulated_slots import KEY, work_for

# The values are not looked at: what opening them costs is the user's, and the same with any tool.
MASTER = f"""
import sys, time
import dq

count, batch = map(int, sys.argv[1:])
with dq.Master(host="127.0.0.1", port=0, authkey={KEY!r}, batch=batch) as master:
    print(master.address[1], flush=True)
    sys.stdin.readline()
    started = time.process_time()
    job = master.runtime.jobs.open_call("math:sqrt", range(count), output="values")
    done = sum(record.batch.count for record in job.ordered())
    print(time.process_time() - started, flush=True)
    assert done == count
"""
# What any Python program pays that waits for so many bytes, and answers with so many.
ECHO = """
import socket, sys, time

count, size, answer = map(int, sys.argv[1:])
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    peer, _ = server.accept()
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
reply = bytes(answer)
started = time.process_time()
for _ in range(count):
    peer.recv(size, socket.MSG_WAITALL)
    peer.sendall(reply)
print(time.process_time() - started, flush=True)
"""
ASK = """
import socket, sys

port, count, size, answer = map(int, sys.argv[1:])
with socket.create_connection(("127.0.0.1", port)) as peer:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    question = bytes(size)
    for _ in range(count):
        peer.sendall(question)
        peer.recv(answer, socket.MSG_WAITALL)
"""


def measure(options: Options) -> Iterator[Table]:
    batches = {1: options.pick(100, 20_000), 1000: options.pick(10, 3_000)}
    samples = collect(
        [
            (str(batch), functools.partial(_sample, batch, exchanges))
            for batch, exchanges in batches.items()
        ],
        options.repeats,
    )
    rows, goals = [], []
    for batch in batches:
        name = str(batch)
        what = f"dq: batches of {batch}"
        if name in samples.reasons:
            rows.append([what, samples.reasons[name]])
            continue
        cost, floor = samples.median(name, "exchange"), samples.median(name, "floor")
        size = samples.median(name, "sent") + samples.median(name, "received")
        rows.append(
            [
                what,
                stats.show_bytes(size),
                stats.show_seconds(cost),
                stats.show_seconds(floor),
                stats.show_ratio(cost / floor),
                f"{cost / batch * 1e9:,.0f} ns",
            ]
        )
        goals.append(Goal(f"an exchange of {batch}, of its floor", cost / floor, 3, at_least=False))
    yield Table(
        f"The master's CPU time for an exchange with one slot, median of {options.repeats}",
        ["", "bytes there and back", "exchange", "receive and send", "x that", "a task"],
        rows,
        samples.figures,
        ["Pickling the inputs is in it, opening the results is not."],
        goals,
    )


def _sample(batch: int, exchanges: int) -> Sample:
    work = work_for(MASTER, batch * exchanges, batch, slots=1)
    sent, received = work.sent / work.exchanges, work.received / work.exchanges
    return {
        "exchange": work.figures[0] / work.exchanges,
        "floor": _floor(exchanges, int(sent), int(received)) / exchanges,
        "sent": sent,
        "received": received,
    }


def _floor(count: int, size: int, answer: int) -> float:
    """CPU seconds of who answers so often."""
    with piped("-c", ECHO, str(count), str(size), str(answer)) as echo:
        port = echo.stdout.readline().decode().strip()
        with piped("-c", ASK, port, str(count), str(size), str(answer)):
            return float(echo.stdout.readline())
