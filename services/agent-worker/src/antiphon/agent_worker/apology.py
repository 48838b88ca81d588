"""A session that apologises when a provider and its fallbacks fail, and ends when that goes on."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final

import structlog
from livekit import rtc
from livekit.agents import (
    AgentStateChangedEvent,
    CloseReason,
    UserInputTranscribedEvent,
    llm,
    stt,
    tts,
)
from livekit.agents.types import NOT_GIVEN
from livekit.agents.voice import SpeechHandle

from antiphon.agent_worker.closing import ClosingSession
from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.flow.model import DEFAULT_APOLOGY
from antiphon.agent_worker.providers.espeak import DEFAULT_VOICE, SpeechSynthesisFailed, synthesize

log = structlog.get_logger(__name__)

ModelError = llm.LLMError | stt.STTError | tts.TTSError | llm.RealtimeModelError

MOST_FAILURES: Final = 3  # in a row of one kind, before the call ends
APOLOGY_SECONDS: Final = 15.0
_SILENT: Final = frozenset({"tts_error", "realtime_model_error"})  # after which only the offline voice speaks
_FRAMES_PER_SECOND: Final = 50


class ApologisingSession(ClosingSession):
    """A ClosingSession that says the flow's apology for an error from which its provider does not recover.

    The call goes on: the caller may try again. After more than `MOST_FAILURES` in a row, or an error of a
    realtime model, `ending.on_failure`, or else the apology, is the last thing that the caller hears: the
    session closes, reason `error`.
    """

    def __init__(self, bound: BoundFlow, **options: Any) -> None:
        super().__init__(bound, **options)
        self._failures: Counter[str] = Counter()
        self._apology: SpeechHandle | None = None
        self._gives_up = False  # the call cannot go on
        self.on("agent_state_changed", self._on_state)
        self.on("user_input_transcribed", self._on_transcribed)

    async def apologised(self) -> None:
        """Wait until an apology that has begun was heard, for at most `APOLOGY_SECONDS`."""
        if self._apology is not None:
            await asyncio.wait([asyncio.ensure_future(_played(self._apology))], timeout=APOLOGY_SECONDS)

    def apologise(self) -> None:
        """Say the flow's apology, unless one is waiting: the caller may try again, and nothing is counted."""
        if self._apology is None or self._apology.done():
            self._apologise(offline=False)

    async def give_up(self) -> None:
        """Say `ending.on_failure` before the call is ended, in the offline voice, after an apology."""
        await self.apologised()
        if self._bound.flow.ending.on_failure is not None and not self._gives_up:
            self._gives_up = True
            self._apologise(offline=True)
            await self.apologised()

    def _on_error(self, error: ModelError) -> None:  # LiveKit's own only counts, and closes the session
        if error.recoverable or self._closing_task:
            return
        self._failures[error.type] += 1
        failures = self._failures[error.type]
        last = error.type == "realtime_model_error" or failures > MOST_FAILURES
        log.warning("session.provider_failed", kind=error.type, failures=failures, ends=last)
        waiting = self._apology is not None and not self._apology.done()
        goodbye = last and not self._gives_up and self._bound.flow.ending.on_failure is not None
        self._gives_up = self._gives_up or last
        if not waiting or goodbye or error.type in _SILENT:
            self._apologise(offline=error.type in _SILENT)
        if last:
            self._end_after_apology(error)

    def _apologise(self, *, offline: bool) -> None:
        text = self._apology_text()
        audio = _spoken(text, self._bound.flow.language) if offline else NOT_GIVEN
        try:
            self._apology = self.say(
                text, audio=audio, allow_interruptions=False if self._gives_up else NOT_GIVEN
            )
        except RuntimeError as error:  # the session is not running, or cannot speak
            log.warning("session.no_apology", error=type(error).__name__, pii_error=str(error))

    def _apology_text(self) -> str:
        flow = self._bound.flow
        if self._gives_up and flow.ending.on_failure is not None:
            return self._bound.text(flow.ending.on_failure)
        agent = self._agent.id if self._agent is not None else flow.first
        voice = flow.voice_of(agent) if agent in flow.agents else flow.voice
        return self._bound.text(voice.apology or flow.voice.apology or DEFAULT_APOLOGY)

    def _end_after_apology(self, error: ModelError) -> None:
        def close(_: object = None) -> None:
            if self._apology is None or self._apology.done():
                self._close_soon(reason=CloseReason.ERROR, error=error)
            else:  # its voice has failed too: the offline voice says it
                self._apology.add_done_callback(close)

        close()

    def _on_state(self, event: AgentStateChangedEvent) -> None:
        if event.new_state == "speaking" and self.current_speech is not self._apology:
            del self._failures["llm_error"]
            del self._failures["tts_error"]

    def _on_transcribed(self, _: UserInputTranscribedEvent) -> None:
        del self._failures["stt_error"]


async def _played(speech: SpeechHandle) -> None:
    await speech


async def _spoken(text: str, language: str) -> AsyncIterator[rtc.AudioFrame]:
    """Speak a text with the offline voice, in the nearest language that it knows."""
    rate, pcm = await asyncio.to_thread(_synthesized, text, language.lower())
    size = rate // _FRAMES_PER_SECOND
    for start in range(0, len(pcm) // 2, size):
        part = pcm[start * 2 : (start + size) * 2]
        yield rtc.AudioFrame(part, rate, 1, len(part) // 2)


def _synthesized(text: str, language: str) -> tuple[int, bytes]:
    for voice in (language, language.partition("-")[0]):
        try:
            return synthesize(text, voice=DEFAULT_VOICE if voice == "en" else voice)
        except SpeechSynthesisFailed:
            continue
    return synthesize(text)
