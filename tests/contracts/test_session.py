"""Any prefix of any history folds, twice-told events change nothing, and every status is reached."""

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
def test_a_session_comes_as_far_as_its_events_say(events: tuple[Event, ...], status: Status) -> None:
    assert folded(*events).status is status


def test_the_request_says_what_the_session_is() -> None:
    state = folded(REQUESTED)

    assert (state.flow_id, state.flow_revision, state.user_id, state.room) == (
        "booking",
        3,
        "ada",
        SESSION_ID,
    )
    assert state.created_at == history([REQUESTED])[0].time


def test_a_failed_dispatch_leaves_its_reason_until_one_succeeds() -> None:
    failure = SessionDispatchFailed(attempt=1, reason="no answer", retryable=True)

    assert folded(REQUESTED, failure).detail == "no answer"
    assert folded(REQUESTED, failure).status is Status.PENDING
    assert folded(REQUESTED, failure, replace(DISPATCHED, attempt=2)).detail is None


def test_people_states_and_hand_offs_are_known() -> None:
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
def test_an_event_told_twice_changes_nothing(envelopes: list[Envelope]) -> None:
    once = fold(SESSION_ID, "default", envelopes)

    assert fold(SESSION_ID, "default", [*envelopes, *envelopes]) == once


@given(histories())
def test_an_ended_session_stays_as_it_ended(envelopes: list[Envelope]) -> None:
    statuses = [fold(SESSION_ID, "default", envelopes[:n]).status for n in range(len(envelopes) + 1)]
    ended = [status for status in statuses if status in TERMINAL]

    assert len(set(ended)) <= 1
    assert statuses[len(statuses) - len(ended) :] == ended


def test_an_unknown_type_and_a_newer_version_change_nothing_but_the_place() -> None:
    unknown, newer = history([TURN, TURN])
    before = Session(session_id=SESSION_ID, tenant="default")

    state = evolve(before, replace(unknown, type="turn.sung"))
    state = evolve(state, replace(newer, dataschema="https://antiphon.dev/schemas/turn.saved/9"))

    assert state == replace(before, sequence=2, updated_at=newer.time)


def test_events_that_are_not_committed_yet_fold_too() -> None:
    fresh = [replace(envelope, sequence=UNSET, position=UNSET) for envelope in history([REQUESTED, JOINED])]

    assert fold(SESSION_ID, "default", fresh).status is Status.JOINED


def test_a_body_that_breaks_its_schema_is_not_folded() -> None:
    (envelope,) = history([TURN])

    with pytest.raises(MalformedEvent):
        fold(SESSION_ID, "default", [replace(envelope, data=Raw(b"{}"))])
