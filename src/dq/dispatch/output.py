"""What tasks print, on its way from workers to whoever wants it."""

from __future__ import annotations

from collections.abc import Callable

from dq.core.beats import OutputLine, WorkerState


class Output:
    """Passes on what tasks print. It keeps nothing: while `on_lines` takes its time, the worker
    whose lines they are waits, and counts those that it has no room for.

    Attributes:
        on_lines: called with the id of a job ("" if that is unknown) and lines of its tasks, in the
            thread that has received them; None if nobody wants them.
    """

    def __init__(self) -> None:
        self.on_lines: Callable[[str, list[OutputLine]], None] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether anybody wants lines. Workers send none otherwise."""
        return self.on_lines is not None

    def take(self, worker: str, state: WorkerState) -> None:
        """Pass on the lines in a beat."""
        if self.on_lines is None:
            return
        jobs: dict[str, list[OutputLine]] = {}
        for line in state.lines:
            jobs.setdefault(line.job, []).append(line)
        if state.dropped:
            job = state.lines[-1].job if state.lines else ""
            cut = OutputLine(worker, job, -1, f"... {state.dropped:,} lines cut")
            jobs.setdefault(job, []).append(cut)
        for job, lines in jobs.items():
            self.on_lines(job, lines)
