"""What is made before a fork, and used after it in the child, the parent or both."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from support import Running, script

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

HEAD = """
import itertools, os, sys, time, warnings
import dq

# From 3.12 on Python says of every fork that has threads what these tests are about.
warnings.filterwarnings("ignore", "This process .* is multi-threaded")

def inc(x):
    return x + 1

def home():
    \"\"\"The process whose fork server has made this one.\"\"\"
    with open(f"/proc/{os.getppid()}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])

def in_child(function):
    \"\"\"Call it in a fork that leaves as a script does; its exit code here.\"\"\"
    child = os.fork()
    if child == 0:
        function()
        sys.exit()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def run_script(tmp_path: Path, body: str) -> str:
    path = tmp_path / "work.py"
    path.write_text(HEAD + body)
    done = script(path, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_an_executor_comes_up_anew_in_the_child(tmp_path: Path) -> None:
    body = """
pool = dq.Executor(1)
print(pool.submit(home).result() == os.getpid(), flush=True)

def child():
    print(pool.submit(inc, 1000).result(), pool.submit(home).result() == os.getpid())
    pool.shutdown()

print(in_child(child), pool.submit(inc, 7).result(), flush=True)
pool.shutdown()
"""
    assert run_script(tmp_path, body) == "True\n1001 True\n0 8\n"


def test_an_executor_that_a_server_made_before_it_forked_serves_each_child(tmp_path: Path) -> None:
    body = """
pool = dq.Executor(1)
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        os._exit(pool.submit(inc, number).result(timeout=60))
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(codes, pool.submit(inc, 9).result(timeout=60))
pool.shutdown()
"""
    assert run_script(tmp_path, body) == "[1, 2, 3] 10\n"


def test_a_master_says_in_the_child_whose_it_is(tmp_path: Path) -> None:
    body = """
with dq.Master(workers=1) as master:
    half = master.map(inc, itertools.count())
    print(next(half), flush=True)

    def child():
        for use in (lambda: list(master.map(inc, [1])), lambda: list(half), lambda: master.address):
            try:
                use()
            except dq.UsageError as error:
                print(error)

    print(in_child(child), list(itertools.islice(half, 3)), flush=True)
"""
    first, *said, last = run_script(tmp_path, body).splitlines()
    assert first == "1"
    assert all("this Master belongs to process" in line for line in said)
    assert len(said) == 3
    assert last == "0 [2, 3, 4]"


def test_an_executor_on_a_master_of_the_parents_says_so(tmp_path: Path) -> None:
    body = """
with dq.Master(workers=1) as master:
    pool = dq.Executor(master=master)
    def child():
        try:
            pool.submit(inc, 1)
        except dq.UsageError as error:
            print(error)
    print(in_child(child), pool.submit(inc, 1).result(), flush=True)
    pool.shutdown()
"""
    said, last = run_script(tmp_path, body).splitlines()
    assert "this Master belongs to process" in said
    assert last == "0 2"


def test_a_call_that_was_made_before_the_fork_is_not_waited_for_in_the_child(
    tmp_path: Path,
) -> None:
    body = """
pool = dq.Executor(1)
running = pool.submit(time.sleep, 1)
done = pool.submit(inc, 1)
def child():
    try:
        done.result()
    except dq.UsageError as error:
        print(error)
print(in_child(child), done.result(), flush=True)
pool.shutdown()
"""
    said, last = run_script(tmp_path, body).splitlines()
    assert "this call belongs to process" in said
    assert last == "0 2"


def test_a_child_that_leaves_the_with_block_ends_nothing_of_the_parents(tmp_path: Path) -> None:
    body = """
with dq.Master(workers=1, port=0, authkey=b"a key of 16 bytes") as master, dq.Executor(1) as pool:
    print(*master.map(inc, [1]), pool.submit(inc, 1).result(), flush=True)
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        print(*master.map(inc, [2]), pool.submit(inc, 2).result(), flush=True)
"""
    assert run_script(tmp_path, body) == "2 2\n0\n3 3\n"


def test_workers_see_their_master_end_though_a_fork_of_it_lives_on(tmp_path: Path) -> None:
    """The child has copies of all descriptors: an open one would keep the connections alive."""
    body = """
with dq.Master(port=0, authkey=b"a key of 16 bytes") as master:
    child = os.fork()
    if child == 0:
        while True:
            time.sleep(60)
    print("port", master.address[1], "child", child, flush=True)
    print(*master.map(inc, [1]), flush=True)
    os.kill(os.getpid(), 9)
"""
    path = tmp_path / "work.py"
    path.write_text(HEAD + body)
    with Running(sys.executable, path, cwd=tmp_path) as master:
        found = master.wait_for(r"port (\d+) child (\d+)", stream="stdout")
        port, child = map(int, found.groups())
        try:
            worker = (sys.executable, "-m", "dq", "worker", "--server", f"127.0.0.1:{port}")
            key = {"DQ_AUTHKEY": "a key of 16 bytes"}
            with Running(*worker, "-p", "1", "--reconnect", "1s", cwd=tmp_path, env=key) as running:
                assert running.wait() == 4
                assert "lost the master" in running.stderr_text
        finally:
            os.kill(child, signal.SIGKILL)
