"""Without an internal of livekit-agents, that part of the record is missing and one warning is logged."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from livekit.agents import Agent, RunContext, __version__, function_tool
from livekit.agents.testing import fake_job_context
from tests.recorder.recorded_session import RecordedSession, recorded_session

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentJoined, AgentReady
from antiphon.contracts.events.session import CloseReason, SessionClosed
from antiphon.contracts.events.tool import ToolCompleted
from antiphon.contracts.events.turn import TurnSaved
from antiphon.recorder import livekit_internals
from antiphon.recorder.livekit_internals import INTERNALS, check

T = TypeVar("T")


def absent(_: Any) -> None:
    raise AttributeError("renamed in this version")


@pytest.fixture(autouse=True)
def nothing_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(livekit_internals, "_warned", set())


class Second(Agent):
    def __init__(self) -> None:
        super().__init__(id="second", instructions="")

    async def on_enter(self) -> None:
        await self.session.say("I am the second.")


class First(Agent):
    def __init__(self) -> None:
        super().__init__(id="first", instructions="")

    @function_tool
    async def second(self, context: RunContext[Any]) -> Agent:
        """Hand over."""
        return Second()

    async def transcription_node(self, text: Any, model_settings: Any) -> Any:
        async for piece in text:
            yield piece.upper()


@asynccontextmanager
async def recorded_without(
    key: str, bus: Bus, nats_server: NatsServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RecordedSession]:
    monkeypatch.setitem(INTERNALS, key, replace(INTERNALS[key], find=absent))
    async with recorded_session(bus, nats_server.url, folder) as session:
        yield session


async def converse(recorded: RecordedSession) -> list[Event]:
    await recorded.start(First())
    await recorded.session.say("Hello.")
    await recorded.say("one")
    await recorded.say("second()")
    recorded.ctx.shutdown()
    return await recorded.finish()


def of_type(kind: type[T], events: list[Event]) -> list[T]:
    return [event for event in events if isinstance(event, kind)]


def texts(events: list[Event]) -> list[tuple[str | None, str | None, str | None]]:
    turns = of_type(TurnSaved, events)
    return [(turn.user_text, turn.assistant_text, turn.assistant_text_generated) for turn in turns]


WHOLE = [
    ("one", "YOU SAID: ONE", "You said: one"),
    ("second()", "I am the second.", "I am the second."),
]
LOST: dict[str, list[tuple[str | None, str | None, str | None]]] = {
    "speech": [
        ("one", "YOU SAID: ONE", "YOU SAID: ONE"),  # the text that was spoken
        ("second()", "I am the second.", "I am the second."),
    ],
    "emit": [],
    "llm_node": [("one", "YOU SAID: ONE", "You said: one"), WHOLE[1]],  # from the transcription
    "on_enter": [
        WHOLE[0],
        ("second()", None, None),
        (None, "I am the second.", "I am the second."),
    ],
}
GREETING = {"speech": ["HELLO."], "transcription_node": ["HELLO."], "emit": []}


async def test_installed_version_has_every_internal(caplog: pytest.LogCaptureFixture) -> None:
    with fake_job_context() as ctx:
        assert check(ctx) == []
    assert caplog.records == []


@pytest.mark.parametrize("key", INTERNALS)
async def test_missing_internal_logs_one_warning_and_the_rest_is_recorded(
    key: str,
    bus: Bus,
    nats_server: NatsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with recorded_without(key, bus, nats_server, tmp_path, monkeypatch) as recorded:
        events = await converse(recorded)
        assert recorded.recording.guard.errors == 0
        check(recorded.ctx)  # the next job of this process

    assert texts(events) == LOST.get(key, WHOLE)
    assert isinstance(events[0], AgentJoined)
    assert len(of_type(ToolCompleted, events)) == (0 if key == "emit" else 1)
    assert [ready.greeting for ready in of_type(AgentReady, events)] == GREETING.get(key, ["Hello."])
    (closed,) = of_type(SessionClosed, events)
    assert closed.reason == CloseReason.AGENT_ENDED
    (warning,) = [record for record in caplog.records if record.name == livekit_internals.__name__]
    assert warning.levelno == logging.WARNING
    for part in (f"livekit-agents {__version__}", INTERNALS[key].name, INTERNALS[key].lost_without):
        assert part in warning.getMessage()


async def test_missing_internals_share_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for key in ("speech", "dispatch"):
        monkeypatch.setitem(INTERNALS, key, replace(INTERNALS[key], find=absent))
    with fake_job_context() as ctx:
        assert check(ctx) == ["speech", "dispatch"]
    (warning,) = caplog.records
    assert INTERNALS["speech"].name in warning.getMessage()
    assert INTERNALS["dispatch"].name in warning.getMessage()


async def test_identity_and_times_have_defaults(
    bus: Bus, nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(INTERNALS, "dispatch", replace(INTERNALS["dispatch"], find=absent))
    async with recorded_without("identity", bus, nats_server, tmp_path, monkeypatch) as recorded:
        joined = (await recorded.finish())[0]
    assert isinstance(joined, AgentJoined)
    assert (joined.identity, joined.launched_at, joined.cold_start) == ("agent-AJ_1", None, False)
