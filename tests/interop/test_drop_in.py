"""`dq.QueueManager` in the place of the recipe's own class."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from interop.plain import KEY, plain
from support import DQ, Running, run, script

HERE = Path(__file__).parent

MASTER = """\
import queue, sys
{setup}
if __name__ == "__main__":
    manager = QueueManager(address=("127.0.0.1", 0), authkey=sys.argv[1].encode())
    manager.start()
    print("port", manager.address[1], flush=True)
    tasks = manager.get_task_queue()
    results = manager.get_result_queue()
    for n in range(5):
        tasks.put(n)
    for _ in range(5):
        print("result", results.get(timeout=30), flush=True)
    manager.shutdown()
"""
WORKER = """\
import sys
{setup}
manager = QueueManager(address=("127.0.0.1", int(sys.argv[1])), authkey=sys.argv[2].encode())
manager.connect()
tasks, results = manager.get_task_queue(), manager.get_result_queue()
for _ in range(5):
    n = tasks.get(timeout=30)
    results.put(n * n)
"""

IMPORTED = "from dq import QueueManager"
SUBCLASS = """
import dq
class QueueManager(dq.QueueManager):
    pass
"""
# As the recipe registers its own queues, which is needless here and has to be harmless.
LAMBDAS = (
    SUBCLASS
    + """
tasks_here, results_here = queue.Queue(), queue.Queue()
QueueManager.register("get_task_queue", callable=lambda: tasks_here)
QueueManager.register("get_result_queue", callable=lambda: results_here)
"""
)
REGISTERED_ON_DQS_OWN = LAMBDAS.replace(SUBCLASS, IMPORTED)
NAMES_ONLY = (
    SUBCLASS
    + """
QueueManager.register("get_task_queue")
QueueManager.register("get_result_queue")
"""
)
RESULTS = [f"result {n * n}" for n in range(5)]
MASTERS = {
    "imported": IMPORTED,
    "subclass": SUBCLASS,
    "lambdas": LAMBDAS,
    "on dq's own": REGISTERED_ON_DQS_OWN,
    "names only": NAMES_ONLY,
}


@pytest.fixture(params=MASTERS)
def master(request: pytest.FixtureRequest, tmp_path: Path) -> Running:
    """A recipe master with dq's class in the place of its own."""
    if "ambda" in MASTERS[request.param] and sys.version_info >= (3, 14):
        pytest.skip("a lambda can't be sent to the server's process, which is not forked here")
    program = tmp_path / "master.py"
    program.write_text(MASTER.format(setup=MASTERS[request.param]))
    return Running(sys.executable, program, KEY)


def port_of(master: Running) -> int:
    return int(master.wait_for(r"^port (\d+)", stream="stdout")[1])


@pytest.mark.sampled(5)
@pytest.mark.parametrize("setup", [IMPORTED, SUBCLASS, NAMES_ONLY])
def test_both_halves_work_with_dqs_class(master: Running, setup: str, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER.format(setup=setup))
    with master:
        done = script(worker, str(port_of(master)), KEY)
        assert done.returncode == 0, done.stderr
        assert master.wait() == 0, master.printed
        assert master.stdout_text.splitlines()[1:] == RESULTS
        assert master.stderr_text == ""


@pytest.mark.sampled(2)
def test_a_plain_worker_serves_it(master: Running) -> None:
    with master:
        worker = script(HERE / "own_worker.py", str(port_of(master)), KEY, "5")
        assert worker.returncode == 0, worker.stderr
        assert master.wait() == 0, master.printed
        assert "result 4 squared is 16" in master.stdout_text


@pytest.mark.sampled(2)
def test_a_dq_worker_serves_it(master: Running, project: Path) -> None:
    with master:
        argv = ("-s", f"127.0.0.1:{port_of(master)}", "--task", "app:square", "-p", "1")
        env = {"DQ_AUTHKEY": KEY}
        with Running(*DQ, "worker", *argv, "--reconnect", "0", cwd=project, env=env):
            assert master.wait() == 0, master.printed
        assert sorted(master.stdout_text.splitlines()[1:]) == sorted(RESULTS)


def test_worker_half_works_with_a_plain_master(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER.format(setup=IMPORTED))
    with Running(sys.executable, HERE / "own_master.py", KEY, "5") as master:
        done = script(worker, str(port_of(master)), KEY)
        assert done.returncode == 0, done.stderr
        assert master.wait() == 0, master.printed
        assert master.stdout_text.splitlines()[1:] == RESULTS


CUSTOM = f"""\
import dq

class Counter:
    def __init__(self, start=0): self.value = start
    def add(self, n): self.value += n; return self.value

counter = Counter()

def get_counter():
    return counter

class QueueManager(dq.QueueManager):
    pass

QueueManager.register("get_counter", callable=get_counter)
QueueManager.register("Counter", Counter)

if __name__ == "__main__":
    manager = QueueManager(("127.0.0.1", 0), authkey={KEY.encode()!r})
    manager.start()
    other = QueueManager(manager.address, authkey={KEY.encode()!r})
    other.connect()
"""


def custom(code: str, folder: Path) -> str:
    program = folder / "custom.py"
    lines = "".join(f"    {line}\n" for line in [*code.splitlines(), "manager.shutdown()"])
    program.write_text(CUSTOM + lines)
    done = run(sys.executable, "-W", "error", program)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_typeid_of_ones_own_is_served_beside_the_queues(tmp_path: Path) -> None:
    code = (
        "manager.get_counter().add(2)\n"
        "other.get_task_queue().put('still there')\n"
        "print(other.get_counter().add(3), manager.get_task_queue().get(timeout=10))"
    )
    assert custom(code, tmp_path) == "5 still there\n"


def test_a_typeid_with_arguments_makes_one_object_for_each_call(tmp_path: Path) -> None:
    code = (
        "one, two = manager.Counter(10), other.Counter(start=20)\n"
        "print(one.add(1), two.add(1), one.add(1))"
    )
    assert custom(code, tmp_path) == "11 21 12\n"


def test_objects_that_nobody_refers_to_are_dropped(tmp_path: Path) -> None:
    code = (
        "from dq.manager.client import ServerConnection\n"
        "made = manager.Counter(10)\n"
        "ident = made._id\n"
        "del made\n"
        f"connection = ServerConnection(manager.address, {KEY.encode()!r})\n"
        "try: connection.call(ident, 'add', 1)\n"
        "except Exception as error: print('KeyError' in str(error))\n"
        "connection.close()"
    )
    assert custom(code, tmp_path) == "True\n"


SERVE_FOREVER = f"""\
import sys
from dq import QueueManager
server = QueueManager(("127.0.0.1", 0), authkey={KEY.encode()!r}).get_server()
print("port", server.address[1], flush=True)
server.serve_forever()
"""


def test_it_serves_in_the_foreground() -> None:
    with Running(sys.executable, "-c", SERVE_FOREVER) as server:
        port = port_of(server)
        assert plain(port, "tasks.put(1); print(tasks.get(timeout=10))") == "1"


def test_a_dq_worker_serves_one_in_the_foreground(project: Path) -> None:
    with Running(sys.executable, "-c", SERVE_FOREVER) as server:
        argv = ("-s", f"127.0.0.1:{port_of(server)}", "--task", "app:square", "-p", "1")
        with Running(*DQ, "worker", *argv, cwd=project, env={"DQ_AUTHKEY": KEY}):
            said = plain(port_of(server), "tasks.put(12); print(results.get(timeout=30))")
            assert said == "144"


def test_it_may_be_used_in_a_with_statement() -> None:
    code = f"""if True:
        from dq import QueueManager
        with QueueManager(authkey={KEY.encode()!r}) as manager:
            manager.get_task_queue().put(1)
            print(manager.get_task_queue().get(timeout=10))
    """
    done = run(sys.executable, "-W", "error", "-c", code)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_it_serves_on_a_unix_socket(tmp_path: Path) -> None:
    code = f"""if True:
        import os, sys
        from dq import QueueManager
        with QueueManager(sys.argv[1], authkey={KEY.encode()!r}) as manager:
            other = QueueManager(sys.argv[1], authkey={KEY.encode()!r})
            other.connect()
            other.get_task_queue().put(1)
            print(manager.get_task_queue().get(timeout=10))
        print(os.path.exists(sys.argv[1]))
    """
    done = run(sys.executable, "-c", code, "socket", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "1\nFalse\n"), done.stderr
