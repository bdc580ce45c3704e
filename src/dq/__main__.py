"""``python -m dq``, and the script ``dq``."""

import atexit
import gc
import os
import sys

# The current directory, where a user's queue.py would hide the real one; commands that load a
# user's modules put it back.
try:
    here = os.getcwd()
except OSError:
    print("dq: the current directory has been deleted: change to another", file=sys.stderr)
    sys.exit(2)
if sys.path[:1] == [here]:
    del sys.path[0]

from dq.worker import server_start


def _leave(code: object) -> None:
    """End at once, as an interpreter does, but do not take all its objects apart: that takes 6 ms.
    Returns if something is in the way: a debugger or profiler that has started this module is
    to see its end."""
    if not isinstance(code, int | None) or "dq.cli.here" in sys.modules:
        return
    try:
        import threading

        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        return
    os._exit(code or 0)


def _without_workers(arguments: list[str]) -> bool:
    """Whether a run has no need of task processes. This is a guess: they can be started later."""
    return not {"here", "dry-run"}.isdisjoint(one.lstrip("-") for one in arguments)


def main() -> None:
    """Run the command line; an interrupt while it is imported is one line too."""
    gc.disable()  # imports leave no garbage; a command enables it
    try:
        if sys.argv[1:2] == ["run"] and not _without_workers(sys.argv):
            server_start.start_early()
        from dq.cli import main as run  # here, for the above

        run()
    except SystemExit as end:
        server_start.end_early()
        _leave(end.code)
        raise
    except KeyboardInterrupt:
        print("dq: interrupted", file=sys.stderr)
        exec("")  # see `dq.cli.main`
        sys.exit(130)
    finally:
        server_start.end_early()


if __name__ == "__main__":
    main()
