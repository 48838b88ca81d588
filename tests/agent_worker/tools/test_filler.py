"""The filler line of a slow tool: once, not of a quick tool, not over the caller."""

import asyncio
from typing import Any

from livekit.agents import SpeechCreatedEvent
from tests.agent_worker.tools.conftest import Open, Talk


def slow(after_seconds: float) -> dict[str, Any]:
    filler = {"say": "One moment, I look for {seconds}.", "after_seconds": after_seconds}
    return {"slow": {"python": "tests.agent_worker.tools.functions:slow", "filler": filler}}


def said(spoken: Talk) -> list[str]:
    """Return what the agent says without being asked, as it begins."""
    begun: list[str] = []

    def on_speech(event: SpeechCreatedEvent) -> None:
        if event.source == "say":
            begun.append(event.source)

    spoken.session.on("speech_created", on_speech)
    return begun


async def test_slow_tool_says_its_line_once(talk: Open) -> None:
    async with talk(slow(0.2)) as spoken:
        begun = said(spoken)
        assert (await spoken.call("slow", seconds=3)).output == "done"
        assert begun == ["say"]
        lines = [item.text_content for item in spoken.session.history.items if item.type == "message"]
        assert "One moment, I look for 3." in lines


async def test_quick_tool_says_nothing(talk: Open) -> None:
    async with talk(slow(5)) as spoken:
        begun = said(spoken)
        await spoken.call("slow", seconds=0)
        assert begun == []


async def test_line_waits_while_the_caller_speaks(talk: Open) -> None:
    async with talk(slow(0.2)) as spoken:
        begun = said(spoken)
        spoken.session._update_user_state("speaking")
        running = asyncio.ensure_future(spoken.call("slow", seconds=2))
        await asyncio.wait([running], timeout=60)
        assert running.result().output == "done"
        assert begun == []
