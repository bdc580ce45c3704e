"""The entry point of a task process."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time

from dq._support import naming, platform
from dq._support.frozen import TYPE_CHECKING
from dq.functions import by_value_classes
from dq.worker import cells, lifeline
from dq.worker.config import Config
from dq.worker.process import Process

if TYPE_CHECKING:
    from typing import NoReturn


def main(parent: int = 0, cells_fd: int = -1) -> NoReturn:
    """Run a task process. Its parent starts it with garbage collection off.

    Args:
        parent: pid of the process that has forked it; 0 if it is a fresh interpreter.
        cells_fd: descriptor of its cells; -1 for the one in its configuration.
    """
    gc.freeze()
    gc.enable()
    platform.name_process("dq-task")
    os.environ.pop(lifeline.MARK, None)  # not for programs that tasks start
    with platform.HighDescriptors():
        pipe = os.dup(0)
        try:
            config: Config = pickle.loads(lifeline.receive(pipe))
        except EOFError:
            os._exit(1)  # the supervisor had nothing to do for it
        platform.die_with_parent(parent or config.parent)
        cells_fd = config.cells if cells_fd < 0 else cells_fd
        memory = cells.opened(os.dup(cells_fd))
    os.close(cells_fd)
    naming.use_options(config.by_options)
    with open(os.devnull, "rb") as devnull:
        os.dup2(devnull.fileno(), 0)
    os.dup2(2, 1)  # output of tasks and their programs must not mix with results
    if sys.stdout is not None:
        # Line buffering, as for standard error: in a file, prints would otherwise come at the end.
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # no TextIO
    if config.tags_output:
        from dq.worker import tagging  # here, since only a worker elsewhere needs it

        tagging.install()
    sys.path[:] = config.path
    _become(config)
    by_value_classes.use_unique_names()
    process = Process(config, memory)
    for name in config.preload:
        importlib.import_module(name)
    signal.signal(signal.SIGINT, lambda *_: None)  # the supervisor handles Ctrl-C
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=process.after_fork)
    _keep_originals()
    process.serve(pipe)
    process.leave(process.run())


def _keep_originals() -> None:
    """Keep the current contents of these modules for dq, in case a task's module patches them."""
    kept = {}
    for module in (select, socket, threading, time):
        copy = kept[id(module)] = type(module)(module.__name__)
        copy.__dict__.update(module.__dict__)
    for name in [name for name in sys.modules if name.startswith("dq.")]:
        names = sys.modules[name].__dict__
        names.update({key: kept[id(names[key])] for key in names if id(names[key]) in kept})


def _become(config: Config) -> None:
    """Set what tasks may look up in their process, as a Pool does for its processes."""
    current = multiprocessing.current_process()
    current._identity = (config.number + 1,)  # recipes for a Pool read it
    if config.parents is None:
        return
    sys.argv[:] = config.parents.argv
    current.authkey = config.parents.authkey
    if config.parents.logs is not None:
        from dq.worker import logs  # here, since few programs need it

        logs.apply(config.parents.logs)
