"""Tool calls as events: when each started and how it ended."""

import time
from collections.abc import Callable
from typing import Literal

from livekit.agents import (
    FunctionToolsExecutedEvent,
    ToolCallEnded,
    ToolCallStarted,
    ToolExecutionUpdatedEvent,
)
from livekit.agents.llm import FunctionCall

from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.recorder.outbox import WriteEvent, WriteNote

PERSONAL = "antiphon.personal"  # the key in `FunctionCall.extra` of a call whose result is personal data
Status = Literal["done", "error", "cancelled"]
KILLED = "the agent was killed while the tool ran"
ENDED = "the session ended while the tool ran"


class ToolCalls:
    """Writer of `tool.started` and `tool.completed`, each once per call.

    A note per running call completes it if this process is killed.
    """

    def __init__(
        self,
        write: WriteEvent,
        note: WriteNote,
        *,
        epoch: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._note = note
        self._epoch = epoch
        self._monotonic = monotonic
        self._running: dict[str, tuple[FunctionCall, float]] = {}  # call id: call, start
        self._seen: set[str] = set()

    def on_update(self, event: ToolExecutionUpdatedEvent) -> None:
        """Record that a call started or ended."""
        update = event.update
        if isinstance(update, ToolCallStarted):
            call = update.function_call
            self._start(call, event.created_at)
            self._running[call.call_id] = (call, self._monotonic())
            killed = ToolCompleted(call_id=call.call_id, name=call.name, status="cancelled", output=KILLED)
            self._note(self._key(call.call_id), killed)
        elif isinstance(update, ToolCallEnded) and update.call_id in self._running:
            self._end(update.call_id, update.status, update.message, event.created_at)

    def on_executed(self, event: FunctionToolsExecutedEvent) -> None:
        """Record calls that failed before they started (unknown tool, invalid JSON)."""
        for call, output in event.zipped():
            if call.call_id in self._seen:
                continue
            self._start(call, event.created_at)
            completed = ToolCompleted(
                call_id=call.call_id,
                name=call.name,
                status="error" if output.is_error else "done",
                output=output.output,
            )
            self._write(completed, at=event.created_at)

    def close(self) -> None:
        """Record the calls that are still running as cancelled: the record ends before they do."""
        for call_id in list(self._running):
            self._end(call_id, "cancelled", ENDED)

    def _start(self, call: FunctionCall, at: float) -> None:
        self._seen.add(call.call_id)
        self._write(ToolStarted(call_id=call.call_id, name=call.name, arguments=call.arguments), at=at)

    def _key(self, call_id: str) -> str:
        return f"tool:{self._epoch}:{call_id}"

    def _end(self, call_id: str, status: Status, output: str | None, at: float | None = None) -> None:
        call, started = self._running.pop(call_id)
        completed = ToolCompleted(
            call_id=call_id,
            name=call.name,
            status=status,
            output=output,
            duration_seconds=max(0.0, self._monotonic() - started),
            personal=_is_personal(call),
        )
        self._write(completed, at=at, settles=self._key(call_id))


def _is_personal(call: FunctionCall) -> bool | None:
    return True if call.extra.get(PERSONAL) else None  # set during the call, by the tool
