"""A caller who speaks without being understood: the recogniser is connected, and gives no words."""

import math
from typing import Any, Final

import structlog
from livekit.agents import AgentStateChangedEvent, UserStateChangedEvent, stt
from livekit.agents.voice.events import UserInputTranscribedEvent, UserTranscriptionTimeoutEvent

from antiphon.agent_worker.apology import ApologisingSession
from antiphon.agent_worker.providers.plugin_faults import report_deaf
from antiphon.agent_worker.providers.recognisers import Recognisers

log = structlog.get_logger(__name__)

SENTENCES: Final = 2  # without a word in them, before the recogniser is taken for deaf: one may be a cough
LEAST_SPEECH_SECONDS: Final = 1.5  # in all of them together
TOGETHER_SECONDS: Final = 30.0  # from one to the next


class UnheardCaller:
    """Gives a recogniser up that gave no words for what the voice detector takes for speech.

    A fallback hears what was said. A recogniser without one is connected again, and the caller hears the
    apology, to say it once more.
    """

    def __init__(self, session: ApologisingSession) -> None:
        self._session = session
        self._unheard = 0  # sentences
        self._speech = 0.0  # seconds in them
        self._sum = 0.0  # of the turn, to which LiveKit adds until it has words
        self._last = -math.inf
        self._began = 0.0  # the caller, to speak
        self._spoke = 0.0  # the agent, last: it may not have listened meanwhile
        session.on("user_state_changed", self._on_caller)
        session.on("agent_state_changed", self._on_agent)
        session.on("user_input_transcribed", self._on_words)
        session.on("user_transcription_timeout", self._on_timeout)

    def _on_caller(self, event: UserStateChangedEvent) -> None:
        if event.new_state == "speaking":
            self._began = event.created_at

    def _on_agent(self, event: AgentStateChangedEvent) -> None:
        if event.old_state == "speaking":
            self._spoke = event.created_at

    def _on_words(self, _event: UserInputTranscribedEvent) -> None:
        self._forget()

    def _on_timeout(self, event: UserTranscriptionTimeoutEvent) -> None:
        spoken = event.speech_duration - (self._sum if event.speech_duration >= self._sum else 0.0)
        self._sum = event.speech_duration
        if self._session.agent_state == "speaking" or self._spoke > self._began:
            return
        if event.created_at - self._last > TOGETHER_SECONDS:
            self._forget()
        self._last = event.created_at
        self._unheard += 1
        self._speech += spoken
        if self._unheard >= SENTENCES and self._speech >= LEAST_SPEECH_SECONDS:
            self._forget()
            self._give_up()

    def _forget(self) -> None:
        self._unheard, self._speech = 0, 0.0

    def _give_up(self) -> None:
        recogniser = _recogniser_of(self._session)
        if recogniser is None or isinstance(recogniser, stt.StreamAdapter):
            return  # one that is asked for each sentence has answered, or failed
        log.warning("session.caller_unheard", provider=recogniser.label, sentences=SENTENCES)
        if isinstance(recogniser, Recognisers):
            for one in recogniser.recognisers:
                report_deaf(one)
        else:
            report_deaf(recogniser)
            self._session.apologise()


def _recogniser_of(session: ApologisingSession) -> Any:
    activity = session._activity
    return None if activity is None else activity.stt
