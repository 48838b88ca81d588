"""The view `turns`: one row per turn of an agent, open from its `turn.started` to its `turn.saved`."""

from collections.abc import Mapping
from typing import Any

from msgspec import json
from msgspec.structs import asdict
from sqlalchemy import Boolean, Column, Float, Integer, PrimaryKeyConstraint, Table, Text

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.turn import TurnSaved, TurnStarted
from antiphon.contracts.turns import turn_after
from antiphon.contracts.views import TurnView
from antiphon.persistence.projection import (
    Document,
    Instant,
    Name,
    Projection,
    Row,
    Rows,
    ViewTable,
    required,
    views,
)

TABLE = Table(
    "turns",
    views,
    required("session_id", Name),
    required("epoch", Name),
    required("turn", Integer),
    required("tenant", Name),
    required("agent_id", Text),
    required("state", Text),
    required("interrupted", Boolean),
    required("recovered", Boolean),
    required("occurred_at", Instant),
    required("sequence", Integer),
    required("first_sequence", Integer),
    required("tool_call_ids", Document),
    required("metrics", Document),
    Column("started_at", Instant),
    Column("user_text", Text),
    Column("assistant_text", Text),
    Column("assistant_text_generated", Text),
    Column("language", Text),
    Column("confidence", Float),
    PrimaryKeyConstraint("session_id", "epoch", "turn"),
)


def load(record: Mapping[str, Any]) -> Row:
    """Return the row of a record."""
    documents = {name: json.decode(record[name]) for name in ("tool_call_ids", "metrics")}
    return {"shown": TurnView(**(dict(record) | documents))}


TURN = ViewTable(TABLE, load=load, dump=lambda row, _: asdict(row["shown"]))
TURNS = Projection("turns", TURN, rest_seconds=0.0015)


@TURNS.on(TurnStarted, TurnSaved)
def changed(event: TurnStarted | TurnSaved, envelope: Envelope, rows: Rows) -> None:
    """Show the event that says most about its turn, whatever the order of the events."""
    row = rows(TURN, envelope.subject, event.epoch or "", event.turn)
    row["shown"] = turn_after(row.get("shown"), event, envelope)
