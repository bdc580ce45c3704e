"""Outcomes as clients of a serving master get them: in built-in types."""

from __future__ import annotations

from dq.core.records import Done, Outcome
from dq.data import batches

FailureWire = tuple[str, str, str, bytes]  # type, message, traceback, pickled exception
OutcomeWire = tuple[bytes, "FailureWire | None", float]  # results, failure, seconds


def outcome_to_wire(outcome: Outcome) -> OutcomeWire:
    """An outcome as built-in types."""
    if isinstance(outcome, Done):
        return batches.joined(outcome.blob), None, outcome.seconds
    cause = outcome.failure
    failure = cause.type, cause.message, cause.traceback, outcome.exception
    return b"", failure, outcome.seconds
