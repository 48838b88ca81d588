"""Doubles for tests of agents: a recorded conversation in text, with no server, no room and no sound."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

from livekit.agents import Agent, AgentSession, JobContext, llm
from livekit.agents.testing import fake_job_context

from antiphon.chassis.bus import Bus
from antiphon.chassis.testing import InMemoryBus
from antiphon.contracts.envelope import decode
from antiphon.contracts.event import Event
from antiphon.contracts.ids import session_id_for_key
from antiphon.contracts.registry import open_event
from antiphon.recorder import Recording
from antiphon.recorder.outbox import BusLink, Outbox

SESSION_ID = session_id_for_key("default", "a recorded session")


class EchoLLM(llm.LLM[Never]):
    """Answer `name(arguments)` with a call of that tool, `fail` with an error, anything else with an echo."""

    def chat(self, *, chat_ctx: llm.ChatContext, **options: Any) -> llm.LLMStream:
        """Answer the newest message."""
        tools = options.get("tools") or []
        return _Echo(self, chat_ctx=chat_ctx, tools=tools, conn_options=options["conn_options"])


class _Echo(llm.LLMStream):
    async def _run(self) -> None:
        last = self._chat_ctx.items[-1]
        if isinstance(last, llm.FunctionCallOutput):
            self._answer(content=f"Done: {last.output}")
            return
        messages = [item for item in self._chat_ctx.items if isinstance(item, llm.ChatMessage)]
        asked = messages[-1].text_content or ""
        if asked == "fail":
            raise RuntimeError("no answer comes to mind")
        if asked.endswith(")"):
            name, _, arguments = asked[:-1].partition("(")
            call = llm.FunctionToolCall(name=name, arguments=arguments, call_id=f"call_{messages[-1].id}")
            self._answer(tool_calls=[call])
            return
        self._answer(content="You said: ")
        self._answer(content=asked)

    def _answer(self, **delta: Any) -> None:
        chunk = llm.ChatChunk(id="1", delta=llm.ChoiceDelta(role="assistant", **delta))
        self._event_ch.send_nowait(chunk)


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """A session that is being recorded, and the bus that its events go to."""

    session: AgentSession[Any]
    recording: Recording
    ctx: JobContext
    outbox: Outbox
    bus: Bus

    async def start(self, agent: Agent) -> None:
        """Start the session with its first agent."""
        await self.session.start(agent, record=False)

    async def say(self, words: str) -> None:
        """Say something to the agent, and wait for its answer."""
        await self.session.run(user_input=words)

    async def events(self) -> list[Event]:
        """Publish what is recorded so far, and return it."""
        if not self.recording.finished:
            await self.outbox.flush(5)
        return [open_event(decode(incoming.payload)) async for incoming in self.bus.read("sessions.>")]

    async def finish(self) -> list[Event]:
        """End the session, and return its whole record."""
        await self.session.aclose()
        await self.recording.finish()
        return await self.events()


@asynccontextmanager
async def recorded_session(
    journal_dir: Path, *, make_session: Callable[[], AgentSession[Any]] | None = None
) -> AsyncIterator[RecordedSession]:
    """Make a session that is recorded, not yet started; by default one that speaks by `EchoLLM`."""
    bus = InMemoryBus()
    await bus.ensure()

    async def connect() -> Bus:
        return bus

    link = BusLink(connect)
    with fake_job_context(job_id="AJ_1", agent_identity=f"agent-{SESSION_ID}") as ctx:
        outbox = Outbox(journal_dir, link, session_id=SESSION_ID, tenant="default", job_id=ctx.job.id)
        recording = Recording(ctx, outbox, link)
        recording.begin()
        session = make_session() if make_session else _echoing_session()
        recording.follow(session)
        yield RecordedSession(session, recording, ctx, outbox, bus)
        await session.aclose()
        await recording.finish()


def _echoing_session() -> AgentSession[Any]:
    return AgentSession(vad=None, llm=EchoLLM(), turn_handling={"turn_detection": "manual"})
