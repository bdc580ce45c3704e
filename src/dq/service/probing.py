"""Asks each connected worker whether it can import a task, as a task that only this worker gets."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from dq._support.frozen import cast
from dq.core.jobs import Rules
from dq.core.records import Failed, Reading, Recorded
from dq.data import batches, kept
from dq.data.sources import Source
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.served_job import ServedJob
from dq.functions.reference import TaskRef
from dq.functions.spec import JobSpec
from dq.security.safe_pickle import safe_loads
from dq.service.specs import OUTPUT

PROBE = TaskRef("module", "dq.functions.probe", "look")
TIME_LIMIT_S = 60.0  # for a worker to import a task

Answer = dict[str, object]
Take = Callable[[str, Recorded], None]


class Probing:
    """Asks workers about tasks.

    Args:
        dispatcher: the master's.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def ask(self, ref: TaskRef, seconds: float) -> list[Answer]:
        """What each of dq's own workers finds, with its name. One that has no free slot in time has
        only a name.

        Args:
            ref: the task.
            seconds: to wait for the answers.
        """
        names = self._dispatcher.presence.groups()
        answers: dict[str, Answer] = {}
        arrived = threading.Condition()  # guards `answers`

        def take(group: str, record: Recorded) -> None:
            with arrived:
                answers[group] = _answer_in(record)
                arrived.notify()

        served: list[ServedJob] = []
        deadline = time.monotonic() + seconds
        try:
            served.extend(self._open(ref, group, take) for group in names)
            with arrived:
                while len(answers) < len(names) and (left := deadline - time.monotonic()) > 0:
                    arrived.wait(left)
                    here = self._dispatcher.presence.groups()
                    names = {group: name for group, name in names.items() if group in here}
        finally:
            for one in served:
                self._dispatcher.jobs.close(one)
        return [{"worker": name, **answers.get(group, {})} for group, name in names.items()]

    def _open(self, ref: TaskRef, group: str, take: Take) -> ServedJob:
        spec = JobSpec(
            id=os.urandom(8).hex(),
            ref=PROBE,
            reading=Reading("pickled"),
            output=OUTPUT,
            timeout=TIME_LIMIT_S,
        )
        source = Source([batches.joined(batches.dump([ref.to_wire()]))])
        return self._dispatcher.jobs.open(
            spec, Rules(), source, sink=lambda record: take(group, record), only_for=group
        )


def _answer_in(record: Recorded) -> Answer:
    if isinstance(record.outcome, Failed):
        return {"error": str(record.outcome.failure)}
    [answer], _ = kept.load(record.outcome.blob, safe_loads)
    return cast("Answer", answer) if type(answer) is dict else {"error": "not an answer"}
