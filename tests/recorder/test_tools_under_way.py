"""Calls of tools that run when the record ends, or when its process is killed."""

import asyncio
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from livekit.agents import Agent, RunContext, function_tool
from tests.recorder.recorded_session import SESSION_ID, RecordedSession
from tests.recorder.test_recording import of_type

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import decode
from antiphon.contracts.events.agent import AgentLeft
from antiphon.contracts.events.session import SessionClosed
from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.registry import open_event
from antiphon.contracts.subjects import session_filter
from antiphon.recorder.outbox import BusLink, Orphans
from antiphon.recorder.tools import ENDED, KILLED


class Slow(Agent):
    def __init__(self) -> None:
        super().__init__(id="host", instructions="")
        self.began = asyncio.Event()
        self.ends = asyncio.Event()

    @function_tool
    async def quick(self, context: RunContext[Any]) -> str:
        """Return at once."""
        return "done"

    @function_tool
    async def wait(self, context: RunContext[Any]) -> str:
        """Run until the test ends."""
        self.began.set()
        await self.ends.wait()
        return "late"


async def test_a_tool_of_a_killed_agent_is_completed_from_its_journal(
    recorded: RecordedSession, bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    agent = Slow()
    await recorded.start(agent)
    await recorded.say("quick()")
    recorded.session.generate_reply(user_input="wait()")
    await agent.began.wait()
    await asyncio.sleep(0.5)  # the note of the turn names the call
    left = tmp_path / "left"
    left.mkdir()
    shutil.copy(tmp_path / "AJ_1.journal", left)  # what a kill would leave now
    link = BusLink(partial(Bus.connect, nats_server.url, name="adopter"))
    assert await Orphans(left, link).adopt_all() == 1
    await link.close()

    stored = bus.read(session_filter("default", SESSION_ID))
    envelopes = [decode(incoming.payload) async for incoming in stored]
    events = [open_event(envelope) for envelope in envelopes]
    _, started = of_type(ToolStarted, events)
    done, killed = of_type(ToolCompleted, events)
    assert (done.name, done.status, done.output) == ("quick", "done", "done")
    assert (killed.call_id, killed.name, killed.status) == (started.call_id, "wait", "cancelled")
    assert (killed.output, killed.duration_seconds) == (KILLED, None)
    turn = of_type(TurnSaved, events)[-1]
    assert turn.recovered
    assert (turn.user_text, turn.tool_call_ids) == ("wait()", [started.call_id])
    assert isinstance(events[-1], AgentLeft)
    assert events[-1].reason == "killed"
    at = next(envelope.time for envelope in envelopes if envelope.type == ToolStarted.TYPE)
    assert envelopes[events.index(killed)].time >= at
    agent.ends.set()


async def test_a_tool_that_outlasts_the_record_is_on_record_as_cancelled(recorded: RecordedSession) -> None:
    agent = Slow()
    await recorded.start(agent)
    recorded.session.generate_reply(user_input="wait()")
    await agent.began.wait()
    await recorded.recording.finish()  # the room is gone, and the session is still waiting for the tool
    events = await recorded.events()
    (completed,) = of_type(ToolCompleted, events)
    assert (completed.status, completed.output) == ("cancelled", ENDED)
    (turn,) = of_type(TurnSaved, events)
    assert turn.tool_call_ids == [completed.call_id]
    assert isinstance(events[-1], SessionClosed)
    agent.ends.set()
