"""The options of task processes."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dq._support import quantities
from dq._support.frozen import frozen
from dq._support.naming import setting
from dq._support.tags import tags
from dq.errors import UsageError

GRACE_S = 5.0  # for a process to exit as an interpreter does


@frozen
class ProcessOptions:
    """The task processes of one machine.

    Args:
        count: how many.
        threads: task slots in each.
        max_tasks: tasks after which a process is replaced.
        max_memory: bytes of resident memory beyond which a process is ended.
        grace: seconds that a process has to leave at its end.
        preload: modules that are imported once, before task processes are forked.
        tags: what they have, for jobs that need it; as a list or with commas.

    Raises:
        UsageError: a value cannot be used.
    """

    count: int = 0
    threads: int = 1
    max_tasks: int | None = None
    max_memory: int | None = None
    grace: float = GRACE_S
    preload: Iterable[str] = ()
    tags: str | Collection[str] = ()

    def __post_init__(self) -> None:
        quantities.whole(0, quantities.MOST_PROCESSES, workers=self.count)
        quantities.whole(1, quantities.MOST_THREADS, threads=self.threads)
        quantities.whole(1, **quantities.given(max_tasks=self.max_tasks))
        quantities.whole(quantities.LEAST_MEMORY, **quantities.given(max_memory=self.max_memory))
        quantities.seconds(grace=self.grace)
        if isinstance(self.preload, str):
            raise UsageError(f"{setting('preload')} is a list of the names of modules")
        for name in self.preload:
            if not isinstance(name, str) or not all(map(str.isidentifier, name.split("."))):
                raise UsageError(f"{setting('preload')} {name!r} is not the name of a module")
        tags(tags=self.tags)

    @property
    def slots(self) -> int:
        """How many tasks they can run at once."""
        return self.count * self.threads


def process_count(**given: int | None) -> int:
    """A number of processes, under its argument's name; None for one for each CPU."""
    [(name, number)] = given.items()
    if number is None:
        return quantities.cpus()
    quantities.whole(1, quantities.MOST_PROCESSES, **{name: number})
    return number
