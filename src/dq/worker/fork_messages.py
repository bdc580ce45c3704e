"""What a supervisor and its fork server tell each other."""

from __future__ import annotations

import struct

from dq._support.frozen import frozen

LENGTH = struct.Struct("!I")  # of a request, in front of it
PID = struct.Struct("!q")  # of a new process; below 0 the error number of the fork that failed
STATUS = struct.Struct("!i")  # of a process that has ended, as `os.waitpid` gives it


@frozen
class Preload:
    """Modules to import once, for all processes. The answer is a line that says why that has
    failed, or an empty one.

    Args:
        modules: their names.
        path: `sys.path` to find them on.
        environ: the environment to import them in.
    """

    modules: tuple[str, ...]
    path: tuple[str, ...]
    environ: dict[str, str]


@frozen
class ForkRequest:
    """A process to make. The descriptors that come with it are its standard input, its cells, the
    pipe for its pid and status, and its standard error, if that is not the server's.

    Args:
        environ: its environment.
        directory: where it works; "" for where the server does.
    """

    environ: dict[str, str]
    directory: str
