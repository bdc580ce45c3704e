"""The functions that a task process has loaded."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable

from dq._support.frozen import TYPE_CHECKING
from dq.core.records import LONGEST_TEXT
from dq.errors import BadTask
from dq.functions import loading
from dq.functions.module_versions import PRELOADED, Version
from dq.functions.reference import TaskRef
from dq.functions.spec import JobSpec
from dq.manager.client import Client
from dq.worker.cells import LOADED, LOADING
from dq.worker.program import Program, UnfitJob

if TYPE_CHECKING:
    from dq.functions.definitions import Definition
    from dq.worker.event_loop import Awaiter
    from dq.worker.imports import Imports
    from dq.worker.program import FunctionSource

LARGE_BYTES = 1 << 20  # of a function by value, from which on it is collected at once


class Programs:
    """The functions of the current jobs, each loaded once for all slots.

    Args:
        config: says which functions the master may name.
        imports: what this process has imported.
        name: what the master calls this process.
        loop: awaits what functions return.
        set_state: shows the supervisor that a function is being loaded, or has been loaded.

    Attributes:
        specs: the jobs, by their ids.
    """

    def __init__(
        self,
        config: FunctionSource,
        imports: Imports,
        name: str,
        loop: Awaiter,
        set_state: Callable[[int], None],
    ) -> None:
        self.specs: dict[str, JobSpec] = {}
        self._config = config
        self._name = name
        self._loop = loop
        self._set_state = set_state
        self._imports = imports
        self._told: set[str] = set()  # preloaded files that have changed
        self._definitions: dict[str, list[Definition]] = {}  # of each job's classes
        self._initialized: set[TaskRef] = set()  # initializers that have been called
        self._programs: dict[str, Program] = {}
        self._loading = threading.Lock()  # held while a function is loaded, for all slots

    def fetch(self, job: str, client: Client) -> None:
        """Fetch a job's functions by value, if they have large arrays and this has not been done.

        Raises:
            ConnectError: they cannot be fetched.
        """
        if self.specs[job].fetch:
            with self._loading:
                spec = self.specs[job]
                if spec.fetch and job not in self._programs:
                    self.specs[job] = spec.with_functions(client.functions(job))

    def load(self, job: str) -> Program:
        """A job's function.

        Raises:
            BadTask: it cannot be loaded here.
            Outdated: another process has to load it.
        """
        with self._loading:
            if (ref := self.specs[job].ref) is not None:  # otherwise each call has its own
                self._imports.enter(ref)
            program = self._programs.get(job)
            if program is None:
                program = self._programs[job] = self._load(self.specs[job])
            return program

    def _load(self, spec: JobSpec) -> Program:
        self._set_state(LOADING)
        try:
            self._imports.check()
            program = self._made(spec)
            self._note_preload(program)
            return program
        except BadTask:
            self._imports.check()  # the code that is on disk now may be another
            raise
        except KeyboardInterrupt as error:  # raised by the module, since Ctrl-C does nothing here
            raise BadTask(f"cannot import {spec.ref}: KeyboardInterrupt") from error
        finally:
            self._set_state(LOADED)

    def _made(self, spec: JobSpec) -> Program:
        kind = Program
        if spec.unpack == "call":
            from dq.worker.call_program import CallProgram  # here, since few runs need it

            kind = CallProgram
        definitions = self._definitions.setdefault(spec.id, [])
        return kind(spec, self._config, self._imports, self._loop, definitions, self._initialized)

    def _note_preload(self, program: Program) -> None:
        """Note a file that has changed since it was preloaded: replacing this process would not
        help."""
        file = self._imports.changed_preload()
        if not file or program.other is not None:
            return
        program.other = Version(file=file, digest=PRELOADED)
        if self._config.parents is None and file not in self._told:  # see `refusal`
            self._told.add(file)
            text = f"{file} has changed since it was preloaded; a new worker would import it anew"
            print(f"dq: {text}", file=sys.stderr, flush=True)

    def notice_imports(self) -> None:
        """Note what tasks have imported. In any thread."""
        self._imports.notice()

    def load_default(self, ref: TaskRef) -> Callable[..., object]:
        """The function for a master that names none."""
        with self._loading:
            self._set_state(LOADING)
            return loading.load(ref)

    def update(self, job: str, spec: JobSpec | None, client: Client) -> None:
        """Keep what a job has brought, and drop the jobs that have ended. A function may bring a
        large table, and each call of `map` is a job."""
        large = False
        for id in client.ended:
            self._programs.pop(id, None)
            self._definitions.pop(id, None)
            old = self.specs.pop(id, None)
            large = large or (old is not None and old.nbytes > LARGE_BYTES)
        if spec is not None and job not in self.specs:  # otherwise another slot has brought it
            self.specs[job] = spec
        self._definitions.setdefault(job, []).extend(client.definitions)
        client.ended, client.definitions = [], []
        if large:
            gc.collect()  # a function and its globals refer to each other

    def refusal(self, job: str, error: BadTask) -> str:
        """The text that tells the master why a job cannot run here. It is printed here, too."""
        ref = self.specs[job].ref
        is_named = ref is None or ref.kind != "value"
        if self._config.parents is None:  # otherwise the master, on the same terminal, reports it
            is_absent = is_named and not self._config.allow and not isinstance(error, UnfitJob)
            hint = "; this worker needs the same code as the master" if is_absent else ""
            print(f"dq: cannot load this job: {error}{hint}", file=sys.stderr, flush=True)
        text = f"worker {self._name} cannot load this job: {error}"
        if is_named and not isinstance(error, UnfitJob):
            text += f"; its sys.path is {sys.path}"
        return text[:LONGEST_TEXT]

    def clear(self) -> None:
        """Drop all references to the tasks' objects."""
        self._programs.clear()
        self.specs.clear()
