"""``dq submit --dry-run``: checks a job, and asks the workers whether they have the TASK."""

from __future__ import annotations

from typing import Any

import click

from dq.cli import job_options
from dq.cli.dry_run import find_task, inputs_shown, show, show_task
from dq.cli.input_check import check_inputs
from dq.cli.printer import say
from dq.cli.run_inputs import run_inputs
from dq.core.records import printable
from dq.functions.forked_checks import checks
from dq.functions.job_specs import JobSpecs
from dq.functions.module_versions import version_of
from dq.functions.task_options import TaskOptions
from dq.service.specs import OUTPUT
from dq.transport.limits import MAX_MESSAGE_BYTES

ANSWERS_S = 10.0  # for workers to import the TASK


def check_job(given: dict[str, Any], tasks: TaskOptions) -> None:
    """Say what would be submitted, and which workers could run it."""
    checks.begin(given["timeout"])
    try:
        ref, missing = find_task(given, 0, needed=False)
        assert ref is not None  # TASK is a required argument
        show_task(ref, missing)
        source = run_inputs(given)
        limits = {**given, "skip_bad": False, "max_message": MAX_MESSAGE_BYTES}
        found = check_inputs(source, limits, ref, importable=not missing)
        show("inputs", inputs_shown(given, source, found))
        specs = JobSpecs(tasks, has_workers=False, report=lambda line: None)
        spec = specs.spec(*specs.refer(given["task"]), output=OUTPUT, reading=source.reading)
        digest = version_of(ref).digest
    finally:
        checks.close()
    with job_options.connected(given) as client:
        show("master", given["server"])
        problem = found.problem or _check_workers(client.ask_workers(spec, ANSWERS_S), digest)
    click.echo("nothing was submitted")
    if problem:
        say(problem)
        raise click.exceptions.Exit(1)


def _check_workers(answers: list[dict[str, str]], digest: str) -> str:
    """Show what each worker has. Returns why the job would not run; "" if a worker would."""
    for answer in answers:
        show("worker", printable(f"{answer['worker']} {_described(answer, digest)}"))
    if not answers:
        show("workers", "none is connected")
        return ""
    refusing = [answer for answer in answers if answer.get("error")]
    if len(refusing) < len(answers):
        return ""
    return printable(f"no worker could run it: {refusing[0]['error']}")


def _described(answer: dict[str, str], digest: str) -> str:
    if "error" not in answer:
        return f"has had no slot free for {ANSWERS_S:g} s to look"
    if "dq" not in answer or answer["error"]:
        return f"cannot run it: {answer['error']}"
    where = f" in {answer['file']}" if answer["file"] else ""
    same = "" if answer["digest"] == digest else ", which is another version than here"
    return f"has it{where}{same}; dq {answer['dq']}, Python {answer['python']}"
