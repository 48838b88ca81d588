"""A call in this process: a flow's session with its real providers, a caller with a voice, a record.

There is no room: the caller's audio comes as fast as the session takes it, and what the agent speaks is
played at once.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from livekit import rtc
from livekit.agents import CloseEvent, utils
from livekit.agents.voice.io import AudioInput, AudioOutput, AudioOutputCapabilities
from tests.agent_worker.doubles.driven import frames, until
from tests.agent_worker.providers.voice_flows import with_voice
from tests.recorder.recorded_session import RecordedSession, recorded_session

from antiphon.agent_worker.agent_deadlines import keep_deadlines_of_agents
from antiphon.agent_worker.agents import build_entry_agent
from antiphon.agent_worker.apology import ApologisingSession
from antiphon.agent_worker.providers.loaded import import_plugins
from antiphon.agent_worker.providers.voices import llm_factory, session_options
from antiphon.agent_worker.tools.session_tools import SessionTools
from antiphon.agent_worker.unheard_caller import UnheardCaller
from antiphon.chassis.bus import Bus
from antiphon.contracts.events.agent import AgentError

APOLOGY = "Sorry, this line is broken."
RATE = 24_000
_AGENTS = "agents:\n  host: {instructions: Be brief., greeting: Hello there.}\n"
USERDATA: dict[str, Any] = {}  # of the process: it loads the voice detector once
_TURNS = "turns: {detection: stt, endpointing: {min_seconds: 0, max_seconds: 0}}\n"


class Microphone(AudioInput):
    """The caller's audio."""

    def __init__(self) -> None:
        super().__init__(label="caller")
        self._frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()

    async def __anext__(self) -> rtc.AudioFrame:
        return await self._frames.get()

    def push(self, pcm: bytes) -> None:
        """Add audio at 24 kHz."""
        for frame in frames(pcm, RATE):
            self._frames.put_nowait(frame)


class Loudspeaker(AudioOutput):
    """An output that has played a segment as soon as it is complete."""

    def __init__(self) -> None:
        super().__init__(
            label="loudspeaker", capabilities=AudioOutputCapabilities(pause=False), sample_rate=RATE
        )
        self.played: list[float] = []  # seconds of each segment
        self._seconds = 0.0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Add a frame."""
        await super().capture_frame(frame)
        if not self._seconds:
            self.on_playback_started(created_at=0.0)
        self._seconds += frame.duration

    def flush(self) -> None:
        """Play the segment."""
        super().flush()
        self._finish(interrupted=False)

    def clear_buffer(self) -> None:
        """Drop the segment."""
        self._finish(interrupted=True)

    def _finish(self, *, interrupted: bool) -> None:
        if self._seconds:
            seconds, self._seconds = self._seconds, 0.0
            self.played.append(seconds)
            self.on_playback_finished(playback_position=seconds, interrupted=interrupted)


class SpokenCall:
    """The running call, and what was said, heard and recorded."""

    def __init__(self, recorded: RecordedSession) -> None:
        self.session = recorded.session
        self.microphone = Microphone()
        self.loudspeaker = Loudspeaker()
        self.said: list[str] = []  # by the agent, as the caller heard it
        self.heard: list[str] = []  # from the caller
        self.closed: list[CloseEvent] = []
        self._recorded = recorded
        self.session.on("conversation_item_added", self._on_item)
        self.session.on("user_input_transcribed", self._on_transcribed)
        self.session.on("close", self.closed.append)
        self.session.input.audio = self.microphone
        self.session.output.audio = self.loudspeaker

    def speak(self, pcm: bytes) -> None:
        """Let the caller speak."""
        self.microphone.push(pcm)

    async def answered(self, count: int) -> None:
        """Wait until the caller has heard so many answers."""
        await until(lambda: len(self.said) >= count)

    async def recorded_errors(self) -> list[AgentError]:
        """Return the errors on record so far."""
        return [event for event in await self._recorded.events() if isinstance(event, AgentError)]

    def _on_item(self, event: Any) -> None:
        if event.item.type == "message" and event.item.role == "assistant" and event.item.text_content:
            self.said.append(event.item.text_content)

    def _on_transcribed(self, event: Any) -> None:
        if event.is_final:
            self.heard.append(event.transcript)


@asynccontextmanager
async def spoken_call(
    bus: Bus,
    nats_url: str,
    folder: Path,
    voice: str,
    *,
    turns: str = _TURNS,
    agents: str = _AGENTS,
    detector: bool = False,
) -> AsyncIterator[SpokenCall]:
    """Start a call with the content of a flow's `voice:`; the agent has not spoken yet.

    A voice detector does not take a tone for speech: it is only there on demand.
    """
    bound = with_voice(f"{voice}\napology: {APOLOGY}", agents + turns)
    bound = SessionTools(bound).bound
    import_plugins(bound.flow)
    options = session_options(bound, USERDATA) | ({} if detector else {"vad": None})
    make = partial(ApologisingSession, bound)
    recording = recorded_session(bus, nats_url, folder, make, **options)
    async with utils.http_context.open(), recording as recorded:
        call = SpokenCall(recorded)
        assert isinstance(call.session, ApologisingSession)
        keep_deadlines_of_agents(call.session, bound)
        UnheardCaller(call.session)
        await recorded.start(build_entry_agent(bound, llm_factory(bound.flow, USERDATA)))
        yield call
