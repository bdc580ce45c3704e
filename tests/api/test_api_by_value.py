"""Functions and values of a script, a closure, a module that was loaded by its path: by value."""

from __future__ import annotations

import functools
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dq
from support import Running, python, run, script

KEY = "a key of 16 bytes"


def prints(tmp_path: Path, source: str, *args: str) -> str:
    """What a script prints; nothing on standard error, and exit code 0."""
    path = tmp_path / "work.py"
    path.write_text(source)
    done = script(path, *args, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture
def master() -> Iterator[dq.Master]:
    with dq.Master(workers=1) as started:
        yield started


# As it is at the time of the call


def test_run_sees_a_global_that_has_changed_and_a_function_that_was_defined_again(
    tmp_path: Path,
) -> None:
    source = """
import dq
limit = 1
def over(x):
    return x > limit
first = dq.run(over, [0, 2, 5], workers=1)
limit = 3
print(first, dq.run(over, [0, 2, 5], workers=1))
def over(x):
    return -x
print(dq.run(over, [1], workers=1))
"""
    assert prints(tmp_path, source) == "[False, True, True] [False, False, True]\n[-1]\n"


def test_each_map_and_each_submit_sees_what_has_changed(tmp_path: Path) -> None:
    source = """
import dq
factor = 1
class Settings:
    offset = 0
def f(x):
    return factor * x + Settings.offset
with dq.Master(workers=1) as master, dq.Executor(1) as pool:
    for factor, Settings.offset in (1, 0), (10, 0), (10, 5):
        print(*master.map(f, [1, 2]), *(r.value for r in master.stream(f, [3])),
              pool.submit(f, 4).result())
"""
    assert prints(tmp_path, source) == "1 2 3 4\n10 20 30 40\n15 25 35 45\n"


def test_what_main_has_set_under_its_guard_is_there(tmp_path: Path) -> None:
    source = """
import dq, sys
mode = "default"
def show(x):
    return mode
def main(choice):
    global mode
    mode = choice
    print(dq.run(show, [0], workers=1)[0])
if __name__ == "__main__":
    main(sys.argv[1])
"""
    assert prints(tmp_path, source, "special") == "special\n"


def test_functions_made_in_a_loop_are_each_their_own(master: dq.Master) -> None:
    functions = [lambda x, n=n: x + n for n in range(3)]  # type: ignore[misc]
    assert [list(master.map(f, [10])) for f in functions] == [[10], [11], [12]]


def test_an_executor_may_stand_above_the_functions(tmp_path: Path) -> None:
    source = """
import dq
pool = dq.Executor(1)
def inc(x):
    return x + 1
print(pool.submit(inc, 1).result())
pool.shutdown()
"""
    assert prints(tmp_path, source) == "2\n"


def test_the_top_of_a_script_runs_once_however_many_processes_there_are(tmp_path: Path) -> None:
    source = """
import os, shutil, dq
shutil.rmtree("out", ignore_errors=True)
os.makedirs("out")
def work(i):
    with open(f"out/{i}", "w") as file:
        file.write(str(i))
    return i
print(len(dq.run(work, range(20), workers=2, max_tasks=3)))
"""
    assert prints(tmp_path, source) == "20\n"
    assert len(list((tmp_path / "out").iterdir())) == 20


# What goes by value


class Scale:
    def __init__(self, by: int) -> None:
        self.by = by

    def times(self, x: int) -> int:
        return self.by * x

    __call__ = times


def add(x: int, y: int) -> int:
    return x + y


@functools.lru_cache
def cached(x: int) -> int:
    return x + 1


def test_closures_methods_partials_and_callable_objects_are_tasks(master: dq.Master) -> None:
    by = 3

    class Local:
        def __call__(self, x: int) -> int:
            return by * x

    tasks: list[Callable[[int], int]] = [
        lambda x: by * x,
        Scale(3).times,
        Scale(3),
        functools.partial(add, 4),
        functools.partial(lambda a, x: a + x, 4),
        Local(),
        cached,
        functools.lru_cache(lambda x: x * by),
    ]
    assert [next(master.map(task, [2])) for task in tasks] == [6, 6, 6, 6, 6, 6, 3, 6]


def test_a_script_s_cached_function_and_its_helpers(tmp_path: Path) -> None:
    source = """
import functools, dq
@functools.lru_cache(maxsize=None)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
print(dq.run(fib, [10, 30], workers=1))
"""
    assert prints(tmp_path, source) == "[55, 832040]\n"


def test_a_module_that_was_loaded_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "plug.py").write_text(
        "class Box:\n    def __init__(self, x):\n        self.x = x\n"
        "def triple(x):\n    return 3 * x\ndef box(x):\n    return Box(triple(x))\n"
    )
    source = """
import importlib.util, sys, dq
spec = importlib.util.spec_from_file_location("plug", "plugins/plug.py")
plug = sys.modules["plug"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plug)
def both(x):
    return plug.triple(x)
print(dq.run(plug.triple, range(3), workers=1), dq.run(both, [5], workers=1))
boxes = dq.run(plug.box, [1, 2], workers=1)
print([type(box) is plug.Box for box in boxes], [box.x for box in boxes])
"""
    assert prints(tmp_path, source) == "[0, 3, 6] [15]\n[True, True] [3, 6]\n"


def test_a_test_module_that_pytest_imports_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "test_it.py").write_text(
        "import dq\nclass P:\n    pass\ndef f(x):\n    return P()\n"
        "def test_it():\n    [p] = dq.run(f, [1], workers=1)\n    assert type(p) is P\n"
    )
    how = ("-q", "-p", "no:cacheprovider", "--import-mode", "importlib")
    done = run(sys.executable, "-m", "pytest", *how, "deep", cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_what_can_be_imported_loads_no_cloudpickle() -> None:
    code = (
        "import sys, math, dq\n"
        "with dq.Executor(1) as pool:\n    pool.submit(math.sqrt, 4).result()\n"
        "dq.run('math:sqrt', [4], workers=1)\n"
        "print(dq.run(sys.modules.__contains__ and math.sqrt, [9], workers=1),"
        " 'cloudpickle' in sys.modules)\n"
    )
    assert python(code).stdout == "[3.0] False\n"


def test_a_task_and_its_initializer_share_their_globals(tmp_path: Path) -> None:
    source = """
import dq
model = None
def load():
    global model
    model = "loaded"
def use(x):
    return model
print(dq.run(use, [1, 2], workers=1, initializer=load), model)
"""
    assert prints(tmp_path, source) == "['loaded', 'loaded'] None\n"


def test_a_task_may_give_a_script_s_function_to_a_pool_of_its_own(tmp_path: Path) -> None:
    source = """
import multiprocessing, dq
def square(x):
    return x * x
def squares(n):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.map(square, range(n))
print(dq.run(squares, [3], workers=1))
"""
    assert prints(tmp_path, source) == "[[0, 1, 4]]\n"


CLASSES = """
import abc, dataclasses, enum, functools, typing, dq

class Base(abc.ABC):
    def __init__(self, x):
        self.x = x
    @abc.abstractmethod
    def twice(self): ...

class Derived(Base):
    def __init__(self, x):
        super().__init__(x)
    def twice(self):
        return 2 * self.x
    @classmethod
    def make(cls, x):
        return cls(x)
    @staticmethod
    def half(x):
        return x // 2
    @functools.cached_property
    def thrice(self):
        return 3 * self.x

class Box(typing.Generic[typing.TypeVar("T")]):
    def __init__(self, x):
        self.x = x

class Named(typing.NamedTuple):
    x: int

class Flag(enum.IntFlag):
    A = 1
    B = 2

class Meta(type):
    def __call__(cls, *args):
        made = super().__call__(*args)
        made.tag = "meta"
        return made

class Tagged(metaclass=Meta):
    def __init__(self, x):
        self.x = x

def use(x):
    made = Derived.make(x)
    values = made, made.twice(), made.half(x), made.thrice
    return *values, Box(x), Named(x), Flag.A | Flag.B, Tagged(x)
"""


def test_classes_of_every_kind_do_in_a_worker_what_they_do_here(tmp_path: Path) -> None:
    source = CLASSES + (
        "[made] = dq.run(use, [4], workers=1)\n"
        "print([type(value).__name__ for value in made], made[1:4], made[7].tag)\n"
        "print([type(a) is type(b) for a, b in zip(made, use(4))].count(False))\n"
    )
    kinds = ["Derived", "int", "int", "int", "Box", "Named", "Flag", "Tagged"]
    assert prints(tmp_path, source) == f"{kinds} (8, 2, 12) meta\n0\n"


def test_an_error_s_traceback_shows_the_script_s_lines(tmp_path: Path) -> None:
    source = """
import dq
def f(x):
    return 1 / x  # here
try:
    dq.run(f, [0], workers=1)
except ZeroDivisionError as error:
    print(error.__cause__)
"""
    printed = prints(tmp_path, source)
    assert f'File "{tmp_path / "work.py"}", line 4, in f' in printed
    assert "return 1 / x  # here" in printed


# Values


VALUES = """
import enum, collections, dataclasses, dq

class Plain:
    def __init__(self, x):
        self.x = x

class Slots:
    __slots__ = ("x",)
    def __init__(self, x):
        self.x = x

@dataclasses.dataclass(frozen=True)
class Data:
    x: int

@dataclasses.dataclass(slots=True)
class SlotsData:
    x: int

Named = collections.namedtuple("Named", "x")

class Color(enum.Enum):
    RED = 1
    x = property(lambda self: self.value)

def local():
    class Local(Plain):
        def again(self):
            return type(self)(self.x)
    return Local
Local = local()

def same(value):
    return value

def made(value):
    return type(value)(value.x)
"""


def test_values_come_back_as_the_class_that_the_caller_has(tmp_path: Path) -> None:
    source = VALUES + (
        "every = Plain(1), Slots(1), Data(1), SlotsData(1), Named(1), Color.RED, Local(1)\n"
        "def back(task, *values):\n"
        "    found = list(master.map(task, values))\n"
        "    assert len(found) == len(values)\n"
        "    assert all(type(b) is type(v) for b, v in zip(found, values)), found\n"
        "    assert all(b == 1 or b.x == 1 for b in found), found\n"
        "with dq.Master(workers=1) as master:\n"
        "    for value in every:\n"
        "        for task in (same, made, lambda v: [v, {'v': v}][1]['v']):\n"
        "            back(task, value)\n"
        "            back(task, value, value, value)\n"
        "        back(same, value, 1, value)\n"
        "print('ok')\n"
    )
    assert prints(tmp_path, source) == "ok\n"


def test_a_value_s_class_in_a_worker_is_the_function_s(tmp_path: Path) -> None:
    source = VALUES + "print(dq.run(lambda v: type(v) is Plain, [Plain(1)] * 3, workers=1))\n"
    assert prints(tmp_path, source) == "[True, True, True]\n"


def test_a_class_that_only_values_have_comes_along(tmp_path: Path) -> None:
    source = VALUES + "print(dq.run(repr, [Data(1), Data(2)], workers=1))\n"
    assert prints(tmp_path, source) == "['Data(x=1)', 'Data(x=2)']\n"


def test_no_worker_changes_the_caller_s_class(tmp_path: Path) -> None:
    source = VALUES + (
        "before = Plain.__init__\n"
        "def spoil(value):\n    Plain.__init__ = None\n    Plain.extra = 1\n    return value\n"
        "print(len(dq.run(spoil, [Plain(1)] * 3, workers=1)))\n"
        "print(Plain.__init__ is before, hasattr(Plain, 'extra'))\n"
    )
    assert prints(tmp_path, source) == "3\nTrue False\n"


def test_a_class_that_a_task_makes_comes_back(master: dq.Master) -> None:
    def make(x: int) -> Any:
        class Made:
            def __init__(self, x: int) -> None:
                self.x = x

        return Made(x)

    assert [made.x for made in master.map(make, range(5))] == [0, 1, 2, 3, 4]


def test_functions_may_be_inputs_and_results(master: dq.Master) -> None:
    [made] = master.map(lambda f: lambda x: f(f(x)), [lambda x: x + 1])
    assert made(1) == 3


def test_what_a_function_refers_to_goes_to_each_process_once(tmp_path: Path) -> None:
    source = """
import os, dq
class Table:
    def __reduce__(self):
        return received, ()
def received():
    with open("received", "a") as file:
        file.write(f"{os.getpid()}\\n")
    return Table()
table = Table()
def f(x):
    return table is not None
with dq.Master(workers=2, batch=1) as master:
    print(sum(master.map(f, range(40))))
"""
    assert prints(tmp_path, source) == "40\n"
    pids = (tmp_path / "received").read_text().split()
    assert len(pids) == len(set(pids)) <= 2


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc on this system")
def test_a_worker_keeps_nothing_of_the_functions_of_jobs_that_have_ended() -> None:
    size = 20_000_000
    table = b"x" * size

    def resident(x: object) -> int:
        import resource

        assert len(table) == size
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    with dq.Master(workers=1) as master:
        sizes = []
        for _ in range(8):
            sizes += master.map(resident, [1])
            master.runtime.dispatcher.jobs.close_abandoned()
    assert sizes[-1] - sizes[0] < 3 * size, sizes


def test_an_executor_keeps_nothing_of_the_functions_of_calls_that_have_ended() -> None:
    import gc

    from dq.dispatch.served_job import ServedJob

    with dq.Executor(1) as pool:
        assert [pool.submit(lambda n=n: n).result() for n in range(300)] == list(range(300))
        gc.collect()
        assert sum(type(found) is ServedJob for found in gc.get_objects()) < 100


# One job has one state of everything


JOINED = """
import dq
MODEL, CACHE = None, []
class Settings:
    value = 0
class Point:
    def __init__(self, x):
        self.x = x
    def model(self):
        CACHE.append(self.x)
        return MODEL, len(CACHE)
def init():
    global MODEL
    MODEL = "loaded"
    Settings.value = 5
"""


def test_methods_of_inputs_share_their_globals_with_the_task_and_the_initializer(
    tmp_path: Path,
) -> None:
    source = JOINED + (
        "def by_input(p):\n    return p.model()\n"
        "def by_both(p):\n    return Point(9).model(), p.model(), MODEL, len(CACHE)\n"
        "def setting(p):\n    return Settings.value\n"
        "how = {'workers': 1, 'initializer': init}\n"
        "print(dq.run(by_input, [Point(1), Point(2)], **how))\n"
        "print(dq.run(by_both, [Point(1)], **how))\n"
        "print(dq.run(setting, [Settings, Settings()], **how, batch=1))\n"
    )
    assert prints(tmp_path, source).splitlines() == [
        "[('loaded', 1), ('loaded', 2)]",
        "[(('loaded', 1), ('loaded', 2), 'loaded', 2)]",
        "[5, 5]",
    ]


def test_a_job_keeps_the_classes_that_it_began_with(tmp_path: Path) -> None:
    source = """
import threading, dq
class Config:
    factor = 1
def f(x):
    return Config.factor
go_on = threading.Event()
def slow():
    yield 0
    go_on.wait(60)
    yield from range(5)
with dq.Master(workers=1) as master:
    first = master.map(f, slow())
    print(next(first))
    Config.factor = 2
    print(*master.map(f, [1, 2]))
    go_on.set()
    print(*first)
"""
    assert prints(tmp_path, source) == "1\n2 2\n1 1 1 1 1\n"


def test_a_class_that_was_defined_again_meanwhile_is_the_one_that_was_sent(
    tmp_path: Path,
) -> None:
    source = """
import dq
class R:
    pass
First = R
def make(x):
    return R()
with dq.Executor(1) as pool:
    call = pool.submit(make, 1)
    class R:
        pass
    print(type(call.result()) is First)
"""
    assert prints(tmp_path, source) == "True\n"


def test_a_class_of_inputs_goes_to_each_process_once(tmp_path: Path) -> None:
    source = """
import os, dq
class Table:
    def __reduce__(self):
        return received, ()
def received():
    with open("received", "a") as file:
        file.write(f"{os.getpid()}\\n")
    return Table()
class Point:
    table = Table()
print(len(dq.run(repr, [Point() for _ in range(40)], workers=2, batch=1)))
"""
    assert prints(tmp_path, source) == "40\n"
    pids = (tmp_path / "received").read_text().split()
    assert len(pids) == len(set(pids)) <= 2


# What each process has one of


def test_generators_of_random_numbers_and_the_environment_are_each_process_s_own(
    tmp_path: Path,
) -> None:
    source = """
import os, time
from os import environ
from random import random
import dq
def draw(x):
    time.sleep(0.01)
    return random()
first, second = (dq.run(draw, range(8), workers=2, batch=1) for _ in range(2))
print(len(set(first + second)))
print(dq.run(lambda x: environ is os.environ, [1], workers=1))
"""
    assert prints(tmp_path, source) == "16\n[True]\n"


def test_every_module_of_the_standard_library_can_be_imported_by_name() -> None:
    code = (
        "import sys, importlib\n"
        "from dq.functions import importable\n"
        "names = ['collections.abc', 'os.path', 'xml.etree.ElementTree', 'concurrent.futures',"
        " 'importlib.resources', 'json', 'math', 'asyncio', 'typing', 'unittest.mock']\n"
        "for name in names:\n    importlib.import_module(name)\n"
        "mine = [n for n in sys.modules if n.partition('.')[0] in sys.stdlib_module_names]\n"
        "print([n for n in mine if n != '__main__' and not importable.can_import_module(n)])\n"
    )
    assert python(code).stdout == "[]\n"


def test_isinstance_of_an_abstract_class_in_a_script(tmp_path: Path) -> None:
    source = """
from collections.abc import Sequence
from typing import Protocol, runtime_checkable
import dq
@runtime_checkable
class Sized(Protocol):
    def __len__(self): ...
def f(x):
    return isinstance(x, Sequence), isinstance(x, Sized)
print(dq.run(f, [[1], (1,), 3], workers=1))
"""
    assert prints(tmp_path, source) == "[(True, True), (True, True), (False, False)]\n"


def test_dispatching_functions_and_globals_in_the_body_of_a_class(tmp_path: Path) -> None:
    source = """
import functools, dq
K = 7
@functools.singledispatch
def kind(x):
    return "object"
@kind.register
def _(x: int):
    return "int"
def body(x):
    class A:
        k = K
    return A.k
@functools.lru_cache
def cached(x):
    return x + 1
print(dq.run(kind, [1, "a"], workers=1), dq.run(body, [1], workers=1))
print(dq.run(lambda f: f(1), [cached], workers=1))
"""
    assert prints(tmp_path, source) == "['int', 'object'] [7]\n[2]\n"


def test_a_module_that_workers_import_may_have_an_executor_at_its_top(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import dq\npool = dq.Executor(1)\ndef work(x):\n    return x + 1\n"
        "def view(x):\n    return pool.submit(work, x).result()\n"
    )
    assert prints(tmp_path, "import app\nprint(app.view(1))\napp.pool.shutdown()\n") == "2\n"


def test_a_result_whose_reading_fails_fails_its_call_and_no_other(tmp_path: Path) -> None:
    source = """
import sys, dq
class Ends:
    def __reduce__(self):
        return sys.exit, ("read here",)
def make(x):
    return Ends() if x else x
with dq.Executor(1) as pool:
    bad, good = pool.submit(make, 1), pool.submit(make, 0)
    print(type(bad.exception(timeout=60)).__name__, good.result(timeout=60))
"""
    assert prints(tmp_path, source) == "TaskError 0\n"


def test_a_time_out_of_the_task_s_own_is_a_failure_with_its_input(tmp_path: Path) -> None:
    source = VALUES + (
        "def f(v):\n    raise TimeoutError('connect')\n"
        "for value in (Data(1), 2):\n"
        "    [error] = dq.run(f, [value], workers=1, return_exceptions=True)\n"
        "    print(repr(error), error.__notes__[0].partition(', attempt')[0])\n"
    )
    assert prints(tmp_path, source) == (
        "TimeoutError('connect') dq: task 0, input Data(x=1)\n"
        "TimeoutError('connect') dq: task 0, input 2\n"
    )


def test_a_class_that_cannot_be_sent_names_what_stands_in_the_way(tmp_path: Path) -> None:
    source = VALUES + (
        "import threading\nLOCK = threading.Lock()\n"
        "class Guarded(Plain):\n    def get(self):\n        return LOCK\n"
        "[error] = dq.run(repr, [Guarded(1)], workers=1, return_exceptions=True)\nprint(error)\n"
    )
    assert "the global 'LOCK' of Guarded.get is a _thread.lock" in prints(tmp_path, source)


# What does not go


lock = threading.Lock()


def refers_to_a_lock(x: object) -> object:
    return lock


def test_a_global_that_cannot_be_pickled_is_named_with_its_function() -> None:
    inner = functools.partial(lambda x: _helper(x))
    _helper = _by_value(refers_to_a_lock)
    with pytest.raises(dq.BadTask) as caught:
        dq.run(inner, [1], workers=1)
    message = str(caught.value)
    assert "the global 'lock' of refers_to_a_lock is a _thread.lock" in message
    assert "make it in the task or in an initializer" in message


def _by_value(function: Any) -> Any:
    """The same function as if it were defined where workers cannot import it."""
    import types

    return types.FunctionType(function.__code__, function.__globals__, "refers_to_a_lock")


def test_an_open_file_is_refused_rather_than_copied(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("1\n2\n")
    with open(tmp_path / "data.txt") as file, pytest.raises(dq.BadTask) as caught:
        dq.run(lambda x: file.readline(), [1], workers=1)
    assert "the variable 'file' of" in str(caught.value)
    assert "is a _io.TextIOWrapper, which cannot be pickled (an open file)" in str(caught.value)


def test_a_master_in_a_function_is_refused(master: dq.Master) -> None:
    with pytest.raises(dq.BadTask, match=r"'master' of .* is a dq\.Master, which cannot"):
        next(master.map(lambda x: master, [1]))


def test_a_worker_of_another_python_says_so_on_both_ends(tmp_path: Path) -> None:
    """Stand-in for another Python: a worker that takes itself for 3.99."""
    import shutil

    ignored = shutil.ignore_patterns("__pycache__")  # others may be writing some
    shutil.copytree(Path(dq.__file__).parent, tmp_path / "other" / "dq", ignore=ignored)
    module = tmp_path / "other" / "dq" / "functions" / "by_value.py"
    text = module.read_text()
    changed = text.replace('PYTHON = "{}.{}".format(*sys.version_info)', 'PYTHON = "3.99"')
    assert changed != text
    module.write_text(changed)
    (tmp_path / "work.py").write_text(
        "import dq\n"
        f"print(dq.run_master(lambda x: x + 1, [1], port=0, authkey={KEY!r}, workers=0))\n"
    )
    source = (
        "import logging; logging.basicConfig(level=logging.INFO, format='dq: %(message)s')\n"
    ) + (tmp_path / "work.py").read_text()
    (tmp_path / "work.py").write_text(source)
    with Running(sys.executable, "work.py", cwd=tmp_path) as master:
        port = int(master.wait_for(r"serving on .*?:(\d+)")[1])
        command = (sys.executable, "-m", "dq", "worker", "--server", f"127.0.0.1:{port}", "-p", "1")
        env = {"DQ_AUTHKEY": KEY, "PYTHONPATH": str(tmp_path / "other")}
        with Running(*command, cwd=tmp_path, env=env) as worker:
            ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
            sentence = f"by value, from Python {ours}, which Python 3\\.99 here cannot run"
            worker.wait_for(sentence)
            master.wait_for(sentence + "; put it into a module")


# Journals


def test_a_journal_knows_a_function_by_what_it_does(tmp_path: Path) -> None:
    path = tmp_path / "j"
    for _ in range(2):
        assert dq.run(lambda x: x * 3, [1, 2], workers=1, journal=path) == [3, 6]
    with pytest.raises(dq.BadJournal, match=r"made with another .*lambda.*have changed since"):
        dq.run(lambda x: x**10, [1, 2], workers=1, journal=path)


CHANGES = {
    "code": "def f(x):\n    return x + 2\n",
    "a constant": "def f(x):\n    return [x + n for n in (2, 3)][0]\n",
    "a default": "def f(x, n=2):\n    return x + 1\n",
    "a global": "N = 2\ndef f(x):\n    return x + N\n",
    "a helper": "def g(x):\n    return x + 2\ndef f(x):\n    return g(x)\n",
    "a method": (
        "class C:\n    def g(self, x):\n        return x + 2\ndef f(x):\n    return C().g(x)\n"
    ),
    "what is closed over": (
        "def make(n):\n    def f(x):\n        return x + n\n    return f\nf = make(2)\n"
    ),
    "a partial": "import functools\ndef g(n, x):\n    return n + x\nf = functools.partial(g, 2)\n",
    "an object": (
        "class C:\n    def __init__(self, n):\n        self.n = n\n"
        "    def __call__(self, x):\n        return x + self.n\nf = C(2)\n"
    ),
    "a cached function": ("import functools\n@functools.lru_cache\ndef f(x):\n    return x + 2\n"),
    "a method of an input's class": (
        "class C:\n    def g(self):\n        return 2\n"
        "inputs = [C(), C()]\ndef f(c):\n    return c.g()\n"
    ),
    "an initializer": ("N = 0\ndef init():\n    global N\n    N = 2\ndef f(x):\n    return N\n"),
    "a metaclass": (
        "class M(type):\n    def g(cls):\n        return 2\n"
        "class C(metaclass=M):\n    pass\ndef f(x):\n    return C.g()\n"
    ),
    "a generic alias": "import typing\nX = list[int]\nY = {2: X}\ndef f(x):\n    return str(Y)\n",
    "a set": "N = {'b', 'a', 2}\ndef f(x):\n    return x + max(n for n in N if n in (1, 2))\n",
}


RUN = (
    "dq.run(f, globals().get('inputs', [1, 2]), workers={workers}, journal={journal!r},"
    " initializer=globals().get('init'))\n"
)


@pytest.mark.parametrize("name", ["a helper", "a method of an input's class"])
def test_a_script_s_run_is_continued_until_what_it_does_has_changed(
    tmp_path: Path, name: str
) -> None:
    run_it = "import dq\n" + RUN.format(workers=1, journal="j")
    # Lines above it, another hash seed and another process are no change.
    for head in ("", "\n\n# higher up\n"):
        assert prints(tmp_path, head + CHANGES[name].replace("2", "1") + run_it) == ""
    path = tmp_path / "work.py"
    path.write_text(CHANGES[name] + run_it)
    done = script(path, cwd=tmp_path)
    assert done.returncode == 1
    assert re.search("j was made with another|is not what it was", done.stderr), done.stderr


def test_each_kind_of_change_ends_a_script_s_run(tmp_path: Path) -> None:
    """As above, with each source in a `__main__` of its own and all of them in one process."""

    def outcomes(change: Callable[[str], str]) -> dict[str, str]:
        sources = {
            name: "import dq\n" + change(source) + RUN.format(workers=0, journal=name)
            for name, source in CHANGES.items()
        }
        script = (
            "import dq, json, sys, types\n"
            "found, mains = {}, []\n"
            f"for name, source in {sources!r}.items():\n"
            "    main = sys.modules['__main__'] = types.ModuleType('__main__')\n"
            "    mains.append(main)\n"  # which keeps it
            "    found[name] = 'continued'\n"
            "    try:\n"
            "        exec(compile(source, 'work.py', 'exec'), vars(main))\n"
            "    except (dq.BadJournal, dq.InputChanged) as error:\n"
            "        found[name] = str(error)\n"
            "print(json.dumps(found))\n"
        )
        found: dict[str, str] = json.loads(prints(tmp_path, script))
        assert found.keys() == CHANGES.keys()
        return found

    for head in ("", "\n\n# higher up\n"):
        found = outcomes(lambda source, head=head: head + source.replace("2", "1"))  # type: ignore[misc]
        assert {*found.values()} == {"continued"}, found
    for name, said in outcomes(lambda source: source).items():
        assert re.search("was made with another|is not what it was", said), (name, said)


def test_inputs_of_a_script_s_class_are_known_again(tmp_path: Path) -> None:
    source = VALUES + (
        "import sys\n"
        "def get(v):\n    return v\n"
        "inputs = [Data(n) for n in map(int, sys.argv[1:])]\n"
        "back = dq.run(get, inputs, workers=1, journal='j')\n"
        "print(back == inputs, all(type(b) is Data for b in back))\n"
    )
    assert prints(tmp_path, source, "1", "2") == "True True\n"
    assert prints(tmp_path, source, "1", "2", "3") == "True True\n"
    done = script(tmp_path / "work.py", "1", "7", "3", cwd=tmp_path)
    assert "input of task 1 is not what it was" in done.stderr


def test_a_function_that_no_journal_could_know_again_is_refused(tmp_path: Path) -> None:
    import weakref

    thing = Scale(1)
    table = weakref.WeakSet([thing])
    with pytest.raises(dq.BadJournal) as caught:
        dq.run(lambda x: len(table), [1], workers=1, journal=tmp_path / "j")
    assert "a journal could not recognize" in str(caught.value)
    assert "put the function into a module" in str(caught.value)


# Elsewhere


def test_on_another_machine_the_script_need_not_be_there(tmp_path: Path) -> None:
    source = (
        "import logging, dq\nlogging.basicConfig(level=logging.INFO, format='dq: %(message)s')\n"
        f"def twice(x):\n    return 2 * x\n"
        f"print(dq.run_master(twice, [1, 2], port=0, authkey={KEY!r}))\n"
    )
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "here" / "work.py").write_text(source)
    with Running(sys.executable, "work.py", cwd=tmp_path / "here") as master:
        port = int(master.wait_for(r"serving on .*?:(\d+)")[1])
        command = (sys.executable, "-m", "dq", "worker", "--server", f"127.0.0.1:{port}", "-p", "1")
        with Running(*command, cwd=tmp_path / "there", env={"DQ_AUTHKEY": KEY}) as worker:
            assert master.wait() == 0, master.printed
            assert worker.wait() == 0, worker.printed
    assert master.stdout_text == "[2, 4]\n"


def test_a_worker_with_allow_takes_nothing_by_value(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def f(x):\n    return x\n")
    source = (
        "import logging, dq\nlogging.basicConfig(level=logging.INFO, format='dq: %(message)s')\n"
        "import os\n"
        f"print(dq.run_master(lambda x: os.getcwd(), [1], port=0, authkey={KEY!r}))\n"
    )
    (tmp_path / "work.py").write_text(source)
    with Running(sys.executable, "work.py", cwd=tmp_path) as master:
        port = int(master.wait_for(r"serving on .*?:(\d+)")[1])
        command = (sys.executable, "-m", "dq", "worker", "--server", f"127.0.0.1:{port}", "-p", "1")
        more = ("--allow", "*:*")
        with Running(*command, *more, cwd=tmp_path, env={"DQ_AUTHKEY": KEY}) as worker:
            worker.wait_for("is not allowed here")
            master.wait_for("is not allowed here")
