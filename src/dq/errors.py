"""Every exception of dq, and the exit code the command line gives for it."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` takes 5 ms to import, and checkers go by the name

if TYPE_CHECKING:
    from dq.core.records import Result


class DqError(Exception):
    """Raised when dq cannot do what it was asked; the root of all its errors."""

    exit_code = 1


class UsageError(DqError):
    """Raised when an argument, option or setting cannot be used."""

    exit_code = 2


class BadTask(UsageError):
    """Raised when a TASK cannot be found, imported or called."""


class MissingModule(BadTask):
    """Raised when the module of a TASK needs another one that cannot be imported here."""


class BadInput(UsageError):
    """Raised when an input cannot be read; the message names its line."""


class InputChanged(BadInput):
    """Raised when the input of task `index` is not what it was when the journal was written.

    `setting` is what the journal's setting is called where it was given.
    """

    def __init__(self, index: int, setting: str = "journal") -> None:
        super().__init__(index, setting)
        self.index = index
        self.setting = setting

    def __str__(self) -> str:
        return f"the input of task {self.index} {self.reason}"

    @property
    def reason(self) -> str:
        return f"is not what it was when the journal was written; give another {self.setting}"


class BadJournal(UsageError):
    """Raised when a journal is damaged, in use, or of another run; the message says which."""


class BadKey(UsageError):
    """Raised when there is no authkey, or one that must not be used."""


class ConnectError(DqError):
    """Raised when dq cannot connect, bind or authenticate."""

    exit_code = 3


class UnknownHost(ConnectError):
    """Raised when a host's name has no address."""


class AuthenticationFailed(ConnectError):
    """Raised when the two ends do not have the same authkey."""


class TlsError(ConnectError):
    """Raised when a connection cannot be encrypted as it has to be; the message says why."""


class ProtocolError(ConnectError):
    """Raised when the other end does not speak dq's protocol."""


class Unreadable(ProtocolError):
    """Raised when what came cannot be unpickled here; its cause is why."""


class PlainMaster(ProtocolError):
    """Raised when the server is a plain BaseManager, without dq's own endpoint."""


class Stopped(DqError):
    """Raised when a run ends before all of its tasks have an outcome."""

    exit_code = 4


class MasterLost(Stopped):
    """Raised when the master was lost and did not come back in time."""


class OutputError(Stopped):
    """Raised when results cannot be written."""


class Interrupted(Stopped):
    """Raised by an interrupted command. In Python, Ctrl-C is a KeyboardInterrupt."""

    exit_code = 130


class RemoteTraceback(DqError):
    """Raised by nothing: the ``__cause__`` of a task's exception, with the worker's traceback."""

    def __str__(self) -> str:
        return "\n" + str(self.args[0]).rstrip("\n") if self.args else ""


class TaskError(DqError):
    """Raised when a task failed and has no exception to raise here; ``result`` is its record.

    Its process died; it ran too long; its exception has a class that cannot be imported here, or
    cannot be pickled, or is larger than 64 KiB; or it raised SystemExit, KeyboardInterrupt,
    StopIteration or the like, which would end the caller's program or loop. If the worker had a
    traceback, that is its ``__cause__``.

    >>> from dq.core.records import Failure, Result
    >>> failed = Result(3, input=0, error=Failure("ZeroDivisionError", "division by zero", "..."))
    >>> str(TaskError(failed))
    'task 3 failed: ZeroDivisionError: division by zero'
    """

    def __init__(self, result: Result[object]) -> None:
        super().__init__(result)
        self.result = result
        if result.error is not None and result.error.traceback:
            self.__cause__ = RemoteTraceback(result.error.traceback)

    def __str__(self) -> str:
        return f"task {self.result.id} failed: {self.result.error}"
