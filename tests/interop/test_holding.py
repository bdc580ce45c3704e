"""What a plain client got and has not settled is its connection's, and comes back with its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop.plain import ENV, Wire, master_here, plain, plain_running
from support import DQ, Running, serving

# What a plain client put


def killed(port: int, code: str) -> None:
    """Run a plain client up to where it says "now", and SIGKILL it there."""
    with plain_running(port, code + "\nsay('now'); time.sleep(600)") as client:
        client.wait_for("now", stream="stdout")
        client.kill_group()
        client.wait()


def test_what_a_killed_client_held_is_given_out_again() -> None:
    with serving(env=ENV) as (_, port):
        plain(port, "tasks.put('a'); tasks.put('b')")
        killed(port, "assert tasks.get() == 'a'")
        assert plain(port, "print(tasks.get(timeout=30), tasks.get())") == "a b"


def test_it_goes_to_who_is_waiting_already() -> None:
    with serving(env=ENV) as (_, port):
        plain(port, "tasks.put('a')")
        with plain_running(port, "tasks.get(); say('held'); time.sleep(600)") as holder:
            holder.wait_for("held", stream="stdout")
            with plain_running(port, "say('here'); say(tasks.get(timeout=30))") as waiter:
                waiter.wait_for("here", stream="stdout")
                holder.kill_group()
                waiter.wait_for("^a$", stream="stdout")


def test_it_goes_to_a_dq_worker_too(project: Path) -> None:
    with serving("app:square", cwd=project, env=ENV) as (_, port):
        plain(port, "tasks.put(12)")
        killed(port, "assert tasks.get() == 12")
        with Running(*DQ, "worker", "-p", "1", "-s", f"127.0.0.1:{port}", cwd=project, env=ENV):
            assert plain(port, "print(results.get(timeout=30))") == "144"


def test_no_redeliver_turns_that_off() -> None:
    with serving("--no-redeliver", env=ENV) as (_, port):
        plain(port, "tasks.put('a')")
        killed(port, "assert tasks.get() == 'a'")
        assert plain(port, "print(raised(tasks.get, timeout=1), tasks.qsize())") == "Empty 0"


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "request_", ["tasks.qsize()", "results.put(1)", "tasks.task_done()", "results.empty()"]
)
def test_the_holders_next_request_settles_what_it_got(request_: str) -> None:
    with master_here() as port:
        plain(port, "tasks.put('a')")
        killed(port, f"tasks.get(); {request_}")
        assert plain(port, "print(raised(tasks.get, timeout=1), tasks.qsize())") == "Empty 0"


def test_the_next_get_settles_the_one_before() -> None:
    with master_here() as port:
        plain(port, "tasks.put('a'); tasks.put('b')")
        killed(port, "tasks.get(); tasks.get()")
        assert plain(port, "print(tasks.get(timeout=30), raised(tasks.get_nowait))") == "b Empty"


def test_a_client_that_ends_in_good_order_leaves_what_it_did_not_settle() -> None:
    with master_here() as port:
        plain(port, "tasks.put('a'); tasks.get()")
        assert plain(port, "print(tasks.get(timeout=30))") == "a"


def test_results_that_a_client_got_are_its_own() -> None:
    with master_here() as port:
        plain(port, "results.put('a'); results.put('b'); results.get()")
        assert plain(port, "print(results.get(), raised(results.get_nowait))") == "b Empty"


# A master's own inputs


def test_own_inputs_are_not_settled_by_further_requests(project: Path) -> None:
    finish = "for name in 'ab': tasks.get(timeout=30); results.put(name)"
    with serving("app:square", "1", "2", cwd=project, env=ENV) as (master, port):
        killed(port, "tasks.get(); tasks.get(); tasks.qsize(); results.qsize()")
        plain(port, finish)
        assert master.wait() == 0, master.printed
        assert master.stdout_text == "a\nb\n"


def test_each_result_answers_the_oldest_input_held(project: Path) -> None:
    with serving("app:square", "1", "2", "3", cwd=project, env=ENV) as (master, port):
        plain(port, "print(*[tasks.get() for _ in range(3)]); [results.put(c) for c in 'abc']")
        assert master.wait() == 0, master.printed
        assert master.stdout_text == "a\nb\nc\n"


def test_two_holders_answer_each_their_own(project: Path) -> None:
    with serving("app:square", "1", "2", cwd=project, env=ENV) as (master, port):
        with Wire(port) as one, Wire(port) as other:
            assert (one.tasks("get"), other.tasks("get")) == (1, 2)
            other.results("put", "second")
            one.results("put", "first")
        assert master.wait() == 0, master.printed
        assert master.stdout_text == "first\nsecond\n"


def test_results_of_who_holds_nothing_are_plain_ones(project: Path) -> None:
    with serving("app:square", "1", cwd=project, env=ENV) as (master, port):
        assert plain(port, "results.put('stray'); print(results.get(timeout=5))") == "stray"
        plain(port, "tasks.get(); results.put('own')")
        assert master.wait() == 0, master.printed
        assert master.stdout_text == "own\n"


def test_task_done_settles_an_own_input_without_a_result(project: Path) -> None:
    with serving("app:square", "1", "2", cwd=project, env=ENV) as (master, port):
        plain(port, "tasks.get(); tasks.get(); tasks.task_done(); results.put('b')")
        assert master.wait() == 0, master.printed
        assert master.stdout_text == "None\nb\n"


def test_an_own_input_that_ended_three_holders_is_recorded_as_worker_died(project: Path) -> None:
    with serving("app:square", "1", cwd=project, env=ENV) as (master, port):
        for _ in range(3):
            killed(port, "tasks.get(timeout=30)")
        assert master.wait() == 1, master.printed
        assert "WorkerDied" in master.stderr_text


def test_a_value_that_cannot_be_pickled_again_fails_only_its_input(project: Path) -> None:
    with serving("app:square", "1", "-f", "jsonl", cwd=project, env=ENV) as (master, port):
        plain(port, "tasks.get(); results.put({1, 2})")
        assert master.wait() in (0, 1), master.printed
        assert len(master.stdout_text.splitlines()) == 1


def test_an_input_that_cannot_be_read_is_nobodys_to_hold(project: Path) -> None:
    (project / "in.jsonl").write_text("no json\n" * 2000 + "7\n")
    skip = ("--skip-bad", "-i", "in.jsonl")
    with serving("app:square", *skip, cwd=project, env=ENV) as (master, port):
        assert plain(port, "print(tasks.get(timeout=30)); results.put('done')") == "7"
        assert master.wait() == 0, master.printed
        assert master.stdout_text == "done\n"
        assert "1990 more inputs were skipped" in master.stderr_text
