"""Examples of the OpenAPI document, made from the types that are really sent."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope, committed, seal
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentJoined, AgentReady
from antiphon.contracts.events.session import SessionDispatched, SessionRequested
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.session import fold
from antiphon.contracts.subjects import partition_of
from antiphon.contracts.views import TurnView
from antiphon.session_api.flows.known import Flow
from antiphon.session_api.pagination import PageKey, encode_number_cursor, encode_page_cursor

SESSION_ID = "ses_01m7yq1we0eqq9xvayxnfetqqd"
EPOCH = "AJ_7rKbXyQ2mTnd"
BASE = "http://127.0.0.1:8000"

_AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
_EVENTS: tuple[Event, ...] = (
    SessionRequested(
        flow_id="booking",
        flow_revision=1,
        user_id="ada",
        room=SESSION_ID,
        language="en",
        metadata={"order": "A-17"},
        conversation_id="table-17",
    ),
    SessionDispatched(attempt=1, room_sid="RM_x7Pq2hVd", agent_name="antiphon"),
    AgentJoined(epoch=EPOCH, job_id=EPOCH, worker_id="AW_k2", identity=f"agent-{EPOCH}"),
    AgentReady(greeting="Good evening, this is the table desk.", ready_ms=640.0),
    TurnSaved(
        turn=1,
        epoch=EPOCH,
        agent_id="host",
        user_text="i would like to book a table for two",
        assistant_text="For when?",
        assistant_text_generated="For when?",
    ),
)


def _log() -> list[Envelope]:
    sealed = (
        seal(
            event,
            id=f"{SESSION_ID}:example:{number}",
            session_id=SESSION_ID,
            tenant="default",
            producer="session-api" if number < 2 else "agent-worker",
            producerseq=number,
            time=_AT + timedelta(seconds=number),
        )
        for number, event in enumerate(_EVENTS)
    )
    return [committed(envelope, number, 4711 + number) for number, envelope in enumerate(sealed, start=1)]


def _plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


_committed = _log()
EVENT = _plain(_committed[0])
SESSION = _plain(fold(SESSION_ID, "default", _committed))
TURN = _plain(
    TurnView(
        session_id=SESSION_ID,
        epoch=EPOCH,
        turn=1,
        tenant="default",
        agent_id="host",
        state="saved",
        interrupted=False,
        recovered=False,
        occurred_at=_AT + timedelta(seconds=9),
        sequence=5,
        first_sequence=5,
        tool_call_ids=[],
        metrics={"e2e_latency": 0.61},
        user_text="i would like to book a table for two",
        assistant_text="For when?",
        assistant_text_generated="For when?",
        language="en",
    )
)
FLOW = _plain(
    Flow(
        flow_id="booking",
        revision=1,
        sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        name="Table booking",
        description="A restaurant's table desk",
        language="en",
        created_at=_AT,
    )
)
SESSION_CURSOR = encode_page_cursor(PageKey(_AT, SESSION_ID))
EVENT_CURSOR = encode_number_cursor(f"events:{SESSION_ID}", 1)
FEED_CURSOR = Cursor({partition_of(SESSION_ID): 4712}).encode("example")
FEED = f"id: {FEED_CURSOR}\nevent: {EVENT['type']}\ndata: {msgspec.json.encode(EVENT).decode()}\n\n"
EXPORT = (
    f"{msgspec.json.encode(EVENT).decode()}\n"
    f'{{"cursor":"{FEED_CURSOR}","until":"{FEED_CURSOR}","progress":1.0,"complete":true,"tenant":"default"}}\n'
)
STREAM = f"id: 1\nevent: {EVENT['type']}\ndata: {msgspec.json.encode(EVENT).decode()}\n\n"
CREATED = {
    "session_id": SESSION_ID,
    "status": "dispatched",
    "room": SESSION_ID,
    "livekit_url": "ws://127.0.0.1:7880",
    "token": "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJkZXYifQ.c2lnbmF0dXJl",
    "events_url": f"{BASE}/v1/sessions/{SESSION_ID}/events",
}
TOKEN = {
    "session_id": SESSION_ID,
    "room": SESSION_ID,
    "livekit_url": "ws://127.0.0.1:7880",
    "identity": "supervisor",
    "token": "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJkZXYifQ.c2lnbmF0dXJl",
    "expires_in_seconds": 600,
}
ENDED = {"session_id": SESSION_ID, "ended": True}
ENDING = {"session_id": SESSION_ID, "ended": False}
