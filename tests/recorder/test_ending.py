import pytest

from antiphon.contracts.events.session import CloseReason, FaultSide
from antiphon.recorder.ending import SessionEnd, close_reason

LEFT = "participant_disconnected"
DELETED = "room_deleted"


@pytest.mark.parametrize(
    ("end", "reason", "fault"),
    [
        (SessionEnd(session_reason=LEFT, participant_joined=True), "caller_left", "none"),
        (SessionEnd(session_reason="user_initiated", ended_by_code=True), "agent_ended", "none"),
        (SessionEnd(session_reason="task_completed"), "agent_ended", "none"),
        (SessionEnd(room_reason=DELETED, session_reason=LEFT), "ended_by_api", "none"),
        (SessionEnd(departure_reason=DELETED, session_reason=LEFT), "ended_by_api", "none"),
        (SessionEnd(departure_reason=DELETED, session_reason=LEFT, hung_up=True), "agent_ended", "none"),
        (SessionEnd(room_reason=DELETED, hung_up=True), "agent_ended", "none"),
        (SessionEnd(session_reason=LEFT, hung_up=True), "agent_ended", "none"),
        (SessionEnd(room_reason=DELETED, hung_up=True, failure="tts: gone"), "error", "agent"),
        (SessionEnd(session_reason="error", failure="tts: gone"), "error", "agent"),
        (SessionEnd(failure="no such flow"), "error", "agent"),
        (SessionEnd(room_reason="room_closed", participant_joined=True), "caller_left", "caller"),
        (SessionEnd(room_reason="room_closed"), "room_closed", "caller"),
        (SessionEnd(room_reason="server_shutdown"), "room_closed", "platform"),
        (SessionEnd(session_reason="user_initiated"), "worker_shutdown", "platform"),
        (SessionEnd(), "worker_shutdown", "platform"),
        (SessionEnd(limit=CloseReason.NO_CALLER, session_reason="user_initiated"), "no_caller", "caller"),
        (SessionEnd(limit=CloseReason.MAX_DURATION, hung_up=True), "max_duration", "none"),
    ],
)
def test_close_reason_is_the_first_that_applies(end: SessionEnd, reason: str, fault: str) -> None:
    assert close_reason(end)[:2] == (CloseReason(reason), FaultSide(fault))


def test_failure_is_the_detail() -> None:
    assert close_reason(SessionEnd(session_reason="error", failure="tts: gone"))[2] == "tts: gone"
