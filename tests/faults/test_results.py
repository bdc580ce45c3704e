"""What a function may return or raise: everything else is a clear failure of that task alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dq as api
from interop.plain import ENV, KEY, plain
from support import serving
from support.warm import dq

SOURCE = """
import asyncio, functools, itertools, sys, threading

session = None

async def set_up():
    global session
    await asyncio.sleep(0)
    session = "ready"

async def fail_to_set_up():
    raise LookupError("no session")

async def use(x):
    return session

async def disturb(x):
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)  # others are being awaited by now
    if x == "exit":
        sys.exit("enough")
    if x == "interrupt":
        raise KeyboardInterrupt("enough")
    if x == "cancel":
        raise asyncio.CancelledError("enough")
    if x == "stop":
        loop.stop()
    if x == "close":
        loop.close()
    if x == "exit in a task":
        await asyncio.create_task(exit_with("enough"))
    if x == "interrupt among others":
        await asyncio.gather(asyncio.sleep(60), interrupt())
    for _ in range(50):
        await asyncio.sleep(0.001)
    return x

async def exit_with(word):
    sys.exit(word)

async def interrupt():
    raise KeyboardInterrupt("enough")

async def leaves_one_that_exits(x):
    asyncio.get_running_loop().create_task(exit_with("enough"))
    await asyncio.sleep(0.01)
    return x

def undone(loop):
    asyncio.BaseEventLoop.stop(loop)
    while loop.is_running():
        pass
    loop.close()

async def closes_loop(x):
    loop = asyncio.get_running_loop()
    if x == "bad":
        loop.run_forever = None  # so that it is not run again before it is closed
        threading.Thread(target=undone, args=(loop,)).start()
        await asyncio.sleep(60)
    return x

async def echo(x):
    return x

async def fail(x):
    raise ValueError(f"no {x}")

def returns_coroutine(x):
    return echo(x)

def returns_failing_coroutine(x):
    return fail(x)

def returns_coroutine_now_and_then(x):
    return echo(x) if x % 3 == 2 else x

class Ticket:
    def __init__(self, x):
        self.x = x
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return self.x

def returns_awaitable(x):
    return Ticket(x)

def generator(x):
    return (n for n in range(x))

async def asynchronous():
    yield 1

def async_generator(x):
    return asynchronous()

def lazy_map(x):
    return map(str, [x])

def lazy_zip(x):
    return zip([x], [x])

def lazy_filter(x):
    return filter(None, [x])

def lazy_chain(x):
    return itertools.chain([x], [x])

def lazy_iterator(x):
    return iter([x])

def lazy_count(x):
    import itertools
    return itertools.count()

def lazy_file(x):
    return open("/dev/null")

def lazy_within(x):
    return {"rows": [1, map(str, [x])]}

def coroutine_within(x):
    return [echo(x)]

def lazy(name):
    return globals()[name](2)

class Countdown:
    def __init__(self, x):
        self.x = x
    def __iter__(self):
        return self
    def __next__(self):
        raise StopIteration
    def __repr__(self):
        return f"Countdown({self.x})"

def own_iterator(x):
    return Countdown(x)
"""

LAZY = {
    "generator": "a generator",
    "async_generator": "an async_generator",
    "lazy_map": "a map",
    "lazy_zip": "a zip",
    "lazy_filter": "a filter",
    "lazy_chain": "a chain",
    "lazy_iterator": "a list_iterator",
    "lazy_count": "a count",
    "lazy_file": "a TextIOWrapper",
}
DISTURBANCES = {
    "exit": "SystemExit: enough",
    "interrupt": "KeyboardInterrupt: enough",
    "cancel": "CancelledError: enough",
    "stop": "RuntimeError: the event loop runs other tasks too",
    "close": "RuntimeError: Cannot close a running event loop",
    "exit in a task": "SystemExit: enough",
    "interrupt among others": "KeyboardInterrupt: enough",
}


@pytest.fixture
def results(project: Path) -> Path:
    (project / "results.py").write_text(SOURCE)
    return project


# What is awaited


@pytest.mark.sampled(3)
@pytest.mark.parametrize("disturbance", DISTURBANCES)
def test_an_async_task_that_would_end_the_loop_has_failed_and_no_other(
    results: Path, disturbance: str
) -> None:
    inputs = ["one", disturbance, "two", "three"]
    done = dq("run", "results:disturb", *inputs, "-w", "1", "-t", "4", "--batch", "1", cwd=results)
    assert (done.returncode, done.stdout) == (1, "one\ntwo\nthree\n"), done.stderr
    assert f'task 1 ("{disturbance}") failed: {DISTURBANCES[disturbance]}' in done.stderr


def test_what_an_async_task_leaves_running_may_exit_without_harm(results: Path) -> None:
    argv = ("run", "results:leaves_one_that_exits", *"12345", "-w", "1", "-t", "2")
    done = dq(*argv, cwd=results)
    assert (done.returncode, done.stdout.split()) == (0, [*"12345"]), done.stderr


def test_a_loop_that_a_task_has_closed_is_replaced(results: Path) -> None:
    argv = (
        "run",
        "results:closes_loop",
        "1",
        "bad",
        "2",
        "-w",
        "1",
        "--batch",
        "1",
        cwd := results,
    )
    done = dq(*argv[:-1], cwd=cwd)
    assert (done.returncode, done.stdout) == (1, "1\n2\n"), done.stderr
    assert 'task 1 ("bad") failed: RuntimeError: a task has closed the event loop' in done.stderr


def test_an_async_initializer_is_awaited(results: Path) -> None:
    done = dq("run", "results:use", "1", "--init", "results:set_up", "-w", "1", cwd=results)
    assert (done.returncode, done.stdout) == (0, "ready\n"), done.stderr


def test_an_async_initializer_that_fails_is_said(results: Path) -> None:
    argv = ("run", "results:use", "1", "--init", "results:fail_to_set_up", "-w", "1")
    done = dq(*argv, cwd=results)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--init results:fail_to_set_up failed: LookupError: no session" in done.stderr


@pytest.mark.sampled(4)
@pytest.mark.parametrize("batch", ["1", "10"])
@pytest.mark.parametrize("form", ["text", "jsonl"])
@pytest.mark.parametrize(
    "task", ["returns_coroutine", "returns_coroutine_now_and_then", "returns_awaitable"]
)
def test_what_a_plain_function_returns_is_awaited_where_it_can_be(
    results: Path, task: str, form: str, batch: str
) -> None:
    argv = ("run", f"results:{task}", *map(str, range(10)), "-w", "1", "--batch", batch)
    done = dq(*argv, "-f", form, cwd=results)
    assert done.returncode == 0, done.stderr
    assert "never awaited" not in done.stderr
    lines = [
        line if form == "text" else line.split('"result": ')[1]
        for line in done.stdout.split("\n")[:-1]
    ]
    assert [line.split(",")[0] for line in lines] == [str(n) for n in range(10)]


def test_what_an_awaitable_raises_is_the_tasks_failure(results: Path) -> None:
    done = dq("run", "results:returns_failing_coroutine", "1", "-w", "1", cwd=results)
    assert (done.returncode, done.stdout) == (1, "")
    assert "task 0 (1) failed: ValueError: no 1" in done.stderr


# What cannot be a result


@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_an_iterator_is_no_result(results: Path, form: str) -> None:
    done = dq("run", "results:lazy", *LAZY, "-w", "1", "-f", form, cwd=results)
    assert done.returncode == 1
    for id, (task, what) in enumerate(LAZY.items()):
        said = rf'task {id} \("{task}"\) failed: TypeError: the result is {what}, which .*: return'
        assert re.search(rf"{said} (\[value async for|list\(\.\.\.\)|what is read)", done.stderr)
    assert " at 0x" not in done.stdout


def test_an_iterator_is_no_value_either(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(results)
    monkeypatch.syspath_prepend(results)
    with api.Master(workers=1) as master:
        for task, what in LAZY.items():
            with pytest.raises(api.TaskError, match=f"the result is {what}, which"):
                list(master.map(f"results:{task}", [1, 2]))


@pytest.mark.parametrize("form", ["text", "jsonl"])
@pytest.mark.parametrize(
    ("task", "what"),
    [
        ("lazy_within", "the result has a map in it, which has not been run yet: return list(...)"),
        ("coroutine_within", "the result has a coroutine in it, which nobody has awaited"),
    ],
)
def test_nor_is_what_has_one_in_it(results: Path, task: str, what: str, form: str) -> None:
    done = dq("run", f"results:{task}", "1", "-w", "1", "-f", form, cwd=results)
    assert done.returncode == 1
    assert f"task 0 (1) failed: TypeError: {what}" in done.stderr


def test_an_iterator_that_has_words_for_itself_is_a_result(results: Path) -> None:
    done = dq("run", "results:own_iterator", "3", "-w", "1", cwd=results)
    assert (done.returncode, done.stdout) == (0, "Countdown(3)\n"), done.stderr


def test_plain_clients_get_no_iterators(results: Path) -> None:
    with serving("results:lazy_map", "-w", "1", cwd=results, env=ENV) as (_, port):
        said = plain(port, "tasks.put(1); print(results.get(timeout=30))", key=KEY)
    assert "the result is a map, which has not been run yet" in said
