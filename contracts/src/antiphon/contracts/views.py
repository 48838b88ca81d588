"""Columns of the views that other services may read; persistence creates and writes the tables."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from antiphon.contracts.session import Session


class SessionView(Struct, frozen=True, kw_only=True):
    """A row of the view `sessions`: the folded session in `state`, and the columns to filter and page by."""

    session_id: str
    tenant: str
    status: str
    flow_id: str
    flow_revision: int
    user_id: str
    created_at: datetime
    updated_at: datetime
    turns: int
    sequence: int
    state: Session
    language: str | None = None
    ended_at: datetime | None = None
    reason: str | None = None


class TurnView(Struct, frozen=True, kw_only=True):
    """A row of the view `turns`: one turn of the conversation, from its `turn.saved`."""

    session_id: str
    turn: int
    tenant: str
    agent_id: str
    interrupted: bool
    recovered: bool
    occurred_at: datetime
    sequence: int
    tool_call_ids: list[str]
    metrics: dict[str, Any]
    user_text: str | None = None
    assistant_text: str | None = None
    assistant_text_generated: str | None = None
    language: str | None = None
    confidence: float | None = None


TABLES: dict[str, type[Struct]] = {"sessions": SessionView, "turns": TurnView}
