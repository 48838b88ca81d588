import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Utterance:
    """A final transcript: the speaker, the words, and its time by the loop's clock."""

    who: str
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class StateChange:
    """A state published by the agent: listening, thinking or speaking."""

    state: str
    at: float


@dataclass(frozen=True, slots=True)
class DataMessage:
    """A data message with decoded JSON; `from_agent` tells whether LiveKit names an agent as its sender."""

    topic: str
    body: dict[str, Any]
    sender: str | None
    at: float
    from_agent: bool = False


@dataclass(slots=True)
class CallLog:
    """The transcripts, states and data messages that the caller received, in order."""

    lines: list[Utterance] = field(default_factory=list)
    states: list[StateChange] = field(default_factory=list)
    data: list[DataMessage] = field(default_factory=list)
    ended: str | None = None  # why the agent left
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def notify(self) -> None:
        """Wake all waiters after an addition."""
        task = asyncio.create_task(self._notify_all())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait_for(self, condition: Callable[[], bool], timeout_seconds: float) -> bool:
        """Wait until the condition holds or the call has ended; return whether it holds."""
        try:
            async with asyncio.timeout(timeout_seconds), self._changed:
                await self._changed.wait_for(lambda: condition() or self.ended is not None)
        except TimeoutError:
            return False
        return condition()

    async def _notify_all(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    @property
    def state(self) -> str | None:
        """The agent's current state."""
        return self.states[-1].state if self.states else None
