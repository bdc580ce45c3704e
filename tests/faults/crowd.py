"""So many clients with the key, all at once: ``python crowd.py PORT COUNT PLACES``.

Says ``here``, and connects at the first line on standard input; says how many got in, and one line
for each error. At each further line every one of them asks something, and it says how many were
answered. Leaves at the end of its input. They come from as many addresses of this machine as there
are PLACES. Made of the standard library alone, as other people's clients are.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from multiprocessing.managers import dispatch
from typing import Any

AT_ONCE = 500  # threads; more than that only wait for each other


class Crowd:
    """Connections, each with what it has been told of the task queue."""

    def __init__(self, port: int, places: int) -> None:
        self.port, self.places = port, places
        self.members: list[Connection] = []
        self.errors: Counter[str] = Counter()
        self.key = os.environ["DQ_AUTHKEY"].encode()
        self.tasks = self._find_tasks()

    def _find_tasks(self) -> str:
        with self.connect("127.0.0.1") as conn:
            ident, _ = dispatch(conn, None, "create", ("get_task_queue",))
        return str(ident)

    def connect(self, place: str) -> Any:
        """From an address of this machine, which the standard library's `Client` cannot choose."""
        sock = socket.create_connection(("127.0.0.1", self.port), source_address=(place, 0))
        conn: Any = Connection(sock.detach())
        answer_challenge(conn, self.key)
        deliver_challenge(conn, self.key)
        return conn

    def come(self, number: int) -> None:
        member = self.connect(f"127.0.0.{1 + number % self.places}")
        dispatch(member, None, "accept_connection", ("crowd",))
        self.members.append(member)

    def ask(self, number: int) -> None:
        size: int = dispatch(self.members[number], self.tasks, "qsize")
        assert size >= 0

    def all(self, act: Callable[[int], None], count: int) -> int:
        """Have it done for each, as far as possible at once; how often that went well."""
        numbers, went_well = iter(range(count)), []

        def work() -> None:
            for number in numbers:
                try:
                    act(number)
                    went_well.append(number)
                except (OSError, EOFError, AssertionError) as error:
                    self.errors[repr(error)] += 1

        threads = [threading.Thread(target=work) for _ in range(min(count, AT_ONCE))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(went_well)


def say(word: str, number: int, errors: Counter[str]) -> None:
    print(word, number, flush=True)
    for error, times in errors.items():
        print(f"error {times} x {error}", flush=True)


def main() -> None:
    port, count, places = map(int, sys.argv[1:])
    crowd = Crowd(port, places)
    print("here", flush=True)
    sys.stdin.readline()
    say("in", crowd.all(crowd.come, count), crowd.errors)
    for _ in sys.stdin:
        say("answered", crowd.all(crowd.ask, len(crowd.members)), crowd.errors)


if __name__ == "__main__":
    main()
