"""Tool calls as events: when each started and how it ended."""

import time
from collections.abc import Callable

from livekit.agents import (
    FunctionToolsExecutedEvent,
    ToolCallEnded,
    ToolCallStarted,
    ToolExecutionUpdatedEvent,
)
from livekit.agents.llm import FunctionCall

from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.recorder.outbox import WriteEvent


class ToolCalls:
    """Writer of `tool.started` and `tool.completed`, each once per call."""

    def __init__(self, write: WriteEvent, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._monotonic = monotonic
        self._running: dict[str, tuple[str, float]] = {}  # call id: name, start
        self._seen: set[str] = set()

    def on_update(self, event: ToolExecutionUpdatedEvent) -> None:
        """Record that a call started or ended."""
        update = event.update
        if isinstance(update, ToolCallStarted):
            self._start(update.function_call, event.created_at)
        elif isinstance(update, ToolCallEnded) and update.call_id in self._running:
            name, started = self._running.pop(update.call_id)
            self._write(
                ToolCompleted(
                    call_id=update.call_id,
                    name=name,
                    status=update.status,
                    output=update.message,
                    duration_seconds=max(0.0, self._monotonic() - started),
                ),
                at=event.created_at,
            )

    def on_executed(self, event: FunctionToolsExecutedEvent) -> None:
        """Record calls that failed before they started (unknown tool, invalid JSON)."""
        for call, output in event.zipped():
            if call.call_id in self._seen:
                continue
            self._start(call, event.created_at)
            name, _ = self._running.pop(call.call_id)
            completed = ToolCompleted(
                call_id=call.call_id,
                name=name,
                status="error" if output.is_error else "done",
                output=output.output,
            )
            self._write(completed, at=event.created_at)

    def _start(self, call: FunctionCall, at: float) -> None:
        self._seen.add(call.call_id)
        self._running[call.call_id] = (call.name, self._monotonic())
        self._write(ToolStarted(call_id=call.call_id, name=call.name, arguments=call.arguments), at=at)
