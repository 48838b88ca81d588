"""The turn of an agent that is killed in the middle of an answer is completed from its journal."""

import asyncio
import sys
from pathlib import Path

from tests.recorder.recorded_session import SESSION_ID
from tests.recorder.test_recording import of_type

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import decode
from antiphon.contracts.events.agent import AgentLeft, AgentStateChanged
from antiphon.contracts.events.turn import TurnSaved, TurnStarted
from antiphon.contracts.registry import open_event
from antiphon.contracts.subjects import session_filter
from antiphon.recorder.outbox import BusLink, Orphans

QUESTION = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
ANSWER = f"You said: {QUESTION}"


async def last_note_of_killed_agent(nats_url: str, folder: Path) -> str:
    """Kill an agent once it has said several words; return what its last note says was heard."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.recorder.speaking_agent",
        nats_url,
        str(folder),
        QUESTION,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    heard = b""
    try:
        async with asyncio.timeout(60):
            while b"four" not in heard:
                heard = await process.stdout.readline()
                assert heard, "the agent ended"
    finally:
        process.kill()
    rest = await process.stdout.read()
    await process.wait()
    return (heard + rest).decode().splitlines()[-1]


async def test_turn_of_a_killed_agent_is_completed_as_far_as_it_was_heard(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    heard = await last_note_of_killed_agent(nats_server.url, tmp_path)

    async def connect() -> Bus:
        return await Bus.connect(nats_server.url, name="recorder")

    link = BusLink(connect)
    assert await Orphans(tmp_path, link).adopt_all() == 1
    await link.close()
    stored = bus.read(session_filter("default", SESSION_ID))
    envelopes = [decode(incoming.payload) async for incoming in stored]
    events = [open_event(envelope) for envelope in envelopes]

    (started,) = of_type(TurnStarted, events)
    (turn,) = of_type(TurnSaved, events)
    assert (started.turn, started.epoch, started.user_text) == (1, "AJ_1", QUESTION)
    assert (turn.turn, turn.epoch, turn.user_text) == (1, "AJ_1", QUESTION)
    assert turn.recovered
    assert turn.assistant_text == heard
    assert ANSWER.startswith(heard)
    assert turn.assistant_text_generated == ANSWER
    thinking = next(event for event in of_type(AgentStateChanged, events) if event.new_state == "thinking")
    assert events.index(started) < events.index(thinking) < events.index(turn)
    (left,) = of_type(AgentLeft, events)
    assert (left.epoch, left.reason, left.turns) == ("AJ_1", "killed", 0)
    assert events[-1] == left
    assert envelopes[-1].time == max(envelope.time for envelope in envelopes)
