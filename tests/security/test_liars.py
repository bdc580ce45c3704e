"""Who has the key and lies: is told so or ended, and changes nothing for anybody else.

Requests that are not served are in `tests/interop/test_stdlib_faults.py`.
"""

from __future__ import annotations

import json
import multiprocessing.connection as mpc
import pickle
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dq.data import batches
from dq.manager.protocol import PROTOCOL
from dq.transport import limits
from dq.transport.limits import ENVELOPE_BYTES, MAX_MESSAGE_BYTES
from interop.plain import ENV, KEY, Wire, master_here
from security import lies, pickles
from security.liar import PATIENCE, Liar, scene
from security.lies import Lie
from security.test_strangers import Peaks
from support import DQ, Running, run, serving, threads, wait_until

MB = 1_000_000
OK = "#RETURN"
COUNT = 200


def named(*groups: dict[str, Lie]) -> list[Any]:
    return [pytest.param(lie, id=name) for group in groups for name, lie in group.items()]


# --- of tasks


def tell(lie: Lie) -> tuple[str, Any, bool]:
    """Tell it, to a run that is under way and then finished by somebody honest: the kind of answer,
    the answer, and whether the connection was ended."""
    with scene() as run:
        theirs = run.take()
        with Liar(run.port) as liar:
            id = liar.hello()
            own = liar.take()
            kind, answer = liar.ask("dq", *lie(id, own, theirs))
            ended = liar.ended
        run.finish(theirs)
        run.check()
        return kind, answer, ended


@pytest.mark.parametrize("lie", named(lies.REPORTS))
def test_a_report_that_is_none_ends_its_connection_and_changes_nothing(lie: Lie) -> None:
    kind, answer, _ = tell(lie)
    assert kind in ("", "#ERROR"), answer
    assert kind == "" or "Protocol" in type(answer).__name__


@pytest.mark.parametrize("lie", named(lies.ERRORS))
def test_a_lie_is_said_to_be_one_and_changes_nothing(lie: Lie) -> None:
    kind, answer, _ = tell(lie)
    assert kind in ("#ERROR", "#TRACEBACK"), answer
    assert len(str(answer)) < 1000  # and nothing of what was said


@pytest.mark.parametrize("lie", named(lies.IGNORED))
def test_what_is_said_of_others_or_of_nobody_changes_nothing(lie: Lie) -> None:
    kind, answer, ended = tell(lie)
    assert (kind, ended) == (OK, False), answer


def test_a_refusal_of_somebody_without_a_name_is_not_that_of_all_the_others() -> None:
    with scene() as run, Liar(run.port) as nobody, Wire(run.port) as plain:
        own = nobody.take()
        report = (run.honest.run, own.lease, own.start, [], 0, 0.0, "no")
        assert nobody.ask("dq", "exchange", report, 0, 0.0)[0] in ("", "#ERROR")
        value = plain.tasks("get", True, 10)
        plain.results("put", -value)
        run.finish(None)
        assert not run.errors


def test_attempts_are_not_the_liars_to_say() -> None:
    """A lease that was given back, often, is one attempt all the same."""
    with scene() as run:
        for _ in range(10):
            with Liar(run.port) as liar:
                liar.hello()
                liar.take()
        run.finish(None)
        run.check()
        assert {record.attempts for record in run.records} == {1}


@pytest.mark.parametrize(
    "blob",
    [
        pickle.dumps((True, range(10**6))),
        pickle.dumps((False, range(10**6))),
        pickle.dumps((True, 5)),
        pickle.dumps((True, [1, 2])),
        pickle.dumps((True, [])),
        pickle.dumps((500, [pickle.dumps((True, [1, 2]))])),
        pickle.dumps((0, [pickle.dumps((True, [1]))])),
        pickle.dumps((500, [pickle.dumps((500, [pickle.dumps((True, [1]))]))])),
        pickle.dumps(5),
        pickles.whole(pickles.LIST_OF_RANGE),
        pickles.whole(pickles.calls(Path("/nonexistent/x"))["os.mkdir"]),
        b"",
        b"\x80\x04garbage",
    ],
    ids=[
        *(
            "range",
            "items",
            "number",
            "too many",
            "none",
            "too many in a piece",
            "no size",
            "nested",
        ),
        *("no pair", "bomb", "call", "empty", "bad"),
    ],
)
def test_results_that_are_none_are_a_failed_task(blob: bytes) -> None:
    with master_here(task="operator:neg") as port, Wire(port) as wire, Liar(port) as liar:
        wire.tasks("put", 7)
        id = liar.hello()
        own = liar.take()
        report = (id, own.lease, own.start, [(1, blob, 0.0)], 0, 0.0, "")
        assert liar.ask("dq", "exchange", report, 0, 0.0)[0] == OK
        assert isinstance(wire.results("get", True, 10), RuntimeError)
        assert wire.results("qsize") == 0


def test_what_is_no_list_of_values_is_not_gone_through() -> None:
    for whole in (True, False):
        with pytest.raises(TypeError, match="not a batch"):
            batches.load(pickle.dumps((whole, range(3))))


@pytest.mark.parametrize("size", [False, 500])
def test_one_pickle_many_times_over_is_not_unpickled(size: int) -> None:
    piece = pickle.dumps((True, [[[]] * 1000]))
    with pytest.raises(TypeError, match="more pickles"):
        batches.load(pickle.dumps((size, [piece] * 10**6)))


@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_a_result_that_has_no_end_as_text_is_a_failed_task(form: str, tmp_path: Path) -> None:
    with serving("operator:neg", "1", "2", "-f", form, cwd=tmp_path, env=ENV) as (master, port):
        with Wire(port) as wire:
            for value in (pickles.shared(26), 5):
                wire.tasks("get", True, 10)
                wire.results("put", value)
        assert master.wait() == 1, master.printed
        assert "longer than" in master.printed
        assert "5" in master.stdout_text


# --- of what is sent


@contextmanager
def attacked(folder: Path, attempts: int = 1) -> Iterator[tuple[Running, int]]:
    """A master with work; afterwards a worker does all of it, and nothing else has been done.
    `attempts` is how many the first task is to have."""
    (folder / "numbers").write_text("".join(f"{n}\n" for n in range(COUNT)))
    job = ("operator:neg", "--input", "numbers", "-f", "jsonl", "--host", "127.0.0.1")
    with serving(*job, cwd=folder, env=ENV) as (master, port):
        yield master, port
        assert master.process.poll() is None, master.printed
        server = ("-s", f"127.0.0.1:{port}", "-p", "1", "-q")
        done = run(*DQ, "worker", *server, cwd=folder, env=ENV)
        assert done.returncode == 0, done.stderr
        assert master.wait() == 0, master.printed
        records = [json.loads(line) for line in master.stdout_text.splitlines()]
        assert [(r["id"], r["result"]) for r in records] == [(n, -n) for n in range(COUNT)]
        assert [r["attempts"] for r in records] == [attempts] + [1] * (COUNT - 1)
        assert "Traceback" not in master.stderr_text


def test_no_words_of_a_worker_end_a_run_or_reach_the_terminal_as_they_are(tmp_path: Path) -> None:
    job = ("operator:neg", "1", "2", "3", "-f", "jsonl", "--batch", "1", "--host", "127.0.0.1")
    with serving(*job, cwd=tmp_path, env=ENV) as (master, port):
        for outcomes, refusal in (
            ([], "\x1b[2Jno such module\ndq: done"),
            ([("BadInput", "\x1b]0;owned\x07", "", 0.0, False, b"no pickle")], ""),
        ):
            with Liar(port) as liar:
                id = liar.hello()
                own = liar.take()
                report = (id, own.lease, own.start, outcomes, 0, 0.0, refusal)
                assert liar.ask("dq", "exchange", report, 0, 0.0)[0] == OK
        worker = run(*DQ, "worker", "-s", f"127.0.0.1:{port}", "-p", "1", "-q", env=ENV)
        assert worker.returncode == 0, worker.stderr
        assert master.wait() == 1, master.printed  # a task that failed, as any can
        lines = master.stderr_text.splitlines()
        assert r"dq: \x1b[2Jno such module\ndq: done" in lines
        assert r"dq: task 0 (1) failed: BadInput: \x1b]0;owned\x07" in lines
        assert "\x1b" not in master.stderr_text
        assert '"result": -3' in master.stdout_text


def test_no_pickle_has_the_master_do_anything(tmp_path: Path) -> None:
    made = tmp_path / "made"
    with attacked(tmp_path) as (_, port):
        for name, fragment in pickles.calls(made).items():
            for place, message in pickles.places(fragment).items():
                with Liar(port) as liar:
                    kind, answer = liar.tell(message)
                    assert kind in ("", "#TRACEBACK"), (name, place, answer)
                    # Who is told goes on.
                    assert kind == "" or liar.ask("dq", "ping", b"", 1) == (OK, b"\0"), (
                        name,
                        place,
                    )
    assert not made.exists()


@pytest.mark.slow
def test_no_pickle_takes_the_masters_memory_time_or_process(tmp_path: Path) -> None:
    with attacked(tmp_path) as (master, port), Peaks(master.pid) as peaks, Liar(port) as watch:
        for name, fragment in pickles.bombs().items():
            placed = pickles.places(fragment)
            if len(fragment) > MB / 10:  # once is enough
                placed = {"an argument": placed["an argument"]}
            for place, message in placed.items():
                with Liar(port) as liar:
                    liar.tell(message)
                assert watch.ask("dq", "ping", b"", 1) == (OK, b"\0"), (name, place)
        print(f"{peaks.most[2] - peaks.before[2]} bytes more, at the most")
        assert peaks.most[2] < peaks.before[2] + 150 * MB


ENDLESS = pickles.times(b"N", 100)  # as a key, or to be shown


TOKEN = pickles.built(
    pickles.called(pickles.named("builtins", "ValueError")), pickles.dict_of(id=ENDLESS)
)


def test_no_first_request_keeps_the_master_busy(tmp_path: Path) -> None:
    with attacked(tmp_path) as (_, port):
        for method, args, kwds in (
            ("accept_connection", pickles.tuple_of(ENDLESS), b"}"),
            ("accept_connection", b")", pickles.dict_of(name=ENDLESS)),
            ("create", pickles.tuple_of(ENDLESS), b"}"),
            ("incref", pickles.tuple_of(ENDLESS), b"}"),
            ("decref", b")", pickles.dict_of(ident=ENDLESS)),
            ("get_methods", pickles.tuple_of(TOKEN), b"}"),
        ):
            with mpc.Client(("127.0.0.1", port), authkey=KEY.encode()) as conn:
                conn.send_bytes(
                    pickles.whole(pickles.tuple_of(b"N", pickles.text(method), args, kwds))
                )
                assert conn.poll(10), method


def test_a_request_of_another_form_ends_its_connection(tmp_path: Path) -> None:
    messages = {
        "ident": pickles.request(ident=ENDLESS),
        "method": pickles.request(method=ENDLESS),
        "args": pickles.request(args=pickles.text("abc")),
        "kwds": pickles.request(kwds=b"}K\x01Ns"),
        "list": pickles.whole(b"]"),
        "none": pickles.whole(b"N"),
        "two": pickles.whole(pickles.tuple_of(b"N", b"N")),
    }
    with attacked(tmp_path) as (_, port):
        for what, message in messages.items():
            with Liar(port) as liar:
                assert liar.tell(message) == ("", None), what
                assert liar.ends(), what


def test_data_in_odd_forms_is_data_and_does_no_harm() -> None:
    with master_here() as port, Liar(port) as liar:
        assert liar.tell(pickles.request(args=pickles.tuple_of(pickles.deep(50_000))))[0] == OK
        assert liar.tell(pickles.request(args=pickles.tuple_of(ENDLESS)))[0] == OK
        kind, value = liar.ask("tasks", "get", True, 10)  # the first is too deep to be given out
        assert kind == OK
        assert value[0] is value[1]
        kind, error = liar.ask("results", "get", True, 10)
        assert (kind, type(error)) == (OK, RuntimeError)
        assert "cannot be pickled" in str(error)


def test_a_traceback_says_nothing_of_the_server() -> None:
    with master_here() as port, Liar(port) as liar:
        for ask in (("nobody", "put"), ("tasks", "#GETVALUE"), ("tasks", "__class__")):
            kind, answer = liar.ask(*ask)
            assert kind == "#TRACEBACK"
            assert len(answer.splitlines()) == 1
            assert ".py" not in answer


@pytest.mark.parametrize("ident", ["tasks", "results"])
def test_a_message_over_the_limit_is_refused_by_the_limits_name(ident: str, tmp_path: Path) -> None:
    with attacked(tmp_path) as (master, port), Peaks(master.pid) as peaks:
        with Liar(port) as liar:
            kind, said = liar.ask(ident, "put", bytes(MAX_MESSAGE_BYTES + ENVELOPE_BYTES))
            assert kind == "#TRACEBACK"
            assert re.search(
                rf"a message of \d+ bytes; the limit is {MAX_MESSAGE_BYTES} \(--max-", said
            )
            assert liar.ask("dq", "ping", b"", 1) == (OK, b"\0")  # nor is it ended for that
        master.wait_for(r"refused a message of \d+ bytes .*; the limit is \d+ \(--max-message\)")
        assert peaks.most[2] < peaks.before[2] + 16 * MB  # none of it was taken


def test_a_message_that_is_only_announced_takes_no_memory(tmp_path: Path) -> None:
    with attacked(tmp_path) as (master, port), Peaks(master.pid) as peaks, ExitStack() as stack:
        before = threads(master.pid)
        for _ in range(15):
            liar = stack.enter_context(Liar(port))
            liar.channel.wire.sock.sendall(struct.pack("!i", MAX_MESSAGE_BYTES) + b"x" * 500)
        watch = stack.enter_context(Liar(port))
        for _ in range(100):  # all have been read by then
            assert watch.ask("dq", "ping", b"", 1) == (OK, b"\0")
        assert threads(master.pid) >= before + 15
        assert peaks.now()[2] < peaks.before[2] + 50 * MB


def test_answers_that_nobody_reads_take_no_memory(tmp_path: Path) -> None:
    with attacked(tmp_path) as (master, port), Peaks(master.pid) as peaks, ExitStack() as stack:
        for _ in range(15):
            liar = stack.enter_context(Liar(port))
            liar.channel.send(("dq", "ping", (b"", MAX_MESSAGE_BYTES), {}))
            assert liar.channel.poll(PATIENCE)  # it has begun to answer
        with Liar(port) as reader:
            kind, data = reader.ask("dq", "ping", b"", 3 * MB)
            assert (kind, data) == (OK, bytes(3 * MB))
            assert reader.ask("dq", "ping", b"", 1) == (OK, b"\0")
        assert peaks.now()[2] < peaks.before[2] + 50 * MB


def test_the_reasons_of_refusals_do_not_add_up() -> None:
    with scene() as run:
        jobs = run.job.served.job
        for n in range(3):
            with Liar(run.port) as liar:
                info = {"role": "slot", "group": f"g{n}", "name": "x", "default": True}
                assert liar.ask("dq", "hello", PROTOCOL, info)[0] == OK
                own = liar.take()
                report = (run.honest.run, own.lease, own.start, [], 0, 0.0, "r" * MB)
                assert liar.ask("dq", "exchange", report, 0, 0.0)[0] == OK
                assert max(map(len, jobs.rejected.values())) == 20_000
            wait_until(lambda: not jobs.rejected)
        run.finish(None)
        run.check()


def test_who_stops_within_a_message_is_ended_and_the_master_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STALL_TIMEOUT_S", 0.2)
    lines: list[str] = []
    with master_here(report=lines.append) as port, Liar(port) as liar:
        liar.channel.wire.sock.sendall(struct.pack("!i", MAX_MESSAGE_BYTES) + b"x" * 500)
        assert liar.ends()
        assert lines == [
            "closed a connection from 127.0.0.1: nothing more of a message came for 0.2 s"
        ]


# --- all at once


def test_all_lies_at_once_change_nothing_for_a_real_worker(tmp_path: Path) -> None:
    told = [*lies.REPORTS.values(), *lies.ERRORS.values(), *lies.IGNORED.values()]
    with attacked(tmp_path) as (_, port), Liar(port) as victim:
        id = victim.hello()
        theirs = victim.take()

        def tell_some(some: list[Lie]) -> None:
            for lie in some:
                with Liar(port) as liar:
                    liar.hello()
                    liar.ask("dq", *lie(id, liar.take(), theirs))

        threads = [threading.Thread(target=tell_some, args=(told[n::4],)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not victim.ended


def test_who_gets_an_item_and_then_sends_garbage_loses_it_to_the_next(tmp_path: Path) -> None:
    with attacked(tmp_path, attempts=2) as (_, port):  # it may have been what ended the connection
        with Liar(port) as liar:
            assert liar.ask("tasks", "get", True, 10) == (OK, 0)
            assert liar.tell(b"\x80\x04garbage") == ("", None)
            assert liar.ends()
        with Wire(port) as wire:
            wait_until(lambda: wire.tasks("qsize"))
