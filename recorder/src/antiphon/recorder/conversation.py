"""Record the events of an AgentSession. One handler per LiveKit event, in one table."""

from collections.abc import Callable, Mapping
from typing import Any

from livekit.agents import (
    AgentSession,
    AgentStateChangedEvent,
    ConversationItemAddedEvent,
    ErrorEvent,
    FunctionToolsExecutedEvent,
    SessionUsageUpdatedEvent,
    SpeechCreatedEvent,
    ToolExecutionUpdatedEvent,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
)
from livekit.agents.llm import AgentHandoff, ChatMessage
from livekit.agents.voice import SpeechHandle

from antiphon.contracts.events.agent import AgentError, AgentHandedOff, AgentStateChanged, UserStateChanged
from antiphon.contracts.events.turn import TurnSaved, UserInputTranscribed
from antiphon.contracts.events.usage import ModelUsage
from antiphon.recorder.livekit_internals import available, current_speech, originating_speech
from antiphon.recorder.outbox import WriteEvent
from antiphon.recorder.taps import ErrorGuard, tap_agent
from antiphon.recorder.tools import ToolCalls
from antiphon.recorder.turns import Answer, Finished, TurnTracker, Utterance
from antiphon.recorder.usage import Usage


class Conversation:
    """Writer of a session's events; `on_greeting` gets the greeting's text once it was spoken."""

    def __init__(
        self,
        session: AgentSession[Any],
        write: WriteEvent,
        guard: ErrorGuard,
        *,
        on_greeting: Callable[[str], None],
    ) -> None:
        self.unrecoverable_error: str | None = None
        self._session = session
        self._write = write
        self._guard = guard
        self._on_greeting = on_greeting
        self._turns = TurnTracker()
        self._tools = ToolCalls(write)
        self._usage = Usage(write)
        self._model_speeches: set[str] = set()  # with text from a model
        self._language: str | None = None
        self._handoff_reason: str | None = None
        self._error_written = False  # since the last turn

    @property
    def turns(self) -> int:
        """The number of saved turns."""
        return self._turns.saved

    @property
    def usage(self) -> list[ModelUsage]:
        """The usage of each model so far."""
        return self._usage.models

    def handle(self, name: str, event: Any) -> None:
        """Record one event of the session; call it in the order of emission."""
        handler = _HANDLERS.get(name)
        if handler is not None:
            handler(self, event)

    def close(self) -> None:
        """Save the open turn and the last usage."""
        self._save(self._turns.close())
        self._usage.write_changes()

    def on_agent_state(self, event: AgentStateChangedEvent) -> None:
        """Record a change of the agent's state."""
        changed = AgentStateChanged(old_state=event.old_state, new_state=event.new_state)
        self._write(changed, at=event.created_at)

    def on_user_state(self, event: UserStateChangedEvent) -> None:
        """Record a change of the user's state; LiveKit dates it back to the change of the voice."""
        changed = UserStateChanged(old_state=event.old_state, new_state=event.new_state)
        self._write(changed, at=event.created_at)

    def on_transcribed(self, event: UserInputTranscribedEvent) -> None:
        """Record a final transcript."""
        if not event.is_final:
            return
        language = str(event.language) if event.language else None  # a subclass of str
        self._language = language or self._language
        transcribed = UserInputTranscribed(
            transcript=event.transcript,
            language=language,
            speaker_id=event.speaker_id,
            item_id=event.item_id,
        )
        self._write(transcribed, at=event.created_at)

    def on_speech_created(self, event: SpeechCreatedEvent) -> None:
        """Track a speech until it is done."""
        handle = event.speech_handle
        self._turns.speech_started(handle.id, parent=originating_speech(), is_reply=not event.user_initiated)
        handle.add_done_callback(self._guard.wrap("speech_done", self._on_speech_done))

    def _on_speech_done(self, handle: SpeechHandle) -> None:
        self._model_speeches.discard(handle.id)
        self._save(self._turns.speech_finished(handle.id, interrupted=handle.interrupted))

    def on_item_added(self, event: ConversationItemAddedEvent) -> None:
        """Record a message or a handoff."""
        item = event.item
        if isinstance(item, AgentHandoff):
            self._on_handoff(item)
        elif isinstance(item, ChatMessage) and item.role == "user":
            self._on_user_message(item)
        elif isinstance(item, ChatMessage) and item.role == "assistant":
            answer = Answer(item.text_content or "", item.interrupted, item.metrics)
            self._save(self._turns.agent_said(current_speech(), self._session.current_agent.id, answer))

    def _on_user_message(self, item: ChatMessage) -> None:
        confidence = item.transcript_confidence
        utterance = Utterance(
            item.text_content or "",
            language=self._language,
            confidence=None if confidence is None else min(1.0, max(0.0, confidence)),
            metrics=item.metrics,
        )
        self._save(self._turns.user_said(current_speech(), self._session.current_agent.id, utterance))
        self._on_greeting("")  # an agent that the user speaks to first is ready without a greeting

    def _on_handoff(self, item: AgentHandoff) -> None:
        reason, self._handoff_reason = self._handoff_reason, None
        self._write(AgentHandedOff(to_agent=item.new_agent_id, from_agent=item.old_agent_id, reason=reason))
        tap_agent(
            self._session.current_agent,
            on_model_text=self._guard.wrap("model_text", self._on_model_text),
            on_spoken_text=self._guard.wrap("spoken_text", self._on_spoken_text),
            on_entered=self._guard.wrap("entered", self._on_entered),
        )

    def _on_model_text(self, speech: str, text: str) -> None:
        self._model_speeches.add(speech)
        self._turns.text_generated(speech, text)

    def _on_spoken_text(self, speech: str, text: str) -> None:
        if speech not in self._model_speeches:
            self._turns.text_generated(speech, text)

    def _on_entered(self) -> None:
        self._save(self._turns.handoff_finished())

    def on_tool_update(self, event: ToolExecutionUpdatedEvent) -> None:
        """Record that a tool call started or ended."""
        started = self._tools.on_update(event)
        if started is not None:
            self._turns.tool_called(started)

    def on_tools_executed(self, event: FunctionToolsExecutedEvent) -> None:
        """Record calls that failed before they started; expect the handoff that follows."""
        for call_id in self._tools.on_executed(event):
            self._turns.tool_called(call_id)
        if event.has_agent_handoff:
            self._handoff_reason = ", ".join(call.name for call in event.function_calls)
            if available("on_enter"):  # else the handoff would never finish
                self._turns.handoff_started()

    def on_usage(self, event: SessionUsageUpdatedEvent) -> None:
        """Take the newest usage; it is written at the end of a turn."""
        self._usage.update(event.usage)

    def on_error(self, event: ErrorEvent) -> None:
        """Record an error of a model or service that the agent uses."""
        cause = getattr(event.error, "error", event.error)
        error = AgentError(
            source=str(getattr(event.error, "label", None) or type(event.source).__name__),
            kind=type(cause).__name__,
            recoverable=bool(getattr(event.error, "recoverable", False)),
            message=str(cause) or repr(cause),
        )
        self._error_written = True
        if not error.recoverable:
            self.unrecoverable_error = f"{error.source}: {error.message}"
        self._write(error, at=event.created_at)

    def _save(self, finished: list[Finished]) -> None:
        for part in finished:
            if isinstance(part, TurnSaved):
                self._write(part)
                self._write_silent_answer(part)
            else:
                self._on_greeting(part.text)
            self._usage.write_changes()

    def _write_silent_answer(self, turn: TurnSaved) -> None:
        # a TTS that fails with anything but an API error emits no error event, but its answer is silent
        generated = turn.assistant_text_generated
        if generated and not turn.assistant_text and not turn.interrupted and not self._error_written:
            message = f"the answer to turn {turn.turn} was not audible"
            self._write(AgentError(source="agent", kind="Unheard", recoverable=True, message=message))
        self._error_written = False


_HANDLERS: Mapping[str, Callable[[Conversation, Any], None]] = {
    "agent_state_changed": Conversation.on_agent_state,
    "user_state_changed": Conversation.on_user_state,
    "user_input_transcribed": Conversation.on_transcribed,
    "speech_created": Conversation.on_speech_created,
    "conversation_item_added": Conversation.on_item_added,
    "tool_execution_updated": Conversation.on_tool_update,
    "function_tools_executed": Conversation.on_tools_executed,
    "session_usage_updated": Conversation.on_usage,
    "error": Conversation.on_error,
}
