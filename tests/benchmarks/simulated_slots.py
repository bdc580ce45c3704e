"""Task slots by the hundred in one process: they speak dq's wire and compute nothing.

python -m benchmarks.simulated_slots PORT SLOTS SECONDS-A-TASK, the key on standard input. Prints a
line with the seconds that all took to connect; ends with the master, and prints how many
exchanges there were, the bytes sent and the bytes received in them.
"""

from __future__ import annotations

import functools
import heapq
import pickle
import selectors
import sys
import time
from dataclasses import dataclass
from typing import Any, cast

from benchmarks.measure import piped
from dq.core.records import Done
from dq.data import batches
from dq.errors import ConnectError
from dq.manager.client import Client
from dq.manager.messages import ReportMessage
from dq.manager.protocol import LEASES

KEY = b"a key for measurements only"


@dataclass(frozen=True)
class Work:
    """What a master and its simulated slots had to say: seconds to connect; the master's figures;
    exchanges, bytes to and bytes from the master."""

    connect: float
    figures: list[float]
    exchanges: int
    sent: int
    received: int


def work_for(master: str, *given: object, slots: int, seconds: float = 0.0) -> Work:
    """Run a master with slots from here, to its end.

    Args:
        master: a script. It prints its port, waits for a line, works, prints its figures.
        given: its arguments.
        slots: how many.
        seconds: that each task takes.
    """
    with piped("-c", master, *map(str, given)) as process:
        port = process.stdout.readline().decode().strip()
        argv = ("-m", "benchmarks.simulated_slots", port, str(slots), str(seconds))
        with piped(*argv) as simulated:
            simulated.stdin.write(KEY)
            simulated.stdin.close()
            connect = float(simulated.stdout.readline())
            process.stdin.write(b"\n")
            process.stdin.flush()
            figures = [float(figure) for figure in process.stdout.readline().split()]
            exchanges, sent, received = map(int, simulated.stdout.readline().split())
    return Work(connect, figures, exchanges, sent, received)


@functools.cache
def blob(count: int) -> bytes:
    """The values that so many tasks return: nothing much, and made only once."""
    return batches.dump([None] * count)


@dataclass(eq=False)
class Slot:
    """One connection; what it holds is done at `due`."""

    client: Client
    due: float = 0.0
    report: ReportMessage | None = None
    exchanges: int = 0
    sent: int = 0  # bytes
    received: int = 0

    def ask(self) -> None:
        """Hand in what is done, ask for more, and don't wait for the answer."""
        report = self.report.to_wire() if self.report is not None else None
        self.report = None
        message = pickle.dumps((LEASES, "exchange", (report, -1, 30.0), {}))
        self.client.channel.send_bytes(message)
        self.exchanges += 1
        self.sent += len(message)

    def hear(self, seconds: float) -> str:
        """Take the answer: "go" with something to do, "idle" or "stop"."""
        message = self.client.channel.recv_bytes()
        self.received += len(message)
        kind, answer = cast("tuple[str, tuple[str, Any, object]]", pickle.loads(message))
        if kind != "#RETURN":
            raise RuntimeError(answer)
        state, granted, _ = answer
        if granted is not None:
            lease, _, start, count, *_ = granted
            done = (Done(count, blob(count), count * seconds),)
            busy = max(count * seconds, count * 1e-7)
            self.report = ReportMessage(self.client.run, lease, start, done, busy=busy)
            self.due = time.monotonic() + count * seconds
        return state


class Slots:
    """Many slots, and who of them waits for what."""

    def __init__(self, port: int, key: bytes, count: int, seconds: float) -> None:
        self._seconds = seconds
        self._answers = selectors.DefaultSelector()
        self._naps: list[tuple[float, int, Slot]] = []
        self._left = count
        self._slots: list[Slot] = []
        for number in range(count):
            group = f"simulated {number // 100}"
            client = Client(
                ("127.0.0.1", port), key, role="slot", group=group, name=f"simulated:{number}"
            )
            self._slots.append(Slot(client))
            self._answers.register(client.channel, selectors.EVENT_READ, self._slots[-1])

    def __str__(self) -> str:
        return " ".join(
            str(sum(getattr(slot, what) for slot in self._slots))
            for what in ("exchanges", "sent", "received")
        )

    def run(self) -> None:
        """Until the master has no more to do."""
        for key in list(self._answers.get_map().values()):
            key.data.ask()
        while self._left:
            for key, _ in self._answers.select(self._patience()):
                self._hear(key.data)
            while self._naps and self._naps[0][0] <= time.monotonic():
                heapq.heappop(self._naps)[2].ask()

    def _patience(self) -> float | None:
        return max(self._naps[0][0] - time.monotonic(), 0) if self._naps else None

    def _hear(self, slot: Slot) -> None:
        try:
            state = slot.hear(self._seconds)
        except (EOFError, OSError, ConnectError):
            state = "stop"
        if state == "stop":
            self._left -= 1
            self._answers.unregister(slot.client.channel)
            slot.client.close()
        elif slot.report is not None and self._seconds:
            heapq.heappush(self._naps, (slot.due, id(slot), slot))
        else:
            slot.ask()


def main() -> None:
    port, count, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    key = sys.stdin.buffer.read()
    started = time.perf_counter()
    slots = Slots(port, key, count, seconds)
    print(time.perf_counter() - started, flush=True)
    slots.run()
    print(slots)


if __name__ == "__main__":
    main()
