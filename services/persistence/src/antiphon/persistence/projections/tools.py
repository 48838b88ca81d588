"""The view `tools`: one row per tool call of a session, from its `tool.started` and `tool.completed`."""

from sqlalchemy import Boolean, Column, Float, Index, Integer, PrimaryKeyConstraint, Table, Text

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import epoch_of
from antiphon.persistence.projection import Instant, Name, Projection, Rows, ViewTable, required, views

TABLE = Table(
    "tools",
    views,
    required("session_id", Name),
    required("call_id", Name),
    required("tenant", Name),
    required("epoch", Name),
    required("name", Name),
    required("status", Text, default="running"),
    required("personal", Boolean, default=False),
    Column("turn", Integer),
    Column("started_at", Instant),
    Column("completed_at", Instant),
    Column("duration_seconds", Float),
    Column("arguments", Text),
    Column("output", Text),
    PrimaryKeyConstraint("session_id", "call_id"),
    Index(None, "tenant", "name", "started_at"),
)
TOOL = ViewTable(TABLE)
TOOLS = Projection("tools", TOOL, version=2)


@TOOLS.on(ToolStarted)
def started(event: ToolStarted, envelope: Envelope, rows: Rows) -> None:
    """Begin a call, which is `running` until it completes."""
    row = rows(TOOL, envelope.subject, event.call_id)
    row.update(
        tenant=envelope.tenant,
        epoch=epoch_of(envelope.id, envelope.subject),
        name=event.name,
        arguments=event.arguments,
        started_at=row.get("started_at") or envelope.time,
    )


@TOOLS.on(ToolCompleted)
def completed(event: ToolCompleted, envelope: Envelope, rows: Rows) -> None:
    """End a call; the last end that was reported is shown."""
    row = rows(TOOL, envelope.subject, event.call_id)
    row.update(
        tenant=envelope.tenant,
        epoch=epoch_of(envelope.id, envelope.subject),
        name=event.name,
        status=event.status,
        output=event.output,
        personal=event.personal is True,
        completed_at=envelope.time,
        duration_seconds=event.duration_seconds,
    )


@TOOLS.on(TurnSaved)
def called_in(event: TurnSaved, envelope: Envelope, rows: Rows) -> None:
    """Note the turn of each of its calls that is known; with `epoch` it is the key of the view `turns`."""
    for call_id in event.tool_call_ids:
        if rows.find(TOOL, envelope.subject, call_id) is not None:
            rows(TOOL, envelope.subject, call_id).update(turn=event.turn, epoch=event.epoch or "")
