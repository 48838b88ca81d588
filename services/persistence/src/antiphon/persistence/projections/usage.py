"""The view `usage`: what each model of each agent job has used; the sum over epochs is a session's usage.

The counts of an event are cumulative within its job, so the largest ones that a job reported are its usage.
Test sessions are not in it.
"""

from collections.abc import Iterable
from operator import add, attrgetter

from sqlalchemy import BigInteger, Date, Float, Index, PrimaryKeyConstraint, Table

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.agent import AgentJoined, AgentLeft
from antiphon.contracts.events.session import SessionAdopted, SessionClosed, SessionRequested
from antiphon.contracts.events.usage import ModelUsage, UsageUpdated
from antiphon.contracts.ids import epoch_of
from antiphon.contracts.views import USAGE_COUNTS, indexed
from antiphon.persistence.projection import Instant, Name, Projection, Rows, ViewTable, required, views
from antiphon.persistence.projections.counting import begin, notes

MAX_PRESENT = 16  # jobs of one session at a time
COUNTS = (*USAGE_COUNTS, "audio_seconds")
counts_of = attrgetter(*COUNTS)
MOST = 10**12  # of one count: sums stay within a bigint, and seconds finite

TABLE = Table(
    "usage",
    views,
    required("session_id", Name),
    *(required(name, Name) for name in ("epoch", "kind", "provider", "model", "tenant")),
    required("day", Date),
    required("flow_id", Name),
    *(required(name, BigInteger, default=0) for name in USAGE_COUNTS),
    required("audio_seconds", Float, default=0.0),
    required("updated_at", Instant),
    PrimaryKeyConstraint("session_id", "epoch", "kind", "provider", "model"),
    Index(None, "tenant", "day"),
)
SESSIONS_TABLE = notes("usage_sessions", epochs=())  # of the jobs that have not left
MODEL, SESSION = ViewTable(TABLE), ViewTable(SESSIONS_TABLE)
USAGE = Projection("usage", MODEL, SESSION, version=2)


@USAGE.on(SessionRequested, SessionAdopted, AgentJoined)
def began(event: SessionRequested | SessionAdopted | AgentJoined, envelope: Envelope, rows: Rows) -> None:
    """Note the day and the flow of the session, and the jobs that serve it."""
    row = begin(rows(SESSION, envelope.subject), event, envelope)
    if isinstance(event, AgentJoined):
        row["epochs"] = [*_others(row["epochs"], event.epoch), indexed(event.epoch)][-MAX_PRESENT:]


@USAGE.on(UsageUpdated)
def updated(event: UsageUpdated, envelope: Envelope, rows: Rows) -> None:
    """Take the newest counts of the job that reports them."""
    _count(event.models, epoch_of(envelope.id, envelope.subject), envelope, rows)


@USAGE.on(AgentLeft)
def left(event: AgentLeft, envelope: Envelope, rows: Rows) -> None:
    """Take the counts with which a job ends."""
    row = begin(rows(SESSION, envelope.subject), event, envelope)
    row["epochs"] = _others(row["epochs"], event.epoch)
    _count(event.usage, event.epoch, envelope, rows)


@USAGE.on(SessionClosed)
def closed(event: SessionClosed, envelope: Envelope, rows: Rows) -> None:
    """Take the counts of the job that closes its session: the last one that has not left."""
    row = begin(rows(SESSION, envelope.subject), event, envelope)
    _count(event.usage, row["epochs"][-1] if row["epochs"] else "", envelope, rows)


def _others(epochs: Iterable[str], epoch: str) -> list[str]:
    return [other for other in epochs if other != indexed(epoch)]


def _count(models: Iterable[ModelUsage], epoch: str, envelope: Envelope, rows: Rows) -> None:
    session = begin(rows(SESSION, envelope.subject), None, envelope)
    if session["test"]:
        return
    totals: dict[tuple[str, ...], tuple[float, ...]] = {}
    for model in models:  # a job with several conversations lists a model once for each
        key = (envelope.subject, epoch, model.kind, model.provider, model.model)
        counts = counts_of(model)
        totals[key] = tuple(map(add, totals[key], counts)) if key in totals else counts
    for row, counts in zip(rows.several(MODEL, totals), totals.values(), strict=True):
        for name, count in zip(COUNTS, counts, strict=True):
            if count > row[name]:
                row[name] = min(count, MOST)
        row["tenant"], row["day"], row["flow_id"] = session["tenant"], session["day"], session["flow_id"]
        row["updated_at"] = envelope.time
