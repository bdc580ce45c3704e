"""The options of a job's tasks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from dq._support import quantities
from dq._support.fields import narrowed
from dq._support.frozen import frozen
from dq._support.tags import tags
from dq.core.jobs import Rules
from dq.errors import UsageError
from dq.functions.reference import Function


@frozen
class TaskOptions:
    """How tasks are called, and what follows when one fails.

    Args:
        retries: further attempts after an exception or time-out.
        retry_delay: seconds before each of them.
        timeout: seconds that a task may run; None for any time.
        max_deaths: worker processes that may die in a task before it fails.
        max_failures: failed tasks after which a job stops; None never.
        batch: tasks that a worker is sent at a time; None to adapt.
        rate: tasks that may be started in a second, or text such as "300/m"; None for any number.
        needs: tags that a worker must have, as a list or with commas.
        speculate: run a task that takes unusually long a second time, elsewhere.
        unpack: call ``f(*list)`` or ``f(**mapping)``.
        initializer: called once in each worker process first.
        strict_code: a process whose file of the task's module differs runs nothing.

    Raises:
        UsageError: a value cannot be used.
    """

    retries: int = 0
    retry_delay: float = 0.0
    timeout: float | None = None
    max_deaths: int = 3
    max_failures: int | None = None
    batch: int | None = None
    rate: float | str | None = None
    needs: str | Collection[str] = ()
    speculate: bool = False
    unpack: bool = False
    initializer: str | Function | None = None
    strict_code: bool = False

    def __post_init__(self) -> None:
        quantities.whole(0, retries=self.retries)
        quantities.whole(1, max_deaths=self.max_deaths)
        optional = quantities.given(max_failures=self.max_failures, batch=self.batch)
        quantities.whole(1, **optional)
        limit = quantities.given(timeout=self.timeout)
        quantities.seconds(retry_delay=self.retry_delay, **limit)
        if self.timeout is not None and not self.timeout > 0:
            raise UsageError(
                f"a task cannot run for {self.timeout:g} s: give a longer timeout, or none"
            )

        tags(needs=self.needs)
        self._tasks_per_second()

    def _tasks_per_second(self) -> float | None:
        try:
            return None if self.rate is None else quantities.rate(self.rate)
        except (TypeError, ValueError) as error:
            raise UsageError(f"rate: {error}") from None

    @property
    def rules(self) -> Rules:
        """The options that the board needs, which have the same names there."""
        rules = narrowed(Rules, self)
        return replace(rules, rate=self._tasks_per_second(), needs=tags(needs=self.needs))
