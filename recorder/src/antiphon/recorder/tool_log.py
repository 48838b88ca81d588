"""Tool calls: when each began, and how it ended."""

import time
from collections.abc import Callable

from livekit.agents import FunctionToolsExecutedEvent
from livekit.agents.llm import FunctionCall
from livekit.agents.voice.events import ToolCallEnded, ToolCallStarted, ToolExecutionUpdatedEvent

from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.recorder.write import Write


class ToolLog:
    """Write `tool.started` and `tool.completed`, each once per call."""

    def __init__(self, write: Write, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._monotonic = monotonic
        self._running: dict[str, tuple[str, float]] = {}
        self._told: set[str] = set()

    def on_update(self, event: ToolExecutionUpdatedEvent) -> str | None:
        """Take LiveKit's word that a tool began or ended; return the id of a call that began."""
        update = event.update
        if isinstance(update, ToolCallStarted):
            self._started(update.function_call, event.created_at)
            return update.function_call.call_id
        if isinstance(update, ToolCallEnded) and update.call_id in self._running:
            name, began = self._running.pop(update.call_id)
            self._write(
                ToolCompleted(
                    call_id=update.call_id,
                    name=name,
                    status=update.status,
                    output=update.message,
                    duration_seconds=max(0.0, self._monotonic() - began),
                ),
                at=event.created_at,
            )
        return None

    def on_executed(self, event: FunctionToolsExecutedEvent) -> list[str]:
        """Tell of calls that never began (unknown tool, arguments that are no JSON), and return their ids."""
        never_began = []
        for call, output in event.zipped():
            if call.call_id in self._told:
                continue
            self._started(call, event.created_at)
            name, _ = self._running.pop(call.call_id)
            completed = ToolCompleted(
                call_id=call.call_id,
                name=name,
                status="error" if output.is_error else "done",
                output=output.output,
            )
            self._write(completed, at=event.created_at)
            never_began.append(call.call_id)
        return never_began

    def _started(self, call: FunctionCall, at: float) -> None:
        self._told.add(call.call_id)
        self._running[call.call_id] = (call.name, self._monotonic())
        self._write(ToolStarted(call_id=call.call_id, name=call.name, arguments=call.arguments), at=at)
