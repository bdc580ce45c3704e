"""Notices about jobs that need tags which no connected worker has."""

from __future__ import annotations

from dq.core.jobs import Job
from dq.dispatch.connected_worker import Note
from dq.dispatch.state import DispatchState

UNMET_NOTICE_S = 5.0  # without a worker for a job, after which there is a notice


class UnmetNeeds:
    """Notices, given once for each job, that no worker may have its tasks. All methods are called
    with the dispatcher's lock held.

    Args:
        state: what the dispatcher's parts share.
    """

    def __init__(self, state: DispatchState) -> None:
        self._state = state
        self._board = state.board
        self._since: dict[str, float] = {}  # when a job was first found to have no worker
        self._noted: set[str] = set()

    def notes(self, now: float) -> list[Note]:
        """The notes to show now."""
        if not self._board.is_selective or self._board.draining:
            return []
        jobs = {job.id: job for job in self._board.jobs.values() if self._is_unmet(job)}
        self._since = {id: self._since.get(id, now) for id in jobs}
        self._noted &= self._board.jobs.keys()
        notes = []
        for id, since in self._since.items():
            if now - since >= UNMET_NOTICE_S and id not in self._noted:
                self._noted.add(id)
                notes.append(Note(self._line(jobs[id]), warning=True))
        return notes

    def _is_unmet(self, job: Job) -> bool:
        if not job.rules.needs or not job.has_more or job.stopped is not None:
            return False
        holders = self._board.holders.values()
        return not any(job.rules.needs <= holder.tags for holder in holders)

    def _line(self, job: Job) -> str:
        tags = sorted(job.rules.needs)
        named = f"the tag {tags[0]}" if len(tags) == 1 else f"all of the tags {', '.join(tags)}"
        task = self._state.served_jobs[job.id].spec.ref
        needed = f", which {task} needs" if task is not None else ""
        return (
            f"no connected worker has {named}{needed}; start one with dq worker --tags"
            f" {','.join(tags)}"
        )
