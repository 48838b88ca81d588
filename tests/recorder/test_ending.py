import pytest

from antiphon.contracts.events.session import CloseReason, FaultSide
from antiphon.recorder.ending import Facts, judge

LEFT = "participant_disconnected"


@pytest.mark.parametrize(
    ("facts", "reason", "fault"),
    [
        (Facts(session_reason=LEFT, anybody_came=True), CloseReason.CALLER_LEFT, FaultSide.NONE),
        (Facts(session_reason="user_initiated", told_to_stop=True), CloseReason.AGENT_ENDED, FaultSide.NONE),
        (Facts(session_reason="task_completed"), CloseReason.AGENT_ENDED, FaultSide.NONE),
        (Facts(room_reason="room_deleted", session_reason=LEFT), CloseReason.ENDED_BY_API, FaultSide.NONE),
        (
            Facts(departure_reason="room_deleted", session_reason=LEFT),
            CloseReason.ENDED_BY_API,
            FaultSide.NONE,
        ),
        (Facts(session_reason="error", failure="tts: gone"), CloseReason.ERROR, FaultSide.AGENT),
        (Facts(failure="no such flow"), CloseReason.ERROR, FaultSide.AGENT),
        (Facts(room_reason="room_closed", anybody_came=True), CloseReason.CALLER_LEFT, FaultSide.CALLER),
        (Facts(room_reason="room_closed"), CloseReason.ROOM_CLOSED, FaultSide.CALLER),
        (Facts(room_reason="server_shutdown"), CloseReason.ROOM_CLOSED, FaultSide.PLATFORM),
        (Facts(session_reason="user_initiated"), CloseReason.WORKER_SHUTDOWN, FaultSide.PLATFORM),
        (Facts(), CloseReason.WORKER_SHUTDOWN, FaultSide.PLATFORM),
    ],
)
def test_an_ending_is_named_by_its_first_cause(facts: Facts, reason: CloseReason, fault: FaultSide) -> None:
    assert judge(facts)[:2] == (reason, fault)


def test_the_detail_of_a_failure_is_kept() -> None:
    assert judge(Facts(session_reason="error", failure="tts: gone"))[2] == "tts: gone"
