"""Reports of a slot's outcomes while its batch still runs.

The process's monitor checks every slot ten times a second. If a batch takes long, it reports the
outcomes so far. If a single task takes long, it hands back the tasks that have not started.
"""

from __future__ import annotations

import time

from dq._support.frozen import TYPE_CHECKING
from dq.errors import DqError
from dq.manager.client import Client
from dq.worker.batch import RunningBatch
from dq.worker.cells import INDEX, LEASE

if TYPE_CHECKING:
    from dq.worker.slot import Slot

STUCK_CHECKS = 2  # in a row that see the same task, before the tasks behind it are handed back
PARTIAL_REPORT_S = 0.25  # of work, before outcomes are reported while the batch goes on,
PARTIAL_REPORT_FACTOR = 3  # or so many times the time for such a report, on a slow connection


class PartialReports:
    """Those of one slot; called in the monitor's thread.

    Args:
        slot: the slot.
    """

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self._report_after = PARTIAL_REPORT_S
        self._last_seen, self._same_checks = (0, 0), 0

    def check(self) -> None:
        """Hand back the tasks behind one that takes long. If the whole batch takes long, report the
        outcomes so far."""
        batch = self._slot.batch
        if batch is None:
            return
        view = self._slot.cells.view
        seen = (view[LEASE], view[INDEX])
        self._same_checks = self._same_checks + 1 if seen == self._last_seen else 0
        self._last_seen = seen
        if self._same_checks == STUCK_CHECKS:
            self.hand_back()
        elif time.monotonic() - batch.started > self._report_after:
            self._report_so_far(keep=True)

    def hand_back(self) -> None:
        """Report the outcomes so far, and hand back the tasks that have not started."""
        self._report_so_far(keep=False)

    def _report_so_far(self, keep: bool) -> None:
        """Report the outcomes so far; `keep` the tasks that have not started, or hand them back."""
        if not self._slot.lock.acquire(blocking=False):
            return  # the slot is just reporting
        try:
            client, batch = self._slot.client, self._slot.batch
            if client is not None and batch is not None:
                self._report_part(client, batch, keep)
        except DqError:
            pass  # the slot will fail in the same way, and report everything again
        finally:
            self._slot.lock.release()

    def _report_part(self, client: Client, batch: RunningBatch, keep: bool) -> None:
        unstarted = 0 if keep else batch.take_unstarted()
        report = batch.report(client.run, unstarted)
        if not report.outcomes and not unstarted:
            return
        if report.outcomes:
            batch.started += report.busy
        if unstarted:
            batch.hand_back(unstarted)
        sent = time.monotonic()
        self._slot.send(client, report, 0)
        took = time.monotonic() - sent
        self._report_after = max(PARTIAL_REPORT_S, PARTIAL_REPORT_FACTOR * took)
        batch.reported()
