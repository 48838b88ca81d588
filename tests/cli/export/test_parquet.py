"""What is written to Parquet is what the log has: every example, by any reader, and nothing is dropped."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from msgspec import Raw, Struct
from tests.cli.export.batches import GOLDEN, envelopes, golden, replaced

from antiphon.cli.errors import StackError
from antiphon.cli.export.columns import ENVELOPE_COLUMNS, PARTITION_COLUMNS, body_columns
from antiphon.cli.export.parquet import ParquetFolder
from antiphon.cli.export.tables import UNREADABLE, layout_of, table_of
from antiphon.contracts.envelope import SCHEMA_BASE, Envelope, encode
from antiphon.contracts.event import Event, Family
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.registry import BY_TYPE, EVENTS, open_event
from antiphon.contracts.views import FIRST_INSTANT, LAST_INSTANT

Row = dict[str, Any]


def write(folder: Path, events: Sequence[Envelope], *, without_pii: bool = False, **options: int) -> None:
    files = ParquetFolder(folder, "test", None, without_pii=without_pii, **options)
    files.add([encode(event) for event in events])
    files.flush()
    files.close(complete=True)


def rows(folder: Path) -> list[Row]:
    """Return all rows of a folder as DuckDB reads it, by position."""
    query = f"from read_parquet('{folder}/**/*.parquet', union_by_name = true) order by position"
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("set timezone = 'UTC'")
        found: list[Row] = connection.sql(query).to_arrow_table().to_pylist()
    return found


def expected(envelope: Envelope) -> Row:
    """Return what the row of an event must hold, by the event's own types."""
    body = msgspec.to_builtins(open_event(envelope), builtin_types=(datetime,))
    free = {
        name for name, kind in BY_TYPE[envelope.type].__annotations__.items() if "dict[str" in str(kind)
    } | {name for name, value in body.items() if isinstance(value, dict)}
    return {
        "session_id": envelope.subject,
        "sequence": envelope.sequence,
        "position": envelope.position,
        "tenant": envelope.tenant,
        "event_id": envelope.id,
        "version": envelope.version,
        "time": envelope.time,
        "producer": envelope.producer,
        "producerseq": envelope.producerseq,
        "type": envelope.type,
        "day": envelope.time.date(),
        **{name: ("json", value) if name in free else value for name, value in body.items()},
    }


def shown(row: Row, wanted: Row) -> Row:
    """Return a row in the form of `expected`: JSON text is decoded."""
    return {
        name: ("json", json.loads(row[name])) if isinstance(value, tuple) else row[name]
        for name, value in wanted.items()
    }


def test_every_example_reads_back_as_it_was(tmp_path: Path) -> None:
    events = golden()
    write(tmp_path, events)

    found = rows(tmp_path)

    assert len(found) == len(GOLDEN)
    for event, row in zip(events, found, strict=True):
        wanted = expected(event)
        assert shown(row, wanted) == wanted
        assert all(value is None for name, value in row.items() if name not in {*wanted, "traceparent"})


def test_pyarrow_and_duckdb_read_the_same(tmp_path: Path) -> None:
    write(tmp_path, list(envelopes(200)))

    folder = tmp_path / "day=2026-01-02" / "type=turn.saved"
    dataset = pa.dataset.dataset(folder, format="parquet")
    table = pq.read_table(folder)

    turns = [row for row in rows(tmp_path) if row["type"] == "turn.saved" and row["day"].day == 2]
    assert dataset.count_rows() == table.num_rows == len(turns) > 50
    assert table.column("user_text").to_pylist() == [row["user_text"] for row in turns]
    assert table.schema.field("time").type == pa.timestamp("us", tz="UTC")
    assert table.schema.field("turn").type == pa.int64()
    assert table.schema.field("interrupted").type == pa.bool_()
    assert table.schema.field("confidence").type == pa.float64()
    assert table.schema.field("tool_call_ids").type.value_type == pa.string()


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.TYPE)
@pytest.mark.parametrize("without_pii", [False, True])
def test_no_two_columns_have_one_name(event: type[Event], without_pii: bool) -> None:
    names = [*layout_of(event.TYPE, without_pii=without_pii).schema.names, *PARTITION_COLUMNS]

    assert len(names) == len(set(names))
    assert names[: len(ENVELOPE_COLUMNS)] == [column.name for column in ENVELOPE_COLUMNS]


def test_a_field_with_the_name_of_a_column_of_the_envelope_gets_a_prefix() -> None:
    class Odd(Event, frozen=True, kw_only=True):
        TYPE: ClassVar[str] = "odd"
        FAMILY: ClassVar[Family] = Family.SESSION

        time: int
        type: str
        mood: str | int | None = None

    columns = {column.name: column.type for column in body_columns(Odd)}

    assert columns == {"data_time": pa.int64(), "data_type": pa.string(), "mood": pa.string()}


def test_nothing_personal_is_in_the_files(tmp_path: Path) -> None:
    personal = replaced(
        golden()[0],
        type="turn.saved",
        dataschema=f"{SCHEMA_BASE}/turn.saved/{TurnSaved.VERSION}",
        data=Raw(b'{"turn": 1, "agent_id": "host", "user_text": "my name is Ada Lovelace"}'),
    )
    write(tmp_path, [personal], without_pii=True)

    [path] = tmp_path.rglob("*.parquet")
    assert "user_text" not in pq.read_schema(path).names
    assert pq.ParquetFile(path).read().column("agent_id").to_pylist() == ["host"]
    assert b"Lovelace" not in path.read_bytes()


def test_what_cannot_be_read_is_kept_as_it_is(tmp_path: Path) -> None:
    good, unknown, newer, huge = golden()[:4]
    unknown = replaced(unknown, type="mood.changed/../..", data=Raw(b'{"mood": "good"}'))
    newer = replaced(newer, dataschema=f"{SCHEMA_BASE}/{newer.type}/77")
    huge = replaced(
        huge,
        type="usage.updated",
        dataschema=f"{SCHEMA_BASE}/livekit.room_started/1",
        data=Raw(b'{"webhook_id": "w", "room": "r", "payload": {}, "dropped": 99999999999999999999999}'),
    )
    huge = replaced(huge, type="livekit.room_started")
    write(tmp_path, [good, unknown, newer, huge])

    found = {row["position"]: row for row in rows(tmp_path)}

    assert found[1]["type"] == good.type
    for event, reason in ((unknown, "unknown event type"), (newer, "version 77"), (huge, "int")):
        row = found[event.position]
        assert (row["type"], row["event_type"]) == (UNREADABLE, event.type)
        assert reason in row["error"]
        assert json.loads(row["raw"]) == json.loads(encode(event))
    assert all(path.is_relative_to(tmp_path) for path in tmp_path.rglob("*.parquet"))


def test_a_row_that_does_not_fit_leaves_the_others_in_the_table() -> None:
    good = list(envelopes(7))
    turns = [event for event in good if event.type == "turn.saved"]
    bad = replaced(turns[1], sequence=2**70)

    table, unreadable = table_of("turn.saved", [turns[0], bad, *turns[2:]], without_pii=False)

    assert table.column("turn").to_pylist() == [1, 4, 5, 7]
    assert [each.envelope for each in unreadable] == [bad]


def test_files_are_written_when_enough_events_wait(tmp_path: Path) -> None:
    files = ParquetFolder(tmp_path, "test", None, without_pii=False, flush_events=10)
    lines = [encode(event) for event in envelopes(10)]
    full: list[bool] = []
    files.add(lines[:9])
    full.append(files.full)
    files.add(lines[9:])
    full.append(files.full)
    written, _ = files.flush()
    full.append(files.full)

    assert full == [False, True, False]
    assert {each.path.partition("/part-")[0] for each in written} == {
        "day=2026-01-01/type=turn.saved",
        "day=2026-01-01/type=tool.completed",
    }
    assert sum(each.rows for each in written) == 10
    assert all((tmp_path / each.path).stat().st_size == each.bytes for each in written)


def test_a_line_that_is_no_event_is_an_error(tmp_path: Path) -> None:
    files = ParquetFolder(tmp_path, "test", None, without_pii=False)

    with pytest.raises(StackError, match="no event"):
        files.add([b"{}"])


def test_the_day_is_that_of_utc(tmp_path: Path) -> None:
    late = replaced(golden()[0], time=datetime.fromisoformat("2026-01-01T23:30:00-02:00"))
    write(tmp_path, [late])

    assert [row["day"].isoformat() for row in rows(tmp_path)] == ["2026-01-02"]
    assert rows(tmp_path)[0]["time"] == datetime(2026, 1, 2, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time", "stored"),
    [
        ("9999-12-31T23:59:59.999999-12:00", LAST_INSTANT),
        ("9999-06-01T00:00:00Z", LAST_INSTANT),
        ("0001-01-01T00:00:00+12:00", FIRST_INSTANT),
        ("0001-06-01T00:00:00Z", FIRST_INSTANT),
    ],
)
def test_a_time_that_utc_or_a_reader_cannot_express_is_the_nearest(
    tmp_path: Path, time: str, stored: datetime
) -> None:
    known, other = golden()[0], replaced(golden()[1], type="mood.changed")
    write(tmp_path, [replaced(each, time=datetime.fromisoformat(time)) for each in (known, other)])

    found = rows(tmp_path)

    assert [row["time"] for row in found] == [stored, stored]
    assert [row["day"] for row in found] == [stored.date()] * 2
    assert json.loads(found[1]["raw"])["time"] == time


def test_a_time_in_a_body_is_stored_likewise(tmp_path: Path) -> None:
    class Timed(Event, frozen=True, kw_only=True):
        TYPE: ClassVar[str] = "timed"
        FAMILY: ClassVar[Family] = Family.SESSION

        at: datetime | None = None
        many: list[datetime] = []  # noqa: RUF012 - msgspec copies it

    at, many = body_columns(Timed)
    late = datetime.fromisoformat("9999-12-31T23:59:59.999999-12:00")

    assert at.value(Timed(at=late)) == LAST_INSTANT
    assert at.value(Timed()) is None
    assert many.value(Timed(many=[late])) == [LAST_INSTANT]


@pytest.mark.parametrize("number", [2**63, 2**200])
def test_numbers_of_the_envelope_that_do_not_fit_end_no_export(tmp_path: Path, number: int) -> None:
    good, one, other = golden()[:3]
    odd = [
        replaced(one, producerseq=number),
        replaced(other, dataschema=f"{SCHEMA_BASE}/{other.type}/{number}"),
    ]
    write(tmp_path, [good, *odd])

    found = rows(tmp_path)

    assert [row["type"] for row in found] == [good.type, UNREADABLE, UNREADABLE]
    assert (found[1]["producerseq"], found[2]["version"]) == (None, None)
    assert [json.loads(row["raw"]) for row in found[1:]] == [json.loads(encode(each)) for each in odd]


def test_structs_keep_their_form() -> None:
    class Inner(Struct):
        name: str
        at: datetime | None = None

    class Outer(Event, frozen=True, kw_only=True):
        TYPE: ClassVar[str] = "outer"
        FAMILY: ClassVar[Family] = Family.SESSION

        one: Inner | None = None
        many: list[Inner] = []  # noqa: RUF012 - msgspec copies it
        free: dict[str, Any] = {}  # noqa: RUF012

    columns = {column.name: column for column in body_columns(Outer)}
    body = Outer(many=[Inner(name="a")], free={"x": [1]})

    assert columns["many"].value(body) == [{"name": "a", "at": None}]
    assert columns["one"].value(body) is None
    assert columns["free"].value(body) == '{"x":[1]}'
    assert pa.types.is_struct(columns["one"].type)
