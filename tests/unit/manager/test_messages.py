"""The wire format: what masters and workers of one protocol version rely on."""

from __future__ import annotations

import pytest

from dq.core.leases import Report
from dq.core.records import MOST_EXCEPTION_BYTES, Done, Failed, Failure
from dq.errors import ProtocolError
from dq.manager.message_checks import read_report
from dq.manager.messages import LeaseMessage, ReportMessage

FAILED = Failed(
    Failure("ValueError", "no", "Traceback"), seconds=0.5, retry=False, exception=b"pickled"
)
REPORT = ReportMessage(
    run="r", lease=7, first=3, outcomes=(Done(2, b"blob", 1.5), FAILED), handed_back=4, busy=2.5
)


def test_a_lease_is_seven_fields_on_the_wire() -> None:
    message = LeaseMessage(lease=7, job="j", start=3, count=2, skip=1, blob=b"blob", attempt=1)
    assert message.to_wire() == (7, "j", 3, 2, 1, b"blob", 1)
    assert LeaseMessage.from_wire(message.to_wire()) == message


def test_a_report_has_three_fields_for_what_is_done_and_six_for_a_failure() -> None:
    outcomes = [(2, b"blob", 1.5), ("ValueError", "no", "Traceback", 0.5, False, b"pickled")]
    assert REPORT.to_wire() == ("r", 7, 3, outcomes, 4, 2.5, "")


def test_a_report_is_read_as_it_was_sent() -> None:
    run, report, refusal = read_report(REPORT.to_wire())
    assert (run, refusal) == ("r", "")
    assert report == Report(7, 3, (Done(2, b"blob", 1.5), FAILED), 4, 2.5)


@pytest.mark.parametrize("field", range(7))
def test_a_report_with_a_field_of_another_type_is_refused(field: int) -> None:
    wire = list(REPORT.to_wire())
    wire[field] = object()
    with pytest.raises(ProtocolError):
        read_report(tuple(wire))


@pytest.mark.parametrize(
    "exception", [None, "pickled", bytearray(b"pickled"), bytes(MOST_EXCEPTION_BYTES + 1)]
)
def test_a_failure_whose_exception_is_none_or_too_large_is_refused(exception: object) -> None:
    outcome = ("ValueError", "no", "Traceback", 0.5, False, exception)
    with pytest.raises(ProtocolError):
        read_report(("r", 7, 3, [outcome], 0, 2.5, ""))
