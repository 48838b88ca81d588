"""A fold that gives something else for the same events has another version: clients keep what they got."""

import hashlib

import msgspec
from msgspec import Raw
from msgspec.structs import replace
from tests.contracts.strategies import SESSION_ID, history
from tests.contracts.test_turns import rows_of

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.event import Event
from antiphon.contracts.events import agent, participant, session, turn, usage
from antiphon.contracts.registry import BY_TYPE
from antiphon.contracts.session import _APPLY, FOLD_VERSION, fold
from antiphon.contracts.turns import TURN_TYPES, TURNS_VERSION

EVERY_FOLDED_TYPE: list[Event] = [
    session.SessionRequested(
        flow_id="booking", flow_revision=3, user_id="ada", room=SESSION_ID, language="en"
    ),
    session.SessionAdopted(room="lobby", user_id="ada"),
    session.SessionDispatchFailed(attempt=1, reason="no answer", retryable=True),
    session.SessionDispatched(attempt=2, room_sid="RM_1", agent_name="antiphon"),
    agent.AgentJoined(job_id="AJ_1", worker_id="AW_1", epoch="AJ_1", identity="agent"),
    participant.ParticipantConnected(identity="caller", sid="PA_1", kind="standard"),
    agent.AgentReady(greeting="Good day.", ready_ms=900),
    agent.UserStateChanged(old_state="listening", new_state="speaking"),
    turn.TurnStarted(turn=1, epoch="AJ_1", agent_id="host", user_text="hello"),
    agent.AgentStateChanged(old_state="listening", new_state="thinking"),
    turn.TurnSaved(turn=1, epoch="AJ_1", agent_id="host", user_text="hello", assistant_text="Hello."),
    turn.TurnStarted(turn=2, epoch="AJ_1", agent_id="host", user_text="two"),
    agent.AgentHandedOff(from_agent="host", to_agent="manager"),
    turn.TurnSaved(turn=2, epoch="AJ_1", agent_id="host", assistant_text="For", recovered=True),
    agent.AgentLost(job_id="AJ_1", noticed_by="webhook"),
    usage.UsageUpdated(models=[]),
    participant.ParticipantDisconnected(identity="caller", sid="PA_1", kind="standard"),
    agent.AgentLeft(
        job_id="AJ_2",
        epoch="AJ_2",
        reason=session.CloseReason.AGENT_ENDED,
        fault=session.FaultSide.NONE,
        duration_seconds=3.0,
        turns=1,
    ),
    session.SessionClosed(
        reason=session.CloseReason.CALLER_LEFT, fault=session.FaultSide.NONE, duration_seconds=9.5, turns=2
    ),
    session.SessionFailed(reason=session.FailureReason.AGENT_LOST, attempts=2),
]


def whole_history() -> list[Envelope]:
    *known, last = history([*EVERY_FOLDED_TYPE, EVERY_FOLDED_TYPE[-1]])
    return [*known, replace(last, type="turn.sung", data=Raw(b"{}"))]


def digest(states: list[bytes]) -> str:
    return hashlib.blake2b(b"\n".join(states), digest_size=8).hexdigest()


def test_the_fold_of_sessions_has_its_version() -> None:
    """Raise FOLD_VERSION if a state differs that the fold gave before, then pin the digest."""
    events = whole_history()
    states = [msgspec.json.encode(fold(SESSION_ID, "default", events[:n])) for n in range(len(events) + 1)]

    assert set(_APPLY) <= {BY_TYPE[event.TYPE] for event in EVERY_FOLDED_TYPE}, "add an event of each type"
    assert (FOLD_VERSION, digest(states)) == (3, "c18f0322bb03aca4")


def test_the_fold_of_turns_has_its_version() -> None:
    """Raise TURNS_VERSION if a row differs that the fold gave before, then pin the digest."""
    events = [envelope for envelope in whole_history() if envelope.type in TURN_TYPES]
    states = [msgspec.json.encode(list(rows_of(events[:n]).values())) for n in range(len(events) + 1)]

    assert (TURNS_VERSION, digest(states)) == (1, "c1a7d06292ac9961")
