"""What the beats of many machines cost a master, on the real wire.

cd tests && python -m benchmarks.beats 1000
"""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import time

import dq
from dq.core.beats import SlotState, WorkerState
from dq.manager.client import Client

KEY = b"of this benchmark only"
SLOTS = 8  # of each machine, all of them busy
SETTLE_S = 15.0  # until the machines know how often they are wanted
MEASURE_S = 20.0


def measure(machines: int) -> str:
    """Let so many machines send their beats to a master in this process."""
    allow_descriptors()
    with dq.Master(port=0, host="127.0.0.1", authkey=KEY, report=lambda line: None) as master:
        argv = [sys.executable, "-m", "benchmarks.beats", str(machines), str(master.address[1])]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as others:
            assert others.stdout is not None
            others.stdout.readline()
            time.sleep(SETTLE_S)
            used, began = time.process_time(), time.monotonic()
            time.sleep(MEASURE_S)
            share = (time.process_time() - used) / (time.monotonic() - began)
            interval = master.runtime.dispatcher.commands.interval
            others.kill()
    each = share / machines * interval
    return f"{machines} machines: {share:.1%} of a processor, {1e6 * each:.0f} us a beat"


def send_beats(machines: int, port: int) -> None:
    """Be so many machines, until standard input ends."""
    allow_descriptors()
    threading.stack_size(256 * 1024)
    supervisors = [dial("supervisor", port, number) for number in range(machines)]
    for number in range(machines):
        beat = dial("beat", port, number)
        threading.Thread(target=send, args=(beat, number / machines), daemon=True).start()
    print(len(supervisors), flush=True)
    sys.stdin.read()


def dial(role: str, port: int, number: int) -> Client:
    name = f"host{number}:1"
    address = ("127.0.0.1", port)
    return Client(address, KEY, role=role, group=f"group {number}", name=name, slots=SLOTS)


def send(client: Client, delay: float) -> None:
    time.sleep(delay)
    interval = 1.0
    slots = tuple(SlotState(slot, 2**60 + slot, slot, 1.5, 3, 7) for slot in range(SLOTS))
    while True:
        client.post_beat(WorkerState(slots, cpu=0.5, memory=10**9), 0, interval)
        _, interval, *_ = client.beat_answer()


def allow_descriptors() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    count, *at = map(int, sys.argv[1:] or ["1000"])
    if at:
        send_beats(count, *at)
    else:
        print(measure(count))
