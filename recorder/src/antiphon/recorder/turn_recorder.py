"""Record the turns of an AgentSession: what LiveKit reports of its speeches goes to the turn tracker."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from livekit.agents import Agent, AgentSession, FunctionToolsExecutedEvent, SpeechCreatedEvent
from livekit.agents.llm import ChatMessage, RealtimeModel
from livekit.agents.utils import is_given
from livekit.agents.voice import SpeechHandle

from antiphon.contracts.events.turn import TurnSaved, TurnStarted
from antiphon.recorder.heard_text import HeardText
from antiphon.recorder.livekit_internals import available, current_speech, originating_speech
from antiphon.recorder.open_turn import Answer, OpenTurn, Utterance, Wait
from antiphon.recorder.outbox import WriteEvent, WriteNote
from antiphon.recorder.taps import AgentListener, ErrorGuard, tap_agent
from antiphon.recorder.turn_notes import TurnNotes, note_key
from antiphon.recorder.turns import Fact, TurnTracker

LATE_SECONDS = 1.0  # after an answer, for the transcript of what it answers, once the user speaks again


class TurnRecorder:
    """Writer of `turn.started` and `turn.saved`, and of the notes between them.

    `epoch` is unique to the session and the agent's job. `on_saved` is called after each turn, `on_greeting`
    with the greeting's text once it was spoken, `on_enter_failed` with the id of an agent whose `on_enter`
    raised, and its error.
    """

    def __init__(
        self,
        session: AgentSession[Any],
        write: WriteEvent,
        note: WriteNote,
        guard: ErrorGuard,
        *,
        epoch: str,
        on_saved: Callable[[TurnSaved], None],
        on_greeting: Callable[[str], None],
        on_enter_failed: Callable[[str, Exception], None],
    ) -> None:
        self.language: str | None = None  # in which the user spoke last
        self._session = session
        self._write = write
        self._guard = guard
        self._on_saved = on_saved
        self._on_greeting = on_greeting
        self._on_enter_failed = on_enter_failed
        self._agent: Agent | None = None  # that speaks; LiveKit's `current_agent` is ahead in a handoff
        self._turns = TurnTracker(epoch)
        self._notes = TurnNotes(self._turns, note, guard, on_tick=self._on_tick)
        self._heard = HeardText(session)
        self._speeches: dict[str, _Texts] = {}  # until each is done
        self._listener: AgentListener | None = AgentListener(  # until the record is closed
            on_model_text=guard.wrap("model_text", self._on_model_text),
            on_spoken_text=guard.wrap("spoken_text", self._on_spoken_text),
            on_transcript=guard.wrap("transcript", self._on_transcript),
            on_entered=guard.wrap("entered", self._on_entered),
        )
        self._superseded: list[OpenTurn] = []  # wait for a transcript, while the user already speaks again

    @property
    def saved(self) -> int:
        """The number of saved turns."""
        return self._turns.saved

    def close(self) -> None:
        """Save the open turns as they are."""
        self._read_heard()
        self._apply(self._turns.close())
        self._notes.close()
        self._listener = None

    def speech_created(self, event: SpeechCreatedEvent) -> None:
        """Track a speech until it is done."""
        handle = event.speech_handle
        self._speeches[handle.id] = _Texts(handle, is_say=event.source == "say")
        handle.add_done_callback(self._guard.wrap("speech_done", self._speech_done))
        answers_voice = event.source == "generate_reply" and handle.input_details.modality == "audio"
        model = self._speech_model
        if answers_voice and model is not None:
            self._user_stopped()
            transcribed = model.capabilities.user_transcription or self._session.stt is not None
            self._apply(self._turns.reply_created(handle.id, self._agent_id, transcribed=transcribed))
        else:
            self._turns.speech_created(handle.id, parent=originating_speech(), awaits_message=answers_voice)

    def user_state(self, state: str) -> None:
        """Give up the transcript of an exchange when the user speaks again, so that the next one is not its.

        A transcript says of no reply that it belongs to it, and one that failed never comes. Until the user
        stops, a transcript can only be that of an earlier exchange.
        """
        if state == "speaking":
            waiting = self._notes.waiting_for(LATE_SECONDS)
            self._superseded = [turn for turn in waiting if turn.waits == {Wait.TRANSCRIPT}]
        else:
            self._user_stopped()

    def _user_stopped(self) -> None:
        superseded, self._superseded = self._superseded, []
        for turn in superseded:
            self._apply(self._turns.stop_waiting(turn))

    def agent_speaks(self) -> None:
        """Start the turn of the speech that can be heard from now on, if it is unprompted."""
        speech = current_speech()
        if speech is None:
            return
        if (texts := self._speeches.get(speech)) is not None:
            texts.is_shown = self._heard.is_text_only
            texts.is_played_untracked = not self._heard.is_synchronised
        self._heard.answer_began(speech)
        self._apply(self._turns.speech_began(speech, self._agent_id))

    def message_added(self, item: ChatMessage) -> None:
        """Add what the user or the agent said."""
        speech = current_speech()
        if item.role == "user":
            confidence = item.transcript_confidence
            utterance = Utterance(
                item.text_content or "",
                language=self.language,
                confidence=None if confidence is None else min(1.0, max(0.0, confidence)),
                metrics=item.metrics,
                input="text" if confidence is None else "voice",
            )
            self._apply(self._turns.user_said(speech, self._agent_id, utterance))
        elif item.role == "assistant":
            self._heard.answer_ended()
            if (texts := self._speeches.get(speech or "")) is not None:
                texts.transcript = ""
            answer = Answer(item.text_content or "", item.interrupted, item.metrics)
            self._apply(self._turns.agent_said(speech, self._agent_id, answer))

    def transcribed(self, transcript: str) -> None:
        """Add what the user said to a speech-to-speech model that does not transcribe it itself."""
        model = self._speech_model
        if transcript and model is not None and not model.capabilities.user_transcription:
            utterance = Utterance(transcript, language=self.language)
            self._apply(self._turns.user_said(None, self._agent_id, utterance, continues=True))

    def tool_called(self, call_id: str) -> None:
        """Add a tool call."""
        self._apply(self._turns.tool_called(originating_speech(), self._agent_id, call_id))

    def tools_executed(self, event: FunctionToolsExecutedEvent) -> None:
        """Add calls that failed before they started; expect the handoff or the reply that follows."""
        for call in event.function_calls:
            self.tool_called(call.call_id)
        speech, model = originating_speech(), self._speech_model
        if event.has_agent_handoff:
            if available("on_enter"):  # else the handoff would never finish
                self._turns.handoff_started(speech)
        elif event.has_tool_reply and model is not None and model.capabilities.auto_tool_reply_generation:
            texts = self._speeches.get(speech or "")
            if texts is not None and not texts.handle.interrupted:
                self._turns.tool_reply_expected(speech)

    def agent_takes_over(self) -> None:
        """Tap the agent that speaks from now on."""
        self._agent = self._session.current_agent
        if self._listener is not None:
            tap_agent(self._agent, self._listener)

    @property
    def _agent_id(self) -> str:
        return (self._agent or self._session.current_agent).id

    @property
    def _speech_model(self) -> RealtimeModel | None:
        own = self._agent.llm if self._agent else None
        model = own if own and is_given(own) else self._session.llm
        return model if isinstance(model, RealtimeModel) else None

    def _on_model_text(self, speech: str, text: str) -> None:
        if (texts := self._speeches.get(speech)) is not None:
            texts.is_from_model = True
        self._turns.text_generated(speech, text)

    def _on_spoken_text(self, speech: str, text: str) -> None:
        texts = self._speeches.get(speech)
        if texts is None or not texts.is_from_model:
            self._turns.text_generated(speech, text)

    def _on_transcript(self, speech: str, text: str) -> None:
        if (texts := self._speeches.get(speech)) is not None:
            texts.transcript += text

    def _on_entered(self, agent_id: str, error: Exception | None) -> None:
        if error is not None:
            self._on_enter_failed(agent_id, error)
        self._apply(self._turns.handoff_finished(originating_speech()))

    def _speech_done(self, handle: SpeechHandle) -> None:
        if self._read_heard() == handle.id:
            self._heard.answer_ended()
        texts = self._speeches.pop(handle.id, None)
        if texts is not None and texts.is_say and texts.is_played_untracked:
            self._turns.text_heard(handle.id, texts.transcript)
        finished = self._turns.speech_finished(
            handle.id, interrupted=handle.interrupted, was_scheduled=handle.scheduled
        )
        self._apply(finished)

    def _on_tick(self, overdue: list[OpenTurn]) -> None:
        self._read_heard()
        for turn in overdue:
            self._apply(self._turns.stop_waiting(turn))

    def _read_heard(self) -> str | None:
        """Bring what was heard up to date; return the speech that is being played."""
        for speech, texts in self._speeches.items():
            if texts.is_shown:
                self._turns.text_heard(speech, texts.transcript)
        heard = self._heard.read()
        if heard is None:
            return None
        speech, text = heard
        if text:
            self._turns.text_heard(speech, text)
        return speech

    def _apply(self, facts: list[Fact]) -> None:
        for fact in facts:
            if isinstance(fact, TurnStarted):
                self._write(fact)
                if fact.input is not None and not self._turns.is_greeting:
                    self._on_greeting("")  # the user spoke first: the agent is ready without a greeting
            elif isinstance(fact, TurnSaved):
                self._write(fact, settles=note_key(fact.epoch or "", fact.turn))
                self._on_saved(fact)
            else:
                self._on_greeting(fact.text)
        self._notes.turns_changed()


@dataclass(slots=True)
class _Texts:
    """The texts of a speech that LiveKit has handled so far."""

    handle: SpeechHandle
    is_say: bool
    is_from_model: bool = False
    is_shown: bool = False  # as text, and heard as soon as it is written
    is_played_untracked: bool = False  # how much of it was heard is known only at its end
    transcript: str = ""  # since its last answer
