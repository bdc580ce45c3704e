"""What really happened, against what dq says: a checker that knows nothing of dq's own books.

Tasks write each execution down themselves, in one append to a shared file, with a random token
that they also return. So a record can be traced to the execution it came from, one that nobody
computed is seen, and so is work done twice.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass
class History:
    """One run: what went in, what is on record, what was executed.

    Args:
        inputs: as given, in order.
        records: those of ``--format jsonl``.
        executions: ``{"input", "pid", "token"}`` each, in the order in which they began.
    """

    inputs: list[Any]
    records: list[dict[str, Any]]
    executions: list[dict[str, Any]]

    @classmethod
    def read(cls, inputs: list[Any], output: str, log: Path) -> History:
        """From what a command printed, and the file that its tasks wrote."""
        return cls(inputs, lines(output), lines(log.read_text()) if log.exists() else [])

    def check(self, *, failed: dict[Any, str] | None = None) -> History:
        """Assert the core invariant; `failed` has the inputs that must fail, and their errors."""
        self._check_ids()
        failed = failed or {}
        for record in self.records:
            self._check_record(record, failed.get(record["input"]))
        strangers = {entry["input"] for entry in self.executions} - set(self.inputs)
        assert not strangers, f"executed, and never put in: {strangers}"
        return self

    @property
    def runs(self) -> Counter[Any]:
        """How often each input was executed."""
        return Counter(entry["input"] for entry in self.executions)

    @property
    def extra(self) -> int:
        """Executions beyond the first of an input; each must be explained by a fault."""
        return sum(count - 1 for count in self.runs.values())

    @property
    def pids(self) -> Counter[int]:
        """How many executions each process began."""
        return Counter(entry["pid"] for entry in self.executions)

    def record(self, given: Any) -> dict[str, Any]:
        """The one record of an input."""
        [found] = [record for record in self.records if record["input"] == given]
        return found

    def _check_ids(self) -> None:
        ids = Counter(record["id"] for record in self.records)
        wanted = range(len(self.inputs))
        assert not (lost := [id for id in wanted if not ids[id]]), f"lost: {lost}"
        assert not (twice := [id for id in ids if ids[id] > 1]), f"recorded twice: {twice}"
        assert not (unknown := set(ids) - set(wanted)), f"never put in: {unknown}"

    def _check_record(self, record: dict[str, Any], error: str | None) -> None:
        given = self.inputs[record["id"]]
        assert record["input"] == given, record
        assert record["attempts"] >= 1, record
        if error is not None:
            assert record.get("error", {}).get("type") == error, record
            return
        assert "result" in record, record
        value = record["result"]
        assert value["input"] == given, record
        assert self._computed.get(value["token"]) == given, f"computed by nobody: {record}"

    @cached_property
    def _computed(self) -> dict[str, Any]:
        """Which input each token is of."""
        return {entry["token"]: entry["input"] for entry in self.executions}


def lines(text: str) -> list[Any]:
    """The values of JSON lines, the last of which may still be being written."""
    whole, _, _ = text.rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]
