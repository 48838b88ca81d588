"""Columns of the views that other services may read; persistence creates and writes the tables."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from itertools import islice
from operator import attrgetter
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Raw, Struct

from antiphon.contracts.session import Session

STATE_COLUMNS = (
    "session_id",
    "tenant",
    "status",
    "agent_state",
    "user_state",
    "turns",
    "turns_by_epoch",
    "skipped",
    "updated_at",
    "sequence",
    "metadata",
    "participants",
    "usage",
    "details",
)
# Documents that a null stands for when they are empty, so that an update can leave out what did not change.
EMPTY_DOCUMENTS = {"metadata": "{}", "participants": "{}", "usage": "[]", "turns_by_epoch": "{}"}
# The fields of a session that have no column of their own in full: they are in the document `details`.
DETAILS = tuple(name for name in Session.__struct_fields__ if name not in STATE_COLUMNS)


INDEXED_LENGTH = 256  # characters: an index entry has an upper bound


FIRST_INSTANT = datetime(2, 1, 1, tzinfo=UTC)
LAST_INSTANT = datetime(9998, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def storable(value: str) -> str:
    """Return a text without NUL, which a text column cannot hold; the log keeps the original."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


def indexed(value: str) -> str:
    """Return a text as the columns to filter by hold it: cut, and without NUL; the log keeps the original."""
    return storable(value[:INDEXED_LENGTH])


def instant(value: datetime) -> datetime:
    """Return a time that Postgres can store and return; those of the years 1 and 9999 move to the next."""
    # UTC cannot express all of these years, and asyncpg takes their first and last instant for infinity
    if 1 < value.year < 9999:
        return value
    return FIRST_INSTANT if value.year == 1 else LAST_INSTANT


def utc_day(value: datetime) -> date:
    """Return the day of a time, in UTC; see `instant`."""
    return instant(value).astimezone(UTC).date()


SKETCH_ACCURACY = 0.01  # the relative error of the latencies in the view `daily`
USAGE_COUNTS = (
    "input_tokens",
    "input_cached_tokens",
    "input_audio_tokens",
    "output_tokens",
    "output_audio_tokens",
    "characters",
    "requests",
)


TERM_SEPARATOR = "\x1f"  # between the terms of one session, on their way to Postgres
MAX_TERMS = 50
MAX_TERM_LENGTH = 512  # characters
TEST_TERM = "test"  # of test sessions, beside those of their metadata, which all have a =


def metadata_term(key: str, value: str) -> str | None:
    """Return the term by which a session with this metadata is found, or None if it is found by none."""
    if "=" in key or TERM_SEPARATOR in key or TERM_SEPARATOR in value:
        return None
    term = storable(f"{key}={value}")
    return term if len(term) <= MAX_TERM_LENGTH else None


def metadata_terms(metadata: Mapping[str, Any]) -> list[str]:
    """Return the terms of the texts, numbers and booleans of the first MAX_TERMS members."""
    terms = (
        metadata_term(key, value if isinstance(value, str) else _encode(value).decode())
        for key, value in islice(metadata.items(), MAX_TERMS)
        if isinstance(value, str | int | float)
    )
    return [term for term in terms if term is not None]


def session_terms(session: Session) -> list[str]:
    """Return the terms that a session is found by: those of its metadata, and whether it is a test."""
    return [*metadata_terms(session.metadata), *([TEST_TERM] if session.test else [])]


class SessionView(Struct, frozen=True, kw_only=True):
    """A row of the view `sessions`: the folded session, in columns that are written when they change.

    `session_json` makes the session of a row; the other columns are there to filter and page by.
    """

    session_id: str
    tenant: str
    created_at: datetime
    status: str
    turns: int
    skipped: int
    updated_at: datetime
    sequence: int
    flow_id: str | None = None
    flow_revision: int | None = None
    user_id: str | None = None
    room: str | None = None
    language: str | None = None
    ended_at: datetime | None = None
    reason: str | None = None
    agent_state: str | None = None
    user_state: str | None = None
    turns_by_epoch: dict[str, int] | None = None
    metadata: dict[str, Any] | None = None
    details: dict[str, Any] | None = None
    participants: dict[str, Any] | None = None
    usage: list[Any] | None = None
    conversation_id: str | None = None
    fault: str | None = None
    metadata_terms: list[str] | None = None


class TurnView(Struct, frozen=True, kw_only=True):
    """A row of the view `turns`: one turn of the conversation, from its `turn.started` and `turn.saved`.

    `state` is `open` until the turn is saved; readers show `unfinished` when the session ended before.
    `sequence` is that of the event whose content the row has; turns are in the order of `first_sequence`,
    that of the turn's first event.
    """

    session_id: str
    epoch: str
    turn: int
    tenant: str
    agent_id: str
    state: Literal["open", "saved", "unfinished"]
    interrupted: bool
    recovered: bool
    occurred_at: datetime
    sequence: int
    first_sequence: int
    tool_call_ids: list[str]
    metrics: dict[str, Any]
    started_at: datetime | None = None
    user_text: str | None = None
    assistant_text: str | None = None
    assistant_text_generated: str | None = None
    language: str | None = None
    confidence: float | None = None


class ParticipantView(Struct, frozen=True, kw_only=True):
    """A row of the view `participants`: a stay in the room of a session, by the participant's sid.

    `reconnects` counts how often it came back with the same sid. `left_at` is null while it is there, and
    when nobody saw it leave.
    """

    session_id: str
    sid: str
    tenant: str
    identity: str
    kind: str
    reconnects: int
    name: str | None = None
    joined_at: datetime | None = None
    left_at: datetime | None = None
    reason: str | None = None


class ToolView(Struct, frozen=True, kw_only=True):
    """A row of the view `tools`: one call of a tool. `turn` is known once its turn is saved.

    `personal`: the tool is marked as one whose results are personal data.
    """

    session_id: str
    call_id: str
    tenant: str
    epoch: str
    name: str
    status: Literal["running", "done", "error", "cancelled"]
    personal: bool
    turn: int | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_seconds: float | None = None
    arguments: str | None = None
    output: str | None = None


class UsageView(Struct, frozen=True, kw_only=True):
    """A row of the view `usage`: what one model has used in one agent job (`epoch`) of a session.

    `day` (UTC) and `flow_id` are those of the session's start; `flow_id` is empty without a flow.
    """

    session_id: str
    epoch: str
    kind: str
    provider: str
    model: str
    tenant: str
    day: date
    flow_id: str
    input_tokens: int
    input_cached_tokens: int
    input_audio_tokens: int
    output_tokens: int
    output_audio_tokens: int
    characters: int
    requests: int
    audio_seconds: float
    updated_at: datetime


class DailyView(Struct, frozen=True, kw_only=True):
    """A row of the view `daily`: the sessions that began on a day (UTC) with a flow, of one partition.

    `outcomes` and `faults` count the ends by reason and by side. `response_ms` and `ready_ms` are sketches:
    counts of values by bin of a DDSketch with the relative error SKETCH_ACCURACY. Sums over the partitions,
    also of bins, are the figures of the day.
    """

    tenant: str
    day: date
    flow_id: str
    partition: int
    calls: int
    ended: int
    failed: int
    duration_ms: int
    turns: int
    interruptions: int
    outcomes: dict[str, int]
    faults: dict[str, int]
    response_ms: dict[str, int]
    ready_ms: dict[str, int]


class TimelineView(Struct, frozen=True, kw_only=True):
    """A row of the view `timeline`: one thing that happened in a session, for a person to read.

    `ended_at` is null while it goes on. Rows are in the order of `started_at`, `sequence` and `part`;
    `sequence` is that of the event that it began with.
    """

    session_id: str
    item: str
    tenant: str
    sequence: int
    part: int
    lane: Literal["session", "participant", "caller", "agent", "tool", "media", "error"]
    started_at: datetime
    title: str
    detail: str | None = None
    ended_at: datetime | None = None


TABLES: dict[str, type[Struct]] = {
    "sessions": SessionView,
    "turns": TurnView,
    "participants": ParticipantView,
    "tools": ToolView,
    "usage": UsageView,
    "daily": DailyView,
    "timeline": TimelineView,
}

_encode = msgspec.json.Encoder().encode
_details = attrgetter(*DETAILS)


def details(session: Session) -> tuple[Any, ...]:
    """Return the fields of a session that its document `details` holds, to compare and to encode."""
    values: tuple[Any, ...] = _details(session)
    return values


def details_json(values: tuple[Any, ...]) -> str:
    """Return the document `details`."""
    return _encode(dict(zip(DETAILS, values, strict=True))).decode()


class Row(Protocol):
    """A row of a query: a mapping, or a record of asyncpg."""

    def __getitem__(self, column: str, /) -> Any:
        """Return the value of a column."""


def session_json(row: Row) -> bytes:
    """Return the session of a row as JSON; the row has STATE_COLUMNS, its documents as text."""
    columns = {name: row[name] for name in STATE_COLUMNS}
    written: str = columns.pop("details") or "{}"
    for name, empty in EMPTY_DOCUMENTS.items():
        columns[name] = Raw(columns[name] or empty)
    # The fields of `details` are in the session itself, so its text continues that of the columns.
    return b"".join((_encode(columns)[:-1], b"," if len(written) > 2 else b"", written[1:].encode()))
