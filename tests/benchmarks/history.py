"""A log of calls as agents record them: the usual events in their usual numbers, many calls interleaved."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from antiphon.contracts.envelope import Envelope, seal
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentJoined, AgentReady, AgentStateChanged, UserStateChanged
from antiphon.contracts.events.media import ActiveSpeakersChanged, ConnectionQualityChanged, TrackSubscribed
from antiphon.contracts.events.participant import ParticipantConnected, ParticipantDisconnected
from antiphon.contracts.events.session import (
    CloseReason,
    FaultSide,
    SessionClosed,
    SessionDispatched,
    SessionRequested,
)
from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.contracts.events.turn import TurnSaved, TurnStarted, UserInputTranscribed
from antiphon.contracts.events.usage import ModelUsage, UsageUpdated
from antiphon.contracts.ids import agent_event_id, named_session_id

TENANT = "default"
OPEN = 200  # calls at the same time
METRICS = {"e2e_latency": 0.812, "llm_node_ttft": 0.331, "tts_node_ttfb": 0.12, "transcription_delay": 0.2}
QUESTION = "I would like a table for two at eight, please, by the window if you have one."
ANSWER = "Of course. I have a table for two at eight by the window. What name shall I put it under?"


def call(number: int, tenant: str = TENANT, turns: int = 6) -> list[Envelope]:
    """Return the events of one call, in their order: about fifteen for each turn, and twenty more."""
    session_id = named_session_id(tenant, f"benchmark {number}")
    start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=7 * number)
    return [
        seal(
            event,
            id=agent_event_id(session_id, "AJ_benchmark", place),
            session_id=session_id,
            tenant=tenant,
            producer="agent",
            producerseq=place,
            time=start + timedelta(milliseconds=400 * place),
        )
        for place, event in enumerate(_events(number, session_id, turns), start=1)
    ]


def calls(count: int, tenant: str = TENANT) -> Iterator[Envelope]:
    """Yield the events of many calls, interleaved at random, each in its own order; always the same ones."""
    chance = random.Random(1)
    waiting: list[list[Envelope]] = []
    for number in range(count):
        waiting.append(call(number, tenant)[::-1])
        while len(waiting) >= OPEN:
            yield from _next(waiting, chance)
    while waiting:
        yield from _next(waiting, chance)


def _next(waiting: list[list[Envelope]], chance: random.Random) -> Iterator[Envelope]:
    place = chance.randrange(len(waiting))
    yield waiting[place].pop()
    if not waiting[place]:
        waiting[place] = waiting[-1]
        waiting.pop()


def _events(number: int, session_id: str, turns: int) -> Iterator[Event]:
    epoch, user, agent = "AJ_benchmark", f"user-{number}", "agent"
    yield SessionRequested(flow_id="booking", flow_revision=1, user_id=user, room=session_id)
    yield SessionDispatched(attempt=1, room_sid="RM_1", agent_name="antiphon")
    yield AgentJoined(job_id=epoch, worker_id="AW_1", epoch=epoch, identity=agent)
    yield ParticipantConnected(identity=user, sid=f"PA_{number}", kind="standard")
    for sid in (f"TR_{number}_1", f"TR_{number}_2"):
        yield TrackSubscribed(
            identity=user, participant_sid=f"PA_{number}", track_sid=sid, kind="audio", source="microphone"
        )
    yield AgentReady(greeting="Hello, how can I help you?", ready_ms=640.0 + number % 97)
    for turn in range(1, turns + 1):
        yield UserStateChanged(old_state="listening", new_state="speaking")
        yield ActiveSpeakersChanged(identities=[user])
        yield UserStateChanged(old_state="speaking", new_state="listening")
        yield UserInputTranscribed(transcript=QUESTION, language="en")
        yield TurnStarted(turn=turn, epoch=epoch, agent_id="host", user_text=QUESTION, input="voice")
        yield AgentStateChanged(old_state="listening", new_state="thinking")
        if turn % 3 == 0:
            tool = f"call_{number}_{turn}"
            yield ToolStarted(call_id=tool, name="book_table", arguments='{"people": 2, "time": "20:00"}')
            yield ToolCompleted(call_id=tool, name="book_table", status="done", output="booked")
        yield AgentStateChanged(old_state="thinking", new_state="speaking")
        yield ActiveSpeakersChanged(identities=[agent])
        yield ConnectionQualityChanged(identity=user, participant_sid=f"PA_{number}", quality="excellent")
        yield AgentStateChanged(old_state="speaking", new_state="listening")
        yield ActiveSpeakersChanged(identities=[])
        yield UsageUpdated(models=[_usage(turn)])
        yield TurnSaved(
            turn=turn,
            epoch=epoch,
            agent_id="host",
            user_text=QUESTION,
            assistant_text=ANSWER,
            assistant_text_generated=ANSWER,
            language="en",
            confidence=0.97,
            metrics={**METRICS, "e2e_latency": 0.5 + (number * 7 + turn) % 100 / 100},
        )
    yield ParticipantDisconnected(
        identity=user, sid=f"PA_{number}", kind="standard", reason="client_initiated"
    )
    yield SessionClosed(
        reason=CloseReason.CALLER_LEFT,
        fault=FaultSide.NONE,
        duration_seconds=40.0,
        turns=turns,
        usage=[_usage(turns)],
    )


def _usage(turn: int) -> ModelUsage:
    return ModelUsage(
        kind="llm",
        provider="openai",
        model="gpt-4o-mini",
        input_tokens=200 * turn,
        output_tokens=40 * turn,
        requests=turn,
    )
