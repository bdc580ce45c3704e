"""What dq's tests share: a fault proxy, real commands, a look at processes, whole networks."""

from support.namespaces import (
    Host,
    Hosts,
    can_make_hosts,
    can_unshare,
    in_namespace,
    isolated,
    two_hosts,
)
from support.process import (
    DQ,
    ROOT,
    Running,
    dq,
    environment,
    free_port,
    other_pythons,
    python,
    recipe,
    run,
    script,
    serving,
    wait_until,
)
from support.procfs import alive, command, descendants, fds, rss, task_processes, threads
from support.proxy import FaultProxy

__all__ = [
    "DQ",
    "ROOT",
    "FaultProxy",
    "Host",
    "Hosts",
    "Running",
    "alive",
    "can_make_hosts",
    "can_unshare",
    "command",
    "descendants",
    "dq",
    "environment",
    "fds",
    "free_port",
    "in_namespace",
    "isolated",
    "other_pythons",
    "python",
    "recipe",
    "rss",
    "run",
    "script",
    "serving",
    "task_processes",
    "threads",
    "two_hosts",
    "wait_until",
]
