"""A call on record, and what it was after each of its events."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from tests.contracts.strategies import EPOCH, history

from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope, decode, encode
from antiphon.contracts.errors import ContractError
from antiphon.contracts.event import Event
from antiphon.contracts.events import agent, participant, session, turn
from antiphon.contracts.registry import open_event
from antiphon.contracts.session import fold
from antiphon.contracts.subjects import partition_of
from antiphon.contracts.turns import TurnKey, turn_after, turn_key, unfinished
from antiphon.contracts.views import TurnView

SESSION = "ses_01m7yq1we0eqq9xvayxnfetqqd"
REAL_CALL = Path(__file__).with_name("real_call.ndjson")

CALL: list[Event] = [
    session.SessionRequested(
        flow_id="booking", flow_revision=3, user_id="ada", room=SESSION, metadata={"a": 1}
    ),
    session.SessionDispatched(attempt=1, room_sid="RM_1", agent_name="antiphon"),
    agent.AgentJoined(job_id="AJ_1", worker_id="AW_1", epoch="AJ_1", identity="agent"),
    participant.ParticipantConnected(identity="caller", sid="PA_1", kind="standard"),
    agent.AgentReady(greeting="Good day.", ready_ms=900),
    turn.TurnStarted(turn=1, epoch="AJ_1", agent_id="host", user_text="hello", language="en"),
    agent.AgentStateChanged(old_state="listening", new_state="thinking"),
    turn.TurnSaved(turn=1, epoch="AJ_1", agent_id="host", user_text="hello", assistant_text="For how many?"),
    agent.AgentHandedOff(from_agent="host", to_agent="manager"),
    turn.TurnStarted(turn=2, epoch="AJ_1", agent_id="manager", user_text="two"),
    turn.TurnSaved(turn=2, epoch="AJ_1", agent_id="manager", assistant_text="For", recovered=True),
    agent.AgentLost(job_id="AJ_1", noticed_by="webhook"),
    agent.AgentJoined(job_id="AJ_2", worker_id="AW_2", epoch="AJ_2", identity="agent-2"),
    turn.TurnStarted(turn=1, epoch="AJ_2", agent_id="host", user_text="are you there"),
    turn.TurnSaved(turn=2, epoch="AJ_1", agent_id="manager", assistant_text="For two, gladly."),
    participant.ParticipantDisconnected(identity="caller", sid="PA_1", kind="standard"),
    session.SessionClosed(
        reason=session.CloseReason.CALLER_LEFT, fault=session.FaultSide.NONE, duration_seconds=9.5, turns=2
    ),
    turn.TurnStarted(turn=2, epoch="AJ_2", agent_id="host", user_text="bye"),
]


def at_seconds(envelopes: list[Envelope], seconds: Sequence[float]) -> list[Envelope]:
    """Return the events with these times, in seconds after EPOCH."""
    return [
        replace(envelope, time=EPOCH + timedelta(seconds=second))
        for envelope, second in zip(envelopes, seconds, strict=True)
    ]


async def record(database: Database, envelopes: Sequence[Envelope]) -> None:
    """Write committed events to the log, as ingest does."""
    await database.pool.executemany(
        """insert into event_log (session_id, sequence, partition, position, tenant, event_id, type,
               version, occurred_at, envelope)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)""",
        [
            (
                e.subject,
                e.sequence,
                partition_of(e.subject),
                e.position,
                e.tenant,
                e.id,
                e.type,
                e.version,
                e.time,
                encode(e).decode(),
            )
            for e in envelopes
        ],
    )


def call(*more: Event, session_id: str = SESSION) -> list[Envelope]:
    """Return the committed events of the call, and more."""
    return history([*CALL, *more], session_id)


def real_call() -> list[Envelope]:
    """Return the committed events of a call of the synthetic caller; those of LiveKit have whole seconds."""
    return [decode(line) for line in REAL_CALL.read_text().splitlines()]


def session_after(envelopes: list[Envelope]) -> Any:
    """Return the session after these events, as the API shows it."""
    state = fold(envelopes[0].subject, envelopes[0].tenant, envelopes)
    return msgspec.json.decode(msgspec.json.encode(state))


def turns_after(envelopes: list[Envelope]) -> Any:
    """Return the turns after these events, as the API shows them."""
    rows: dict[TurnKey, TurnView] = {}
    for envelope in envelopes:
        try:
            event = open_event(envelope)
        except ContractError:
            continue
        if (key := turn_key(event, envelope)) is not None:
            row = turn_after(rows.get(key), event, envelope)
            assert row is not None
            rows[key] = row
    ended = fold("", "", envelopes).ended
    shown = [unfinished(row) if ended else row for row in rows.values()]
    return msgspec.json.decode(msgspec.json.encode(shown))


def states_by_time(envelopes: list[Envelope], time: datetime) -> int:
    """Return the sequence of the last state with an `updated_at` that is not after a time."""
    found = 0
    for count in range(1, len(envelopes) + 1):
        updated_at = fold("", "", envelopes[:count]).updated_at
        if updated_at is not None and updated_at <= time:
            found = count
    return found
