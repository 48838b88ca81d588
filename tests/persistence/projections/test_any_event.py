"""No content of an event stops a view: every event type, with values that JSON or Postgres cannot hold."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import msgspec.inspect as mi
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace
from structlog.testing import capture_logs
from tests.contracts.strategies import SESSION_ID, _strategy, histories, history

from antiphon.chassis.bus import Bus, Outgoing, outgoing
from antiphon.chassis.database import Database
from antiphon.chassis.log import Log
from antiphon.contracts import registry
from antiphon.contracts.envelope import SCHEMA_BASE, Envelope, encode
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentJoined
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.events.turn import TurnSaved, TurnStarted
from antiphon.contracts.registry import EVENTS
from antiphon.contracts.session import Session, fold
from antiphon.contracts.subjects import PARTITIONS, event_subject
from antiphon.contracts.views import session_json
from antiphon.persistence.projection.batch import Advance, apply
from antiphon.persistence.projection.cache import Cache
from antiphon.persistence.projection.loop import ProjectionLoop
from antiphon.persistence.projections import PROJECTIONS
from antiphon.persistence.projections.sessions import SESSIONS
from antiphon.persistence.projections.turns import TURNS
from antiphon.persistence.readiness import ReadinessCheck
from antiphon.persistence.rebuild.build import build

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, LogReader, NewSession, Publish, RunningIngest
    from tests.persistence.projections.conftest import View

VIEWS = [table.name for projection in PROJECTIONS for table in projection.tables]
LONG = "".join(map(chr, range(0x4E00, 0x9FFF))) * 16  # 1 MB in UTF-8, and too random to compress to nothing
TOKENS = (
    *(r'"\u0000"', r'"\ud800"', r'"\udc00 \ud800"', '""', f'"{LONG}"', '"�"', '"\\ud83d\\ude00"'),
    *("0", "-1", "-0.0", "2147483647", "2147483648", "9223372036854775808", "1e308", "1e999", "9" * 400),
    *("null", "true", "[]", "{}", "[[]]", r'{"\u0000": "\u0000"}', r'{"\ud800": 1}', '{"a": 1, "a": 2}'),
    *('"0001-01-01T00:00:00+14:00"', '"9999-12-31T23:59:59-14:00"', "nope", "[" * 90 + "]" * 90),
)
DEFAULTS = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def strange_bodies(draw: st.DrawFn, event: type[Event]) -> str:
    """A body of an event with a token that is out of the ordinary in up to two of its fields."""
    values = draw(_strategy(mi.type_info(event)))
    members = {name: msgspec.json.encode(getattr(values, name)).decode() for name in event.__struct_fields__}
    for name in draw(st.lists(st.sampled_from([*members, "other"]), max_size=2)):
        members[name] = draw(st.sampled_from(TOKENS))
    return "{" + ",".join(f'"{name}":{token}' for name, token in members.items()) + "}"


@st.composite
def strange_events(draw: st.DrawFn) -> Envelope:
    event = draw(st.sampled_from(EVENTS))
    (stored,) = history([TurnSaved(turn=1, agent_id="host")])
    version = draw(st.sampled_from((event.VERSION,) * 8 + (event.VERSION + 1, 32767, 0)))
    return replace(
        stored,
        type=draw(st.sampled_from((event.TYPE,) * 9 + ("turn.sung",))),
        dataschema=f"{SCHEMA_BASE}/{event.TYPE}/{version}",
        data=Raw(draw(strange_bodies(event)).encode()),
    )


def numbered(log: list[Envelope]) -> list[Envelope]:
    return [replace(envelope, sequence=number) for number, envelope in enumerate(log, start=1)]


@DEFAULTS
@given(log=st.lists(strange_events(), min_size=1, max_size=25).map(numbered), size=st.integers(1, 9))
def test_no_content_of_an_event_stops_a_view(log: list[Envelope], size: int, postgres_dsn: str) -> None:
    row = asyncio.run(_project(postgres_dsn, log, size))

    assert msgspec.json.decode(session_json(row), type=Session) == fold(SESSION_ID, "default", log)


@DEFAULTS
@given(log=histories(max_size=25), size=st.integers(1, 9), end=st.integers(1, 25))
def test_the_view_of_any_prefix_is_its_fold(
    log: list[Envelope], size: int, end: int, postgres_dsn: str
) -> None:
    if not (prefix := log[:end]):
        return
    row = asyncio.run(_project(postgres_dsn, prefix, size))

    assert msgspec.json.decode(session_json(row), type=Session) == fold(SESSION_ID, "default", prefix)


async def _project(dsn: str, log: list[Envelope], size: int) -> dict[str, Any]:
    """Project a session's events in batches of a size, the caches dropped now and then; return its row."""
    database = await Database.connect(dsn, min_size=0, max_size=1)
    try:
        await database.pool.execute(f"truncate {', '.join(VIEWS)}")
        caches = {projection.name: Cache() for projection in PROJECTIONS}
        for start in range(0, len(log), size):
            async with database.pool.acquire() as connection:
                for projection in PROJECTIONS:
                    cache = caches[projection.name] if start % 2 else Cache()
                    caches[projection.name] = cache
                    nowhere = Advance(projection.name, [], [], [], [])
                    await apply(projection, connection, log[start : start + size], nowhere, cache)
        row = await database.pool.fetchrow("select * from sessions")
        assert row is not None
        return dict(row)
    finally:
        await database.close()


async def test_a_body_that_was_stored_before_its_type_was_known_stops_no_view(
    view: "View", new_session: "NewSession"
) -> None:
    ours, theirs = new_session("ours"), new_session("theirs", tenant="other")
    wrong = replace(ours.turn(1), data=Raw(b'{"turn": "first"}'))
    log = view.committed([ours.requested(), wrong, theirs.requested(), theirs.turn(1), ours.turn(2)])

    for projection in PROJECTIONS:
        await view(projection).again(log)

    assert ((await view.state(ours.session_id)).turns, (await view.state(ours.session_id)).skipped) == (2, 1)
    assert (await view.state(theirs.session_id)).turns == 1
    assert sorted(row["turn"] for row in await view.rows("turns")) == [1, 2]


async def test_a_type_that_becomes_known_after_its_events_were_stored(
    bus: Bus,
    database: Database,
    postgres_dsn: str,
    ingest: "RunningIngest",
    publish: "Publish",
    event_log: "LogReader",
    eventually: "Eventually",
    new_session: "NewSession",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The body was stored by an ingest that did not know its type, so nobody has checked it."""
    ours, theirs = new_session("stored"), new_session("of another tenant", tenant="other")
    wrong = replace(ours.turn(1), data=Raw(b'{"turn": "first"}'))
    await build(postgres_dsn, database, SESSIONS)
    ingest.start(*{ours.partition, theirs.partition})
    with monkeypatch.context() as older:
        known = {name: event for name, event in registry.BY_TYPE.items() if name != TurnSaved.TYPE}
        older.setattr(registry, "BY_TYPE", known)
        older.delitem(registry._DECODERS, TurnSaved.TYPE)
        await bus.publish(outgoing(ours.requested()))
        subject = event_subject(wrong.tenant, wrong.subject, "turn")
        await bus.publish(Outgoing(subject, encode(wrong), wrong.id))
        await event_log.until(2, 60)
    await publish([ours.turn(2), theirs.requested(), theirs.turn(1)])

    stop = asyncio.Event()
    log = Log(database, bus)
    loops = [ProjectionLoop(each, database, log, ReadinessCheck()) for each in PROJECTIONS]
    held = [loop.hold(number, stop) for loop in loops for number in range(PARTITIONS)]
    running = asyncio.gather(*[loop.run(stop) for loop in loops], *held)

    async def caught_up() -> bool:
        counts = await database.pool.fetch("select turns, skipped from sessions order by skipped")
        turns = await database.pool.fetchval("select count(*) from turns")
        return ([tuple(row) for row in counts], turns) == ([(1, 0), (2, 1)], 2)

    await eventually(caught_up, 60)
    stop.set()
    await asyncio.wait_for(running, 60)


@pytest.mark.parametrize("projection", [SESSIONS, TURNS])
async def test_skipped_events_are_logged_once_per_session_and_type(
    projection: Any, view: "View", new_session: "NewSession"
) -> None:
    session = new_session(f"logged {projection.name}")
    wrong = [replace(session.turn(n), data=Raw(b"{}")) for n in (1, 2, 3)]
    newer = replace(session.seal(TurnStarted(turn=1, epoch="", agent_id="")), data=Raw(b"3"))
    with capture_logs() as logs:
        await view(projection).given(wrong[:2])
        await view(projection).given([wrong[2], newer])

    skipped = [line for line in logs if line["event"] == "projection.skipped_event"]
    assert [(line["event_type"], line["count"], line["session_id"]) for line in skipped] == [
        ("turn.saved", 2, session.session_id),
        *[("turn.started", 1, session.session_id)] * (projection is TURNS),
    ]
    assert "MalformedEvent" in skipped[0]["error"]


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
@pytest.mark.parametrize(
    "time",
    [
        "0001-01-01T00:00:00+14:00",
        "0001-01-01T00:00:00+00:00",
        "9999-12-31T23:59:59.999999+00:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
async def test_a_time_that_utc_cannot_express_stops_no_view(
    projection: Any, time: str, view: "View", new_session: "NewSession"
) -> None:
    session = new_session("at the end of the calendar")
    log = [replace(session.turn(1), time=datetime.fromisoformat(time)), session.turn(2)]
    await view(projection).given(log)

    await view(projection).given([session.turn(3)])

    assert {row["turns"] for row in await view.rows("sessions")} <= {3}
    assert {row["turn"] for row in await view.rows("turns")} <= {1, 2, 3}


async def test_texts_of_a_megabyte_are_cut_where_they_are_indexed(
    view: "View", new_session: "NewSession"
) -> None:
    session = new_session("long")
    request = SessionRequested(flow_id=LONG, flow_revision=1, user_id=LONG, room=LONG, language=LONG)
    joined = AgentJoined(job_id=LONG, worker_id=LONG, epoch=LONG, identity=LONG)
    turns = [TurnSaved(turn=1, agent_id=LONG, epoch=LONG + end, language=LONG) for end in ("a", "b")]
    log = view.committed([session.seal(event) for event in (request, joined, *turns)])
    await view(SESSIONS).again(log)
    await view(TURNS).again(log)

    [row] = await view.rows("sessions")
    assert (row["user_id"], row["room"]) == (LONG[:256], LONG[:256])
    assert await view.state(session.session_id) == view.folded(log)
    assert [row["agent_id"] for row in await view.rows("turns")] == [LONG]
