"""The process from which `support.warm` has its commands: it has imported dq, and forks.

It is a program, and imports nothing of the tests: a command is to find here what it would find in
an interpreter of its own.
"""

import json
import os
import runpy
import socket
import sys


def main(requests: socket.socket) -> None:
    # What nearly all commands import, or many.
    import sqlite3  # noqa: F401

    import dq.cli.commands
    import dq.cli.job_lists
    import dq.cli.runs
    import dq.cli.work
    import dq.master.master  # noqa: F401

    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, 1, 5)
        if not data:
            return
        if os.fork() == 0:
            requests.close()
            with os.fdopen(descriptors.pop(0), "rb") as file:
                file.seek(0)
                request = json.load(file)
            watch(request, descriptors)
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
        reap()


def reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def watch(request: dict, descriptors: list[int]) -> None:
    """Run a command; write its process id, and how it ended."""
    *standard, answers = descriptors
    pid = os.fork()
    if pid == 0:
        os.close(answers)
        command(request, standard)
    for descriptor in standard:
        os.close(descriptor)
    os.write(answers, b"%d\n" % pid)
    os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def command(request: dict, standard: list[int]) -> None:
    """Be `python -m dq`."""
    os.setsid()
    for target, descriptor in enumerate(standard):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv[1:] = request["args"]
    sys.path.insert(0, os.getcwd())
    try:
        runpy.run_module("dq", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else bool(end.code))
    os._exit(0)


if __name__ == "__main__":
    del sys.path[0]  # this folder, whose modules are not for the commands
    main(socket.socket(fileno=int(sys.argv[1])))
