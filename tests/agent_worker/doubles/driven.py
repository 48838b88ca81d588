"""Plugins driven as AgentSession drives them, and what comes out."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from livekit import rtc
from livekit.agents import APIConnectOptions, llm, stt, tts

# one attempt; and two, the second of which LiveKit makes after 0.1 s
ONCE = APIConnectOptions(max_retry=0, timeout=10)
TWICE = APIConnectOptions(max_retry=1, retry_interval=0.01, timeout=10)
SHORT = APIConnectOptions(max_retry=0, timeout=0.3)
DEADLINE = 60.0  # of one request, on a loaded machine
STT_RATE = 16_000


@dataclass
class Reply:
    """What a language model answered."""

    pieces: list[str] = field(default_factory=list)
    calls: list[llm.FunctionToolCall] = field(default_factory=list)
    usage: llm.CompletionUsage | None = None

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)


async def reply_of(
    model: llm.LLM[Any],
    text: str = "Hello?",
    *,
    tools: list[llm.Tool] | None = None,
    history: llm.ChatContext | None = None,
    options: APIConnectOptions = ONCE,
    reply: Reply | None = None,
) -> Reply:
    """Ask a model; `reply` is filled as the answer comes, also when it then fails."""
    context = history.copy() if history is not None else llm.ChatContext.empty()
    if text:
        context.add_message(role="user", content=text)
    reply = reply or Reply()
    async with (
        asyncio.timeout(DEADLINE),
        model.chat(chat_ctx=context, tools=tools or [], conn_options=options) as stream,
    ):
        async for chunk in stream:
            if chunk.delta is not None:
                reply.pieces += [chunk.delta.content] if chunk.delta.content else []
                reply.calls += chunk.delta.tool_calls
            reply.usage = chunk.usage or reply.usage
    return reply


async def seconds_of(voice: tts.TTS[Any], text: str, *, options: APIConnectOptions = ONCE) -> float:
    """Return how long a text is when a voice speaks it at once."""
    seconds = 0.0
    async with asyncio.timeout(DEADLINE), voice.synthesize(text, conn_options=options) as stream:
        async for audio in stream:
            seconds += audio.frame.duration
    return seconds


async def seconds_of_stream(voice: tts.TTS[Any], *texts: str, options: APIConnectOptions = ONCE) -> float:
    """Return how long texts are when a voice speaks them as they are written."""
    seconds = 0.0
    async with asyncio.timeout(DEADLINE), voice.stream(conn_options=options) as stream:
        for text in texts:
            stream.push_text(text)
        stream.end_input()
        async for audio in stream:
            seconds += audio.frame.duration
    return seconds


def frames(pcm: bytes, rate: int = STT_RATE, seconds: float = 0.02) -> list[rtc.AudioFrame]:
    """Return audio in the frames in which a track delivers it."""
    size = 2 * round(rate * seconds)
    parts = [pcm[start : start + size] for start in range(0, len(pcm), size)]
    return [rtc.AudioFrame(part, rate, 1, len(part) // 2) for part in parts]


async def events_of(
    recogniser: stt.STT[Any],
    pcm: bytes,
    *,
    rate: int = STT_RATE,
    options: APIConnectOptions = ONCE,
    utterances: int = 1,
    ends: bool = True,
    final: bool = False,
    events: list[stt.SpeechEvent] | None = None,
) -> list[stt.SpeechEvent]:
    """Stream audio to a recogniser until so many utterances have ended.

    `events` is filled as they come, also when it then fails; without `ends` the caller goes on speaking;
    with `final` an utterance ends with its text and not with its speech.
    The stream is closed as AgentSession does it: by itself, Deepgram's plugin ends a stream only when its
    next KeepAlive is due, after five seconds.
    """
    events = [] if events is None else events
    last = stt.SpeechEventType.FINAL_TRANSCRIPT if final else stt.SpeechEventType.END_OF_SPEECH
    async with asyncio.timeout(DEADLINE), recogniser.stream(conn_options=options) as stream:
        for frame in frames(pcm, rate):
            stream.push_frame(frame)
        if ends:
            stream.end_input()
        async for event in stream:
            events.append(event)
            utterances -= event.type is last
            if utterances == 0:
                break
    return events


def texts(events: list[stt.SpeechEvent], kind: stt.SpeechEventType) -> list[str]:
    """Return the texts of the events of one type."""
    return [event.alternatives[0].text for event in events if event.type is kind]


def kinds(events: list[stt.SpeechEvent]) -> list[str]:
    """Return the types of events without those of usage, repeats left out."""
    names = [e.type.value for e in events if e.type is not stt.SpeechEventType.RECOGNITION_USAGE]
    return [name for n, name in enumerate(names) if n == 0 or names[n - 1] != name]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another task does."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 # nothing to wait on: it is a double's state
            await asyncio.sleep(0.005)
