"""Fixtures for all tests, and the rule that no test leaves a process behind."""

from __future__ import annotations

import ctypes
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_timeout
from hypothesis import HealthCheck, settings

from support import command, wait_until, warm
from support.procfs import HAS_PROC, alive, below_here, look

#: How long what a test started may take to end after it, in seconds.
GRACE = 20.0
#: Tests that take longest. They come first, so that none of them is waited for at the end.
LONGEST = ("test_a_page_does_what_it_says",)
PR_SET_CHILD_SUBREAPER = 36
#: They have no examples, and all of them are modules of one name.
collect_ignore_glob = ["*conftest.py"]

# However busy the machine is: how long an example takes says nothing of dq.
settings.register_profile("dq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dq")


def pytest_configure() -> None:
    # The tests start thousands of processes. Where this is set, each would compile all of dq.
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # Orphans of what tests start come to us and not to init, so that we see them. A test that
    # waits for an orphan's end asks `support.alive`: until we reap it, its id is still taken.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # nohup has SIGHUP ignored and a shell's `&` SIGINT, and what tests start would inherit that; a
    # handler that does nothing is the same for us, and is not inherited.
    for number in (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    _sample(items)  # before `-m` selects
    yield
    items.sort(key=lambda item: not item.name.startswith(LONGEST))


def _sample(items: list[pytest.Item]) -> None:
    """Make all variants of a test slow but for so many, evenly chosen, as it is marked with."""
    variants: dict[tuple[Path, str], list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sampled"):
            variants.setdefault((item.path, item.name.partition("[")[0]), []).append(item)
    for found in variants.values():
        found.sort(key=lambda item: [*item.callspec.indices.values()])  # type: ignore[attr-defined]  # a Function
        mark = found[0].get_closest_marker("sampled")
        assert mark is not None
        chosen = {place * len(found) // mark.args[0] for place in range(mark.args[0])}
        for place, item in enumerate(found):
            if place not in chosen:
                item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Limit the time of a teardown, too. pytest-timeout stops its clock when a test fails, and what
    the test did not end might then be waited for without a limit."""
    settings = pytest_timeout._get_item_settings(item)
    if settings.timeout:
        item.config.hook.pytest_timeout_set_timer(item=item, settings=settings)


@pytest.fixture(autouse=True)
def no_process_left_behind() -> Iterator[None]:
    """Fail a test that does not end what it started, and end it."""
    if not HAS_PROC:
        yield
        return
    before = below_here() if _has_children() else set[int]()
    yield
    if not _has_children():
        return
    left: list[int] = []

    def none_left() -> bool:
        left[:] = filter(alive, below_here() - before - _standard_helpers())
        return not left

    try:
        wait_until(none_left, GRACE)
    except AssertionError:
        said = "".join(f"\n  {pid}: {command(pid)}" for pid in left)
        for pid in left:
            _kill(pid)
        pytest.fail(f"left running {GRACE:g} s after the test:{said}", pytrace=False)
    finally:
        _reap_adopted()


def _has_children() -> bool:
    # Asked first, since most tests have none and /proc is long.
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _standard_helpers() -> set[int]:
    """What multiprocessing and `support.warm` keep for the life of a process that uses them."""
    tracker = getattr(multiprocessing.resource_tracker, "_resource_tracker", None)
    server = getattr(multiprocessing.forkserver, "_forkserver", None)
    pids = (getattr(tracker, "_pid", None), getattr(server, "_forkserver_pid", None), warm.pid())
    return {pid for pid in pids if pid is not None}


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _reap_adopted() -> None:
    # Only orphans: one of our own may still be waited for, by whoever started it. Our own are in
    # our session, or (start_new_session) lead theirs.
    for pid in below_here():
        process = look(pid)
        if process is None or process.state != "Z" or process.parent != os.getpid():
            continue
        if process.session not in (pid, os.getsid(0)):
            os.waitpid(pid, os.WNOHANG)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the `app.py` of `support/app.py`, to run commands in."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(Path(__file__).parent / "support" / "app.py", folder / "app.py")
    return folder
