"""What happens in an AgentSession, as events. One handler per LiveKit event, in one table."""

from collections.abc import Callable, Mapping
from typing import Any

from livekit.agents import (
    AgentSession,
    AgentStateChangedEvent,
    ConversationItemAddedEvent,
    ErrorEvent,
    FunctionToolsExecutedEvent,
    SpeechCreatedEvent,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
)
from livekit.agents.llm import AgentHandoff, ChatMessage
from livekit.agents.voice.events import SessionUsageUpdatedEvent, ToolExecutionUpdatedEvent
from livekit.agents.voice.speech_handle import SpeechHandle

from antiphon.contracts.events.agent import AgentError, AgentHandedOff, AgentStateChanged, UserStateChanged
from antiphon.contracts.events.turn import TurnSaved, UserInputTranscribed
from antiphon.contracts.events.usage import ModelUsage, UsageUpdated
from antiphon.recorder.generation import tap_agent
from antiphon.recorder.guard import Faults
from antiphon.recorder.speech import current_speech, originating_speech
from antiphon.recorder.tool_log import ToolLog
from antiphon.recorder.turn_book import Answer, Finished, TurnBook, Utterance
from antiphon.recorder.usage import models_of
from antiphon.recorder.write import Write


class Conversation:
    """Turn a session's events into ours; `greeted` is told the greeting once it was spoken."""

    def __init__(
        self, session: AgentSession[Any], write: Write, faults: Faults, *, greeted: Callable[[str], None]
    ) -> None:
        self.usage: list[ModelUsage] = []
        self.fatal: str | None = None
        self._session = session
        self._write = write
        self._faults = faults
        self._greeted = greeted
        self._book = TurnBook()
        self._tools = ToolLog(write)
        self._thought: set[str] = set()  # speeches whose text came from a model
        self._language: str | None = None
        self._hand_off_reason: str | None = None
        self._usage_told: list[ModelUsage] = []
        self._error_told = False  # since the last turn

    @property
    def turns(self) -> int:
        """How many turns were saved."""
        return self._book.saved

    def hear(self, name: str, event: Any) -> None:
        """Take one event of the session, in the order in which it is emitted."""
        handler = _HANDLERS.get(name)
        if handler is not None:
            handler(self, event)

    def close(self) -> None:
        """Save the open turn and the last usage: the session is over."""
        self._save(self._book.close())
        self._tell_usage()

    def on_agent_state(self, event: AgentStateChangedEvent) -> None:
        """Write that the agent's state changed."""
        changed = AgentStateChanged(old_state=event.old_state, new_state=event.new_state)
        self._write(changed, at=event.created_at)

    def on_user_state(self, event: UserStateChangedEvent) -> None:
        """Write that the user's state changed; LiveKit dates it back to when the voice did."""
        changed = UserStateChanged(old_state=event.old_state, new_state=event.new_state)
        self._write(changed, at=event.created_at)

    def on_transcribed(self, event: UserInputTranscribedEvent) -> None:
        """Write the final words; interim ones are no history."""
        if not event.is_final:
            return
        language = str(event.language) if event.language else None  # LiveKit's own kind of str
        self._language = language or self._language
        transcribed = UserInputTranscribed(
            transcript=event.transcript,
            language=language,
            speaker_id=event.speaker_id,
            item_id=event.item_id,
        )
        self._write(transcribed, at=event.created_at)

    def on_speech_created(self, event: SpeechCreatedEvent) -> None:
        """Follow a speech from its first moment to its last."""
        handle = event.speech_handle
        self._book.speech_began(handle.id, within=originating_speech(), reply=not event.user_initiated)
        handle.add_done_callback(self._faults.guard("speech_ended", self._on_speech_ended))

    def _on_speech_ended(self, handle: SpeechHandle) -> None:
        self._thought.discard(handle.id)
        self._save(self._book.speech_ended(handle.id, interrupted=handle.interrupted))

    def on_item_added(self, event: ConversationItemAddedEvent) -> None:
        """Take what was said, or that another agent takes over."""
        item = event.item
        if isinstance(item, AgentHandoff):
            self._on_hand_off(item)
        elif isinstance(item, ChatMessage) and item.role == "user":
            self._on_user_message(item)
        elif isinstance(item, ChatMessage) and item.role == "assistant":
            answer = Answer(item.text_content or "", item.interrupted, item.metrics)
            self._save(self._book.agent_said(current_speech(), self._session.current_agent.id, answer))

    def _on_user_message(self, item: ChatMessage) -> None:
        confidence = item.transcript_confidence
        utterance = Utterance(
            item.text_content or "",
            language=self._language,
            confidence=None if confidence is None else min(1.0, max(0.0, confidence)),
            metrics=item.metrics,
        )
        self._save(self._book.user_said(current_speech(), self._session.current_agent.id, utterance))
        self._greeted("")  # who is spoken to before it has greeted is ready all the same

    def _on_hand_off(self, item: AgentHandoff) -> None:
        reason, self._hand_off_reason = self._hand_off_reason, None
        self._write(AgentHandedOff(to_agent=item.new_agent_id, from_agent=item.old_agent_id, reason=reason))
        tap_agent(
            self._session.current_agent,
            thought=self._faults.guard("thought", self._on_thought),
            spoken=self._faults.guard("spoken", self._on_spoken),
            entered=self._faults.guard("entered", self._on_entered),
        )

    def _on_thought(self, speech: str, text: str) -> None:
        self._thought.add(speech)
        self._book.generated(speech, text)

    def _on_spoken(self, speech: str, text: str) -> None:
        if speech not in self._thought:
            self._book.generated(speech, text)

    def _on_entered(self) -> None:
        self._save(self._book.hand_off_ended())

    def on_tool_update(self, event: ToolExecutionUpdatedEvent) -> None:
        """Write that a tool began or ended."""
        began = self._tools.on_update(event)
        if began is not None:
            self._book.tool_called(began)

    def on_tools_executed(self, event: FunctionToolsExecutedEvent) -> None:
        """Note a hand-off before it happens, and calls that failed before they began."""
        for call_id in self._tools.on_executed(event):
            self._book.tool_called(call_id)
        if event.has_agent_handoff:
            self._hand_off_reason = ", ".join(call.name for call in event.function_calls)
            self._book.hand_off_began()

    def on_usage(self, event: SessionUsageUpdatedEvent) -> None:
        """Keep the newest figures; they are written once a turn, for they only grow."""
        self.usage = models_of(event.usage)

    def on_error(self, event: ErrorEvent) -> None:
        """Write what went wrong in a model or a service that the agent uses."""
        cause = getattr(event.error, "error", event.error)
        error = AgentError(
            source=str(getattr(event.error, "label", None) or type(event.source).__name__),
            kind=type(cause).__name__,
            recoverable=bool(getattr(event.error, "recoverable", False)),
            message=str(cause) or repr(cause),
        )
        self._error_told = True
        if not error.recoverable:
            self.fatal = f"{error.source}: {error.message}"
        self._write(error, at=event.created_at)

    def _save(self, finished: list[Finished]) -> None:
        for part in finished:
            if isinstance(part, TurnSaved):
                self._write(part)
                self._doubt(part)
            else:
                self._greeted(part.text)
            self._tell_usage()

    def _doubt(self, turn: TurnSaved) -> None:
        # a voice that breaks by anything but an API error tells nobody; the caller hears nothing all the same
        meant = turn.assistant_text_generated
        if meant and not turn.assistant_text and not turn.interrupted and not self._error_told:
            message = f"nothing could be heard of the answer to turn {turn.turn}"
            self._write(AgentError(source="agent", kind="Unheard", recoverable=True, message=message))
        self._error_told = False

    def _tell_usage(self) -> None:
        if self.usage != self._usage_told:
            self._usage_told = self.usage
            self._write(UsageUpdated(models=self.usage))


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
