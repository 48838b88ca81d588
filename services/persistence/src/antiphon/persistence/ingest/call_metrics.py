"""The metrics of calls, from the events that are new in the log: each counts once, whatever wrote it."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentError, AgentJoined, AgentLeft, AgentReady
from antiphon.contracts.events.session import (
    FailureReason,
    FaultSide,
    SessionAdopted,
    SessionClosed,
    SessionFailed,
    SessionRequested,
)
from antiphon.contracts.events.tool import ToolCompleted
from antiphon.contracts.events.turn import TurnSaved
from antiphon.persistence import metrics

LONGEST_SECONDS: Final = 86_400.0  # of a stage: what claims more is no measurement
# of all else: an agent may claim 1e308, and a sum that has it never grows again
MOST_SECONDS: Final = 1e7


def _requested(_: SessionRequested) -> None:
    metrics.calls_requested.add()


def _adopted(_: SessionAdopted) -> None:
    metrics.calls_adopted.add()


def _closed(event: SessionClosed) -> None:
    metrics.calls_ended.add(1, event.reason.value, event.fault.value)
    metrics.call_duration.record(min(event.duration_seconds, MOST_SECONDS))


def _failed(event: SessionFailed) -> None:
    dispatched = event.reason is not FailureReason.DISPATCH_FAILED
    fault = FaultSide.AGENT if dispatched else FaultSide.PLATFORM
    metrics.calls_ended.add(1, event.reason.value, fault.value)


def _joined(_: AgentJoined) -> None:
    metrics.agents_joined.add()


def _ready(event: AgentReady) -> None:
    metrics.time_to_ready.record(min(event.ready_ms / 1000, MOST_SECONDS))


def _left(event: AgentLeft) -> None:
    metrics.agents_left.add(1, event.reason)


def _error(event: AgentError) -> None:
    metrics.agent_errors.add(1, "true" if event.recoverable else "false")


def _tool_completed(event: ToolCompleted) -> None:
    if event.duration_seconds is not None:
        metrics.tool_duration.record(min(event.duration_seconds, MOST_SECONDS), event.status)


def _turn_saved(event: TurnSaved) -> None:
    outcome = "recovered" if event.recovered else "interrupted" if event.interrupted else "completed"
    metrics.turns.add(1, outcome)
    for stage, key in metrics.STAGES.items():
        seconds = event.metrics.get(key)  # of any type: agents of users write it
        if isinstance(seconds, float | int) and 0 <= seconds <= LONGEST_SECONDS:
            metrics.turn_latency.record(seconds, stage)


_BY_TYPE: Mapping[str, Callable[[Any], None]] = {
    SessionRequested.TYPE: _requested,
    SessionAdopted.TYPE: _adopted,
    SessionClosed.TYPE: _closed,
    SessionFailed.TYPE: _failed,
    AgentJoined.TYPE: _joined,
    AgentReady.TYPE: _ready,
    AgentLeft.TYPE: _left,
    AgentError.TYPE: _error,
    ToolCompleted.TYPE: _tool_completed,
    TurnSaved.TYPE: _turn_saved,
}
MEASURED: Final = frozenset(_BY_TYPE)


def measure(event: Event) -> None:
    """Count an event of one of the MEASURED types."""
    _BY_TYPE[event.TYPE](event)
