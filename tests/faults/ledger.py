"""What was executed and what was shown, of up to millions of tasks: some bytes for each.

As in `history`, tasks write down each execution themselves, with a random token that is also their
result; here in one short line, `ITEM TOKEN PID`. An item is its own place among the inputs; a
poison's is -1 - place. Masters' output is looked at while it grows, over all of a job's masters.
"""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: The module of the tasks; DQ_TEST_NAP says how long each takes.
TASKS = """
import os, secrets, signal, time

LOG = os.open(os.environ["DQ_TEST_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
NAP = float(os.environ["DQ_TEST_NAP"])

def work(x):
    token = secrets.token_hex(4)
    os.write(LOG, f"{x} {token} {os.getpid()}\\n".encode())
    if x < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if NAP:
        time.sleep(NAP)
    return token
"""


@dataclass
class Tail:
    """The whole lines of a file that grows, each once."""

    path: Path
    offset: int = 0

    def lines(self) -> list[bytes]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        return whole.splitlines()


@dataclass
class Ledger:
    """The history of a job with one journal, and any number of masters.

    Args:
        count: how many inputs.
        poison: places of those that kill whoever runs them.
        log: where executions are written down.
    """

    count: int
    poison: set[int]
    log: Path
    begun: int = 0  # inputs that were executed, at least once
    extra: int = 0  # executions beyond the first, but for poison's
    again: int = 0  # executions of what had been shown before a master was killed
    shown: int = 0  # inputs with an outcome that was shown, by any master
    pids: set[int] = field(default_factory=set)
    _tokens: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._runs = array("I", bytes(4 * self.count))
        self._lines = array("q", bytes(8 * self.count))  # a hash of what was shown; 0 for nothing
        self._settled = bytearray(self.count)
        self._printed = bytearray(self.count)  # by the present master
        self._executions = Tail(self.log)
        self._output = Tail(self.log)

    @property
    def inputs(self) -> list[int]:
        return [-1 - place if place in self.poison else place for place in range(self.count)]

    def look(self) -> None:
        """Take in what has been executed and shown since the last look."""
        # In this order: what is shown has been executed.
        for line in self._output.lines():
            self._take_record(line)
        for line in self._executions.lines():
            self._take_execution(line)

    def next_master(self, output: Path) -> None:
        """The master is dead, and another one will show what it showed before."""
        self.look()
        for place in range(self.count):
            self._settled[place] = self._lines[place] != 0
        self._printed = bytearray(self.count)
        self._output = Tail(output)

    def check(self, ordered: bool) -> None:
        """The last master has ended: every input has one outcome, and it is right."""
        self.look()
        lost = [place for place, printed in enumerate(self._printed) if not printed]
        assert not lost, f"lost: {lost[:20]}"
        assert self.shown == self.count
        with self._output.path.open("rb") as lines:
            for expected, line in enumerate(lines):
                record = json.loads(line)
                assert not ordered or record["id"] == expected, record
                self._check_record(record)

    def _take_execution(self, line: bytes) -> None:
        item, token, pid = line.split()
        number = int(item)
        place = number if number >= 0 else -1 - number
        assert 0 <= place < self.count, f"executed, and never put in: {number}"
        assert (number < 0) == (place in self.poison), f"executed, and never put in: {number}"
        self._tokens.add(hash((place, token)))
        self.pids.add(int(pid))
        self.begun += not self._runs[place]
        self.extra += bool(self._runs[place]) and place not in self.poison
        self.again += self._settled[place]
        self._runs[place] += 1

    def _take_record(self, line: bytes) -> None:
        assert line.startswith(b'{"id": '), line
        place = int(line[7 : line.index(b",")])
        assert 0 <= place < self.count, f"never put in: {line!r}"
        assert not self._printed[place], f"shown twice: {line!r}"
        self._printed[place] = True
        self.shown += not self._lines[place]
        known = hash(line) or 1
        assert self._lines[place] in (0, known), f"not what was shown before: {line!r}"
        self._lines[place] = known

    def _check_record(self, record: dict[str, Any]) -> None:
        place = record["id"]
        poison = place in self.poison
        assert record["input"] == (-1 - place if poison else place), record
        assert record["attempts"] >= 1, record
        if poison:
            assert record.get("error", {}).get("type") == "WorkerDied", record
            return
        assert "result" in record, record
        computed = hash((place, record["result"].encode())) in self._tokens
        assert computed, f"computed by nobody: {record}"
