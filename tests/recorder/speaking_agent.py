"""An agent in a process of its own that is asked something and answers at length, until it is killed.

Arguments: the URL of NATS, the folder of journals, the question. It prints what was heard, each time more.
"""

import asyncio
import sys
from pathlib import Path

from livekit.agents import Agent
from tests.fixtures.silent_voice import SilentTTS
from tests.recorder.recorded_session import RecordedSession, recorded_session
from tests.recorder.test_turns_overlap import give_voice

from antiphon.chassis.bus import Bus
from antiphon.contracts.event import Event
from antiphon.contracts.events.turn import TurnSaved


def print_notes(recorded: RecordedSession) -> None:
    """Print the text of each note once it is in the journal."""
    note = recorded.writer.note

    def on_note(key: str, event: Event, *, at: float | None = None) -> None:
        note(key, event, at=at)
        if isinstance(event, TurnSaved):
            print(event.assistant_text or "", flush=True)

    recorded.writer.note = on_note  # type: ignore[method-assign] # a spy


async def main(nats_url: str, folder: str, question: str) -> None:
    """Answer the question."""
    bus = await Bus.connect(nats_url, name="speaking agent")
    async with recorded_session(bus, nats_url, Path(folder), tts=SilentTTS()) as recorded:
        give_voice(recorded)
        print_notes(recorded)
        await recorded.start(Agent(instructions=""))
        await recorded.session.generate_reply(user_input=question)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
