"""Who is there, in words: a pure state machine, with the time passed in."""

from __future__ import annotations

from dq.dispatch.connected_worker import MOST_SINGLE_NOTES, ConnectedWorker
from dq.dispatch.roster import Roster


def worker(number: int = 1, **more: object) -> ConnectedWorker:
    return ConnectedWorker(f"host{number}:1", 2, "not encrypted", f"group{number}", **more)  # type: ignore[arg-type]  # as the test has it


def tasks_held(group: str, process: str) -> str:
    return f"what {process or group} has"


def told(who: Roster, now: float) -> list[str]:
    return [note.line for note in who.notes(now, tasks_held)]


def warned(who: Roster, now: float) -> list[str]:
    return [note.line for note in who.notes(now, tasks_held) if note.warning]


# Coming and going


def test_who_joins_and_leaves_is_told() -> None:
    who = Roster(0.0)
    who.join(1, worker(1), 1.0)
    assert told(who, 1.0) == ["worker host1:1 joined: 2 slots, not encrypted"]
    who.join(2, worker(2), 3.0)
    who.leave(1, 0, 3.0)
    who.leave(2, 3, 3.0)
    assert told(who, 3.0) == [
        "worker host2:1 joined: 2 slots, not encrypted",
        "worker host1:1 left; 1 remains",
        "worker host2:1 left with 3 tasks unfinished, for others to do; it was the last one",
    ]
    assert told(who, 9.0) == []


def test_none_of_that_is_a_warning() -> None:
    who = Roster(0.0)
    who.join(1, worker(), 0.0)
    who.leave(1, 1, 0.0)
    assert warned(who, 0.0) == []


def test_a_plain_client_is_told_by_its_host() -> None:
    who = Roster(0.0)
    who.join(1, ConnectedWorker("10.0.0.5", 1, "not encrypted"), 0.0)
    who.leave(1, 1, 0.0)
    assert told(who, 0.0) == [
        "plain worker on 10.0.0.5 joined: 1 slot, not encrypted",
        "plain worker on 10.0.0.5 left with 1 task unfinished, for others to do;"
        " it was the last one",
    ]


def test_the_masters_own_workers_are_not_told() -> None:
    who = Roster(0.0)
    who.join(1, worker(local=True), 0.0)
    assert who.no_worker_notice(99.0) is None
    who.leave(1, 0, 100.0)
    assert told(who, 100.0) == []


def test_somebody_who_was_never_there_can_leave() -> None:
    who = Roster(0.0)
    who.leave(7, 0, 0.0)
    who.heartbeat(7, ["x"], 0.0)
    assert told(who, 0.0) == []


def test_a_name_without_end_is_shortened() -> None:
    who = Roster(0.0)
    who.join(1, ConnectedWorker("x" * 1000, 1, "", "g"), 0.0)
    assert len(told(who, 0.0)[0]) < 200


def test_many_at_once_are_one_line() -> None:
    who = Roster(0.0)
    for number in range(1000):
        who.join(number, worker(number), 0.0)
    assert told(who, 0.0) == [
        "1000 workers joined (2000 slots); now there are 1000 with 2000 slots"
    ]
    for number in range(999):
        who.leave(number, 0, 20.0)
    assert told(who, 20.0) == ["999 workers left; now there is 1 with 2 slots"]


def test_a_thousand_that_come_one_after_the_other_are_a_few_lines() -> None:
    who = Roster(0.0)
    lines = []
    for number in range(1000):  # in 20 seconds, each told of at once
        now = number * 0.02
        who.join(number, worker(number), now)
        lines += told(who, now)
    for number in range(1000):
        who.heartbeat(number, [], 29.0)
    lines += told(who, 40.0)
    assert len(lines) <= MOST_SINGLE_NOTES + 6
    assert (
        sum(int(line.split()[0]) for line in lines[MOST_SINGLE_NOTES:]) + MOST_SINGLE_NOTES == 1000
    )


def test_what_waits_for_a_pause_to_be_over_is_told_then() -> None:
    who = Roster(0.0)
    for number in range(MOST_SINGLE_NOTES + 1):
        who.join(number, worker(number), 0.1)
        told(who, 0.1)
    assert told(who, 0.9) == []
    assert told(who, 1.2) == ["worker host5:1 joined: 2 slots, not encrypted"]


def test_a_summary_says_who_left_meanwhile() -> None:
    who = Roster(0.0)
    for number in range(10):
        who.join(number, worker(number), 0.0)
    who.leave(3, 0, 0.0)
    assert told(who, 0.0) == [
        "10 workers joined (20 slots) and 1 left; now there are 9 with 18 slots"
    ]


# Nobody


def test_nobody_is_told_once_after_five_seconds() -> None:
    who = Roster(0.0)
    assert who.no_worker_notice(4.9) is None
    assert who.no_worker_notice(5.0) == "no worker has come yet"
    assert who.no_worker_notice(500.0) is None


def test_nobody_left_is_told_five_seconds_after_the_last_one() -> None:
    who = Roster(0.0)
    who.join(1, worker(), 1.0)
    assert who.no_worker_notice(100.0) is None
    who.leave(1, 0, 100.0)
    assert who.no_worker_notice(104.9) is None
    assert who.no_worker_notice(105.0) == "no worker is left"
    assert who.no_worker_notice(500.0) is None


def test_one_that_comes_back_in_time_is_not_missed() -> None:
    who = Roster(0.0)
    who.join(1, worker(), 0.0)
    who.leave(1, 0, 10.0)
    who.join(2, worker(), 12.0)
    assert who.no_worker_notice(100.0) is None


# Silence


def test_one_that_sends_no_word_is_told_once_with_what_it_holds() -> None:
    who = Roster(0.0)
    who.join(1, worker(), 0.0)
    assert warned(who, 29.0) == []
    assert warned(who, 30.0) == [
        "worker host1:1 has not been heard of for 30 s; it keeps what group1 has"
    ]
    assert warned(who, 90.0) == []


def test_one_that_is_heard_of_again_is_told() -> None:
    who = Roster(0.0)
    who.join(1, worker(), 0.0)
    warned(who, 30.0)
    who.heartbeat(1, [], 40.0)
    assert warned(who, 40.0) == ["worker host1:1 is heard of again"]
    assert len(warned(who, 70.0)) == 1


def test_one_that_holds_nothing_is_told_so() -> None:
    who = Roster(0.0)
    who.join(1, worker(), 0.0)
    [note] = [note for note in who.notes(31.0, lambda group, process: "") if note.warning]
    assert note.line == "worker host1:1 has not been heard of for 30 s and holds no tasks"


def test_a_beat_keeps_it_from_that() -> None:
    who = Roster(0.0)
    who.join(1, worker(), 0.0)
    for now in range(0, 300, 10):
        who.heartbeat(1, [], float(now))
        assert warned(who, now + 9.0) == []


def test_a_plain_client_may_be_silent() -> None:
    who = Roster(0.0)
    who.join(1, ConnectedWorker("10.0.0.5", 1, "not encrypted"), 0.0)
    assert warned(who, 1000.0) == []


def test_many_that_are_silent_are_a_few_lines() -> None:
    who = Roster(0.0)
    for number in range(1000):
        who.join(number, worker(number), 0.0)
    silent = warned(who, 30.0)
    assert (len(silent), silent[-1]) == (MOST_SINGLE_NOTES + 1, "and 995 more like that")
    for number in range(1000):
        who.heartbeat(number, [], 40.0)
    back = warned(who, 40.0)
    assert (len(back), back[-1]) == (MOST_SINGLE_NOTES + 1, "and 995 more like that")


def test_a_stopped_process_is_told_once_after_half_a_minute() -> None:
    who = Roster(0.0)
    who.join(1, worker(), 0.0)
    said = []
    for now in (10.0, 20.0, 30.0, 40.0, 50.0):
        who.heartbeat(1, ["host1:7"], now)
        said += [(now, line) for line in warned(who, now)]
    assert said == [
        (
            30.0,
            "process host1:7 of worker host1:1 is stopped (SIGSTOP); it keeps what host1:7 has",
        )
    ]


def test_a_process_that_was_stopped_for_a_moment_is_not_told() -> None:
    who = Roster(0.0)
    who.join(1, worker(), 0.0)
    for now, stopped in ((10.0, ["host1:7"]), (20.0, []), (30.0, ["host1:7"]), (40.0, [])):
        who.heartbeat(1, stopped, now)
        assert warned(who, now) == []
