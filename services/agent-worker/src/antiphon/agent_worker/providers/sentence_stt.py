"""A recogniser that hears a whole sentence at a time, and what it hears while the agent speaks.

LiveKit decides by the words that it has so far whether the agent is interrupted. Of such a recogniser it has
none until the sentence has ended, and the offline one has words for any sound: "(unclear)". So a cough would
end the agent's speech, and each "uh huh" would be added to the next turn. Here it is decided instead.
"""

from collections.abc import Callable
from typing import Any

from livekit.agents import AgentSession, UserInputTranscribedEvent, get_job_context, stt
from livekit.agents.stt.stream_adapter import StreamAdapterWrapper
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectOptions, NotGivenOr

from antiphon.agent_worker.providers.sphinx_stt import UNCLEAR

FindSession = Callable[[], AgentSession[Any] | None]


def session_of_job() -> AgentSession[Any] | None:
    """Return the session of the job that this task belongs to, or None outside a job."""
    job = get_job_context(required=False)
    return None if job is None or job._primary_agent_session is None else job.primary_session


class SentenceSTT(stt.StreamAdapter):
    """A recogniser of sentences as a streaming one, by detecting speech.

    A sentence over the agent's speech is left out if it does not interrupt it: if it has fewer words than the
    flow asks for, or no known word, and the agent goes on after such a sound. It is a transcript of the
    session, but part of no turn.
    """

    def __init__(self, *, find_session: FindSession = session_of_job, **parts: Any) -> None:
        super().__init__(**parts)
        self._find_session = find_session

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        """Start listening."""
        return _Sentences(
            self._find_session,
            stt=self,
            vad=self._vad,
            wrapped_stt=self._stt,
            language=language,
            conn_options=conn_options,
        )


class _Sentences(StreamAdapterWrapper):
    def __init__(self, find_session: FindSession, **parts: Any) -> None:
        super().__init__(**parts)
        self._find_session = find_session
        self._over_speech = False

    async def __anext__(self) -> stt.SpeechEvent:
        while True:
            event = await super().__anext__()
            if not self._leaves_out(event):
                return event

    def _leaves_out(self, event: stt.SpeechEvent) -> bool:
        session = self._find_session()
        if session is None:
            return False
        if event.type == stt.SpeechEventType.START_OF_SPEECH:
            self._over_speech = may_be_interrupted(session)
        if event.type != stt.SpeechEventType.FINAL_TRANSCRIPT or not self._over_speech:
            return False
        heard = event.alternatives[0]
        if not may_be_interrupted(session) or interrupts(session, heard.text):
            return False
        transcript = UserInputTranscribedEvent(transcript=heard.text, language=heard.language, is_final=True)
        session.emit("user_input_transcribed", transcript)
        return True


def may_be_interrupted(session: AgentSession[Any]) -> bool:
    """Return whether the agent speaks, or is paused within its speech, and may be interrupted."""
    speech = session.current_speech
    return speech is not None and speech.allow_interruptions and not speech.interrupted


def interrupts(session: AgentSession[Any], text: str) -> bool:
    """Return whether a sentence over the agent's speech interrupts it."""
    interruption = session.options.interruption
    if text == UNCLEAR:
        return not interruption["resume_false_interruption"]
    return len(text.split()) >= interruption["min_words"]
