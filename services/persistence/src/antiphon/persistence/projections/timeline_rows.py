"""The rows of the view `timeline`: how a thing begins, ends, or happens at once."""

from collections.abc import Mapping

from msgspec import UNSET
from sqlalchemy import Column, Index, Integer, PrimaryKeyConstraint, SmallInteger, Table, Text

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.views import INDEXED_LENGTH
from antiphon.persistence.projection import (
    Document,
    Instant,
    Name,
    Row,
    Rows,
    ViewTable,
    required,
    views,
)

LONGEST_TITLE, LONGEST_DETAIL = 120, 2_000  # characters
MAX_OPEN = 100  # things of a session that have begun and not ended; of more, the oldest stay open

TABLE = Table(
    "timeline",
    views,
    required("session_id", Name),
    required("item", Name),
    required("tenant", Name),
    required("sequence", Integer),  # of the event that it began with, and its place among the rows of this
    required("part", SmallInteger),
    required("lane", Text),
    required("started_at", Instant),
    required("title", Text),
    Column("detail", Text),
    Column("ended_at", Instant),
    PrimaryKeyConstraint("session_id", "item"),
    Index(None, "session_id", "started_at", "sequence", "part"),
)
SESSIONS_TABLE = Table(  # what has begun in each session and not ended: the item by what it is called
    "timeline_sessions",
    views,
    required("session_id", Name, primary_key=True),
    Column("open", Document, default={}),
)
ITEM, SESSION = ViewTable(TABLE), ViewTable(SESSIONS_TABLE)


def cut(text: str | None, length: int) -> str | None:
    """Return a text, or its start and how long it is."""
    if text is None or len(text) <= length:
        return text
    return f"{text[:length]}… ({len(text):,} characters)"


def happened(
    rows: Rows,
    envelope: Envelope,
    lane: str,
    title: str,
    detail: str | None = None,
    *,
    part: int = 0,
    item: str | None = None,
) -> Row:
    """Add a thing that takes no time; `part` is its place among those of the same event."""
    sequence = 0 if envelope.sequence is UNSET else envelope.sequence
    row = rows(ITEM, envelope.subject, item or f"{sequence}.{part}")
    row["tenant"], row["sequence"], row["part"], row["lane"] = envelope.tenant, sequence, part, lane
    row["started_at"] = envelope.time
    changed(row, envelope, title, detail)
    return row


def changed(row: Row, envelope: Envelope, title: str, detail: str | None) -> None:
    """Set the end of a thing, and what is shown of it."""
    row["ended_at"] = max(envelope.time, row["started_at"])
    row["title"], row["detail"] = cut(title, LONGEST_TITLE), cut(detail, LONGEST_DETAIL) or None


def begins(
    rows: Rows,
    envelope: Envelope,
    what: str,
    lane: str,
    title: str,
    detail: str | None = None,
    *,
    part: int = 0,
    item: str | None = None,
) -> None:
    """Add a thing that goes on until `ends(…, what)`; one that goes on already stays as it is."""
    session = rows(SESSION, envelope.subject)
    what = what[:INDEXED_LENGTH]
    if what in session["open"]:
        return
    row = happened(rows, envelope, lane, title, detail, part=part, item=item)
    row["ended_at"] = None
    going_on = session["open"] = {**session["open"], what: row["item"]}
    while len(going_on) > MAX_OPEN:
        del going_on[next(iter(going_on))]


def ends(rows: Rows, envelope: Envelope, what: str, detail: str | None = None) -> Row | None:
    """End a thing and return its row, or None if it has not begun."""
    session = rows(SESSION, envelope.subject)
    what = what[:INDEXED_LENGTH]
    item = session["open"].get(what)
    if item is None:
        return None
    row = rows(ITEM, envelope.subject, item)
    row["ended_at"] = max(envelope.time, row["started_at"])
    row["detail"] = cut(detail, LONGEST_DETAIL) or row["detail"]
    session["open"] = going_on = {**session["open"]}
    del going_on[what]
    return row


def all_end(rows: Rows, envelope: Envelope) -> None:
    """End everything that goes on when the session ends."""
    session = rows(SESSION, envelope.subject)
    going_on: Mapping[str, str] = session["open"]
    for row in rows.several(ITEM, [(envelope.subject, item) for item in going_on.values()]):
        row["ended_at"] = max(envelope.time, row["started_at"])
    session["open"] = {}
