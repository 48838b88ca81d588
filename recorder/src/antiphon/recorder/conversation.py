"""Record the events of an AgentSession. One handler per LiveKit event, in one table."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from livekit.agents import (
    AgentFalseInterruptionEvent,
    AgentSession,
    AgentStateChangedEvent,
    ConversationItemAddedEvent,
    ErrorEvent,
    FunctionToolsExecutedEvent,
    SessionUsageUpdatedEvent,
    SpeechCreatedEvent,
    ToolCallStarted,
    ToolExecutionUpdatedEvent,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
)
from livekit.agents.llm import AgentHandoff, ChatMessage

from antiphon.contracts.events.agent import AgentError, AgentHandedOff, AgentStateChanged, UserStateChanged
from antiphon.contracts.events.turn import (
    AgentFalseInterruption,
    OverlappingSpeech,
    TurnSaved,
    UserInputTranscribed,
)
from antiphon.contracts.events.usage import ModelUsage
from antiphon.recorder.outbox import WriteEvent, WriteNote
from antiphon.recorder.taps import ErrorGuard
from antiphon.recorder.tools import ToolCalls
from antiphon.recorder.turn_recorder import TurnRecorder
from antiphon.recorder.usage import Usage

if TYPE_CHECKING:
    from livekit.agents.inference import OverlappingSpeechEvent


class Conversation:
    """Writer of a session's events; `on_greeting` gets the greeting's text once it was spoken.

    `epoch` is unique to the session and the agent's job.
    """

    def __init__(
        self,
        session: AgentSession[Any],
        write: WriteEvent,
        note: WriteNote,
        guard: ErrorGuard,
        *,
        epoch: str,
        on_greeting: Callable[[str], None],
    ) -> None:
        self.unrecoverable_error: str | None = None
        self.handoff_reason: str | None = None  # of the next hand-off, when the agent gives it
        self._write = write
        self._on_greeting = on_greeting
        self._turns = TurnRecorder(
            session,
            write,
            note,
            guard,
            epoch=epoch,
            on_saved=self._on_turn_saved,
            on_greeting=self._on_greeted,
            on_enter_failed=self._on_enter_failed,
        )
        self._tools = ToolCalls(write, note, epoch=epoch)
        self._usage = Usage(write)
        self._handoff_tools: str | None = None
        self._error_written = False  # since the last turn
        self._closing = False

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
        """Record the end of running tools, the open turns and the last usage."""
        self._closing = True
        self._tools.close()
        self._turns.close()
        self._usage.write_changes()

    def on_agent_state(self, event: AgentStateChangedEvent) -> None:
        """Record a change of the agent's state; before that, the turn of what it begins to say."""
        if event.new_state == "speaking":
            self._turns.agent_speaks()
        changed = AgentStateChanged(old_state=event.old_state, new_state=event.new_state)
        self._write(changed, at=event.created_at)

    def on_user_state(self, event: UserStateChangedEvent) -> None:
        """Record a change of the user's state; LiveKit dates it back to the change of the voice."""
        self._turns.user_state(event.new_state)
        changed = UserStateChanged(old_state=event.old_state, new_state=event.new_state)
        self._write(changed, at=event.created_at)

    def on_transcribed(self, event: UserInputTranscribedEvent) -> None:
        """Record a final transcript."""
        if not event.is_final:
            return
        language = str(event.language) if event.language else None  # a subclass of str
        self._turns.language = language or self._turns.language
        transcribed = UserInputTranscribed(
            transcript=event.transcript,
            language=language,
            speaker_id=event.speaker_id,
            item_id=event.item_id,
        )
        self._write(transcribed, at=event.created_at)
        self._turns.transcribed(event.transcript)

    def on_false_interruption(self, event: AgentFalseInterruptionEvent) -> None:
        """Record that a sound, which was no interruption, stopped the agent."""
        self._write(AgentFalseInterruption(resumed=event.resumed), at=event.created_at)

    def on_overlapping_speech(self, event: "OverlappingSpeechEvent") -> None:
        """Record that the user spoke while the agent was speaking; LiveKit's audio is left out."""
        started_at = event.overlap_started_at
        overlapping = OverlappingSpeech(
            is_interruption=bool(event.is_interruption),
            agent_ended=bool(event.agent_ended),
            detection_delay=max(0.0, float(event.detection_delay)),
            overlap_started_at=None if started_at is None else datetime.fromtimestamp(started_at, UTC),
        )
        self._write(overlapping, at=event.created_at)

    def on_speech_created(self, event: SpeechCreatedEvent) -> None:
        """Expect a speech."""
        self._turns.speech_created(event)

    def on_item_added(self, event: ConversationItemAddedEvent) -> None:
        """Record a message or a handoff."""
        item = event.item
        if isinstance(item, ChatMessage):
            self._turns.message_added(item)
        elif isinstance(item, AgentHandoff):
            reason = self.handoff_reason or self._handoff_tools
            self.handoff_reason = self._handoff_tools = None
            handed_off = AgentHandedOff(
                to_agent=item.new_agent_id, from_agent=item.old_agent_id, reason=reason
            )
            self._write(handed_off)
            self._turns.agent_takes_over()

    def _on_enter_failed(self, agent_id: str, error: Exception) -> None:  # LiveKit only logs it
        failed = AgentError(
            source=f"{agent_id}.on_enter",
            kind=type(error).__name__,
            recoverable=True,
            message=str(error) or repr(error),
        )
        self._write(failed)

    def on_tool_update(self, event: ToolExecutionUpdatedEvent) -> None:
        """Record that a tool call started or ended."""
        if isinstance(event.update, ToolCallStarted):
            self._turns.tool_called(event.update.function_call.call_id)
        self._tools.on_update(event)

    def on_tools_executed(self, event: FunctionToolsExecutedEvent) -> None:
        """Record calls that failed before they started; expect the handoff or the reply that follows."""
        if event.has_agent_handoff:
            self._handoff_tools = ", ".join(call.name for call in event.function_calls)
        self._turns.tools_executed(event)
        self._tools.on_executed(event)

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

    def _on_greeted(self, text: str) -> None:
        self._on_greeting(text)
        self._usage.write_changes()

    def _on_turn_saved(self, turn: TurnSaved) -> None:
        # a TTS that fails with anything but an API error emits no error event, but its answer is silent
        is_silent = bool(turn.assistant_text_generated) and not turn.assistant_text and not turn.interrupted
        if is_silent and not self._error_written and not self._closing:
            message = f"the answer to turn {turn.turn} was not audible"
            self._write(AgentError(source="agent", kind="Unheard", recoverable=True, message=message))
        self._error_written = False
        self._usage.write_changes()


_HANDLERS: Mapping[str, Callable[[Conversation, Any], None]] = {
    "agent_state_changed": Conversation.on_agent_state,
    "user_state_changed": Conversation.on_user_state,
    "user_input_transcribed": Conversation.on_transcribed,
    "agent_false_interruption": Conversation.on_false_interruption,
    "overlapping_speech": Conversation.on_overlapping_speech,
    "speech_created": Conversation.on_speech_created,
    "conversation_item_added": Conversation.on_item_added,
    "tool_execution_updated": Conversation.on_tool_update,
    "function_tools_executed": Conversation.on_tools_executed,
    "session_usage_updated": Conversation.on_usage,
    "error": Conversation.on_error,
}
