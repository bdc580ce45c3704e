"""The command ``dq``: parses, calls, prints. One module for each group of commands."""

from __future__ import annotations

import gc
import os
import sys

import click

import dq
from dq._support import naming, platform
from dq.cli.options import Group


@click.group(
    cls=Group,
    sections={
        "Commands": {
            "run": ("dq.cli.commands:run", "Call TASK with each INPUT, in processes here."),
            "master": ("dq.cli.commands:master", "Serve tasks to workers on any machine."),
            "worker": ("dq.cli.work:worker", "Work for a master, here or elsewhere."),
        },
        "Jobs on a master that stays": {
            "submit": ("dq.cli.submit:submit", "Send a job, and print its number."),
            "jobs": ("dq.cli.job_lists:jobs", "List the jobs."),
            "status": ("dq.cli.job_lists:status", "Show one job, and why it does not run."),
            "wait": ("dq.cli.job_control:wait", "Wait until jobs have ended."),
            "results": ("dq.cli.job_results:results", "Print the results of a job."),
            "logs": ("dq.cli.job_logs:logs", "Print what its tasks have printed."),
            "failures": ("dq.cli.job_failures:failures", "Show its failed tasks, in groups."),
            "retry": ("dq.cli.job_failures:retry", "Run its failed tasks again."),
            "cancel": ("dq.cli.job_control:cancel", "End jobs."),
            "forget": ("dq.cli.job_control:forget", "Remove jobs that have ended."),
            "workers": ("dq.cli.job_workers:workers", "List the workers, and what they run."),
            "stacks": ("dq.cli.job_workers:stacks", "Show where running tasks are."),
            "drain": ("dq.cli.job_workers:drain", "Have a worker finish its tasks, and leave."),
            "stop": ("dq.cli.job_control:stop", "End the master."),
        },
        "Besides": {
            "journal": (
                "dq.cli.journal:journal",
                "Show what is in a journal, or save it.",
            ),
            "bench": ("dq.cli.bench:bench", "Measure dq on this machine, or the way to a master."),
            "keygen": ("dq.cli.work:keygen", "Write a key file for this user."),
        },
    },
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "DQ"},
)
@click.version_option(dq.__version__, "--version", prog_name="dq", message="dq %(version)s")
def cli() -> None:
    """Call a Python function with many inputs, on this machine or on many.

    \b
      dq run app:square 1 2 3                   here, on all CPUs
      dq master app:square --input numbers.txt  on one machine, and on others:
      dq worker --server 10.0.0.2

    `dq COMMAND --help` shows the options of a command.
    """


def main() -> None:
    """Run the command line. Only here are errors turned into lines and exit codes."""
    naming.use_options()
    debug = "--debug" in sys.argv
    platform.fill_standard_descriptors()
    if sys.stderr is None:  # if it is closed, print() would use standard output
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # for as long as the process lives
    try:
        code = cli.main(prog_name="dq", standalone_mode=False) or 0
    except click.ClickException as error:
        code = _say(_usage(error), error.exit_code, debug)
    except (KeyboardInterrupt, click.Abort):
        code = _say("interrupted", 130, debug)
        # If an interrupt comes during an exec of a string (at the import of a named tuple, say),
        # CPython ends `python -m` with SIGINT although the interrupt was caught. Another exec that
        # succeeds prevents that.
        exec("")
    except dq.DqError as error:
        code = _say(str(error), error.exit_code, debug)
    except OSError as error:
        code = _say_unwritable(error, debug)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "new thread" not in str(error):
            raise
        said = f"the system has no room for dq: {str(error) or 'out of memory'} (see ulimit -a)"
        code = _say(said, 1, debug)
    gc.freeze()  # skip the last two collections, which take 8 ms each
    sys.exit(code)


def _usage(error: click.ClickException) -> str:
    message = error.format_message()
    if isinstance(error, click.NoSuchOption) and error.option_name[1:2].isdigit():
        message += " Put -- before inputs that begin with a dash"
    context = getattr(error, "ctx", None)
    return f"{message.rstrip('.')} (see {context.command_path} --help)" if context else message


def _say_unwritable(error: OSError, debug: bool) -> int:
    """Report that `click.echo` could not write to standard output. Raise any other error again,
    since that is a bug in dq."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None or place.tb_frame.f_globals.get("__name__") != click.echo.__module__:
        raise error
    from dq.data.output_file import close_stdout  # here, since few runs need it

    close_stdout()
    message = f"cannot write to standard output: {error.strerror}"
    return _say(message, dq.OutputError.exit_code, debug)


def _say(message: str, code: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    from dq.core.records import printable  # here to keep start-up fast

    lines = " ".join(line.strip() for line in message.splitlines() if line.strip())
    print(f"dq: {printable(lines)}", file=sys.stderr)
    return code
