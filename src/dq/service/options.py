"""What the submitter of a job asks for."""

from __future__ import annotations

from dataclasses import replace

from dq._support import quantities
from dq._support.fields import names_of
from dq._support.frozen import cast, frozen
from dq.core.jobs import Rules
from dq.core.records import LONGEST_NAME
from dq.errors import UsageError
from dq.functions.task_options import TaskOptions
from dq.service.selectors import ID_PREFIX

MOST_PRIORITY = 1000


@frozen
class JobOptions:
    """What the submitter of a job asks for, besides what its workers need to know.

    Args:
        name: what people may call it.
        priority: a job with a higher one goes first.
        after: ids of jobs that have to succeed first.
        tasks: how its tasks are called, and what follows when one fails.

    Raises:
        UsageError: a value cannot be used.
    """

    name: str = ""
    priority: int = 0
    after: tuple[str, ...] = ()
    tasks: TaskOptions = TaskOptions()

    def __post_init__(self) -> None:
        quantities.text(name=self.name)
        quantities.whole(-MOST_PRIORITY, MOST_PRIORITY, priority=self.priority)
        if not all(type(id) is str for id in self.after):
            raise UsageError("after is a list of jobs")
        _check_name(self.name)

    @property
    def rules(self) -> Rules:
        """What the board needs of them."""
        return replace(self.tasks.rules, priority=self.priority)

    def to_wire(self) -> dict[str, object]:
        """As built-in types, which JSON has too."""
        tasks = {name: getattr(self.tasks, name) for name in _RULES}
        return {
            "name": self.name,
            "priority": self.priority,
            "after": list(self.after),
            "tasks": {name: _plain(value) for name, value in tasks.items()},
        }

    @classmethod
    def from_wire(cls, wire: object) -> JobOptions:
        """The inverse.

        Raises:
            UsageError: a value cannot be used.
        """
        if type(wire) is not dict or type(wire.get("tasks")) is not dict:
            raise UsageError("these are not the options of a job")
        given = cast("dict[str, object]", wire)
        tasks = cast("dict[str, object]", given["tasks"])
        after = given.get("after", ())
        try:
            return cls(
                name=cast("str", given.get("name", "")),
                priority=cast("int", given.get("priority", 0)),
                after=tuple(cast("list[str]", after)),
                tasks=TaskOptions(**{  # type: ignore[arg-type]  # which checks them
                    n: tuple(v) if type(v) is list else v for n, v in tasks.items() if n in _RULES
                }),
            )  # fmt: skip
        except TypeError:
            raise UsageError("these are not the options of a job") from None


def _plain(value: object) -> object:
    """A value as JSON has it."""
    return sorted(value) if isinstance(value, (list, tuple, set, frozenset)) else value


#: The options of tasks that the board needs.
_RULES = [name for name in names_of(TaskOptions) if name in names_of(Rules)]


def _check_name(name: str) -> None:
    """Refuse a name that could be taken for the number of a job, or several."""
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise UsageError("a job's name is a short line of text")
    if name in ("all", "last") or name[:1].isdigit() or name.startswith(("-", ID_PREFIX)):
        raise UsageError(
            f"a job cannot be called {name!r}: that would stand for other jobs; begin with a letter"
        )
