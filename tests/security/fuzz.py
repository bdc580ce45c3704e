"""Hostile input without end, for what has to bear it.

    cd tests && python -m security.fuzz pickles --seconds 60
    cd tests && python -m security.fuzz before --inputs 1000000 --seed 7
    cd tests && python -m security.fuzz after --inputs 10000
    cd tests && python -m security.fuzz pickles --atheris FOLDER -max_total_time=60

    before   frames from who has not authenticated, to a server in this process, and one in fifty
             over TCP to a `dq master`: nothing is unpickled, nobody gets in, or is told more than
             all are, and no memory is kept
    pickles  changed and made-up pickles for the restricted unpickler: nothing is imported, opened,
             run or found that is not on its list, no class is changed, no exception but one comes
             out, and none takes a gigabyte or a second
    after    requests from who has the key, to a master in this process that has work: it goes on
             serving others, and each of its inputs has one outcome

What it did is printed as JSON. At the first input that does what none may, it prints that too, in
hexadecimal digits, and ends with 1.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hmac
import json
import logging
import os
import pickle
import random
import resource
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import dq
from dq.core.records import Done
from dq.functions.task_check import checked
from dq.manager.client import Client
from dq.manager.messages import ReportMessage
from dq.manager.protocol import PROTOCOL
from dq.manager.server import Server
from dq.master.master import Master
from dq.security import pickle_rules, safe_pickle
from dq.transport import dialing
from dq.transport.channel import Channel
from security import flood, pickles
from security.mutations import CORPUS, Mutator
from support import rss, serving

KEY = b"a key for this process only"
GIGABYTE = 2**30
OFTEN = 1000  # inputs between two looks at what is dear to look at
ONE_IN = 50  # strangers that come over TCP


class Violation(Exception):
    """Raised when an input does what none may."""


# --- what is watched


class Watch:
    """An audit hook, which keeps whatever in this process would open, import or run something from
    doing so; in a server, which opens and imports for itself, what would run something."""

    def __init__(self, *, server: bool = False) -> None:
        self.on = False
        self.seen: list[str] = []
        self._server = server
        self._classes = classes()
        self._before = [dict(vars(found)) for found in self._classes]
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on or event in ("builtins.id", "object.__getattr__"):
            return
        if event == "pickle.find_class" and is_allowed(*args):
            return
        if self._server and event.partition(".")[0] not in ("pickle", "os", "subprocess", "ctypes"):
            return
        self.seen.append(f"{event} {args}"[:300])
        raise Violation(self.seen[-1])

    def check(self) -> None:
        if self.seen:
            raise Violation(f"seen: {self.seen}")

    def check_classes(self) -> None:
        """That all classes on the list are as they were."""
        for found, before in zip(self._classes, self._before, strict=True):
            if dict(vars(found)) != before:
                raise Violation(f"{found} has been changed")


def is_allowed(module: str, name: str) -> bool:
    if name in pickle_rules.SAFE.get(module, "").split():
        return True
    found = getattr(__import__("builtins"), name, None) if module == "builtins" else None
    return isinstance(found, type) and issubclass(found, BaseException)


def classes() -> list[type]:
    """Those on the list, imported before anything is watched."""
    found = []
    for module, names in pickle_rules.SAFE.items():
        with contextlib.suppress(ImportError):  # of another Python
            home = __import__(module, fromlist=["x"])
            found += [getattr(home, name, None) for name in names.split()]
    return [one for one in found if isinstance(one, type)]


# --- pickles


class Pickles:
    """Pickles for the restricted unpickler."""

    def __init__(self, chance: random.Random) -> None:
        self._mutator = Mutator(chance)
        self._watch = Watch()
        self._limit = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + GIGABYTE, self._limit[1]))
        safe_pickle.PlainUnpickler.find_class = self._missed  # type: ignore[method-assign]
        self.outcomes: Counter[str] = Counter()
        self._slowest = 0.0
        self._watching = False
        for data in CORPUS:
            self.judge(data)  # whatever these import is there from now on
        self._watching = True

    def _missed(self, module: str, name: str) -> object:
        raise Violation(f"the survey has not seen {module}.{name}")

    def one(self, number: int) -> bytes:
        data = self._mutator.pickle()
        self.judge(data)
        if number % OFTEN == 0:
            self._watch.check_classes()
        return data

    def judge(self, data: bytes) -> None:
        """Unpickle this, and find nothing wrong with that."""
        started = time.thread_time()
        self._watch.on = self._watching
        try:
            outcome = self._outcome(data)
            self._watch.check()
        except Violation as error:
            raise Violation(f"{error}: {data.hex()}") from None
        finally:
            self._watch.on = False
        self.outcomes[outcome] += 1
        took = time.thread_time() - started
        self._slowest = max(self._slowest, took)
        if took > 1:
            raise Violation(f"took {took:.1f} s: {data.hex()}")

    def _outcome(self, data: bytes) -> str:
        try:
            safe_pickle.safe_loads(data)
        except pickle_rules.Refused:
            return "refused"
        except pickle.UnpicklingError as error:
            if isinstance(error.__context__, (MemoryError, RecursionError, Violation)):
                raise Violation(f"{error.__context__!r}") from None
            return "no pickle"
        except BaseException as error:
            raise Violation(f"{error!r} came out") from None
        return "data"

    def figures(self) -> dict[str, Any]:
        self._watch.check_classes()
        return {**self.outcomes, "slowest took": round(self._slowest, 4)}

    def close(self) -> None:
        resource.setrlimit(resource.RLIMIT_AS, self._limit)


# --- before authentication


class Before:
    """Frames from strangers, over socket pairs to a server here, and over TCP to another."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._mutator = Mutator(chance)
        self._watch = Watch(server=True)
        self._server: Server = dq.QueueManager(("127.0.0.1", 0), authkey=KEY).get_server()
        self._server._answer = self._answer  # type: ignore[method-assign]  # only for who gets in
        Channel.recv = self._recv  # type: ignore[method-assign]  # the one that unpickles
        self._handshake = _handshake()
        self._kinds = [kind for kind in flood.KINDS.values() if kind is not flood.silent]
        self._told: Counter[str] = Counter()
        self._stack = contextlib.ExitStack()
        env = {"DQ_AUTHKEY": KEY.decode()}
        self._master, self._port = self._stack.enter_context(
            serving("--host", "127.0.0.1", env=env)
        )
        self._before: tuple[int, int] | None = None

    def _answer(self, conn: Channel) -> None:
        raise Violation("somebody got in")

    def _recv(self) -> object:
        raise Violation("something was to be unpickled")

    def one(self, number: int) -> bytes:
        if self._before is None and number == OFTEN:
            gc.collect()
            self._before = self._memory()
        data = self._frames()
        if number % ONE_IN:
            self._over_pair(data)
        else:
            self._over_tcp(data)
        return data

    def _memory(self) -> tuple[int, int]:
        return rss(os.getpid()), rss(self._master.pid)

    def _frames(self) -> bytes:
        """What a stranger says."""
        chance = self._chance
        match chance.randrange(4):
            case 0:
                return chance.choice(self._kinds)(chance, self._handshake)
            case 1:
                return self._mutator.changed(self._handshake)
            case 2:
                return flood.framed(self._mutator.pickle())[: chance.choice([250, 10_000])]
            case _:
                return b"".join(self._frame() for _ in range(chance.randrange(4)))

    def _frame(self) -> bytes:
        chance = self._chance
        size = chance.choice([0, 1, 16, 20, 40, 256, 257, 1000])
        header = struct.pack("!i", chance.choice([size, size, size, -1, -5, 2**31 - 1, size + 1]))
        if chance.random() < 0.1:
            header = struct.pack("!iQ", -1, chance.choice([size, 2**31, 2**60, 2**64 - 1]))
        start = chance.choice([b"", b"", b"#CHALLENGE#", b"#WELCOME#", b"{md5}", b"{sha256}", b"{"])
        return header + (start + chance.randbytes(size))[:size]

    def _over_pair(self, data: bytes) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(data)
            theirs.shutdown(socket.SHUT_WR)
            channel = Channel(ours)
            self._watch.on = True
            self._server._admit(channel)
            self._server.handle_request(channel)
            self._watch.on = False
            self._watch.check()
            self._check_told(_all_of(theirs))

    def _over_tcp(self, data: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as sock:
            sock.settimeout(20)
            told = b""
            with ended_is_all_right():
                if self._chance.random() < 0.5:
                    told = sock.recv(4096)
                    data = self._nearly(told) + data
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            self._check_told(told + _all_of(sock))

    def _nearly(self, challenge: bytes) -> bytes:
        """The right answer, but for one bit."""
        digest = bytearray(hmac.new(KEY, challenge[15:], "md5").digest())
        digest[self._chance.randrange(16)] ^= 1 << self._chance.randrange(8)
        return flood.framed(bytes(digest))

    def _check_told(self, said: bytes) -> None:
        said = flood.CHALLENGE.sub(b"#CHALLENGE#", said)
        if said[:1] == b"\x15":
            said = b"....a TLS alert"
        elif said[4:] not in (b"", b"#CHALLENGE#", b"#CHALLENGE#" + flood.framed(b"#FAILURE#")):
            raise Violation(f"it was told {said!r}")
        self._told[said[4:].decode(errors="replace")] += 1

    def figures(self) -> dict[str, Any]:
        gc.collect()
        before = self._before or self._memory()
        grown = [now - then for now, then in zip(self._memory(), before, strict=True)]
        if self._master.process.poll() is not None or "Traceback" in self._master.stderr_text:
            raise Violation(f"the master: {self._master.printed}")
        if max(grown) > 50e6:
            raise Violation(f"grown by {grown} bytes")
        return {"told": dict(self._told), "grown here": grown[0], "grown in the master": grown[1]}

    def close(self) -> None:
        self._watch.on = False
        self._stack.close()
        self._server.close()


@contextlib.contextmanager
def ended_is_all_right() -> Iterator[None]:
    """Whatever a socket says when the other end has gone."""
    try:
        yield
    except TimeoutError:
        raise Violation("it was not ended in 20 s") from None
    except OSError:
        pass


def _all_of(sock: socket.socket) -> bytes:
    said = b""
    with ended_is_all_right():
        while data := sock.recv(4096):
            said += data
    return said


def _handshake() -> bytes:
    """What a client with a key says to a server, recorded."""
    return (
        flood.framed(bytes(16))
        + flood.framed(b"#CHALLENGE#" + bytes(20))
        + flood.framed(b"#WELCOME#")
        + flood.framed(pickle.dumps((None, "accept_connection", ("x",), {})))
        + flood.framed(pickle.dumps(("tasks", "put", (1,), {})))
    )


# --- after authentication

METHODS = {
    "tasks": ["put", "put_nowait", "get_nowait", "qsize", "empty", "full", "task_done", "x"],
    "results": ["put", "put_nowait", "get_nowait", "qsize", "empty", "task_done"],
    "dq": ["hello", "exchange", "exchange", "exchange", "charge", "charge", "ping", "__init__"],
    None: ["create", "incref", "decref", "get_methods", "dummy", "shutdown", "debug_info"],
    "nobody": ["put"],
}
EACH = 20  # messages over one connection, at the most


def _lenient(data: bytearray) -> object:
    """An answer, or an error of dq's own."""
    try:
        return safe_pickle.safe_loads(data)
    except pickle.UnpicklingError:
        return "#ERROR", None


class After:
    """Requests from who has the key, to a master that has work."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._mutator = Mutator(chance)
        self._watch = Watch(server=True)
        self._died: list[str] = []
        threading.excepthook = lambda args: self._died.append(repr(args.exc_value))
        self._stack = contextlib.ExitStack()
        self._master = self._stack.enter_context(Master("operator:neg", authkey=KEY))
        self._count = 2_000
        inputs = range(self._count)
        self._job = self._master.runtime.jobs.open(checked("operator:neg"), inputs, output="text")
        self._honest = self._client("honest")
        self._outcomes: Counter[str] = Counter()
        self._connection: Channel | None = None
        self._left = 0
        self._lease: Any = None
        self._watch.on = True

    def _client(self, group: str) -> Client:
        return Client(self._master.address, KEY, role="slot", group=group, name=f"{group}:1")

    def one(self, number: int) -> bytes:
        data = self._message()
        if self._left <= 0 or self._connection is None:
            self._connect()
        self._left -= 1
        self._outcomes[self._tell(data)] += 1
        if number % EACH == 0:
            self._check()
        return data

    def _connect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = dialing.connect(self._master.address, KEY)
        self._connection.set_deadline(30)
        self._connection.loads = _lenient
        self._left = self._chance.randrange(1, EACH)
        self._lease = None
        if self._chance.random() < 0.9:  # else the next message is the first request
            self._connection.send((None, "accept_connection", ("fuzz",), {}))
            self._connection.recv()
            self._take_lease()

    def _take_lease(self) -> None:
        """Something true to lie about, now and then."""
        assert self._connection is not None
        if self._chance.random() < 0.7:
            self._connection.send(("dq", "exchange", (None, 2, 0.0), {}))
            _, answer = self._connection.recv()  # type: ignore[misc]  # a pair
            self._lease = answer[1]

    def _tell(self, data: bytes) -> str:
        assert self._connection is not None
        try:
            self._connection.send_bytes(data)
            kind, _ = self._connection.recv()  # type: ignore[misc]  # a pair
            return str(kind)
        except TimeoutError:
            raise Violation(f"no answer in 30 s to {data.hex()}") from None
        except (OSError, EOFError):
            self._left = 0
            return "ended"

    def _message(self) -> bytes:
        chance = self._chance
        if chance.random() < 0.3:
            return self._mutator.pickle()
        ident = "dq" if chance.random() < 0.5 else chance.choice(list(METHODS))
        method = chance.choice(METHODS[ident])
        args = self._arguments(method)
        parts = [pickles.dumped(part) for part in (ident, method, args, {})]
        if chance.random() < 0.2:
            parts[chance.randrange(4)] = self._mutator.fragment(3)
        data = pickles.request(*parts)
        return self._mutator.changed(data) if chance.random() < 0.2 else data

    def _arguments(self, method: str) -> list[Any]:
        lease, _, start, count = self._lease[:4] if self._lease else (2**60, "", 0, 1)
        run = self._master.runtime.dispatcher.run
        report = [run, lease, start, [[1, b"666\n", 0.5]], 0, 0.5, ""]
        info = {"role": "slot", "group": "fuzz", "name": "fuzz:1", "default": True}
        args: list[Any] = {
            "put": [{"a": 1}, True, 0.0],
            "exchange": [report, 0, 0.0],
            "charge": [run, "died", lease, start, count, "x"],
            "hello": [PROTOCOL, info],
            "ping": [b"x", 10],
            "create": ["get_task_queue"],
        }.get(method, [])
        for _ in range(self._chance.choice([0, 1, 1, 2, 4])):
            self._spoil(args)
        if method == "exchange" and isinstance(args[2], (int, float)) and 0 < args[2] < 10**300:
            args[2] = 0.01  # who wants to wait for ever may
        if method == "ping" and isinstance(args[1], int) and args[1] > 0:
            args[1] = 10  # and who wants a large answer has it
        return args

    def _spoil(self, args: list[Any]) -> None:
        """Put something odd somewhere."""
        if not args:
            return
        place = self._chance.randrange(len(args))
        if isinstance(args[place], list) and self._chance.random() < 0.7:
            self._spoil(args[place])
            return
        if isinstance(args[place], (int, float)) and self._chance.random() < 0.7:
            args[place] = self._chance.choice([-1, 0.5, 2**70, True, 10**400, _beside(args[place])])
            return
        args[place] = self._chance.choice([
            None, True, -1, 0, 0.5, 2**70, float("nan"), -float("inf"), "", "x", b"",
            [], (), {}, [1], Fraction(1, 3), range(10**10), "died", "timeout", "ended",
            pickles.shared(100), 10**400, run,
        ])  # fmt: skip

    def _check(self) -> None:
        """That others are served, and nothing has happened."""
        if self._died:
            raise Violation(f"a thread died: {self._died}")
        self._watch.check()
        self._watch.check_classes()
        if self._honest.call("dq", "ping", b"", 1) != b"\0":
            raise Violation("no echo")

    def figures(self) -> dict[str, Any]:
        if self._connection is not None:
            self._connection.close()
        self._check()
        found = self._finish()
        if sorted(found) != list(range(self._count)):
            wrong = {id: n for id, n in Counter(found).items() if n != 1}
            raise Violation(f"{len(found)} outcomes of {self._count} inputs; not one of {wrong}")
        return {**self._outcomes, "inputs with one outcome": len(found)}

    def close(self) -> None:
        self._watch.on = False
        self._stack.close()

    def _finish(self) -> list[int]:
        """Do what is left; which inputs have outcomes."""
        found: list[int] = []

        def read() -> None:
            for record in self._job.unordered():
                found.extend(range(record.batch.start, record.batch.stop))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        report, seen = None, time.monotonic()
        while reader.is_alive() and time.monotonic() < seen + 5:
            _, grant, _ = self._honest.exchange(report, -1, 0.05)
            report = None
            if grant is not None:
                seen = time.monotonic()
                done = Done(grant.count, b"x\n" * grant.count, 0.0)
                report = ReportMessage(self._honest.run, grant.lease, grant.start, (done,))
        return found


def _beside(number: Any) -> float:
    return float(number) + 0.5 if abs(number) < 2**40 else 0.5


# --- how they are run

TARGETS: dict[str, Callable[[random.Random], Any]] = {
    "pickles": Pickles,
    "before": Before,
    "after": After,
}


def numbers(inputs: int | None, seconds: float | None) -> Iterator[int]:
    """From 1 on, as many as are wanted, or as long."""
    until = None if seconds is None else time.monotonic() + seconds
    number = 0
    while (inputs is None or number < inputs) and (until is None or time.monotonic() < until):
        number += 1
        yield number


def run(target: str, seed: int, inputs: int | None, seconds: float | None) -> dict[str, Any]:
    fuzz = TARGETS[target](random.Random(seed))
    try:
        started, number = time.monotonic(), 0
        for number in numbers(inputs, seconds):
            fuzz.one(number)
        took = time.monotonic() - started
        found = fuzz.figures()
    finally:
        fuzz.close()
    rate = round(number / took) if took else 0
    figures = {"target": target, "seed": seed, "inputs": number, "seconds": round(took, 1)}
    return {**figures, "each second": rate, **found}


def run_atheris(folder: Path, options: list[str]) -> None:
    """Pickles that libFuzzer finds, by what of the unpickler they reach; it keeps them there."""
    import atheris  # type: ignore[import-not-found]  # pip install atheris

    atheris.instrument_all()
    fuzz = Pickles(random.Random(0))
    folder.mkdir(exist_ok=True)
    for number, data in enumerate(CORPUS):
        (folder / f"real-{number}").write_bytes(data)
    atheris.Setup([sys.argv[0], *options, str(folder)], fuzz.judge)
    atheris.Fuzz()


def main() -> None:
    logging.getLogger("dq").disabled = True  # what a server says of strangers every ten seconds
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--inputs", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--atheris", type=Path, metavar="FOLDER")
    given, rest = parser.parse_known_args()
    if given.atheris:
        run_atheris(given.atheris, rest)
    inputs = 10_000 if given.inputs is None and given.seconds is None else given.inputs
    print(f"seed {given.seed}", file=sys.stderr, flush=True)
    try:
        print(json.dumps(run(given.target, given.seed, inputs, given.seconds)))
    except Violation as error:
        sys.exit(f"with --seed {given.seed}: {error}")


if __name__ == "__main__":
    main()
