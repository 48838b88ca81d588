"""The view `daily`: calls, outcomes, minutes, turns and latencies per tenant, day (UTC), flow and partition.

A row is written by one partition only; readers add up the partitions, and merge their sketches. Test
sessions are not counted.
"""

from sqlalchemy import BigInteger, Date, PrimaryKeyConstraint, SmallInteger, Table

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.agent import AgentReady
from antiphon.contracts.events.session import SessionAdopted, SessionClosed, SessionFailed, SessionRequested
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.subjects import partition_of
from antiphon.contracts.views import indexed
from antiphon.persistence.projection import Document, Name, Projection, Row, Rows, ViewTable, required, views
from antiphon.persistence.projections.counting import added, begin, in_ms, notes, with_number, with_value

COUNTS = ("calls", "ended", "failed", "duration_ms", "turns", "interruptions")
DOCUMENTS = ("outcomes", "faults", "response_ms", "ready_ms")
LONGEST_MS = 366 * 86_400_000  # of one call: the sum of many stays within a bigint

TABLE = Table(
    "daily",
    views,
    required("tenant", Name),
    required("day", Date),
    required("flow_id", Name),
    required("partition", SmallInteger),
    *(required(name, BigInteger, default=0) for name in COUNTS),
    *(required(name, Document, default={}) for name in DOCUMENTS),
    PrimaryKeyConstraint("tenant", "day", "flow_id", "partition"),
)
SESSIONS_TABLE = notes("daily_sessions", ready=False, ended=False, turns={})  # that were counted
DAY, SESSION = ViewTable(TABLE), ViewTable(SESSIONS_TABLE)
DAILY = Projection("daily", DAY, SESSION, version=2)


def rows_of(event: object, envelope: Envelope, rows: Rows) -> tuple[Row, Row]:
    """Return the row of a session and that of its day; at its first event the session is counted.

    The day of a test session is one that nobody sees.
    """
    session = rows(SESSION, envelope.subject)
    is_new = session.get("day") is None
    begin(session, event, envelope)
    key = (session["tenant"], session["day"], session["flow_id"], partition_of(envelope.subject))
    if session["test"]:
        return session, DAY.new(key)  # written nowhere
    day = rows(DAY, *key)
    day["calls"] += is_new
    return session, day


@DAILY.on(SessionRequested, SessionAdopted)
def began(event: SessionRequested | SessionAdopted, envelope: Envelope, rows: Rows) -> None:
    """Count the session for the day on which it begins."""
    rows_of(event, envelope, rows)


@DAILY.on(AgentReady)
def ready(event: AgentReady, envelope: Envelope, rows: Rows) -> None:
    """Add the time until the first agent of a session was ready."""
    session, day = rows_of(event, envelope, rows)
    if not session["ready"]:
        session["ready"] = True
        day["ready_ms"] = with_value(day["ready_ms"], event.ready_ms)


@DAILY.on(TurnSaved)
def saved(event: TurnSaved, envelope: Envelope, rows: Rows) -> None:
    """Count each turn of each agent once, also one that is saved after the end, recovered or saved again."""
    session, day = rows_of(event, envelope, rows)
    counted = with_number(session["turns"], indexed(event.epoch or ""), event.turn)
    if counted is not session["turns"]:
        session["turns"] = counted
        day["turns"] += 1
        day["interruptions"] += event.interrupted
        day["response_ms"] = with_value(day["response_ms"], in_ms(event.metrics.get("e2e_latency")))


@DAILY.on(SessionClosed, SessionFailed)
def ended(event: SessionClosed | SessionFailed, envelope: Envelope, rows: Rows) -> None:
    """Count how a session ended: its first end decides, as in the fold."""
    session, day = rows_of(event, envelope, rows)
    if session["ended"]:
        return
    session["ended"] = True
    day["ended"] += 1
    day["failed"] += isinstance(event, SessionFailed)
    day["outcomes"] = added(day["outcomes"], str(event.reason))
    if isinstance(event, SessionClosed):
        day["faults"] = added(day["faults"], str(event.fault))
        day["duration_ms"] += int(min(event.duration_seconds * 1000, LONGEST_MS))
