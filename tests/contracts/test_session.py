"""Any prefix of any history folds, redelivered events change nothing, every status is reached."""

import pytest
from hypothesis import given
from msgspec import UNSET, Raw
from msgspec.structs import replace
from tests.contracts.strategies import SESSION_ID, histories, history

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.errors import MalformedEvent
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentHandedOff, AgentJoined, AgentReady, AgentStateChanged
from antiphon.contracts.events.participant import ParticipantConnected, ParticipantDisconnected
from antiphon.contracts.events.session import (
    CloseReason,
    FailureReason,
    FaultSide,
    SessionClosed,
    SessionDispatched,
    SessionDispatchFailed,
    SessionFailed,
    SessionRequested,
)
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.session import TERMINAL, Session, Status, evolve, fold

REQUESTED = SessionRequested(flow_id="booking", flow_revision=3, user_id="ada", room=SESSION_ID)
DISPATCHED = SessionDispatched(attempt=1, room_sid="RM_1", agent_name="antiphon")
JOINED = AgentJoined(job_id="AJ_1", worker_id="AW_1", epoch="AJ_1", identity="agent")
READY = AgentReady(greeting="Good day.", ready_ms=900)
TURN = TurnSaved(turn=1, agent_id="host", user_text="hello", assistant_text="Hello.")
CLOSED = SessionClosed(reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=9.5, turns=1)
FAILED = SessionFailed(reason=FailureReason.AGENT_LOST, attempts=2)


def folded(*events: Event) -> Session:
    return fold(SESSION_ID, "default", history(list(events)))


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ((), Status.PENDING),
        ((REQUESTED,), Status.PENDING),
        ((REQUESTED, DISPATCHED), Status.DISPATCHED),
        ((REQUESTED, DISPATCHED, JOINED), Status.JOINED),
        ((REQUESTED, DISPATCHED, JOINED, READY), Status.READY),
        ((REQUESTED, DISPATCHED, JOINED, READY, TURN), Status.ACTIVE),
        ((REQUESTED, DISPATCHED, JOINED, READY, TURN, CLOSED), Status.CLOSED),
        ((REQUESTED, FAILED), Status.FAILED),
        ((REQUESTED, CLOSED, FAILED), Status.CLOSED),
        ((REQUESTED, CLOSED, TURN, READY), Status.CLOSED),
        ((JOINED, REQUESTED, DISPATCHED), Status.JOINED),
    ],
)
def test_status_follows_the_events(events: tuple[Event, ...], status: Status) -> None:
    assert folded(*events).status is status


def test_request_sets_flow_user_and_room() -> None:
    state = folded(REQUESTED)

    assert (state.flow_id, state.flow_revision, state.user_id, state.room) == (
        "booking",
        3,
        "ada",
        SESSION_ID,
    )
    assert state.created_at == history([REQUESTED])[0].time


def test_dispatch_failure_is_the_detail_until_a_dispatch_succeeds() -> None:
    failure = SessionDispatchFailed(attempt=1, reason="no answer", retryable=True)

    assert folded(REQUESTED, failure).detail == "no answer"
    assert folded(REQUESTED, failure).status is Status.PENDING
    assert folded(REQUESTED, failure, replace(DISPATCHED, attempt=2)).detail is None


def test_participants_agent_and_state_are_tracked() -> None:
    state = folded(
        ParticipantConnected(identity="caller", sid="PA_1", kind="standard"),
        ParticipantDisconnected(identity="caller", sid="PA_1", kind="standard"),
        ParticipantConnected(identity="caller", sid="PA_2", kind="standard"),
        AgentHandedOff(from_agent="host", to_agent="manager"),
        AgentStateChanged(old_state="listening", new_state="thinking"),
    )

    assert [person.left_at is None for person in state.participants.values()] == [False, True]
    assert (state.agent_id, state.agent_state) == ("manager", "thinking")


@given(histories())
def test_any_prefix_folds(envelopes: list[Envelope]) -> None:
    state = fold(SESSION_ID, "default", [])
    for count, envelope in enumerate(envelopes, start=1):
        state = evolve(state, envelope)

        assert state.sequence == count
        assert state == fold(SESSION_ID, "default", envelopes[:count])


@given(histories())
def test_redelivered_events_change_nothing(envelopes: list[Envelope]) -> None:
    once = fold(SESSION_ID, "default", envelopes)

    assert fold(SESSION_ID, "default", [*envelopes, *envelopes]) == once


@given(histories())
def test_terminal_status_never_changes(envelopes: list[Envelope]) -> None:
    statuses = [fold(SESSION_ID, "default", envelopes[:n]).status for n in range(len(envelopes) + 1)]
    ended = [status for status in statuses if status in TERMINAL]

    assert len(set(ended)) <= 1
    assert statuses[len(statuses) - len(ended) :] == ended


def test_unknown_type_or_version_only_advances_the_sequence() -> None:
    unknown, newer = history([TURN, TURN])
    before = Session(session_id=SESSION_ID, tenant="default")

    state = evolve(before, replace(unknown, type="turn.sung"))
    state = evolve(state, replace(newer, dataschema="https://antiphon.dev/schemas/turn.saved/9"))

    assert state == replace(before, sequence=2, updated_at=newer.time)


def test_uncommitted_events_fold() -> None:
    fresh = [replace(envelope, sequence=UNSET, position=UNSET) for envelope in history([REQUESTED, JOINED])]

    assert fold(SESSION_ID, "default", fresh).status is Status.JOINED


def test_invalid_body_raises() -> None:
    (envelope,) = history([TURN])

    with pytest.raises(MalformedEvent):
        fold(SESSION_ID, "default", [replace(envelope, data=Raw(b"{}"))])
