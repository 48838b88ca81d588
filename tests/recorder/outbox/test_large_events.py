"""An event that is larger than the broker accepts loses the end of its texts, and nothing else."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from livekit.agents import Agent, RunContext, function_tool
from tests.recorder.recorded_session import recorded_session
from tests.recorder.test_recording import of_type

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import seal_encoded
from antiphon.contracts.events.tool import ToolCompleted
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import named_session_id
from antiphon.recorder.outbox.large_events import TEXT_BYTES, cut, fits

LENGTH = 1_500_000
MARK = " [cut: 1,500,000 characters]"


class Reader(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="")

    @function_tool
    async def read(self, context: RunContext[Any]) -> str:
        """Return a whole file."""
        return "x" * LENGTH


async def test_output_of_a_tool_above_the_limit_of_the_broker_is_cut(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    async with recorded_session(bus, nats_server.url, tmp_path) as recorded:
        await recorded.start(Reader())
        await recorded.say("read({})")
        await recorded.say("hello")
        events = await recorded.finish()

    (completed,) = of_type(ToolCompleted, events)
    assert completed.output is not None
    assert completed.output.startswith("x" * 200_000)
    assert completed.output.endswith(MARK)
    first, second = of_type(TurnSaved, events)
    assert (first.user_text, first.tool_call_ids) == ("read({})", [completed.call_id])
    assert (first.assistant_text or "").startswith("Done: xxx")
    assert (first.assistant_text_generated or "").endswith(" characters]")
    assert second.user_text == "hello"


@pytest.mark.parametrize("text", ["x", "\n", "\0", "\u00e9", "\U0001f600", "\ud800", 'x"\n\0\u00e9'])
def test_every_kind_of_text_is_cut_to_what_fits(text: str) -> None:
    turn = TurnSaved(turn=1, agent_id="host", user_text=text * LENGTH, metrics={"other": ["kept"]})
    small = cut(turn)
    assert isinstance(small, TurnSaved)
    kept, mark, _ = (small.user_text or "").partition(" [cut: ")
    assert mark
    assert (text * LENGTH).startswith(kept)
    size = len(msgspec.json.encode(kept.replace("\ud800", "?")))
    assert TEXT_BYTES // 2 < size <= TEXT_BYTES
    assert (small.turn, small.agent_id, small.metrics) == (1, "host", {"other": ["kept"]})


def test_short_texts_stay_as_they_are() -> None:
    turn = TurnSaved(turn=1, agent_id="host", user_text="hello", assistant_text="Good day.")
    assert cut(turn) == turn


def test_a_field_that_is_nested_too_deep_is_cut_and_the_rest_is_kept() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    turn = TurnSaved(turn=1, agent_id="host", user_text="hello", metrics={"deep": deep, "flat": 1})

    small = cut(turn)

    assert isinstance(small, TurnSaved)
    assert (small.user_text, small.metrics["flat"]) == ("hello", 1)
    sealed = seal_encoded(
        small,
        id="ses_1:agent:AJ_1:1",
        session_id=named_session_id("default", "deep"),
        tenant="default",
        producer="agent",
        producerseq=1,
        time=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert fits(sealed)
    assert b"cut: nested deeper than 50 levels" in sealed
