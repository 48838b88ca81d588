"""A recorded conversation in text: a real AgentSession and a real broker, no room and no audio."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livekit.agents import Agent, AgentSession, JobContext
from livekit.agents.testing import fake_job_context
from tests.fixtures.echo_llm import EchoLLM

from antiphon.chassis.bus import Bus
from antiphon.contracts.envelope import decode
from antiphon.contracts.event import Event
from antiphon.contracts.ids import named_session_id
from antiphon.contracts.registry import open_event
from antiphon.contracts.subjects import session_filter
from antiphon.recorder import Recording
from antiphon.recorder.outbox import BusLink, Outbox, SessionWriter

SESSION_ID = named_session_id("default", "a recorded session")


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """A session that is being recorded, and the bus its events go to."""

    session: AgentSession[Any]
    recording: Recording
    ctx: JobContext
    outbox: Outbox
    writer: SessionWriter
    bus: Bus

    async def start(self, agent: Agent) -> None:
        """Start the session with its first agent."""
        await self.session.start(agent, record=False)

    async def say(self, text: str) -> None:
        """Say something to the agent and wait for its answer."""
        await self.session.run(user_input=text)

    async def events(self) -> list[Event]:
        """Publish what is recorded so far, and return it."""
        if not self.recording.finished:
            assert await self.outbox.flush(5)
        stored = self.bus.read(session_filter("default", SESSION_ID))
        return [open_event(decode(incoming.payload)) async for incoming in stored]

    async def finish(self) -> list[Event]:
        """End the session and return its whole record."""
        await self.session.aclose()
        assert await self.recording.finish()
        return await self.events()


@asynccontextmanager
async def recorded_session(
    bus: Bus,
    nats_url: str,
    journal_dir: Path,
    make: Callable[..., AgentSession[Any]] = AgentSession,
    **options: Any,
) -> AsyncIterator[RecordedSession]:
    """Return a recorded session, not started; by default with an `EchoLLM`, in text."""
    defaults: dict[str, Any] = {
        "vad": None,
        "llm": EchoLLM(),
        "turn_handling": {"turn_detection": "manual"},
    }

    async def connect() -> Bus:
        return await Bus.connect(nats_url, name="recorder")

    link = BusLink(connect)
    with fake_job_context(job_id="AJ_1", agent_identity=f"agent-{SESSION_ID}") as ctx:
        outbox = Outbox(journal_dir, link, job_id=ctx.job.id)
        writer = outbox.writer(SESSION_ID, "default")
        recording = Recording(ctx, outbox, writer, link)
        recording.start()
        session: AgentSession[Any] = make(**(defaults | options))
        recording.attach(session)
        yield RecordedSession(session, recording, ctx, outbox, writer, bus)
        await session.aclose()
        await recording.finish()
        await outbox.close(5)
        await link.close()
