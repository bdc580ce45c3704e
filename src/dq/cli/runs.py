"""What ``dq run`` and ``dq master`` do."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from dq._support import screen
from dq._support.frozen import frozen
from dq._support.screen import Forwarder
from dq.cli.counting import Counter
from dq.cli.options import is_typed
from dq.cli.printer import Printer, say, say_finishing
from dq.cli.signals import Stages
from dq.core.records import Reading
from dq.data import outputs
from dq.data.files import Files, format_of
from dq.data.output_file import Writer, part_of
from dq.errors import BadKey, Interrupted, MissingModule, Stopped, UsageError
from dq.functions.import_check import checks
from dq.functions.tasks import TaskRef, refer
from dq.master.master import Master, checked
from dq.security import keys
from dq.worker import processes
from dq.worker.processes import Child

if TYPE_CHECKING:
    from dq.journal.writer import Journal  # SQLite, which few runs need

SLOW_END = 0.5  # seconds until it is said that processes take their time to end
ENDING = "waiting for task processes to end; once more to leave now"


def run(
    given: dict[str, Any], workers: int, ahead: list[Child], forwarder: Forwarder | None
) -> None:
    """``dq run``, with task processes that were started already."""
    _enter()
    checks.begin(given["timeout"])
    try:
        with _quietly():
            ref = checked(given["task"], unpack=given["unpack"])
        authkey = None
        if given["port"] is not None:
            authkey = _key_to_serve(given, given["host"])
        master = _master(None, given, given["port"], authkey, workers=workers)
        checks.close()
        master.ahead, master.sharing = ahead, given["sharing"]
        _serve_job(master, ref, given, forwarder)
    finally:
        checks.close()
        processes.dismiss(ahead)  # those that nothing came to be known for
        if forwarder is not None:
            forwarder.close()


def master(given: dict[str, Any]) -> None:
    """``dq master``."""
    _enter()
    checks.begin(given["timeout"])
    has_inputs = bool(given["inputs"]) or given["input"] is not None
    if has_inputs and not given["task"]:
        raise click.UsageError("--input without TASK: name the function to call with each input")
    if given["journal"] is not None and not has_inputs:
        raise click.UsageError(
            "--journal without inputs: it keeps the outcomes of INPUTs or of --input FILE"
        )
    with _quietly():
        ref = _ref(given) if given["task"] else None
    authkey = _key_to_serve(given, given["host"])
    serving = _master(
        given["task"],
        given,
        given["port"],
        authkey,
        workers=given["workers"] or 0,
        maxsize=given["maxsize"],
        redeliver=given["redeliver"],
        pickle=given["pickle"],
    )
    checks.close()
    if has_inputs and ref is not None:
        forwarder = screen.forwarder_beside_bar(quiet=given["quiet"]) if given["workers"] else None
        _serve_job(serving, ref, given, forwarder)
    else:
        _serve_queues(serving)


def _ref(given: dict[str, Any]) -> TaskRef:
    """Where workers find the TASK, once it has been found here: but for its libraries, where all
    of the workers are elsewhere."""
    try:
        return checked(given["task"], unpack=given["unpack"])
    except MissingModule:
        if given["workers"]:
            raise
        return refer(given["task"])  # the master will say it


def _enter() -> None:
    """Have the current directory on the import path, as ``python -m`` has it."""
    here = os.getcwd()
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Standard output is for results: what a module prints when imported goes elsewhere."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def find_key(given: dict[str, Any]) -> bytes:
    """The authkey, from wherever it is."""
    # click passes over a variable that is set and empty; a key's must not be.
    prefix = click.get_current_context().auto_envvar_prefix
    for option in ("authkey", "authkey_file"):
        variable = f"{prefix}_{option.upper()}"
        if given[option] is None and os.environ.get(variable) == "":
            raise BadKey(f"{variable} is empty: give it a value, or unset it")
    return keys.find(given["authkey"], given["authkey_file"], prompt=prompt_for_key())


def _key_to_serve(given: dict[str, Any], host: str) -> bytes:
    key = find_key(given)
    warning = keys.check(key, host)
    if warning is not None:
        say(warning)
    return key


def prompt_for_key() -> Any:
    """What asks for the key on a terminal; None where there is none."""
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    return lambda: click.prompt("authkey", hide_input=True, err=True)


def _master(
    task: str | None, given: dict[str, Any], port: int | None, authkey: bytes | None, **more: Any
) -> Master:
    most = 1 if given["fail_fast"] else given["max_failures"]
    with _quietly():
        master = Master(
            task,
            host=given["host"],
            port=port,
            authkey=authkey,
            threads=given["threads"],
            retries=given["retries"],
            retry_delay=given["retry_delay"],
            timeout=given["timeout"],
            max_deaths=given["max_deaths"],
            max_failures=most,
            max_tasks=given["max_tasks"],
            max_memory=given["max_memory"],
            grace=given["grace"],
            initializer=given["init"],
            unpack=given["unpack"],
            strict_code=given["strict_code"],
            batch=given["batch"],
            max_message=given["max_message"],
            keepalive=given["keepalive"],
            tls=given["tls"],
            tls_cert=given["tls_cert"],
            tls_key=given["tls_key"],
            tls_ca=given["tls_ca"],
            report=say,
            **more,
        )
    master.key_hint = keys.hint(given["authkey"], given["authkey_file"])
    if given["quiet"]:
        master.note = _nothing
    return master


def _nothing(line: str) -> None:
    pass


@frozen
class Given:
    """The inputs of a run: where they come from, how many there are, and how to name one's place.

    Args:
        reading: how workers make values of them.
        text: what they are read from; None for arguments.
        counter: counts them ahead, where that can be done.
    """

    items: Iterable[bytes]
    reading: Reading
    text: Files | None = None
    counter: Counter | None = None

    def place(self, index: int) -> str:
        """An input by where it stands."""
        return self.line(index) or f"the input of task {index}"

    def line(self, index: int) -> str:
        """The file and line of an input that comes from one."""
        return "" if self.text is None else self.text.place(index)

    @property
    def name(self) -> str:
        """What they are read from."""
        return "the inputs" if self.text is None else self.text.name

    def count(self) -> int | None:
        """How many there are, where they have been counted."""
        return None if self.counter is None else self.counter.total

    def start_counting(self) -> None:
        """Count them in the background."""
        if self.counter is not None:
            self.counter.start()

    def stop_counting(self) -> None:
        """Count no further."""
        if self.counter is not None:
            self.counter.stop()


def _inputs(given: dict[str, Any]) -> Given:
    # Ended as lines are, for the workers to cut off: an argument may itself end in a newline.
    arguments = [os.fsencode(argument) + b"\r\n" for argument in given["inputs"]]
    if given["input"] is None:
        for name in ("input_format", "delimiter", "skip_bad", "field"):
            if is_typed(name):
                option = name.replace("_", "-")
                raise UsageError(f"--{option} goes with --input FILE, and INPUTs are given instead")
        return Given(arguments, Reading("raw" if given["raw"] else "lines"))
    if arguments:
        raise UsageError("INPUTs and --input together: give the one or the other")

    def opened() -> Files:
        return Files(
            given["input"], _input_format(given), delimiter=given["delimiter"], raw=given["raw"],
            field=given["field"] or "",
        )  # fmt: skip

    text = opened()
    counter = Counter(opened) if text.can_be_counted else None
    return Given(text, text.reading, text, counter)


def _input_format(given: dict[str, Any]) -> str | None:
    """The format that the options name; None where the files' names are to say."""
    if given["null"] and given["input_format"] not in (None, "lines", "null"):
        raise UsageError(
            f"--null and --input-format {given['input_format']}: give the one or the other"
        )
    if given["null"] and given["input_format"] is None:
        for path in given["input"]:
            if (other := format_of(path)) != "lines":
                raise UsageError(
                    f"--null goes with names that end in NUL, and {path} is read as {other}: leave"
                    " it out, or give --input-format null"
                )
    return "null" if given["null"] else given["input_format"]


def _format(given: dict[str, Any]) -> str:
    """The form that results are to have."""
    form: str = given["format"] or outputs.format_of(given["output"])
    if suffix := outputs.packing_of(given["output"]):
        raise UsageError(f"-o writes no {suffix} files: leave it out, and pipe results to a packer")
    if given["fill"] is not None:
        _check_fill(given["fill"], form, given)
    return outputs.NUL_ENDED if form == "text" and given["null"] else form


def _check_fill(fill: str, form: str, given: dict[str, Any]) -> None:
    if form != "text":
        raise UsageError("--fill goes with --format text: in jsonl a failed task has a record")
    if "\n" in fill and not given["null"]:
        raise UsageError("--fill has more than one line: lines would not match the inputs")


def _check_files(given: dict[str, Any]) -> None:
    """Refuse to use one file for two things: what is written at the end of the run would take the
    place of the other, or what is written meanwhile would be read."""
    used = {_code_of(given["task"]): "task"}
    if given["journal"] is not None:
        path = os.path.realpath(given["journal"])
        used |= dict.fromkeys((path + end for end in ("", "-wal", "-shm")), "journal")
    for name in ("output", "failures"):
        path = given[name] or "-"
        if path == "-":
            continue
        for taken in (os.path.realpath(path), part_of(os.path.realpath(path))):
            _claim(used, taken, given, name)
    if given["failures"] == "-" and (given["output"] or "-") == "-":
        raise UsageError("--failures - is where the results go: give -o FILE, or --failures FILE")
    used.pop(_code_of(given["task"]))  # which may be read
    # An input may be replaced at the end by what was made of it, and records of failures by those
    # that have failed again.
    named = ("output", "failures") if given["field"] else ("output",)
    own = {os.path.realpath(given[name]) for name in named if given[name]}
    for read in given["input"] or ():
        if read != "-" and os.path.realpath(read) not in own:
            _claim(used, os.path.realpath(read), {**given, "input": read}, "input")


def _code_of(task: str) -> str:
    """The file that a TASK's module has, if it is below the current folder."""
    where = task.rpartition(":")[0]
    return os.path.realpath(where if where.endswith(".py") else f"{where.replace('.', '/')}.py")


def _claim(used: dict[str, str], path: str, given: dict[str, Any], name: str) -> None:
    other = used.setdefault(path, name)
    if other == "task":
        raise UsageError(
            f"--{name} {given[name]} would replace the code of {given['task']}: give another file"
        )
    if other == "journal":
        raise UsageError(
            f"--{name} {given[name]} is a file of the journal {given['journal']}: give another"
            f" --{name}"
        )
    if other != name:
        raise UsageError(
            f"--{name} {given[name]} and --{other} {given[other]} are one file: give two"
        )


def _serve_queues(master: Master) -> None:
    """Serve until stopped; the first signal lets running tasks finish."""
    master.dispatcher.presence.only_plain = True
    with Stages() as stages, master:
        say(f"serving on {master.serves_on}")
        while not stages.count:
            stages.wait(1.0)
            master.check_workers()
        master.dispatcher.drain()  # first: whoever reads the line can rely on it
        say_finishing(master.dispatcher.busy)
        while master.dispatcher.busy and stages.count < 2:
            stages.wait(0.1)
        _close_in_order(master, stages)
        if stages.interrupted:
            raise Interrupted("interrupted")


def _serve_job(
    master: Master, ref: Any, given: dict[str, Any], forwarder: Forwarder | None
) -> None:
    """Serve until every input has a result, and print the results."""
    given["format"] = _format(given)
    _check_files(given)
    source = _inputs(given)
    with contextlib.ExitStack() as stack:
        journal = _open_journal(master, ref, source, given)
        if journal is not None:
            stack.callback(journal.close)
        writer = Writer(given["output"])
        stack.callback(writer.close)
        failures = None
        if given["failures"] is not None:
            failures = Writer(given["failures"], "--failures")
            stack.callback(failures.close)
        if not given["quiet"]:
            source.start_counting()
            stack.callback(source.stop_counting)
        if forwarder is not None:
            master.stderr = forwarder.open
        printer = None
        try:
            with Stages() as stages, master:
                if given["port"] is not None:
                    say(f"serving on {master.serves_on}")
                job = master.open(
                    ref, source.items, output=given["format"], reading=source.reading,
                    journal=journal,
                )  # fmt: skip
                printer = Printer(job, source, writer, failures, given)
                stages.on_first = printer.drain
                stages.on_second = printer.leave
                try:
                    printer.run(stages)
                except Stopped:
                    _close_in_order(master, stages)
                    raise
                _close_in_order(master, stages)  # told to stop in the last tasks
            printer.commit()
        finally:
            if forwarder is not None:
                forwarder.close()  # first: this is what tasks have printed up to their end
            if printer is not None:
                printer.summarize()
    if printer.failed:
        _suggest_input(given)
        raise click.exceptions.Exit(1)


def _suggest_input(given: dict[str, Any]) -> None:
    """Where the only INPUT is a file's name, and the task could do nothing with it: its lines may
    have been meant."""
    if len(given["inputs"]) != 1:
        return
    [name] = given["inputs"]
    if name == "-" or os.path.isfile(name):
        what = "standard input" if name == "-" else name
        say(f"the input was the string {name!r}; --input {name} reads the lines of {what}")


def _close_in_order(master: Master, stages: Stages) -> None:
    """Where the first signal has let running tasks finish: let processes leave as they do after
    the last task, until the second signal."""
    if stages.count == 1:
        stages.on_second = master.end_workers
        slow = threading.Timer(SLOW_END, say, (ENDING,))
        slow.daemon = True
        slow.start()
        if stages.count == 1:
            master.close()
        slow.cancel()


def _open_journal(master: Master, ref: Any, source: Given, given: dict[str, Any]) -> Journal | None:
    if given["retry_failed"] and given["journal"] is None:
        raise UsageError("--retry-failed goes with --journal FILE")
    return master.open_journal(
        given["journal"], ref, reading=source.reading, output=given["format"],
        retry_failed=given["retry_failed"],
        origin="arguments" if source.text is None else "a file",
    )  # fmt: skip
