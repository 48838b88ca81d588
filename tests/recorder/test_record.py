"""`async with record(ctx, session)`: what it records, and that it ends no job."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession, JobContext
from livekit.agents.testing import fake_job_context
from tests.fixtures.echo_llm import EchoLLM

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.events.agent import AgentJoined, AgentReady
from antiphon.contracts.events.session import SessionAdopted, SessionClosed
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import adopted_session_id, named_session_id
from antiphon.contracts.registry import open_event
from antiphon.contracts.subjects import ALL_EVENTS
from antiphon.recorder import RecorderSettings, record, recording_of
from antiphon.recorder.outbox import Journal, large_events

FIRST, SECOND = named_session_id("default", "first"), named_session_id("default", "second")


@contextmanager
def job(
    name: str = "AJ_1", *, sid: str = "RM_1", metadata: str = "", room: str = "lobby"
) -> Iterator[JobContext]:
    with fake_job_context(job_id=name, job_metadata=metadata) as ctx:
        ctx.job.room.sid, ctx.job.room.name = sid, room
        yield ctx


async def end(ctx: JobContext) -> None:
    """End the job, as LiveKit does."""
    for callback in ctx._shutdown_callbacks:
        await callback("test")


def new_session() -> AgentSession[Any]:
    return AgentSession(vad=None, llm=EchoLLM(), turn_handling={"turn_detection": "manual"})


async def talk(session: AgentSession[Any], *lines: str) -> None:
    await session.start(Agent(instructions=""), record=False)
    for line in lines:
        await session.run(user_input=line)
    await session.aclose()


async def log_of(bus: Bus) -> list[Envelope]:
    return [decode(stored.payload) async for stored in bus.read(ALL_EVENTS)]


def of_type(kind: type[Any], envelopes: list[Envelope]) -> list[Any]:
    return [open_event(envelope) for envelope in envelopes if envelope.type == kind.TYPE]


@pytest.fixture
def settings(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> RecorderSettings:
    return RecorderSettings(nats_url=nats_server.url, journal_dir=tmp_path / "journals")


async def test_room_that_nobody_announced_is_adopted(bus: Bus, settings: RecorderSettings) -> None:
    with job() as ctx:
        session = new_session()
        async with record(
            ctx, session, user_id="ada", metadata={"order": 17}, settings=settings
        ) as recording:
            await talk(session, "hello")
        assert await recording.finish()
        await end(ctx)
    events = await log_of(bus)
    session_id = adopted_session_id("default", "RM_1")
    assert {event.subject for event in events} == {session_id} == {recording.session_id}
    first, second = events[:2]
    assert (first.id, first.type) == (f"{session_id}:adopted", "session.adopted")
    assert second.type == "agent.joined"
    (adopted,) = of_type(SessionAdopted, events)
    assert adopted == SessionAdopted(room="lobby", room_sid="RM_1", user_id="ada", metadata={"order": 17})


async def test_two_jobs_of_a_room_adopt_it_once(bus: Bus, settings: RecorderSettings) -> None:
    with job("AJ_1") as one, job("AJ_2") as two:
        async with record(one, settings=settings) as first, record(two, settings=settings) as second:
            pass
        for ctx, recording in ((one, first), (two, second)):
            assert await recording.finish()
            await end(ctx)
    events = await log_of(bus)
    assert [event.type for event in events].count("session.adopted") == 1
    assert [joined.epoch for joined in of_type(AgentJoined, events)] == ["AJ_1", "AJ_2"]
    assert len({event.subject for event in events}) == 1


async def test_requested_session_is_not_adopted(bus: Bus, settings: RecorderSettings) -> None:
    with job(metadata=f'{{"session_id": "{FIRST}", "tenant": "acme"}}') as ctx:
        async with record(ctx, user_id="ada", settings=settings) as recording:
            pass
        assert await recording.finish()
        await end(ctx)
    events = await log_of(bus)
    assert events[0].type == "agent.joined"
    assert {(event.subject, event.tenant) for event in events} == {(FIRST, "acme")}


async def test_session_and_tenant_can_be_given(bus: Bus, settings: RecorderSettings) -> None:
    with job() as ctx:
        async with record(ctx, session_id=FIRST, tenant="acme", settings=settings) as recording:
            pass
        assert await recording.finish()
        await end(ctx)
    events = await log_of(bus)
    assert {(event.subject, event.tenant) for event in events} == {(FIRST, "acme")}
    assert events[0].type == "session.adopted"


@pytest.mark.parametrize("wrong", [{"session_id": "my-session"}, {"tenant": "Acme Ltd"}, {"tenant": ""}])
async def test_wrong_argument_raises(wrong: dict[str, str], settings: RecorderSettings) -> None:
    with job() as ctx, pytest.raises(ValueError, match=next(iter(wrong))):
        async with record(ctx, settings=settings, **wrong):  # type: ignore[arg-type]
            raise AssertionError("not reached")


async def test_two_sessions_of_one_job_are_recorded(bus: Bus, settings: RecorderSettings) -> None:
    with job() as ctx:
        first, second = new_session(), new_session()
        async with (
            record(ctx, first, session_id=FIRST, settings=settings) as one,
            record(ctx, second, session_id=SECOND) as two,
        ):
            await talk(first, "one", "two")
            await talk(second, "three")
        assert [await one.finish(), await two.finish()] == [True, True]
        await end(ctx)
    events = await log_of(bus)
    assert len({event.id for event in events}) == len(events)
    for session_id, texts in ((FIRST, ["one", "two"]), (SECOND, ["three"])):
        own = [event for event in events if event.subject == session_id]
        assert [event.producerseq for event in own] == list(range(1, len(own) + 1))
        assert [turn.user_text for turn in of_type(TurnSaved, own)] == texts
        assert len(of_type(AgentJoined, own)) == len(of_type(SessionClosed, own)) == 1
    assert list(settings.journal_dir.iterdir()) == []


async def test_two_agent_sessions_of_one_session_are_recorded(bus: Bus, settings: RecorderSettings) -> None:
    with job() as ctx:
        first, second = new_session(), new_session()
        async with record(ctx, first, settings=settings) as one, record(ctx, second) as two:
            assert one is two
            await first.start(Agent(instructions=""), record=False)
            await second.start(Agent(instructions=""), record=False)
            await first.run(user_input="one")
            await second.run(user_input="two")
            await first.run(user_input="three")
            await first.aclose()
            await second.run(user_input="four")
            await second.aclose()
        assert await one.finish()
        await end(ctx)
    events = await log_of(bus)
    turns = of_type(TurnSaved, events)
    assert [turn.user_text for turn in turns] == ["one", "two", "three", "four"]
    assert [(turn.epoch, turn.turn) for turn in turns] == [
        ("AJ_1", 1),
        ("AJ_1.2", 1),
        ("AJ_1", 2),
        ("AJ_1.2", 2),
    ]
    assert [closed.turns for closed in of_type(SessionClosed, events)] == [4]
    assert len(of_type(AgentJoined, events)) == len(of_type(SessionClosed, events)) == 1
    assert events[-1].type == "session.closed"
    assert len({event.id for event in events}) == len(events)


async def test_session_recorded_after_another_is_recorded(bus: Bus, settings: RecorderSettings) -> None:
    with job() as ctx:
        for line in ("one", "two"):
            session = new_session()
            async with record(ctx, session, session_id=FIRST, settings=settings) as recording:
                await talk(session, line)
            assert await recording.finish()
        await end(ctx)
    events = await log_of(bus)
    assert [turn.user_text for turn in of_type(TurnSaved, events)] == ["one", "two"]
    assert [joined.epoch for joined in of_type(AgentJoined, events)] == ["AJ_1", "AJ_1.r2"]
    assert len({event.id for event in events}) == len(events)


async def test_agent_session_given_twice_is_recorded_once(bus: Bus, settings: RecorderSettings) -> None:
    with job() as ctx:
        session = new_session()
        async with record(ctx, session, settings=settings) as recording, record(ctx, session):
            await talk(session, "hello")
        assert await recording.finish()
        await end(ctx)
    assert [turn.user_text for turn in of_type(TurnSaved, await log_of(bus))] == ["hello"]


@pytest.mark.parametrize(
    "metadata",
    ['{"tenant": "Acme Ltd"}', '{"tenant": {"a":' * 5_000, "[" * 10_000 + "]" * 10_000, '{"session_id": 7}'],
    ids=["tenant", "broken", "deep", "session"],
)
async def test_foreign_metadata_is_recorded_to_the_default_tenant(
    metadata: str, bus: Bus, settings: RecorderSettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings = RecorderSettings(nats_url=settings.nats_url, journal_dir=settings.journal_dir, tenant="house")
    with job(metadata=metadata) as ctx:
        async with record(ctx, settings=settings) as recording:
            pass
        assert await recording.finish()
        await end(ctx)
    assert {event.tenant for event in await log_of(bus)} == {"house"}
    assert list(settings.journal_dir.iterdir()) == []
    warned = [r for r in caplog.records if "recorder.metadata_ignored" in r.getMessage()]
    assert len(warned) == (1 if metadata in ('{"tenant": "Acme Ltd"}', '{"session_id": 7}') else 0)


async def test_finish_is_false_when_an_event_was_refused(
    bus: Bus, settings: RecorderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_events, "EVENT_BYTES", 10_000_000)  # else it would be cut
    with job() as ctx:
        async with record(ctx, settings=settings) as recording:
            recording.ready("x" * 2_000_000)  # larger than the broker accepts
        assert not await recording.finish()
        await end(ctx)
    assert of_type(AgentReady, await log_of(bus)) == []
    assert [path.suffix for path in settings.journal_dir.iterdir()] == [".refused"]


async def test_finish_is_false_when_an_event_was_lost(
    bus: Bus, settings: RecorderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with job() as ctx:
        async with record(ctx, settings=settings) as recording:
            monkeypatch.setattr(Journal, "drained", True)
            monkeypatch.setattr(recording._outbox._journal, "lost", 1)
        assert not await recording.finish()
        monkeypatch.undo()
        await end(ctx)


async def test_greeting_with_a_lone_surrogate_is_announced(bus: Bus, settings: RecorderSettings) -> None:
    with job() as ctx:
        async with record(ctx, settings=settings, notify_room=False) as recording:
            recording.ready("hi \ud83d")
        assert await recording.finish()
        await end(ctx)
    (ready,) = of_type(AgentReady, await log_of(bus))
    assert ready.greeting == "hi \ufffd"


async def test_room_is_notified_only_if_asked(
    bus: Bus, settings: RecorderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    async def send(_room: Any, status: Any) -> None:
        sent.append(status.session_id)

    monkeypatch.setattr("antiphon.recorder.readiness._send", send)
    for notify, session_id in ((True, FIRST), (False, SECOND)):
        with job(f"AJ_{notify}") as ctx:
            async with record(ctx, session_id=session_id, notify_room=notify, settings=settings) as recording:
                recording.ready("hello")
            assert await recording.finish()
            await end(ctx)
    assert sent == [FIRST]
    assert len(of_type(AgentReady, await log_of(bus))) == 2


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    def change(**variables: str) -> Path:
        monkeypatch.setenv("ANTIPHON_JOURNAL_DIR", str(tmp_path / "j"))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return tmp_path / "j"

    return change


@pytest.mark.parametrize(
    "url",
    [
        "htp://broker",
        "nats://user:secret",
        "nats://broker:port",
        "nats://user:secret@nosuchhost.invalid:4222",
        "nats://user:secret@127.0.0.1:1",
    ],
)
async def test_wrong_nats_url_keeps_the_journal_and_is_logged_once(
    url: str, environment: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    journals = environment(ANTIPHON_NATS_URL=url)
    with job() as ctx:
        session = new_session()
        async with record(ctx, session) as recording:
            await talk(session, "hello")
        assert not await recording.finish(timeout_seconds=0.1)
        # the job ends as any other
        await end(ctx)
    (journal,) = journals.glob("*.journal")
    assert b"turn.saved" in journal.read_bytes()
    lines = [
        r.getMessage()
        for r in caplog.records
        if r.levelno >= logging.WARNING and "ANTIPHON_NATS_URL" in r.getMessage()
    ]
    assert all(str(journals) in line for line in lines)
    assert len(lines) <= 1  # the first attempt to reach a host takes seconds
    assert "secret" not in caplog.text


@pytest.mark.parametrize("folder", ["/proc/no/such/folder", "/dev/null/journals"])
async def test_journal_folder_that_cannot_be_made_loses_nothing(
    folder: str, bus: Bus, nats_server: NatsServer, environment: Callable[..., Path]
) -> None:
    environment(ANTIPHON_JOURNAL_DIR=folder, ANTIPHON_NATS_URL=nats_server.url)
    with job() as ctx:
        session = new_session()
        async with record(ctx, session) as recording:
            await talk(session, "hello")
        assert await recording.finish()
        await end(ctx)
    assert [turn.user_text for turn in of_type(TurnSaved, await log_of(bus))] == ["hello"]


async def test_recording_of_a_job_is_found_until_the_job_ends(bus: Bus, settings: RecorderSettings) -> None:
    with job() as ctx:
        assert recording_of(ctx) is None
        async with record(ctx, settings=settings) as recording:
            assert recording_of(ctx) is recording
        await end(ctx)
        assert recording_of(ctx) is None
