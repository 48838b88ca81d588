"""Any prefix of any history folds, redelivered events change nothing, every status is reached."""

import pytest
from hypothesis import given
from msgspec import UNSET, Raw
from msgspec.structs import replace
from tests.contracts.strategies import SESSION_ID, histories, history

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import (
    AgentHandedOff,
    AgentJoined,
    AgentLeft,
    AgentLost,
    AgentReady,
    AgentStateChanged,
)
from antiphon.contracts.events.participant import ParticipantConnected, ParticipantDisconnected
from antiphon.contracts.events.session import (
    CloseReason,
    FailureReason,
    FaultSide,
    SessionAdopted,
    SessionClosed,
    SessionDispatched,
    SessionDispatchFailed,
    SessionFailed,
    SessionRequested,
)
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.registry import EVENTS
from antiphon.contracts.session import MAX_AGENTS, TERMINAL, Session, Status, evolve, fold

REQUESTED = SessionRequested(flow_id="booking", flow_revision=3, user_id="ada", room=SESSION_ID)
DISPATCHED = SessionDispatched(attempt=1, room_sid="RM_1", agent_name="antiphon")
JOINED = AgentJoined(job_id="AJ_1", worker_id="AW_1", epoch="AJ_1", identity="agent")
READY = AgentReady(greeting="Good day.", ready_ms=900)
TURN = TurnSaved(turn=1, agent_id="host", user_text="hello", assistant_text="Hello.")
CLOSED = SessionClosed(reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=9.5, turns=1)
LEFT = AgentLeft(
    job_id="AJ_1",
    epoch="AJ_1",
    reason=CloseReason.AGENT_ENDED,
    fault=FaultSide.NONE,
    duration_seconds=3.0,
    turns=1,
)
ADOPTED = SessionAdopted(room="lobby", user_id="ada", agent_name="mine", metadata={"order": 1})
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


def test_a_participant_whom_a_later_agent_finds_joined_before() -> None:
    found = ParticipantConnected(identity="caller", sid="PA_1", kind="standard")
    first, again = folded(found), folded(found, found)

    assert again.participants["PA_1"].joined_at == first.participants["PA_1"].joined_at
    assert again.updated_at != first.updated_at


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


def test_what_cannot_be_read_is_counted_and_skipped() -> None:
    unknown, newer, wrong, later = history([TURN] * 4)
    before = Session(session_id=SESSION_ID, tenant="default")

    state = evolve(before, replace(unknown, type="turn.sung"))
    state = evolve(state, replace(newer, dataschema="https://antiphon.dev/schemas/turn.saved/9"))
    state = evolve(state, replace(wrong, data=Raw(b"{}")))
    assert state == replace(before, sequence=3, updated_at=wrong.time, skipped=3)

    assert (evolve(state, later).turns, evolve(state, later).skipped) == (1, 3)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.TYPE)
def test_a_newer_version_of_any_event_is_skipped(event: type[Event]) -> None:
    (stored,) = history([TURN])
    schema = f"https://antiphon.dev/schemas/{event.TYPE}/{event.VERSION + 1}"

    newer = replace(stored, type=event.TYPE, dataschema=schema, data=Raw(b'{"new": 1}'))

    assert fold(SESSION_ID, "default", [newer]).skipped == 1


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.TYPE)
@pytest.mark.parametrize(
    "data", [b"{}", b"null", b'{"turn": "1"}', b"[" * 5000, b'{"reason": "\\ud800"}', b"?"]
)
def test_no_body_stops_the_fold(event: type[Event], data: bytes) -> None:
    stored, *_ = history([TURN])
    schema = f"https://antiphon.dev/schemas/{event.TYPE}/{event.VERSION}"

    state = fold(SESSION_ID, "default", [replace(stored, type=event.TYPE, dataschema=schema, data=Raw(data))])

    assert (state.sequence, state.status) == (1, Status.PENDING)


def test_a_late_turn_of_a_forgotten_epoch_is_one_turn() -> None:
    first = [replace(TURN, epoch="AJ_1", turn=number) for number in (1, 2, 3)]
    others = [replace(TURN, epoch=f"AJ_{number}", turn=1) for number in range(2, MAX_AGENTS + 2)]
    late = [replace(TURN, epoch="AJ_1", turn=number) for number in (4, 5)]

    state = fold(SESSION_ID, "default", history([*first, *others, *late]))

    assert state.turns == 3 + MAX_AGENTS + 2


def test_a_version_that_cannot_be_read_is_skipped() -> None:
    (stored,) = history([TURN])  # in logs from before ingest rejected it

    assert fold(SESSION_ID, "default", [replace(stored, dataschema="turn.saved")]).skipped == 1


def test_uncommitted_events_fold() -> None:
    fresh = [replace(envelope, sequence=UNSET, position=UNSET) for envelope in history([REQUESTED, JOINED])]

    assert fold(SESSION_ID, "default", fresh).status is Status.JOINED


def turns_of(epoch: str | None, *numbers: int) -> list[TurnSaved]:
    return [replace(TURN, turn=number, epoch=epoch) for number in numbers]


@pytest.mark.parametrize(
    ("turns", "count"),
    [
        (turns_of(None, 1, 2, 3), 3),
        (turns_of("AJ_1", 1, 2) + turns_of("AJ_2", 1), 3),
        (turns_of("AJ_1", 1) + turns_of("AJ_2", 1, 2) + turns_of("AJ_1", 2), 4),
        (turns_of("AJ_1", 2, 1, 2) + turns_of(None, 1), 3),
        (turns_of("AJ_1", 2**31 - 1) + turns_of("AJ_2", 2**31 - 1), 2**31 - 1),
    ],
)
def test_turns_count_over_all_agents(turns: list[Event], count: int) -> None:
    assert folded(*turns).turns == count


def test_the_turns_of_forgotten_agents_count() -> None:
    agents = [f"AJ_{number}" for number in range(MAX_AGENTS + 5)]
    joined = [replace(JOINED, job_id=epoch, epoch=epoch) for epoch in agents]
    state = folded(*joined, *[turn for epoch in agents for turn in turns_of(epoch, 1, 2)])

    assert state.turns == 2 * len(agents)
    assert list(state.agents) == list(state.turns_by_epoch) == agents[5:]


def test_agents_are_known_by_epoch_until_the_last_has_left() -> None:
    second = replace(JOINED, job_id="AJ_2", epoch="AJ_2", identity="agent-2")
    state = folded(REQUESTED, JOINED, second, LEFT)

    assert (state.status, state.ended_at) == (Status.JOINED, None)
    first, other = state.agents["AJ_1"], state.agents["AJ_2"]
    assert (first.identity, first.reason, first.joined_at is None, first.left_at is None) == (
        "agent",
        "agent_ended",
        False,
        False,
    )
    assert (other.identity, other.left_at) == ("agent-2", None)

    ended = folded(REQUESTED, JOINED, second, LEFT, CLOSED)
    assert [agent.reason for agent in ended.agents.values()] == ["agent_ended", "caller_left"]
    assert ended.status is Status.CLOSED


def test_an_agent_that_left_before_it_joined_is_one_agent() -> None:
    assert folded(LEFT, JOINED).agents.keys() == {"AJ_1"}
    assert folded(LEFT, JOINED).agents["AJ_1"].left_at is not None


def test_a_lost_agent_has_left() -> None:
    lost = AgentLost(job_id="AJ_1", noticed_by="heartbeat")

    assert folded(JOINED, lost).agents["AJ_1"].reason == "lost"
    assert folded(JOINED, LEFT, lost).agents["AJ_1"].reason == "agent_ended"


def test_an_adopted_session_has_no_flow() -> None:
    state = folded(ADOPTED, JOINED)

    assert (state.room, state.user_id, state.metadata) == ("lobby", "ada", {"order": 1})
    assert (state.flow_id, state.flow_revision, state.agent_name) == (None, None, "mine")
    assert (state.created_at, state.status) == (history([ADOPTED])[0].time, Status.JOINED)


@pytest.mark.parametrize("events", [(REQUESTED, ADOPTED), (ADOPTED, REQUESTED)])
def test_the_request_of_a_session_outranks_an_adoption(events: tuple[Event, ...]) -> None:
    state = folded(*events)

    assert (state.flow_id, state.user_id, state.room, state.metadata) == ("booking", "ada", SESSION_ID, {})
