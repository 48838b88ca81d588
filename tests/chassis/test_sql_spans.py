"""Statements are spans of the open trace, named by operation and tables, and hold no value."""

import asyncio

import asyncpg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.doubles.finished_spans import keep_spans

from antiphon.chassis import sql_spans, tracing
from antiphon.chassis.database import Database
from antiphon.chassis.sql_spans import sql_attributes


@pytest.mark.parametrize(
    ("statement", "summary"),
    [
        ("select 1", "SELECT"),
        ("select advance_view($1, $2)", "SELECT advance_view"),
        (
            "select a from event_log as e join sessions using (id) where b = 'from canary'",
            "SELECT event_log sessions",
        ),
        ("-- from canary\nSELECT a FROM ONLY event_log FOR UPDATE", "SELECT event_log"),
        (
            """with new as (select $1), row (a) as materialized (select a from new)
            insert into turns (a) select a from row on conflict (a) do update set a = 1""",
            "INSERT turns",
        ),
        ("update keys set name = 'it''s from canary' where id = $1", "UPDATE keys"),
        ("delete from turns where id = $1", "DELETE turns"),
        ("begin", "BEGIN"),
        ("canary", "OTHER"),
    ],
)
def test_a_statement_is_named_by_its_operation_and_tables(statement: str, summary: str) -> None:
    attributes = sql_attributes(statement)

    assert attributes == {
        "db.system.name": "postgresql",
        "db.operation.name": summary.split(maxsplit=1)[0],
        "db.query.summary": summary,
    }


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    return keep_spans(monkeypatch, sql_spans)


async def test_statements_of_a_pool_are_children_of_the_open_span(
    spans: InMemorySpanExporter, postgres_dsn: str
) -> None:
    database = await Database.connect(postgres_dsn, min_size=0)
    try:
        await database.pool.fetchval("select count(*) from event_log")  # in no trace
        with tracing.span("request"):
            await database.pool.fetchval("select count(*) from event_log where session_id = $1", "canary")
            with pytest.raises(asyncpg.PostgresError):
                await database.pool.execute("insert into event_log (session_id) values ('canary')")
            await asyncio.sleep(0)  # asyncpg tells of a statement in the next turn of the loop
    finally:
        await database.close()

    count, insert, request = spans.get_finished_spans()
    assert (count.name, insert.name) == ("SELECT event_log", "INSERT event_log")
    assert request.context is not None
    for statement in (count, insert):
        assert statement.parent is not None
        assert statement.parent.span_id == request.context.span_id
        assert statement.kind is trace.SpanKind.CLIENT
        assert "canary" not in statement.to_json()
    assert count.status.status_code is trace.StatusCode.UNSET
    assert insert.attributes is not None
    assert insert.attributes["error.type"] == "23502"
    assert count.start_time is not None
    assert count.end_time is not None
    assert request.start_time is not None
    assert request.start_time <= count.start_time <= count.end_time
