"""Makes the spec of a job, which workers get, from a task and its options."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from dq.core.records import Reading
from dq.errors import MissingModule
from dq.functions import reference
from dq.functions.module_versions import Version, version_of
from dq.functions.reference import Function, TaskRef
from dq.functions.spec import JobSpec
from dq.functions.task_check import check, check_initializer
from dq.functions.task_options import TaskOptions

VALUES = Reading()


class JobSpecs:
    """Checks tasks, and makes the specs of jobs with one set of options.

    Args:
        options: of every job.
        has_workers: whether the master has local workers, which need every library here.
        report: called with each line that people should see.

    Raises:
        BadTask: the initializer cannot be loaded.
    """

    def __init__(
        self, options: TaskOptions, *, has_workers: bool, report: Callable[[str], None]
    ) -> None:
        self.options = options
        self._has_workers = has_workers
        self._report = report
        self._missing: set[str] = set()  # messages about missing libraries, each reported once
        if options.initializer is not None:
            with self._libraries_elsewhere():
                check_initializer(options.initializer)
            # By its path it stays the initializer of a module that is imported anew.
            ref = reference.refer(options.initializer)
            if ref.kind != "value":
                self.options = replace(options, initializer=str(ref))

    def with_options(self, given: Mapping[str, Any]) -> JobSpecs:
        """The same with some other options, by their names."""
        options = replace(self.options, **given)
        return JobSpecs(options, has_workers=self._has_workers, report=self._report)

    def check(self, task: str | Function) -> None:
        """Refuse a task that workers could not call. A library that is missing here may still exist
        on the workers' machines, and the master does not need it: it unpickles neither inputs nor
        results."""
        with self._libraries_elsewhere():
            check(task, unpack=self.options.unpack)

    @contextlib.contextmanager
    def _libraries_elsewhere(self) -> Iterator[None]:
        """Accept that a library is missing here, and report it once, if all workers are remote."""
        try:
            yield
        except MissingModule as error:
            if self._has_workers:
                raise
            if str(error) not in self._missing:
                self._missing.add(str(error))
                self._report(f"{error}; going on, since only workers need it")

    def refer(self, task: str | Function) -> tuple[TaskRef, TaskRef | None]:
        """Where workers find a task, and the initializer, as they are now."""
        return reference.refer_both(task, self.options.initializer)

    def spec(
        self,
        ref: TaskRef | None,
        init: TaskRef | None = None,
        *,
        id: str | None = None,
        output: str = "values",
        reading: Reading = VALUES,
        version: Version | None = None,
    ) -> JobSpec:
        """The spec of a job.

        Args:
            ref: the function; None if the inputs bring theirs.
            init: the initializer, if it was referred to together with the function.
            id: None for a random one.
            output: what results become.
            reading: how workers make values of the inputs.
            version: of the function's module; None for what is on disk.
        """
        options = self.options
        return JobSpec(
            id=id or os.urandom(8).hex(),
            ref=ref,
            reading=reading,
            unpack="items" if options.unpack else "",
            output=output,
            timeout=options.timeout,
            init=init or self._refer_initializer(),
            digest=(version or version_of(ref)).digest,
            strict=options.strict_code,
        )

    def plain_spec(self, task: str | Function) -> JobSpec:
        """The spec of the job whose inputs are the items of plain clients."""
        self.check(task)
        ref, init = self.refer(task)
        return self.spec(ref, init, id="plain", version=version_of(ref, task))

    def code_digest(self, function: str | Function, ref: TaskRef) -> str:
        """A digest of the task and the initializer, if they are sent by value; "" if they are
        not."""
        init = self.options.initializer
        init_ref = self._refer_initializer()
        init_goes = init_ref is not None and init_ref.kind == "value"
        if ref.kind != "value" and not init_goes:
            return ""
        from dq.functions.code_digests import digest_of_function  # here, since few runs need it

        parts = [function] if ref.kind == "value" else []
        return digest_of_function(str(ref), *parts, *([init] if init_goes else []))

    def _refer_initializer(self) -> TaskRef | None:
        initializer = self.options.initializer
        return reference.refer(initializer) if initializer is not None else None
