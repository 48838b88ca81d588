"""The columns of the sessions view to filter by: written from the fold, and filled for the rows of before."""

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from alembic import command

from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed, SessionRequested
from antiphon.contracts.views import metadata_term, metadata_terms
from antiphon.persistence import migrations
from antiphon.persistence.projection.cache import Cache
from antiphon.persistence.projections.sessions import SESSIONS

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession
    from tests.persistence.projections.conftest import View

METADATA: dict[str, Any] = {
    "order": "A-17",
    "vip": True,
    "seats": 2,
    "price": 12.5,
    "huge": 1e22,
    "nothing": None,
    "list": [1],
    "inner": {"a": 1},
    "nul": "a\0b \\u0000",
    "a=b": "no",
    "long": "x" * 600,
    "": "empty key",
}
TERMS = [
    "order=A-17",
    "vip=true",
    "seats=2",
    "price=12.5",
    "huge=1e22",
    "nul=a\ufffdb \\u0000",
    "=empty key",
]
CLOSED = SessionClosed(reason=CloseReason.ERROR, fault=FaultSide.AGENT, duration_seconds=1.0, turns=0)
FILTERED = ("conversation_id", "reason", "fault", "metadata_terms")


def _requested(metadata: dict[str, Any]) -> SessionRequested:
    return SessionRequested(
        flow_id="booking",
        flow_revision=1,
        user_id="u1",
        room="r",
        metadata=metadata,
        conversation_id="c" * 300,
    )


def test_terms_are_the_texts_numbers_and_booleans() -> None:
    assert metadata_terms(METADATA) == TERMS
    assert metadata_term("order", "A-17") == "order=A-17"
    assert len(metadata_terms({str(n): n for n in range(80)})) == 50


async def test_the_row_has_what_it_is_filtered_by(view: "View", new_session: "NewSession") -> None:
    session = new_session("filtered")
    log = view(SESSIONS).committed(
        [session.seal(_requested(METADATA)), session.turn(1), session.seal(CLOSED)]
    )
    cache = Cache()

    for envelope in log:  # the terms stay although later events do not write them
        await view(SESSIONS).again([envelope], cache)

    [row] = await view.rows("sessions")
    assert [row[name] for name in FILTERED] == ["c" * 256, "error", "agent", TERMS]


async def test_a_session_without_metadata_has_no_terms(view: "View", new_session: "NewSession") -> None:
    await view(SESSIONS).given([new_session("bare").seal(_requested({}))])

    [row] = await view.rows("sessions")
    assert [row[name] for name in FILTERED] == ["c" * 256, None, None, None]


async def test_the_rows_of_before_are_found_after_the_upgrade(empty_dsn: str) -> None:
    await asyncio.to_thread(command.upgrade, migrations._config(empty_dsn), "0005")
    connection = await asyncpg.connect(empty_dsn)
    insert = """
        insert into sessions (session_id, tenant, created_at, flow_id, reason, ended_at, metadata, details,
                              status, turns, skipped, updated_at, sequence)
        values ($1, 'default', $2, $3, $4, $5, $6, $7, 'closed', 0, 0, $2, 3)
    """
    now = datetime.now(UTC)
    closed = json.dumps({"fault": "agent", "conversation_id": "nul \0", "greeting": "\0"})
    await connection.execute(insert, "ses_1", now, "f" * 400, "error", now, json.dumps(METADATA), closed)
    await connection.execute(insert, "ses_2", now, None, None, None, None, json.dumps({"fault": None}))
    await connection.execute(insert, "ses_3", now, None, None, now, json.dumps({}), None)

    migrations.migrate(empty_dsn)

    columns = "flow_id, conversation_id, fault, metadata_terms"
    rows = [
        tuple(row) for row in await connection.fetch(f"select {columns} from sessions order by session_id")
    ]
    await connection.close()
    # json.dumps writes 1e+22 where the fold writes 1e22
    terms = [term.replace("1e22", "1e+22") for term in TERMS]
    assert rows == [("f" * 256, "nul \ufffd", "agent", terms), (None,) * 4, (None,) * 4]


@pytest.mark.parametrize("revision", ["0005"])
async def test_code_of_before_goes_on_writing(revision: str, postgres_dsn: str) -> None:
    connection = await asyncpg.connect(postgres_dsn)
    try:
        declared: str = await connection.fetchval("select compatible_from from schema_compatibility")
        assert declared <= revision
        await connection.execute(
            "insert into sessions (session_id, tenant, created_at, status, turns, skipped, updated_at,"
            " sequence) values ('s', 'default', now(), 'pending', 0, 0, now(), 1)"
        )
    finally:
        await connection.close()
