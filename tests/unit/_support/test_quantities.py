"""What a user types for a duration, a size or a number of processes, and how a time is shown."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq._support import quantities


def attempt(parse: Callable[[str], float], text: str) -> tuple[float, str]:
    """Return what a text means, or 0 and why it was refused."""
    try:
        return parse(text), ""
    except ValueError as refused:
        return 0, str(refused)


# --- duration ---


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("30", 30.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("90s", 90.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("250ms", 0.25),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        (" 1H 30 m ", 5400.0),
    ],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert quantities.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "-1", "-5m", "+5", "nan", "inf", "1e3", "5x", "m", "1h30", "1:30", "1,5", "٣", "."]
)
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"\A.*is not a duration: .*90s.*\Z"):
        quantities.duration(text)


@pytest.mark.parametrize("text", ["36501d", "9" * 500, "9" * 500 + "d"])
def test_a_duration_no_lock_could_wait_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="century"):
        quantities.duration(text)


@given(st.text() | st.text("0123456789.smhd "))
def test_any_text_is_a_finite_duration_or_refused_in_one_line(text: str) -> None:
    seconds, refusal = attempt(quantities.duration, text)
    assert 0 <= seconds < math.inf
    assert "\n" not in refusal


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_the_parts_of_a_duration_add_up(hours: int, minutes: int, seconds: int) -> None:
    text = f"{hours}h{minutes}m{seconds}s"
    assert quantities.duration(text) == hours * 3600 + minutes * 60 + seconds


# --- size ---


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("1000", 1000),
        ("7B", 7),
        ("64K", 64 << 10),
        ("10KB", 10 << 10),
        ("2M", 2 << 20),
        ("64MiB", 64 << 20),
        ("1.5G", 3 << 29),
        (".5g", 1 << 29),
        ("1 TB", 1 << 40),
        ("2p", 2 << 50),
        ("0.1K", 102),
        ("9007199254740993", 2**53 + 1),
    ],
)
def test_a_size_is_bytes(text: str, count: int) -> None:
    assert quantities.size(text) == count


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "nan", "inf", "1e9", "K", "1X", "1KiBi", "1 0", "1\u212a", "٣", "."]
)
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"\A.*is not a size: .*64K.*\Z"):
        quantities.size(text)


@pytest.mark.parametrize("text", ["9223372036854775808", "8192P", "9" * 5000])
def test_a_size_beyond_64_bits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"64 bits|too long"):
        quantities.size(text)


@given(st.integers(0, 2**63 - 1))
def test_a_size_in_bytes_is_exact(count: int) -> None:
    assert quantities.size(str(count)) == count


@given(st.text() | st.text("0123456789.KMGTPiB "))
def test_any_text_is_a_size_or_refused_in_one_line(text: str) -> None:
    count, refusal = attempt(quantities.size, text)
    assert 0 <= count < 2**63
    assert "\n" not in refusal


# --- processes ---


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1),
        ("12", 12),
        (" 3 ", 3),
        ("-1", 7),
        ("-8", 1),
        ("-99", 1),
        ("-0", 8),
        ("+2", 10),
        ("+0", 8),
        ("50%", 4),
        ("100%", 8),
        ("200%", 16),
        ("1%", 1),
        ("31%", 2),
        ("32%", 3),
    ],
)
def test_processes_are_counted_as_gnu_parallel_does(text: str, count: int) -> None:
    assert quantities.processes(text, cpus=8) == count


def test_half_a_process_is_rounded_up() -> None:
    assert quantities.processes("50%", cpus=5) == 3


@pytest.mark.parametrize("text", ["0", "00", "0%"])
def test_no_process_at_all_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        quantities.processes(text, cpus=8)


@pytest.mark.parametrize("text", ["10001", "+9999", "99999999", "200000%"])
def test_too_many_processes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is more than 10000 processes: give fewer"):
        quantities.processes(text, cpus=8)


@pytest.mark.parametrize(
    "text", ["", "x", "1.5", "-", "%", "-50%", "--1", "1e2", "٣", "9" * 5000, "nan"]
)
def test_what_is_no_number_of_processes_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"\A.*is not a number of processes: .*50%.*\Z"):
        quantities.processes(text, cpus=8)


@given(st.from_regex(r"[-+][0-9]{1,3}|[1-9][0-9]{0,2}%?", fullmatch=True), st.integers(1, 512))
def test_there_is_always_a_process(text: str, cpus: int) -> None:
    assert quantities.processes(text, cpus) >= 1


# --- cpus ---


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> int:
    """A machine of 64 CPUs, all of which this process may use."""
    monkeypatch.setattr(os, "process_cpu_count", lambda: 64, raising=False)
    return 64


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def cpus_in(root: Path, groups: str) -> int:
    put(root / "proc" / "self" / "cgroup", groups)
    return quantities.cpus(str(root / "proc"), str(root / "cgroup"))


def test_without_control_groups_every_cpu_counts(many: int, tmp_path: Path) -> None:
    assert quantities.cpus(str(tmp_path / "proc"), str(tmp_path / "cgroup")) == many


@pytest.mark.parametrize(
    ("cpu_max", "count"),
    [
        ("200000 100000\n", 2),
        ("250000 100000\n", 3),
        ("1000 100000\n", 1),
        ("9900000 100000\n", 64),
        ("max 100000\n", 64),
        ("200000 0\n", 64),
        ("0 100000\n", 64),
        ("200000\n", 64),
        ("nonsense\n", 64),
        ("\xff\n", 64),
        ("", 64),
    ],
)
def test_a_quota_of_cgroup_v2_is_rounded_up(
    many: int, tmp_path: Path, cpu_max: str, count: int
) -> None:
    put(tmp_path / "cgroup" / "cpu.max", cpu_max)
    assert cpus_in(tmp_path, "0::/\n") == count


@pytest.mark.parametrize("above", ["", "a", "a/b"])
def test_a_quota_of_any_group_above_counts(many: int, tmp_path: Path, above: str) -> None:
    put(tmp_path / "cgroup" / "a" / "b" / "c.scope" / "cpu.max", "800000 100000\n")
    put(tmp_path / "cgroup" / above / "cpu.max", "300000 100000\n")
    assert cpus_in(tmp_path, "0::/a/b/c.scope\n") == 3


def test_a_group_outside_of_the_namespace_has_the_top_ones_quota(many: int, tmp_path: Path) -> None:
    put(tmp_path / "cgroup" / "cpu.max", "300000 100000\n")
    put(tmp_path / "outside" / "cpu.max", "100000 100000\n")
    assert cpus_in(tmp_path, "0::/../outside\n") == 3


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize("group", ["", "docker/abc"])
def test_a_quota_of_cgroup_v1_is_rounded_up(
    many: int, tmp_path: Path, folder: str, group: str
) -> None:
    put(tmp_path / "cgroup" / folder / group / "cpu.cfs_quota_us", "150000\n")
    put(tmp_path / "cgroup" / folder / group / "cpu.cfs_period_us", "100000\n")
    assert cpus_in(tmp_path, "5:memory:/x\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n") == 2


def test_minus_one_is_no_quota_of_cgroup_v1(many: int, tmp_path: Path) -> None:
    put(tmp_path / "cgroup" / "cpu" / "cpu.cfs_quota_us", "-1\n")
    put(tmp_path / "cgroup" / "cpu" / "cpu.cfs_period_us", "100000\n")
    assert cpus_in(tmp_path, "4:cpu:/\n") == many


@pytest.mark.parametrize("groups", ["", "nonsense", "a:b", "::", "0::", "\xff:cpu:\xff"])
def test_a_list_of_groups_that_makes_no_sense_is_ignored(
    many: int, tmp_path: Path, groups: str
) -> None:
    assert cpus_in(tmp_path, groups) == many


def test_a_quota_file_that_is_a_folder_is_ignored(many: int, tmp_path: Path) -> None:
    (tmp_path / "cgroup" / "cpu.max").mkdir(parents=True)
    assert cpus_in(tmp_path, "0::/\n") == many


def without_process_cpu_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "process_cpu_count", raising=False)


def test_before_python_3_13_the_affinity_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_process_cpu_count(monkeypatch)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert quantities.cpus(str(tmp_path), str(tmp_path)) == 3


def test_without_affinity_every_cpu_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_process_cpu_count(monkeypatch)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert quantities.cpus(str(tmp_path), str(tmp_path)) == 6


def test_with_affinity_forbidden_every_cpu_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def forbidden(pid: int) -> set[int]:
        raise PermissionError

    without_process_cpu_count(monkeypatch)
    monkeypatch.setattr(os, "sched_getaffinity", forbidden, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert quantities.cpus(str(tmp_path), str(tmp_path)) == 6


def test_a_machine_that_cannot_count_has_one_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_process_cpu_count(monkeypatch)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert quantities.cpus(str(tmp_path), str(tmp_path)) == 1


# --- human_duration ---


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.04, "0s"),
        (0.3, "0.3s"),
        (5.0, "5s"),
        (5.25, "5.2s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (12.4, "12s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (190, "3m10s"),
        (3599.6, "1h00m"),
        (3720, "1h02m"),
        (86399, "23h59m"),
        (90000, "1d01h"),
        (-3, "0s"),
        (math.inf, "?"),
        (math.nan, "?"),
    ],
)
def test_a_time_is_shown_in_the_two_units_that_matter(seconds: float, text: str) -> None:
    assert quantities.human_duration(seconds) == text


@given(st.floats(min_value=0, max_value=10**9))
def test_a_time_that_is_shown_can_be_typed_and_means_about_the_same(seconds: float) -> None:
    typed = quantities.duration(quantities.human_duration(seconds))
    assert typed == pytest.approx(seconds, abs=0.51, rel=1 / 24)
