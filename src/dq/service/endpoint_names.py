"""What a master that keeps jobs and its clients agree on."""

from __future__ import annotations

JOBS = "dq-jobs"  # ident of the object that clients call
PROTOCOL = 1  # version of the messages to it
