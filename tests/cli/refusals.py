"""What a user's mistake has to look like."""

from __future__ import annotations

import subprocess


def assert_refused(
    done: subprocess.CompletedProcess[str], code: int, *needles: str, out: str = ""
) -> None:
    """One line on standard error that starts with `dq:`, an exit code, and nothing served."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("dq: "), done.stderr
    for needle in needles:
        assert needle in lines[0]
    assert done.returncode == code, done.stderr
    assert done.stdout == out
